//! What is there already and is somebody else's: explained, and lived with. Nothing of it is ever changed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Problem, Subject, note, unless, warning};
use crate::desired;
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
                "{} {} here; kinstall brings a runtime of its own, with its own root and socket",
                runtimes.join(" and "),
                if runtimes.len() == 1 { "runs" } else { "run" }
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
    problems.extend(neighbours.services.iter().filter_map(|service| {
        let file = desired::file_for(s.facts, service)?;
        Some(note(
            format!("{service} runs here; the file {file} tells it to leave pods' devices alone"),
            "nothing: its own files stay as they are, and `kinstall down` removes this one",
        ))
    }));
    problems.extend(unless(!(runs(&"systemd-resolved") && s.facts.resolv_conf.contains("/systemd/resolve/")), || {
        note(
            format!("systemd-resolved answers here on the loopback, which pods cannot reach; they ask its own servers, those of {}", s.facts.resolv_conf),
            "nothing, unless names must be resolved by rules that only systemd-resolved has",
        )
    }));
    problems
}

/// Firewalls that may drop what hosts and pods send each other. kinstall's own rules cannot help that: a packet has to pass all chains.
pub fn firewall(s: Subject<'_>) -> Vec<Problem> {
    let neighbours = &s.facts.neighbours;
    let pods = s.cluster.network.pod_cidr;
    let runs = |name: &str| neighbours.services.iter().any(|service| service == name);
    // pods and hosts have IPv4 addresses
    let of_hook = |hook: &'static str| {
        let chains = neighbours.dropping.iter().filter(|chain| !chain.starts_with("ip6 "));
        chains.filter_map(move |chain| chain.strip_suffix(&format!(" ({hook})"))).collect::<Vec<_>>()
    };
    let forwarded = covered(&neighbours.forwarded, pods);
    let forward = if forwarded { Vec::new() } else { of_hook("forward") };
    let mut problems: Vec<_> = forward
        .into_iter()
        .map(|chain| {
            let how = match chain {
                "ip filter FORWARD" if runs("ufw") => {
                    format!("ufw route allow from {pods} && ufw route allow to {pods}")
                }
                "ip filter FORWARD" => {
                    let own = if runs("Docker") { "DOCKER-USER" } else { "FORWARD" };
                    format!("iptables -I {own} -s {pods} -j ACCEPT && iptables -I {own} -d {pods} -j ACCEPT")
                }
                chain => format!(
                    "nft insert rule {chain} ip saddr {pods} accept && nft insert rule {chain} ip daddr {pods} accept"
                ),
            };
            warning(
                format!("{chain} drops forwarded packets: pods here and on other hosts may not reach each other"),
                format!("{how}{}", if how.starts_with("ufw") { "" } else { IN_FILES }),
            )
        })
        .collect();
    // who has opened what is needed in another way is not told again each time
    if s.facts.manifest.is_some() {
        return problems;
    }
    let others = s.cluster.hosts.iter().filter(|host| host.name != s.host.name);
    let others = others.filter_map(|host| match host.node_address {
        std::net::IpAddr::V4(address) => Some(Ipv4Net::from(address)),
        std::net::IpAddr::V6(_) => None,
    });
    let closed: Vec<String> = std::iter::once(pods)
        .chain(others)
        .filter(|from| !covered(&neighbours.trusted, *from))
        .map(|from| if from.prefix_len() == 32 { from.addr().to_string() } else { from.to_string() })
        .collect();
    if closed.is_empty() {
        return problems;
    }
    let ports = open_ports(s);
    let everyones = everyones_ports(s);
    let mut named = false;
    for (name, how) in MANAGERS.iter().filter(|(name, _)| runs(name)) {
        named = true;
        problems.push(warning(format!("{name} is on; hosts need of each other: {ports}"), how(&closed, &everyones)));
    }
    let input = if named { Vec::new() } else { of_hook("input") };
    problems.extend(input.into_iter().map(|chain| {
        let how = if chain == "ip filter INPUT" {
            let from = closed.iter().map(|from| format!("iptables -I INPUT -s {from} -j ACCEPT"));
            let to = everyones.iter().map(|port| format!("iptables -I INPUT -p tcp --dport {port} -j ACCEPT"));
            from.chain(to).collect::<Vec<_>>().join(" && ")
        } else {
            let rule = |what: &str, list: &[String]| {
                let set = (!list.is_empty()).then(|| list.join(", "));
                set.map(|set| format!("nft insert rule {chain} {what} '{{ {set} }}' accept"))
            };
            [rule("ip saddr", &closed), rule("tcp dport", &everyones)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" && ")
        };
        warning(
            format!("{chain} drops what no rule accepts; hosts need of each other: {ports}"),
            format!("{how}{IN_FILES}"),
        )
    }));
    problems
}

type Opening = fn(&[String], &[String]) -> String;

/// Programs that keep the rules of a host, and what they are told: where everything is accepted from, and which ports from everywhere.
const MANAGERS: [(&str, Opening); 2] = [("firewalld", firewalld), ("ufw", ufw)];

fn firewalld(sources: &[String], ports: &[String]) -> String {
    let each = |before: &str, list: &[String], after: &str| {
        list.iter().map(|it| format!(" --{before}={it}{after}")).collect::<String>()
    };
    let mut commands = vec![format!("firewall-cmd --permanent --zone=trusted{}", each("add-source", sources, ""))];
    if !ports.is_empty() {
        commands.push(format!("firewall-cmd --permanent{}", each("add-port", ports, "/tcp")));
    }
    commands.push("firewall-cmd --reload".to_owned());
    commands.join(" && ")
}

fn ufw(sources: &[String], ports: &[String]) -> String {
    let from = sources.iter().map(|source| format!("ufw allow from {source}"));
    let to = ports.iter().map(|port| format!("ufw allow {port}/tcp"));
    from.chain(to).collect::<Vec<_>>().join(" && ")
}

const IN_FILES: &str = " (and the same where the host's rules are kept, for the next boot)";

/// Whether one of these networks or addresses holds all of this one.
fn covered(by: &[String], net: Ipv4Net) -> bool {
    let parse =
        |text: &String| text.parse::<Ipv4Net>().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from));
    by.iter().filter_map(parse).any(|known| known.contains(&net))
}

/// What the operator and the cluster's users reach here.
fn everyones_ports(s: Subject<'_>) -> Vec<String> {
    let api = s.host.control_plane.then_some("6443");
    let ingress = if s.cluster.ingress { ["80", "443"].as_slice() } else { &[] };
    api.into_iter().chain(ingress.iter().copied()).map(str::to_owned).collect()
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

/// Files of the host that would take back at boot what kinstall sets. They are not touched: somebody wanted them so.
pub fn kernel_parameters(s: Subject<'_>) -> Vec<Problem> {
    let spoils = |key: &str, value: &str| desired::SPOILING.contains(&(key, value));
    let lines = s.facts.later_sysctls.iter().filter(|line| spoils(&line.key, &line.value));
    lines
        .map(|line| {
            warning(
                format!(
                    "{} sets {} = {} at every boot, after kinstall's own file: pods will not be reached then",
                    line.file, line.key, line.value
                ),
                format!("take that line out of {}", line.file),
            )
        })
        .collect()
}
