//! How the control planes stand to each other: who founds the store, and which members of etcd are new. A pure function of
//! the inventory and of what was found on the hosts, since a mistake here would cost the cluster's data.
//!
//! As long as no host's member was part of a working etcd, all of them found one together. From then on a host without
//! data joins what there is: starting it as a founder again would let an empty member vote.

use std::collections::BTreeMap;

use anyhow::bail;
use hoststate::Facts;
use hoststate::facts::Birth;

use crate::cluster::{Cluster, Host};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Which control plane may make the store in etcd: it takes over an embedded one that it has.
    pub founder: Option<String>,
    /// How each host's member of etcd comes, or came, into being; empty where the hosts run none.
    pub births: BTreeMap<String, Birth>,
    /// Members that have to be added to an etcd that works.
    pub joining: Vec<String>,
    /// The hosts' etcd is still to be founded.
    pub founding: bool,
}

impl Topology {
    /// `facts` of the hosts that could be reached, by name; `served`: an API server of this cluster has answered before, so there is
    /// a store.
    ///
    /// # Errors
    /// Where going on could lose data: says what a person has to do.
    pub fn of(cluster: &Cluster, facts: &BTreeMap<&str, &Facts>, served: bool) -> anyhow::Result<Self> {
        // preflight says so too, but may be ignored; this would begin with an empty store
        if !cluster.runs_etcd()
            && let Some((name, _)) = facts.iter().find(|(_, facts)| facts.store.joined)
        {
            bail!(
                "{name} has its cluster's store in etcd, which this inventory does not run: everything in it would be out of \
                 reach; name three or five control planes, those that there were"
            );
        }
        if !cluster.runs_etcd() && cluster.external_etcd.is_none() {
            return Ok(Self::default());
        }
        let hosts: Vec<_> =
            cluster.control_planes().map(|host| (host, facts.get(host.name.as_str()).copied())).collect();
        if cluster.external_etcd.is_some() {
            return Ok(Self { founder: flagged(&hosts).or(appointed(&hosts)?), ..Self::default() });
        }
        if hosts.iter().any(|(_, facts)| facts.is_some_and(|facts| facts.store.joined)) {
            return Self::grown(&hosts, served);
        }
        if let Some((missing, _)) = hosts.iter().find(|(_, facts)| facts.is_none()) {
            bail!(
                "the control planes have no etcd yet, and {} cannot be worked on: they found it together, so bring it back or \
                 take it out of the inventory",
                missing.name
            );
        }
        Ok(Self {
            founder: appointed(&hosts)?,
            births: hosts.iter().map(|(host, _)| (host.name.clone(), Birth::Found)).collect(),
            joining: Vec::new(),
            founding: true,
        })
    }

    /// etcd works, or did. Who was appointed stays it. Where that was nobody, whoever was to be it has gone before it knew, and the others
    /// wait for it: it is who has the embedded store, or any of a cluster that never had one. Not as long as one was not seen, who
    /// may be about to take over an embedded store.
    fn grown(hosts: &[(&Host, Option<&Facts>)], served: bool) -> anyhow::Result<Self> {
        let birth = |facts: &Facts| match facts.store.member {
            true => facts.store.birth.unwrap_or(Birth::Join),
            false => Birth::Join,
        };
        let all_seen = hosts.iter().all(|(_, facts)| facts.is_some());
        let has_store = hosts.iter().any(|(_, facts)| facts.is_some_and(|facts| facts.store.embedded));
        let founder = match flagged(hosts) {
            None if all_seen && (has_store || !served) => appointed(hosts)?,
            flagged => flagged,
        };
        Ok(Self {
            founder,
            births: hosts.iter().map(|(host, facts)| (host.name.clone(), facts.map_or(Birth::Join, birth))).collect(),
            joining: hosts
                .iter()
                .filter(|(_, facts)| facts.is_some_and(|facts| !facts.store.member))
                .map(|(host, _)| host.name.clone())
                .collect(),
            founding: false,
        })
    }
}

/// Who was appointed before.
fn flagged(hosts: &[(&Host, Option<&Facts>)]) -> Option<String> {
    let found = hosts.iter().find(|(_, facts)| facts.is_some_and(|facts| facts.store.founder));
    found.map(|(host, _)| host.name.clone())
}

