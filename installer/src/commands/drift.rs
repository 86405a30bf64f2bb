//! `kinstall status --drift`: what somebody changed by hand since the last `up`, on hosts and of the addons. Looks only, and needs no
//! bundle: every host keeps the state that was applied to it, and the addons as they were applied stand in the state directory.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use hoststate::wire::Change;
use hoststate::{Action, HostManifest};
use serde_json::{Value, json};

use super::fleet::{self, Fleet, Member};
use super::plan::text::indented;
use super::{Ended, Run, up};
use crate::api::Servers;
use crate::api::apply::{Applier, ObjectChange};
use crate::host::{Executable, HostError};
use crate::state::StateDir;
use crate::state::applied::Applied;

/// In the state directory: the addons' objects as they were applied last.
const ADDONS: &str = "addons.json";

/// What became of one host.
enum Found {
    Drift(Vec<Change>),
    /// It cannot be told what is by hand: the reason.
    Unsettled(&'static str),
    Failed(HostError),
}

pub fn remember_addons(state: &StateDir, addons: &[Value]) -> anyhow::Result<()> {
    state.write(ADDONS, &addons).context("cannot remember which addons were applied")
}

pub async fn run(run: &Run<'_>) -> anyhow::Result<Ended> {
    let fleet = Fleet::new(run);
    let opened = fleet.open(run, Executable::Installed(None)).await;
    let looking = opened.into_iter().map(|(host, opened)| {
        let fleet = &fleet;
        async move {
            let found = match opened {
                Err(error) => Found::Failed(error),
                Ok(None) => Found::Unsettled("kinstall is not there"),
                Ok(Some(member)) => look(fleet, member).await,
            };
            (host.name.as_str(), found)
        }
    });
    let (hosts, objects) = tokio::join!(join_all(looking), objects(run));
    let (mut drifted, mut good) = (0, true);
    let mut text = String::new();
    let mut rows = Vec::new();
    for (host, found) in &hosts {
        let row = match found {
            Found::Drift(changes) => {
                drifted += changes.len();
                text.push_str(&of_host(host, changes));
                json!({"differences": changes.iter().map(difference).collect::<Vec<_>>()})
            }
            Found::Unsettled(why) => {
                good = false;
                run.printer.error(&format!("{host}: {why}; run `kinstall up`"), json!({"host": host}));
                json!({"error": why})
            }
            Found::Failed(error) => {
                good = false;
                fleet::tell(run.printer, error);
                json!({"error": format!("{}: {}", error.step, error.message)})
            }
        };
        rows.push(json!({"host": host, "result": row}));
    }
    let (objects, api_error) = match objects {
        Ok(objects) => (objects, None),
        Err(error) => {
            good = false;
            let error = format!("the addons could not be compared: {error:#}");
            run.printer.error(&error, Value::Null);
            (Vec::new(), Some(error))
        }
    };
    drifted += objects.len();
    text.push_str(&of_objects(&objects));
    text.push_str(&match (drifted, good) {
        (0, true) => "everything is as the last `up` left it".to_owned(),
        (0, false) => "what could be looked at is as the last `up` left it".to_owned(),
        _ => format!("{drifted} differences; `kinstall up -i {}` mends them", run.inventory),
    });
    let value = json!({"event": "drift", "ok": good && drifted == 0, "differences": drifted, "hosts": rows, "objects": objects, "apiError": api_error});
    run.printer.result(&text, &value);
    Ok(match (good, drifted) {
        (false, _) => Ended::Failed,
        (true, 0) => Ended::Done,
        (true, _) => Ended::ChangesPending,
    })
}

async fn look(fleet: &Fleet<'_>, mut member: Member<'_>) -> Found {
    let found = match member.facts.manifest.as_ref().and_then(unsettled) {
        Some(why) => Found::Unsettled(why),
        None => match fleet.bounded(member.host, member.session.drift()).await {
            Ok(Some(changes)) => Found::Drift(changes),
            Ok(None) => Found::Unsettled("no state was ever applied there to its end"),
            Err(error) => Found::Failed(error),
        },
    };
    member.session.close().await;
    found
}

/// Why what is there need not be anybody's work but ours.
fn unsettled(manifest: &HostManifest) -> Option<&'static str> {
    match (manifest.complete, &manifest.previous) {
        (false, _) => Some("the last run there did not come to its end"),
        (true, Some(_)) => Some("an upgrade there did not come to its end"),
        (true, None) => None,
    }
}

