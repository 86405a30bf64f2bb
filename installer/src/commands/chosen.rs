//! Which of the inventory's hosts are meant.

use anyhow::bail;

use crate::cli::{Chosen, NodeRole};
use crate::cluster::{Cluster, Host};
use crate::inventory::decode::nearest;

/// Those of `names` (of all, where there are none) that are as `chosen` says, in the inventory's order.
pub fn hosts<'c>(cluster: &'c Cluster, names: &[String], chosen: &Chosen) -> anyhow::Result<Vec<&'c Host>> {
    let all = || cluster.hosts.iter();
    for name in names {
        if !all().any(|host| host.name == *name) {
            bail!(
                "there is no host {name:?} in the inventory; {}",
                hint(name, all().map(|host| host.name.as_str()).collect())
            );
        }
    }
    if let Some(group) = &chosen.group
        && !all().any(|host| host.groups.contains(group))
    {
        let mut groups: Vec<&str> = all().flat_map(|host| host.groups.iter().map(String::as_str)).collect();
        groups.sort_unstable();
        groups.dedup();
        bail!("no host belongs to the group {group:?}; {}", hint(group, groups));
    }
    let has_role = |host: &Host| match chosen.role {
        Some(NodeRole::ControlPlane) => host.control_plane,
        Some(NodeRole::Worker) => host.worker,
        None => true,
    };
    let found: Vec<&Host> = all()
        .filter(|host| names.is_empty() || names.contains(&host.name))
        .filter(|host| has_role(host) && chosen.group.as_ref().is_none_or(|group| host.groups.contains(group)))
        .collect();
    if found.is_empty() {
        bail!("no host of the inventory is all that at once; leave out --role, --group or names of hosts");
    }
    Ok(found)
}

/// What was probably meant, or what there is.
fn hint(word: &str, known: Vec<&str>) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None if known.is_empty() => "the inventory has none".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts_are_chosen_by_name_role_and_group() {
        let text = "cluster: c\ngroups: {old: {labels: {a: b}}}\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n\
                    - {name: h2, address: 10.0.0.2, role: worker, group: old}\n- {name: h3, address: 10.0.0.3, role: worker}\n";
        let cluster = Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        let choose = |names: &[&str], role, group: Option<&str>| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chosen = Chosen { role, group: group.map(str::to_owned) };
            match hosts(&cluster, &names, &chosen) {
                Ok(hosts) => hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(","),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(choose(&[], None, None), "h1,h2,h3");
        assert_eq!(choose(&["h3", "h1"], None, None), "h1,h3");
        assert_eq!(choose(&[], Some(NodeRole::Worker), None), "h2,h3");
        assert_eq!(choose(&[], Some(NodeRole::ControlPlane), None), "h1");
        assert_eq!(choose(&[], None, Some("old")), "h2");
        assert!(choose(&["h1"], None, Some("old")).contains("all that at once"));
        assert!(choose(&["h9"], None, None).contains("no host \"h9\""));
        assert!(choose(&[], None, Some("olt")).contains("did you mean \"old\"?"));
    }
}
