//! `kinstall plan`: what `up` would change, host by host and in the API. Touches nothing.

pub mod objects;
pub mod text;

use std::time::Instant;

use futures::future::join_all;
use hoststate::wire::Change;
use hoststate::{Facts, HostState};
use serde_json::{Value, json};

use objects::Objects;
use text::Depth;

use super::fleet::{self, Fleet, Member};
use super::membership::Membership;
use super::{Ended, Run, demoted, many, up, upgrade};
use crate::api::apply::ObjectChange;
use crate::bundle::Bundle;
use crate::cli::Bundled;
use crate::cluster::{Cluster, Host};
use crate::desired::{Inputs, host_state};
use crate::host::{Executable, HostError, Onlooker as _};
use crate::printer::Printer;
use crate::state::pki::Pki;

pub async fn run(run: &Run<'_>, arguments: &Bundled) -> anyhow::Result<Ended> {
    let bundle = run.bundle(arguments.bundle.as_deref()).await?;
    let identity = run.state.identity()?;
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    let fleet = Fleet::new(run);
    let (mut members, mut good) = fleet::sort_out(run.printer, fleet.open(run, Executable::Of(&bundle)).await);
    good &= !fleet::preflight(run, &identity.id, &members);
    check_bundle(&bundle, &run.cluster)?;
    let command = if upgrade::is_upgrade(&members, &bundle.manifest).is_some() { "upgrade" } else { "up" };
    let (topology, membership) = match demoted::refuse(&members).and_then(|()| fleet::topology(run, &members)) {
        Ok(topology) => {
            let membership = Membership::ask(run, &mut members, &topology).await;
            (topology, membership)
        }
        Err(error) => {
            fleet::close(members).await;
            return Err(error);
        }
    };
    let inputs =
        Inputs { cluster: &run.cluster, identity: &identity, pki: &pki, bundle: &bundle.manifest, topology: &topology };
    let planned = plan_all(&fleet, &mut members, inputs).await;
    let objects = objects::plan(run, inputs, &members).await;
    fleet::close(members).await;
    let mut told = Told { run, text: String::new(), good, on_hosts: 0, in_api: 0 };
    told.membership(membership);
    let hosts = told.hosts(&planned);
    let (objects, api_error) = told.objects(objects);
    let Told { mut text, good, on_hosts, in_api, .. } = told;
    let pending = on_hosts + in_api;
    let stages: &[_] = if command == "up" { &up::STAGES } else { &upgrade::STAGES };
    let (lines, hooks) = run.hooks().planned(stages);
    text.push_str(&lines);
    text.push_str(&match (good, pending) {
        (false, 0) => "not everything could be planned".to_owned(),
        (true, 0) => "nothing to change on the hosts and in the API".to_owned(),
        _ => format!(
            "{pending} changes ({on_hosts} on hosts, {in_api} in the API); `kinstall {command} -i {}` makes them",
            run.inventory
        ),
    });
    run.printer.result(
        &text,
        &json!({"event": "plan", "changes": pending, "hosts": hosts, "objects": objects, "hooks": hooks, "apiError": api_error}),
    );
    Ok(match (good, pending) {
        (false, _) => Ended::Failed,
        (true, 0) => Ended::Done,
        (true, _) => Ended::ChangesPending,
    })
}

/// What is told so far.
struct Told<'a> {
    run: &'a Run<'a>,
    text: String,
    /// Everything could be looked at.
    good: bool,
    on_hosts: usize,
    in_api: usize,
}