/// The addons that are not as they were applied.
async fn objects(run: &Run<'_>) -> anyhow::Result<Vec<ObjectChange>> {
    let addons = match run.state.read(ADDONS)? {
        Some(addons) => addons,
        // a cluster of before this was remembered
        None => up::addons(&run.cluster, &Applied::from_here(&run.state, &run.cluster.name)?.version)?,
    };
    let client = Servers::open(&run.kubeconfig()?).await?.ready(Duration::from_secs(10)).await?.client;
    Applier::new(client).plan(&addons).await
}

/// What there is, and what was expected.
fn sides(change: &Change) -> (&str, &str) {
    let found = match change.action {
        Action::Create => "nothing",
        _ if change.found.is_empty() => "something else",
        _ => change.found.as_str(),
    };
    (found, change.wanted.as_str())
}

fn difference(change: &Change) -> Value {
    let (found, expected) = sides(change);
    json!({"what": change.resource, "found": found, "expected": expected, "diff": change.diff})
}

fn of_host(host: &str, changes: &[Change]) -> String {
    if changes.is_empty() {
        return format!("{host}: as the last `up` left it\n");
    }
    let mut text = format!("{host}: {} differences\n", changes.len());
    for change in changes {
        let (found, expected) = sides(change);
        text.push_str(&format!("  {}\n    found     {found}\n    expected  {expected}\n", change.resource));
        if change.action != Action::Create {
            text.push_str(&indented(&change.diff));
        }
    }
    text
}

fn of_objects(objects: &[ObjectChange]) -> String {
    let mut text = String::new();
    if !objects.is_empty() {
        text.push_str(&format!("API: {} differences\n", objects.len()));
    }
    for ObjectChange { object, action, fields } in objects {
        text.push_str(&format!("  {object}\n"));
        if *action == Action::Create {
            text.push_str("    found     nothing\n    expected  it is there\n");
        }
        for field in fields {
            let or_nothing = |value: &str| if value.is_empty() { "nothing".to_owned() } else { value.to_owned() };
            text.push_str(&format!("    {}\n", field.field));
            match field.diff.is_empty() {
                true => text.push_str(&format!(
                    "      found     {}\n      expected  {}\n",
                    or_nothing(&field.found),
                    or_nothing(&field.wanted)
                )),
                false => text.push_str(&indented(&field.diff)),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use hoststate::wire::Version;

    use super::*;

    #[test]
    fn each_difference_says_what_is_there_and_what_was_expected() {
        let edited = Change {
            found: "mode 644".into(),
            wanted: "mode 600".into(),
            diff: "-b\n+a".into(),
            ..Change::new("file /x", Action::Update, "mode 644 → mode 600")
        };
        let gone =
            Change {
                wanted: "→ y".into(), diff: "+all".into(), ..Change::new("symlink /z", Action::Create, "→ y")
            };
        assert_eq!(
            of_host("h1", &[edited, gone]),
            "h1: 2 differences\n  file /x\n    found     mode 644\n    expected  mode 600\n             -b\n             +a\n  \
             symlink /z\n    found     nothing\n    expected  → y\n"
        );
        assert_eq!(of_host("h1", &[]), "h1: as the last `up` left it\n");
    }

    #[test]
    fn where_a_run_has_not_ended_nothing_is_called_somebodys() {
        let manifest = HostManifest { complete: true, ..HostManifest::default() };
        assert!(unsettled(&manifest).is_none());
        assert!(unsettled(&HostManifest { complete: false, ..manifest.clone() }).is_some());
        let version = Version { version: "0".into(), kubernetes: None };
        assert!(unsettled(&HostManifest { previous: Some(version), ..manifest }).is_some());
    }
}
