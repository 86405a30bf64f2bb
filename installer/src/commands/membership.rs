//! etcd's members before hosts are worked on: those whose host is gone or has lost its data are taken out, one after the other,
//! through a member that lives, and never at the cost of the majority. New ones are added by their own hosts.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use hoststate::members::may_remove;
use hoststate::{Facts, Member as EtcdMember};
use serde_json::json;

use super::Run;
use super::fleet::Member;
use crate::cluster::{Cluster, Host};
use crate::desired::Topology;
use crate::host::HostError;

#[derive(Debug, Default)]
pub struct Membership {
    /// Which host of the fleet speaks to etcd.
    speaker: Option<usize>,
    /// Members to take out.
    pub stale: Vec<EtcdMember>,
}

impl Membership {
    /// Asks the hosts whose members were part of etcd, until one answers. Changes nothing.
    ///
    /// # Errors
    /// When a member has to join and nobody answers, when taking one out could cost the majority, or when one lives where the
    /// inventory has no control plane.
    pub async fn ask(run: &Run<'_>, fleet: &mut [Member<'_>], topology: &Topology) -> anyhow::Result<Self> {
        if topology.births.is_empty() || topology.founding {
            return Ok(Self::default());
        }
        let mut failure: Option<HostError> = None;
        for index in 0..fleet.len() {
            if !fleet[index].facts.store.joined {
                continue;
            }
            match fleet[index].session.members().await {
                Ok(members) => {
                    let facts = fleet.iter().map(|member| (member.host.name.as_str(), &member.facts)).collect();
                    return Self::of(&run.cluster, &facts, members, index, run.leaves.as_deref());
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            // all of them are about to be started
            _ if topology.joining.is_empty() => Ok(Self::default()),
            Some(error) => Err(error).with_context(|| cannot_join(topology)),
            None => Err(anyhow!(cannot_join(topology))),
        }
    }

    fn of(
        cluster: &Cluster,
        facts: &BTreeMap<&str, &Facts>,
        members: Vec<EtcdMember>,
        speaker: usize,
        leaves: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut found = Self { speaker: Some(speaker), stale: Vec::new() };
        let mut left = members.clone();
        for member in members {
            match standing(cluster, facts, &member) {
                Standing::Known => {}
                // `node replace` takes it out when the new one is there
                Standing::Unknown if leaves == Some(member.name.as_str()) => {}
                Standing::Unknown => bail!(
                    "etcd's member {0} lives, but the inventory has no control plane {0} at its address; `kinstall node remove {0}` \
                     takes it out with all that its host has of the cluster, `kinstall node replace {0} NEW` puts another host in \
                     its place (with the inventory as it was, if the host has another address now)",
                    member.title()
                ),
                Standing::Stale => {
                    if let Err(why) = may_remove(&left, member.id) {
                        bail!(
                            "etcd's member {} has lost its host or its data, but it cannot be taken out: {why}; bring the \
                             other control planes back first",
                            member.title()
                        );
                    }
                    left.retain(|other| other.id != member.id);
                    found.stale.push(member);
                }
            }
        }
        Ok(found)
    }

    /// Takes the stale members out. Gives how many.
    pub async fn settle(&self, run: &Run<'_>, fleet: &mut [Member<'_>]) -> Result<usize, HostError> {
        let Some(speaker) = self.speaker.and_then(|index| fleet.get_mut(index)) else { return Ok(0) };
        for member in &self.stale {
            speaker.session.remove_member(member.id).await?;
            run.printer.event(
                "member",
                &format!("  etcd: took the member {} out, whose host or data is gone", member.title()),
                json!({"member": member, "outcome": "removed"}),
            );
        }
        Ok(self.stale.len())
    }

    /// For `plan` and before a question.
    pub fn lines(&self) -> Vec<String> {
        self.stale.iter().map(|member| format!("etcd: the member {} would be taken out", member.title())).collect()
    }
}

