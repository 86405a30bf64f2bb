//! A cluster whose store is gone: to begin with an empty one would bury what it held under a new cluster of the same name.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hoststate::Facts;

use super::Run;
use super::fleet::Member;
use crate::api::Servers;
use crate::cluster::Cluster;
use crate::desired::Topology;

/// In the state directory: an API server has answered, so that there is a store. It goes with `down`.
const SERVED: &str = "served.json";

/// The same, of a store that is being brought into etcd: the host that alone has it until then. It goes when an API server has answered.
const MOVING: &str = "moving.json";

/// An API server that runs answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

const WAY_OUT: &str = "bring back the disk that had it or run `kinstall restore` with a backup, or give the old cluster up with \
                       `kinstall down` and then begin a new one";

pub fn remember_served(run: &Run<'_>) -> anyhow::Result<()> {
    run.state.write(SERVED, &true).context("cannot remember that the cluster has a store")?;
    run.state.remove(MOVING)
}

/// Called before a host is worked on.
pub fn remember_moving(run: &Run<'_>, topology: &Topology, members: &[Member<'_>]) -> anyhow::Result<()> {
    let has_it =
        |member: &&Member<'_>| topology.founder.as_ref() == Some(&member.host.name) && member.facts.store.embedded;
    match members.iter().find(has_it).filter(|_| topology.founding) {
        Some(member) => {
            run.state.write(MOVING, &member.host.name).context("cannot remember which host has the cluster's store")
        }
        None => Ok(()),
    }
}

/// Whether one ever has.
pub fn has_served(run: &Run<'_>) -> anyhow::Result<bool> {
    Ok(run.state.read(SERVED)?.unwrap_or(false))
}

/// # Errors
/// When the cluster had a store on its hosts and none of those that can be reached has it, or the one that alone had it until it was in
/// etcd: says what a person has to decide.
pub async fn refuse(run: &Run<'_>, members: &[Member<'_>]) -> anyhow::Result<()> {
    let facts = members.iter().map(|member| (member.host.name.as_str(), &member.facts)).collect();
    check(&run.cluster, &facts, has_served(run)?)?;
    match run.state.read::<String>(MOVING)? {
        Some(holder) if is_without(&holder, &facts) && !answers(run).await => bail!(
            "{holder} had this cluster's store, which was on its way into etcd, and is without it; no API server answers: its objects \
             are gone, and `up` would wait for them in vain. if they came to etcd all the same, the API servers of the other control \
             planes answer: see to that, and try again. otherwise {WAY_OUT}"
        ),
        _ => Ok(()),
    }
}

/// It was seen, and neither has the store that it was to bring into etcd nor is set to do so.
fn is_without(holder: &str, facts: &BTreeMap<&str, &Facts>) -> bool {
    facts.get(holder).is_some_and(|facts| !facts.store.embedded && !facts.store.founder)
}

/// Whether an API server does: then etcd has the store, whatever became of the host that brought it there.
async fn answers(run: &Run<'_>) -> bool {
    let ready = async { Servers::open(&run.kubeconfig()?).await?.ready(PATIENCE).await };
    ready.await.is_ok()
}

fn check(cluster: &Cluster, facts: &BTreeMap<&str, &Facts>, served: bool) -> anyhow::Result<()> {
    let keeps = |name: &str| facts.get(name).is_some_and(|facts| facts.store.embedded || facts.store.joined);
    if !served || cluster.external_etcd.is_some() || cluster.control_planes().any(|host| keeps(&host.name)) {
        return Ok(());
    }
    let names: Vec<_> = cluster.control_planes().map(|host| host.name.as_str()).collect();
    bail!(
        "this cluster's store was on a control plane, and {} without it: all its objects are gone, and `up` would begin with an \
         empty store; {WAY_OUT}",
        match names.as_slice() {
            [one] => format!("{one} is"),
            several => format!("those that can be reached of {} are", several.join(", ")),
        }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::facts::StoreFacts;

    use super::*;

    #[test]
    fn who_alone_has_the_store_is_without_it_when_it_was_seen_so() {
        let seen = |store| is_without("h1", &BTreeMap::from([("h1", &Facts { store, ..Facts::default() })]));
        assert!(seen(StoreFacts::default()));
        assert!(!seen(StoreFacts { embedded: true, ..StoreFacts::default() }), "it has it");
        assert!(!seen(StoreFacts { founder: true, ..StoreFacts::default() }), "it has brought it, or will say why not");
        assert!(!is_without("h2", &BTreeMap::new()), "nobody knows");
    }

    fn refused(control_planes: usize, more: &str, served: bool, store: StoreFacts) -> Option<String> {
        let role = |index| if index <= control_planes { "controlPlane" } else { "worker" };
        let hosts: String = (1..5)
            .map(|index| format!("- {{name: h{index}, address: 10.0.0.{index}, role: {}}}\n", role(index)))
            .collect();
        let cluster =
            Cluster::parse(&format!("cluster: c\nhosts:\n{hosts}{more}"), "i", std::path::Path::new("/")).unwrap();
        let (bare, first) = (Facts::default(), Facts { store, ..Facts::default() });
        let facts = BTreeMap::from([("h1", &first), ("h2", &bare), ("h4", &bare)]);
        check(&cluster, &facts, served).err().map(|error| error.to_string())
    }

    #[test]
    fn a_cluster_that_lost_its_store_does_not_begin_again_with_an_empty_one() {
        const ETCD: &str = "etcd: {endpoints: ['https://e:2379'], caFile: a, certFile: b, keyFile: c}\n";
        let (none, embedded) = (StoreFacts::default, || StoreFacts { embedded: true, ..StoreFacts::default() });
        let joined = || StoreFacts { joined: true, ..StoreFacts::default() };
        assert!(refused(1, "", true, none()).is_some_and(|text| text.contains("h1 is without it")));
        assert!(refused(3, "", true, none()).is_some_and(|text| text.contains("h1, h2, h3")));
        assert_eq!(refused(1, "", false, none()), None, "it never had one");
        assert_eq!(refused(1, "", true, embedded()), None);
        assert_eq!(refused(3, "", true, joined()), None);
        assert_eq!(refused(1, ETCD, true, none()), None, "it is elsewhere");
    }
}