impl Told<'_> {
    fn membership(&mut self, membership: anyhow::Result<Membership>) {
        match membership {
            Ok(membership) => {
                self.on_hosts += membership.stale.len();
                self.text.extend(membership.lines().iter().map(|line| format!("{line}\n")));
            }
            Err(error) => {
                self.good = false;
                self.run.printer.error(&format!("{error:#}"), Value::Null);
            }
        }
    }

    /// Gives the hosts that could be planned, for programs.
    fn hosts(&mut self, planned: &[Result<Planned, HostError>]) -> Vec<Value> {
        let depth = if self.run.printer.verbose() > 0 { Depth::Contents } else { Depth::Changes };
        let mut hosts = Vec::new();
        for planned in planned {
            match planned {
                Ok((state, changes)) => {
                    self.on_hosts += changes.len();
                    self.text.push_str(&text::host(state, changes, depth));
                    hosts.push(json!({"host": state.host, "resources": state.resources.len(), "changes": changes}));
                }
                Err(error) => {
                    self.good = false;
                    fleet::tell(self.run.printer, error);
                }
            }
        }
        hosts
    }

    /// Gives the objects that change, or why they could not be compared: with hosts that are about to change that is no wonder.
    fn objects(&mut self, objects: anyhow::Result<Objects>) -> (Vec<ObjectChange>, Option<String>) {
        match objects {
            Ok(Objects { changes, wanted }) => {
                self.in_api = changes.len();
                self.text.push_str(&text::objects(&changes, wanted));
                (changes, None)
            }
            Err(error) => {
                let error = format!("the API's objects could not be compared: {error:#}");
                if self.on_hosts == 0 {
                    self.good = false;
                    self.run.printer.error(&error, Value::Null);
                } else {
                    self.run.printer.warning(&error);
                }
                (Vec::new(), Some(error))
            }
        }
    }
}

/// What a host is to have, and what that changes there.
pub type Planned = (HostState, Vec<Change>);

/// How much of what hosts have is in question.
#[derive(Clone, Copy)]
enum Scope {
    /// All: what the state does not name goes.
    Whole,
    Part,
}

/// The state of every member, and what it would change and take away there.
pub async fn plan_all(
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    inputs: Inputs<'_>,
) -> Vec<Result<Planned, HostError>> {
    plan_each(fleet, members, Scope::Whole, |host, facts| host_state(inputs, host, facts)).await
}

/// A part of every member's state, and what it would change there.
pub async fn plan_part(
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    part: impl Fn(&Host, &Facts) -> anyhow::Result<HostState>,
) -> Vec<Result<Planned, HostError>> {
    plan_each(fleet, members, Scope::Part, part).await
}

async fn plan_each(
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    scope: Scope,
    state: impl Fn(&Host, &Facts) -> anyhow::Result<HostState>,
) -> Vec<Result<Planned, HostError>> {
    let state = &state;
    let planning = members.iter_mut().map(|Member { host, session, facts, .. }| async move {
        let state = state(host, facts).map_err(|error| HostError::new(&host.name, "state", format!("{error:#}")))?;
        let started = Instant::now();
        let asking = async {
            match scope {
                Scope::Whole => session.plan_whole(&state, &fleet.uploads).await,
                Scope::Part => session.plan(&state).await,
            }
        };
        let changes = fleet.bounded(host, asking).await?;
        fleet.uploads.onlooker().took(&host.name, "plan", started);
        Ok((state, changes))
    });
    join_all(planning).await
}

/// Tells each host's counts, or its error; gives the states of those that could be planned.
pub fn tell(printer: &Printer, planned: Vec<Result<Planned, HostError>>) -> Vec<Option<Planned>> {
    let counted = planned.iter().flatten().map(|(state, changes)| (state.host.clone(), text::counted(state, changes)));
    match printer.is_json() {
        true => {
            for ((host, counted), (_, changes)) in counted.zip(planned.iter().flatten()) {
                printer.event("plan", &format!("  {host}: {counted}"), json!({"host": host, "changes": changes}));
            }
        }
        false => {
            let counted: Vec<_> = counted.collect();
            let told = many::together(counted.clone());
            if told.len() < counted.len() {
                counted.iter().for_each(|(host, counted)| printer.note(host, counted));
            }
            for (hosts, counted) in told {
                printer.event("plan", &format!("  {hosts}: {counted}"), Value::Null);
            }
        }
    }
    planned
        .into_iter()
        .map(|planned| match planned {
            Ok(planned) => Some(planned),
            Err(error) => {
                fleet::tell(printer, &error);
                None
            }
        })
        .collect()
}

/// The bundle must have what hosts need before any of them is asked.
pub fn check_bundle(bundle: &Bundle, cluster: &Cluster) -> anyhow::Result<()> {
    if cluster.runs_etcd() {
        bundle.etcd()?;
    }
    bundle.components().map(|_| ())
}