/// The member of etcd that listens at `peer_url`, as one of the other control planes knows it; and whether it may go.
///
/// # Errors
/// When nobody answers for etcd, or when taking it out could cost the majority.
async fn leaving(others: &mut [Member<'_>], peer_url: &str) -> anyhow::Result<Option<(usize, EtcdMember)>> {
    let mut failure: Option<HostError> = None;
    for (index, other) in others.iter_mut().enumerate().filter(|(_, other)| other.facts.store.joined) {
        match other.session.members().await {
            Ok(members) => {
                let is_it = |member: &&EtcdMember| member.peer_urls.iter().any(|url| url == peer_url);
                let Some(member) = members.iter().find(is_it) else { return Ok(None) };
                if let Err(why) = may_stop(&members, member.id) {
                    bail!(
                        "etcd's member {} cannot be taken out: {why}; bring the other control planes back first",
                        member.title()
                    );
                }
                return Ok(Some((index, member.clone())));
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error).context("no other control plane answers for etcd"),
        None => bail!("no other control plane that has etcd's data can be reached; bring them back first"),
    }
}

/// Whether [`leave`] would succeed; changes nothing.
pub async fn may_leave(others: &mut [Member<'_>], peer_url: &str) -> anyhow::Result<()> {
    leaving(others, peer_url).await.map(drop)
}

/// Takes the member at `peer_url` out through another one that lives. `None`: it is no member any more.
pub async fn leave(others: &mut [Member<'_>], peer_url: &str) -> anyhow::Result<Option<EtcdMember>> {
    let Some((speaker, member)) = leaving(others, peer_url).await? else { return Ok(None) };
    others[speaker].session.remove_member(member.id).await?;
    Ok(Some(member))
}

/// Whether etcd decides while this member is off, and when it is out. It is off before it is out: as long as its etcd runs it would
/// add itself again.
///
/// # Errors
/// Says what would be lost.
pub fn may_stop(members: &[EtcdMember], id: u64) -> Result<(), String> {
    may_remove(members, id)?;
    let is_one = |member: &&EtcdMember| !member.learner && member.id == id && member.healthy;
    let Some(going) = members.iter().find(is_one) else { return Ok(()) };
    let voters: Vec<_> = members.iter().filter(|member| !member.learner).collect();
    let healthy = voters.iter().filter(|member| member.healthy && member.id != id).count();
    if healthy > voters.len() / 2 {
        return Ok(());
    }
    Err(format!(
        "when {} stops, only {healthy} of etcd's {} members are healthy, which is no majority",
        going.title(),
        voters.len()
    ))
}

fn cannot_join(topology: &Topology) -> String {
    format!(
        "{} cannot join: no control plane answers for etcd; bring those back that have its data",
        topology.joining.join(" and ")
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Known,
    Unknown,
    Stale,
}

/// A member that answers is never stale, whatever the inventory says.
fn standing(cluster: &Cluster, facts: &BTreeMap<&str, &Facts>, member: &EtcdMember) -> Standing {
    let is_its = |host: &&Host| member.peer_urls.contains(&host.etcd_peer_url());
    let Some(host) = cluster.control_planes().find(is_its) else {
        return if member.healthy { Standing::Unknown } else { Standing::Stale };
    };
    let bare = facts.get(host.name.as_str()).is_some_and(|facts| !facts.store.member);
    if bare && !member.healthy { Standing::Stale } else { Standing::Known }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::facts::StoreFacts;

    use super::*;

    const INVENTORY: &str = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n- {name: h2, address: 10.0.0.2, role: controlPlane}\n- {name: h3, address: 10.0.0.3, role: controlPlane}\n";

    fn member(index: u64, healthy: bool) -> EtcdMember {
        let peer_urls = vec![format!("https://10.0.0.{index}:2380")];
        EtcdMember { id: index, name: format!("h{index}"), peer_urls, learner: false, healthy }
    }

    fn of(bare: &[&str], members: Vec<EtcdMember>) -> Result<Vec<u64>, String> {
        of_replaced(bare, members, None)
    }

    fn of_replaced(bare: &[&str], members: Vec<EtcdMember>, leaves: Option<&str>) -> Result<Vec<u64>, String> {
        let cluster = Cluster::parse(INVENTORY, "i", std::path::Path::new("/")).unwrap();
        let facts = |name: &str| {
            let there = !bare.contains(&name);
            Facts { store: StoreFacts { member: there, joined: there, ..StoreFacts::default() }, ..Facts::default() }
        };
        let facts = ["h1", "h2", "h3"].map(|name| (name, facts(name)));
        let known = facts.iter().map(|(name, facts)| (*name, facts)).collect();
        let found = Membership::of(&cluster, &known, members, 0, leaves).map_err(|error| error.to_string())?;
        Ok(found.stale.iter().map(|member| member.id).collect())
    }

    #[test]
    fn who_lost_its_data_or_its_host_goes_and_who_answers_stays() {
        let all = |first: bool| vec![member(1, first), member(2, true), member(3, true)];
        assert_eq!(of(&[], all(true)), Ok(vec![]));
        // it is off, and will come back
        assert_eq!(of(&[], all(false)), Ok(vec![]));
        assert_eq!(of(&["h1"], all(false)), Ok(vec![1]));
        let swapped = |healthy| vec![member(9, healthy), member(2, true), member(3, true)];
        assert_eq!(of(&["h1"], swapped(false)), Ok(vec![9]));
        let refused = of(&["h1"], swapped(true)).unwrap_err();
        assert!(refused.contains("kinstall node remove h9") && refused.contains("node replace h9"), "{refused}");
        assert_eq!(of_replaced(&["h1"], swapped(true), Some("h9")), Ok(vec![]));
    }

    #[test]
    fn nobody_is_stopped_whom_the_others_need_until_it_is_out() {
        let of = |healthy: &[bool]| {
            let members: Vec<_> = healthy.iter().zip(1..).map(|(healthy, index)| member(index, *healthy)).collect();
            may_stop(&members, 1)
        };
        for (healthy, allowed) in [
            (&[true, true, true][..], true),
            (&[true, true, false], false),
            (&[true, true, true, false, true], true),
            (&[true, true, true, false, false], false),
            (&[true, true, true, true], true),
            // of the three that would be left two decide, but of the four that there are until then they do not
            (&[true, true, true, false], false),
            (&[false, true, true, false], true),
        ] {
            assert_eq!(of(healthy).is_ok(), allowed, "{healthy:?}");
        }
    }

    #[test]
    fn the_majority_is_never_given_away() {
        let refused = of(&["h1"], vec![member(1, false), member(2, true), member(3, false)]).unwrap_err();
        assert!(refused.contains("h1") && refused.contains("no majority"), "{refused}");
        // one after the other: after the first of them the second may still go
        let five = vec![member(8, false), member(9, false), member(1, true), member(2, true), member(3, true)];
        assert_eq!(of(&[], five), Ok(vec![8, 9]));
    }
}