/// Who has an embedded store, else the first of the inventory; nobody as long as one who could have it was not seen.
fn appointed(hosts: &[(&Host, Option<&Facts>)]) -> anyhow::Result<Option<String>> {
    let holders: Vec<_> = hosts
        .iter()
        .filter(|(_, facts)| facts.is_some_and(|facts| facts.store.embedded))
        .map(|(host, _)| host.name.as_str())
        .collect();
    match holders.as_slice() {
        [] if hosts.iter().any(|(_, facts)| facts.is_none()) => Ok(None),
        [] => Ok(hosts.first().map(|(host, _)| host.name.clone())),
        [one] => Ok(Some((*one).to_owned())),
        several => bail!(
            "{} each have an embedded store in /var/lib/kinstall/store, but one cluster has one: move away those that are not this cluster's",
            several.join(" and ")
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::facts::StoreFacts;

    use super::*;

    fn cluster(more: &str) -> Cluster {
        let host = |index| format!("- {{name: h{index}, address: 10.0.0.{index}, role: controlPlane}}\n");
        let hosts: String = (1..4).map(host).collect();
        Cluster::parse(&format!("cluster: c\nhosts:\n{hosts}{more}"), "i", std::path::Path::new("/")).unwrap()
    }

    const BARE: StoreFacts = StoreFacts { embedded: false, member: false, joined: false, birth: None, founder: false };
    const FOUNDED: StoreFacts = StoreFacts { member: true, joined: true, birth: Some(Birth::Found), ..BARE };

    fn of(more: &str, stores: [Option<StoreFacts>; 3]) -> Result<Topology, String> {
        served(more, stores, true)
    }

    fn served(more: &str, stores: [Option<StoreFacts>; 3], served: bool) -> Result<Topology, String> {
        let facts = stores.map(|store| store.map(|store| Facts { store, ..Facts::default() }));
        let names = ["h1", "h2", "h3"];
        let known = names.into_iter().zip(&facts).filter_map(|(name, facts)| Some((name, facts.as_ref()?))).collect();
        Topology::of(&cluster(more), &known, served).map_err(|error| error.to_string())
    }

    fn births(topology: &Topology) -> Vec<Birth> {
        topology.births.values().copied().collect()
    }

    #[test]
    fn three_new_ones_found_etcd_and_who_has_the_store_brings_it() {
        let fresh = of("", [Some(BARE), Some(BARE), Some(BARE)]).unwrap();
        assert_eq!((fresh.founder.as_deref(), births(&fresh)), (Some("h1"), vec![Birth::Found; 3]));
        let embedded = StoreFacts { embedded: true, ..BARE };
        let grown = of("", [Some(BARE), Some(embedded.clone()), Some(BARE)]).unwrap();
        assert_eq!((grown.founder.as_deref(), births(&grown)), (Some("h2"), vec![Birth::Found; 3]));
        // a run that ended before etcd worked is simply repeated
        let begun = StoreFacts { member: true, birth: Some(Birth::Found), ..embedded.clone() };
        assert_eq!(of("", [Some(BARE), Some(begun), Some(BARE)]).unwrap(), grown);
        assert!(
            of("", [Some(embedded.clone()), Some(embedded.clone()), Some(BARE)]).unwrap_err().contains("h1 and h2")
        );
        assert!(of("", [Some(embedded), None, Some(BARE)]).unwrap_err().contains("h2 cannot be worked on"));
    }

    #[test]
    fn once_etcd_worked_a_host_without_data_joins_and_nobody_founds_again() {
        let flagged = StoreFacts { founder: true, ..FOUNDED };
        let stays = of("", [Some(flagged.clone()), Some(FOUNDED), Some(FOUNDED)]).unwrap();
        assert_eq!((stays.founder.as_deref(), births(&stays)), (Some("h1"), vec![Birth::Found; 3]));
        assert!(stays.joining.is_empty());

        let wiped = of("", [Some(BARE), Some(FOUNDED), Some(FOUNDED)]).unwrap();
        assert_eq!(births(&wiped), [Birth::Join, Birth::Found, Birth::Found]);
        assert_eq!((wiped.founder, wiped.joining), (None, vec!["h1".to_owned()]));

        let away = of("", [None, Some(FOUNDED), Some(FOUNDED)]).unwrap();
        assert_eq!((away.founder, away.joining), (None, Vec::new()));

        // its configuration is gone, its data is not
        let kept = StoreFacts { birth: None, ..FOUNDED };
        let kept = of("", [Some(kept.clone()), Some(kept.clone()), Some(kept)]).unwrap();
        assert_eq!((births(&kept), kept.joining.len()), (vec![Birth::Join; 3], 0));
    }

    #[test]
    fn who_was_to_found_and_was_gone_before_it_knew_does_it_when_it_is_back() {
        let embedded = StoreFacts { embedded: true, ..BARE };
        let back = of("", [Some(FOUNDED), Some(embedded.clone()), Some(FOUNDED)]).unwrap();
        assert_eq!((back.founder.as_deref(), back.joining), (Some("h2"), vec!["h2".to_owned()]));
        // one of a cluster that never had a store
        let bare = [Some(BARE), Some(FOUNDED), Some(FOUNDED)];
        assert_eq!(served("", bare.clone(), false).unwrap().founder.as_deref(), Some("h1"));
        assert_eq!(served("", bare, true).unwrap().founder, None, "its store went with it");
        // who was not seen may have the store
        assert_eq!(served("", [None, Some(FOUNDED), Some(FOUNDED)], false).unwrap().founder, None);
        assert_eq!(of("", [None, Some(embedded), Some(FOUNDED)]).unwrap().founder, None);
    }

    #[test]
    fn a_cluster_in_etcd_never_begins_again_with_an_empty_store() {
        let one = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n";
        let one = Cluster::parse(one, "i", std::path::Path::new("/")).unwrap();
        let facts = Facts { store: FOUNDED, ..Facts::default() };
        let refused = Topology::of(&one, &BTreeMap::from([("h1", &facts)]), true).unwrap_err().to_string();
        assert!(refused.contains("h1") && refused.contains("three or five"), "{refused}");
        assert!(Topology::of(&one, &BTreeMap::from([("h1", &Facts::default())]), true).is_ok());
    }

    #[test]
    fn with_somebody_elses_etcd_there_are_no_members_and_no_guesses() {
        let more = "etcd: {endpoints: ['https://e:2379'], caFile: a, certFile: b, keyFile: c}\n";
        let all = of(more, [Some(BARE), Some(BARE), Some(BARE)]).unwrap();
        assert_eq!((all.founder.as_deref(), all.births.len()), (Some("h1"), 0));
        assert_eq!(of(more, [Some(BARE), None, Some(BARE)]).unwrap().founder, None);
        let embedded = StoreFacts { embedded: true, ..BARE };
        assert_eq!(of(more, [Some(BARE), None, Some(embedded)]).unwrap().founder.as_deref(), Some("h3"));
    }
}
