//! `kinstall adopt`, and the copy of the operator's files that it reads: `up` keeps it on every control plane.
//!
//! The copy is no part of the hosts' desired state: a new worker changes it (its keys, the inventory) and must not be a
//! change of the control planes; and what validation published is known only after hosts are done. See docs/decisions/0015.

mod copy;
mod run;

use std::collections::BTreeMap;

pub use run::run;

use super::fleet::{Fleet, Member};
use super::{Ended, Run};
use crate::host::Executable;
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
    pub async fn refresh(&self, run: &Run<'_>, fleet: &Fleet) {
        if let Err(error) = self.try_refresh(run, fleet).await {
            run.printer.warning(&format!(
                "the copy of keys, inventory and state on the control planes is not of today: {error:#}; `kinstall up` tries again"
            ));
        }
    }

    async fn try_refresh(&self, run: &Run<'_>, fleet: &Fleet) -> anyhow::Result<()> {
        let text = Copy::of(run)?.text()?;
        let digest = hoststate::sha256_hex(text.as_bytes());
        let stale = run
            .cluster
            .hosts
            .iter()
            .filter(|host| self.0.get(&host.name).is_some_and(|kept| kept.as_ref() != Some(&digest)));
        for (host, opened) in fleet.open_some(run, stale, Executable::Installed(None)).await {
            let Some(Member { mut session, .. }) = opened? else { continue };
            let kept = fleet.bounded(host, session.keep(text.clone())).await;
            session.close().await;
            kept?;
        }
        Ok(())
    }
}

/// Runs a command that changes keys or state without `up`; then control planes get the copy of today. After a failure, too: keys that
/// were issued by then may be in use. Control planes that cannot be reached the command has told itself.
pub async fn keeping(run: &Run<'_>, command: impl Future<Output = anyhow::Result<Ended>>) -> anyhow::Result<Ended> {
    let ended = command.await;
    let fleet = Fleet::new(run);
    let opened = fleet.open_some(run, run.cluster.control_planes(), Executable::Installed(None)).await;
    let members: Vec<_> = opened.into_iter().filter_map(|(_, member)| member.ok().flatten()).collect();
    let copies = Copies::seen(&members);
    super::fleet::close(members).await;
    copies.refresh(run, &fleet).await;
    ended
}
