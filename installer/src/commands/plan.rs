//! `kinstall plan`: what `up` would change, host by host. Touches nothing.

use std::time::Instant;

use futures::future::join_all;
use hoststate::wire::Change;
use hoststate::{Action, Facts, HostState};
use serde_json::{Value, json};

use super::fleet::{self, Fleet, Member};
use super::membership::Membership;
use super::{Ended, Run, demoted, upgrade};
use crate::bundle::Bundle;
use crate::cli::Bundled;
use crate::cluster::{Cluster, Host};
use crate::desired::{Inputs, host_state};
use crate::host::{Executable, HostError};
use crate::printer::{Printer, verb};
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
    let mut pending = 0;
    let mut hosts = Vec::new();
    let mut text = String::new();
    match &membership {
        Ok(membership) => {
            pending += membership.stale.len();
            text.push_str(&membership.describe());
        }
        Err(error) => {
            good = false;
            run.printer.error(&format!("{error:#}"), Value::Null);
        }
    }
    for planned in &planned {
        match planned {
            Ok((state, changes)) => {
                pending += changes.len();
                text.push_str(&describe(state, changes, true));
                hosts.push(json!({"host": state.host, "resources": state.resources.len(), "changes": changes}));
            }
            Err(error) => {
                good = false;
                fleet::tell(run.printer, error);
            }
        }
    }
    fleet::close(members).await;
    text.push_str(&match (good, pending) {
        (false, 0) => "not every host could be planned".to_owned(),
        (true, 0) => "nothing to change on the hosts".to_owned(),
        _ => format!("{pending} changes; `kinstall {command} -i {}` makes them", run.inventory),
    });
    run.printer.result(&text, &json!({"event": "plan", "changes": pending, "hosts": hosts}));
    Ok(match (good, pending) {
        (false, _) => Ended::Failed,
        (true, 0) => Ended::Done,
        (true, _) => Ended::ChangesPending,
    })
}

/// What a host is to have, and what that changes there.
pub type Planned = (HostState, Vec<Change>);

/// The state of every member and what it would change there.
pub async fn plan_all(
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    inputs: Inputs<'_>,
) -> Vec<Result<Planned, HostError>> {
    plan_all_as(fleet, members, |host, facts| host_state(inputs, host, facts)).await
}

/// As [`plan_all`], for what `state` wants of each host.
pub async fn plan_all_as(
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    state: impl Fn(&Host, &Facts) -> anyhow::Result<HostState>,
) -> Vec<Result<Planned, HostError>> {
    let state = &state;
    let planning = members.iter_mut().map(|member| async move {
        let host = member.host;
        let state =
            state(host, &member.facts).map_err(|error| HostError::new(&host.name, "state", format!("{error:#}")))?;
        let started = Instant::now();
        let changes = fleet.bounded(host, member.session.plan(&state)).await?;
        fleet.uploads.onlooker().took(&host.name, "plan", started);
        Ok((state, changes.into_iter().filter(|change| change.action != Action::None).collect()))
    });
    join_all(planning).await
}

/// `h1: 3 create, 1 update` and, in full, every change with its details.
pub fn describe(state: &HostState, changes: &[Change], full: bool) -> String {
    if changes.is_empty() {
        return format!("{}: nothing to change\n", state.host);
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for change in changes {
        match counts.iter_mut().find(|(name, _)| *name == verb(change.action)) {
            Some((_, count)) => *count += 1,
            None => counts.push((verb(change.action), 1)),
        }
    }
    let summary: Vec<_> = counts.iter().map(|(name, count)| format!("{count} to {name}")).collect();
    let mut text = format!(
        "{}: {} of {} resources change: {}\n",
        state.host,
        changes.len(),
        state.resources.len(),
        summary.join(", ")
    );
    for change in changes.iter().filter(|_| full) {
        text.push_str(&format!("  {:<8} {}\n", verb(change.action), change.resource));
        for line in change.detail.lines() {
            text.push_str(&format!("           {line}\n"));
        }
    }
    text
}

/// Tells each host's counts, or its error; gives the states of those that could be planned.
pub fn tell(printer: &Printer, planned: Vec<Result<Planned, HostError>>) -> Vec<Option<Planned>> {
    planned
        .into_iter()
        .map(|planned| match planned {
            Ok((state, changes)) => {
                let fields: Value = json!({"host": state.host, "changes": changes});
                printer.event("plan", format!("  {}", describe(&state, &changes, false)).trim_end(), fields);
                Some((state, changes))
            }
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
