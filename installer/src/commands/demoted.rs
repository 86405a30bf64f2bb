//! A control plane that the inventory makes a worker. `up` would take its units and keys away, but its disk would keep the cluster's
//! store and the operator's keys, and its member of etcd would only fall silent: to leave is more than to change.

use anyhow::bail;
use hoststate::Facts;

use super::fleet::Member;
use crate::cluster::Host;
use crate::desired::CONTROL_PLANE;

/// # Errors
/// When such a host is there: says how it leaves, and how it comes back as a worker.
pub fn refuse(members: &[Member<'_>]) -> anyhow::Result<()> {
    check(members.iter().map(|member| (member.host, &member.facts)))
}

fn check<'a>(hosts: impl Iterator<Item = (&'a Host, &'a Facts)>) -> anyhow::Result<()> {
    let demoted: Vec<&Host> =
        hosts.filter(|(host, facts)| !host.control_plane && is_control_plane(facts)).map(|(host, _)| host).collect();
    let names: Vec<_> = demoted.iter().map(|host| host.name.as_str()).collect();
    let addresses: String = demoted.iter().map(|host| format!(" --address {}", host.address)).collect();
    match names.as_slice() {
        [] => Ok(()),
        _ => bail!(
            "{} {} of the cluster, and the inventory makes workers of control planes: first `kinstall node remove {names}`, which takes \
             them out of etcd and off their disks what only control planes may have, then `kinstall node add {names}{addresses}`",
            names.join(", "),
            if names.len() == 1 { "is a control plane" } else { "are control planes" },
            names = names.join(" "),
        ),
    }
}

fn is_control_plane(facts: &Facts) -> bool {
    let entries = facts.manifest.iter().flat_map(|manifest| &manifest.entries);
    entries.into_iter().any(|entry| entry.kind == "unit" && entry.name == CONTROL_PLANE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::cluster::Cluster;

    fn with_unit(name: &str) -> Facts {
        let manifest = json!({
            "cluster": {"name": "c", "id": "1"}, "host": "h", "version": "1", "applied": "", "complete": true,
            "entries": [{"resource": format!("unit {name}"), "kind": "unit", "name": name, "undo": {"how": "remove"}}],
        });
        Facts { manifest: Some(serde_json::from_value(manifest).unwrap()), ..Facts::default() }
    }

    #[test]
    fn a_control_plane_does_not_become_a_worker_by_the_way() {
        let text = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n- {name: h2, address: 10.0.0.2, role: worker}\n";
        let cluster = Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        let refused = |facts: [Facts; 2]| check(cluster.hosts.iter().zip(&facts)).err().map(|error| error.to_string());
        assert_eq!(refused([with_unit(CONTROL_PLANE), with_unit("kinstall-kubelet.service")]), None);
        assert_eq!(refused([Facts::default(), Facts::default()]), None);
        let said = refused([Facts::default(), with_unit(CONTROL_PLANE)]).unwrap();
        assert!(said.starts_with("h2 is a control plane"), "{said}");
        assert!(
            said.contains("`kinstall node remove h2`") && said.contains("node add h2 --address 10.0.0.2`"),
            "{said}"
        );
    }
}
