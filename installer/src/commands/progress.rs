//! What one host's work means for the others: whether the API can still come up, and when control planes have restarted.

use hoststate::wire::Change;
use hoststate::{Action, Facts, HostState};
use tokio::sync::watch;

use super::amend::has_run_out;
use super::fleet::Member;
use crate::cluster::{Cluster, Host};
use crate::desired::{CONTROL_PLANE, ETCD, Topology};

/// One host's share.
pub struct Work<'a> {
    pub member: Member<'a>,
    pub state: HostState,
    /// The control plane or etcd runs there, and is restarted.
    pub restarts: bool,
}

impl<'a> Work<'a> {
    /// All that was found on the host has been looked at by now: with a thousand hosts it is worth forgetting.
    pub fn new(mut member: Member<'a>, (state, changes): (HostState, Vec<Change>)) -> Self {
        let is_restart = |change: &Change| {
            change.action == Action::Restart
                && [CONTROL_PLANE, ETCD].iter().any(|unit| change.resource == format!("unit {unit}"))
        };
        // where certificates have run out nobody is served: waiting for each other would be in vain
        let restarts = changes.iter().any(is_restart) && !has_run_out(&member);
        member.facts = Facts::default();
        Self { member, state, restarts }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Control planes that did not fail.
    left: usize,
    restarting: usize,
    founder_failed: bool,
    /// Some host's work failed.
    failed: bool,
}

pub struct Progress {
    state: watch::Sender<State>,
    /// So many control planes that are worked on are needed for the API to come up; none where it is there or is not.
    needed: usize,
    /// Without it nobody makes the store.
    founder: Option<String>,
}

impl Progress {
    pub fn new(cluster: &Cluster, topology: &Topology, work: &[Work<'_>]) -> Self {
        Self::of(
            cluster,
            topology,
            work.iter().filter(|work| work.member.host.control_plane).count(),
            work.iter().filter(|work| work.restarts).count(),
        )
    }

    fn of(cluster: &Cluster, topology: &Topology, left: usize, restarting: usize) -> Self {
        let all = cluster.control_planes().count();
        let (needed, founder) = match topology.founding {
            true => (all / 2 + 1, topology.founder.clone()),
            false => (left.min(1), None),
        };
        Self {
            state: watch::Sender::new(State { left, restarting, founder_failed: false, failed: false }),
            needed,
            founder,
        }
    }

    /// One host's work is over.
    pub fn ended(&self, host: &Host, restarts: bool, good: bool) {
        self.state.send_modify(|state| {
            state.restarting -= usize::from(restarts);
            state.failed |= !good;
            if host.control_plane && !good {
                state.left -= 1;
                state.founder_failed |= self.founder.as_ref() == Some(&host.name);
            }
        });
    }

    /// Returns when the API cannot come up any more.
    pub async fn hopeless(&self) {
        let mut watched = self.state.subscribe();
        let is_hopeless = |state: &State| state.left < self.needed || state.founder_failed;
        if watched.wait_for(is_hopeless).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when some host's work has failed: its node need not come.
    pub async fn failed(&self) {
        let mut watched = self.state.subscribe();
        if watched.wait_for(|state| state.failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when every control plane that had to restart has done so.
    pub async fn restarted(&self) {
        let mut watched = self.state.subscribe();
        // the sender lives as long as this
        let _ = watched.wait_for(|state| state.restarting == 0).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::FutureExt as _;

    use super::*;

    fn cluster(control_planes: usize) -> Cluster {
        let role = |index| if index < control_planes { "controlPlane" } else { "worker" };
        let hosts: String = (0..4)
            .map(|index| format!("- {{name: h{index}, address: 10.0.0.{index}, role: {}}}\n", role(index)))
            .collect();
        Cluster::parse(&format!("cluster: c\nhosts:\n{hosts}"), "i", std::path::Path::new("/")).unwrap()
    }

    /// Whether all is lost after these hosts failed.
    fn hopeless(control_planes: usize, founding: bool, failed: &[usize]) -> bool {
        let cluster = cluster(control_planes);
        let topology = Topology { founding, founder: Some("h0".into()), ..Topology::default() };
        let progress = Progress::of(&cluster, &topology, control_planes, 0);
        failed.iter().for_each(|index| progress.ended(&cluster.hosts[*index], false, false));
        progress.hopeless().now_or_never().is_some()
    }

    #[test]
    fn all_is_lost_when_no_api_server_can_come_up() {
        assert!(hopeless(1, false, &[0]) && !hopeless(1, false, &[1, 2, 3]));
        assert!(!hopeless(3, true, &[]) && !hopeless(3, true, &[2, 3]));
        assert!(hopeless(3, true, &[1, 2]), "no majority");
        assert!(hopeless(3, true, &[0]), "nobody makes the store");
        // etcd works: whoever is left serves
        assert!(!hopeless(3, false, &[0, 1]) && hopeless(3, false, &[0, 1, 2]));
    }

    #[test]
    fn nobody_waits_for_the_node_of_a_host_that_failed() {
        let cluster = cluster(1);
        let progress = Progress::of(&cluster, &Topology::default(), 1, 0);
        progress.ended(&cluster.hosts[1], false, true);
        assert!(progress.failed().now_or_never().is_none());
        progress.ended(&cluster.hosts[2], false, false);
        assert!(progress.failed().now_or_never().is_some());
    }

    #[test]
    fn nobody_speaks_to_a_server_that_is_about_to_restart() {
        let cluster = cluster(3);
        let progress = Progress::of(&cluster, &Topology::default(), 3, 2);
        progress.ended(&cluster.hosts[0], true, true);
        assert!(progress.restarted().now_or_never().is_none());
        progress.ended(&cluster.hosts[1], true, false);
        assert!(progress.restarted().now_or_never().is_some());
    }
}
