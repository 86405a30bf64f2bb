//! What is there already and is somebody else's: explained, and lived with. Nothing of it is ever changed.

use super::{Problem, Subject, note, unless, warning};
use crate::inventory::Backend;

const RUNTIMES: [&str; 4] = ["Docker", "containerd", "CRI-O", "Podman"];

/// Before the first apply: who else is here, and why that is no matter.
pub fn neighbours(s: Subject<'_>) -> Vec<Problem> {
    if s.facts.manifest.is_some() {
        return Vec::new();
    }
    let neighbours = &s.facts.neighbours;
    let runs = |name: &&str| neighbours.services.iter().any(|service| service == name);
    let runtimes: Vec<_> = RUNTIMES.into_iter().filter(runs).collect();
    let mut problems = unless(runtimes.is_empty(), || {
        note(
            format!(
                "{} runs here; kinstall brings a runtime of its own, with its own root and socket",
                runtimes.join(" and ")
            ),
            "nothing: both run beside each other, and neither sees the other's containers and images",
        )
    });
    problems.extend(unless(neighbours.cni_files.is_empty(), || {
        note(
            format!("{} belongs to another pod network", neighbours.cni_files.join(", ")),
            "nothing: kinstall's runtime reads /etc/kinstall/cni/net.d only",
        )
    }));
    problems.extend(unless(!runs(&"NetworkManager"), || {
        note(
            "NetworkManager runs here",
            "if it takes care of every device there is, let it leave pods' alone: unmanaged-devices=interface-name:kin*;interface-name:veth* \
             in the section [keyfile] of a file in /etc/NetworkManager/conf.d",
        )
    }));
    problems
}

/// Firewalls that may drop what hosts and pods send each other. kinstall's own rules cannot help that: a packet has to pass all chains.
pub fn firewall(s: Subject<'_>) -> Vec<Problem> {
    let neighbours = &s.facts.neighbours;
    let pods = s.cluster.network.pod_cidr;
    let forward: Vec<_> = neighbours.dropping.iter().filter(|chain| chain.ends_with("(forward)")).cloned().collect();
    let runs = |name: &str| neighbours.services.iter().any(|service| service == name);
    let mut problems = unless(forward.is_empty(), || {
        warning(
            format!(
                "{} drops forwarded packets: pods here and on other hosts may not reach each other",
                forward.join(", ")
            ),
            format!(
                "accept the pods' there: iptables -I FORWARD -s {pods} -j ACCEPT && iptables -I FORWARD -d {pods} -j ACCEPT"
            ),
        )
    });
    // who has opened what is needed is not told again each time
    if s.facts.manifest.is_some() {
        return problems;
    }
    let others: Vec<_> = s.cluster.hosts.iter().map(|host| host.node_address.to_string()).collect();
    let ports = open_ports(s);
    let known = [
        (
            "firewalld",
            format!(
                "firewall-cmd --permanent --zone=trusted --add-source={pods} --add-source=HOST && firewall-cmd --reload"
            ),
        ),
        ("ufw", format!("ufw allow from HOST && ufw allow from {pods} && ufw route allow from {pods}")),
    ];
    let mut named = false;
    for (name, how) in known.into_iter().filter(|(name, _)| runs(name)) {
        named = true;
        problems.push(warning(
            format!("{name} is on; hosts need of each other: {ports}"),
            format!("trust the pods and each host ({}): {how}", others.join(", ")),
        ));
    }
    let input: Vec<_> = neighbours.dropping.iter().filter(|chain| chain.ends_with("(input)")).cloned().collect();
    problems.extend(unless(named || input.is_empty(), || {
        warning(
            format!("{} drops what no rule accepts; hosts need of each other: {ports}", input.join(", ")),
            format!("accept what comes from the hosts ({}) and from pods ({pods})", others.join(", ")),
        )
    }));
    problems
}

/// What other hosts have to reach here.
fn open_ports(s: Subject<'_>) -> String {
    let mut ports = vec!["tcp 10250 (kubelet)"];
    if s.host.control_plane {
        ports.push("tcp 6443 (API server)");
    }
    if s.host.control_plane && s.cluster.runs_etcd() {
        ports.push("tcp 2379-2380 (etcd)");
    }
    ports.push(match s.cluster.network.backend {
        Backend::Vxlan => "udp 8472 (pod network)",
        _ => "all of the pods' packets",
    });
    ports.join(", ")
}
