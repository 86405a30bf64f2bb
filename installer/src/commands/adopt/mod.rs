//! `kinstall adopt`, and the copy of the operator's files that it reads: `up`, and every other command that changes what is in it,
//! keeps it on every control plane.
//!
//! The copy is no part of the hosts' desired state: a new worker changes it (its keys, the inventory) and must not be a
//! change of the control planes; and what validation published is known only after hosts are done. See docs/decisions/0015.

mod copy;
mod run;

use std::collections::BTreeMap;

pub use run::run;

use futures::future::join_all;

use super::fleet::{Fleet, Member};
use super::{Ended, Run};
use crate::cluster::Host;
use crate::host::{Executable, HostError};
use copy::Copy;

/// Which copies the control planes have.
pub struct Copies(BTreeMap<String, Option<String>>);

impl Copies {
    pub fn seen(members: &[Member<'_>]) -> Self {
        let control_planes = members.iter().filter(|member| member.host.control_plane);
        Self(control_planes.map(|member| (member.host.name.clone(), member.facts.operator_copy.clone())).collect())
    }

    /// Brings what is of yesterday to today's; where nothing changed nobody is asked. A copy that cannot be kept is told, and is
    /// no failure: the cluster works.
    pub async fn refresh(&self, run: &Run<'_>, fleet: &Fleet<'_>) {
        let stale = Today::of(run).map(|today| {
            let is_stale = |host: &&Host| self.0.get(&host.name).is_some_and(|kept| !today.is(kept.as_deref()));
            (run.cluster.control_planes().filter(is_stale).collect::<Vec<_>>(), today)
        });
        match stale {
            Ok((stale, today)) => today.bring(run, fleet, &stale).await,
            Err(error) => warn(run, &format!("{error:#}")),
        }
    }
}

/// The copy as it would be made now.
struct Today {
    text: String,
    digest: String,
}

impl Today {
    fn of(run: &Run<'_>) -> anyhow::Result<Self> {
        let text = Copy::of(run)?.text()?;
        Ok(Self { digest: hoststate::sha256_hex(text.as_bytes()), text })
    }

    fn is(&self, kept: Option<&str>) -> bool {
        kept == Some(self.digest.as_str())
    }

    /// Brings it to those of these hosts that have another one. Who cannot be reached is told.
    async fn bring(&self, run: &Run<'_>, fleet: &Fleet<'_>, hosts: &[&Host]) {
        let opened = fleet.open_some(run, hosts.iter().copied(), Executable::Installed(None)).await;
        let keeping = opened.into_iter().map(|(host, opened)| async move {
            let Some(Member { mut session, facts, .. }) = opened? else { return Ok(()) };
            let kept = match self.is(facts.operator_copy.as_deref()) {
                true => Ok(()),
                false => fleet.bounded(host, session.keep(self.text.clone())).await,
            };
            session.close().await;
            kept
        });
        let kept: Vec<Result<(), HostError>> = join_all(keeping).await;
        let failures: Vec<_> = kept.into_iter().filter_map(|kept| Some(kept.err()?.to_string())).collect();
        if !failures.is_empty() {
            warn(run, &failures.join("; "));
        }
    }
}

fn warn(run: &Run<'_>, why: &str) {
    run.printer.warning(&format!(
        "the copy of keys, inventory and state on the control planes is not of today: {why}; `kinstall up` tries again"
    ));
}

/// Runs a command that changes keys or state without `up`; then control planes get the copy of today. After a failure, too: keys that
/// were issued by then may be in use.
pub async fn keeping(run: &Run<'_>, command: impl Future<Output = anyhow::Result<Ended>>) -> anyhow::Result<Ended> {
    let ended = command.await;
    bring(run, &[]).await;
    ended
}

/// Of a command that changes keys, state or inventory without `up`, and speaks to no control plane's host otherwise: none of
/// them is asked unless there is something to bring.
pub struct Watched(Option<String>);

impl Watched {
    /// Before the command.
    pub fn new(run: &Run<'_>) -> Self {
        Self(Today::of(run).ok().map(|today| today.digest))
    }

    /// After it, however it ended. `gone`: hosts that are none of the cluster's any more.
    pub async fn bring_if_changed(self, run: &Run<'_>, gone: &[String]) {
        if self.0.is_none_or(|before| Today::of(run).ok().is_none_or(|today| today.digest != before)) {
            bring(run, gone).await;
        }
    }
}

async fn bring(run: &Run<'_>, gone: &[String]) {
    let hosts: Vec<_> = run.cluster.control_planes().filter(|host| !gone.contains(&host.name)).collect();
    match Today::of(run) {
        Ok(today) => today.bring(run, &Fleet::new(run), &hosts).await,
        Err(error) => warn(run, &format!("{error:#}")),
    }
}
