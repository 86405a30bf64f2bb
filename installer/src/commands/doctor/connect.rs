//! Who reaches whom: from every host to some of the others, as its components do and as pods do.

use std::net::IpAddr;

use super::seen::{Objects, list};
use crate::cluster::{Cluster, ETCD_PEER_PORT, Host};

/// How many neighbours a host is asked for; each host is somebody's.
const NEIGHBOURS: usize = 3;
const API_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10250;
const DNS_PORT: u16 = 53;
const SECONDS: u32 = 3;
const MARK: &str = "@@REACH ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A port of another host.
    Host,
    /// A pod on another node.
    Pod,
    /// A Service's virtual address.
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Open,
    Refused,
    /// Nothing came back: somebody drops packets.
    Silent,
    /// There is no way there.
    NoRoute,
    /// It could not be tried.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub way: Way,
    /// The host at whose end it is; of a Service none.
    pub host: String,
    pub what: &'static str,
    pub address: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub target: Target,
    pub answer: Answer,
}

/// What `host` should reach.
pub fn targets(cluster: &Cluster, host: &Host, objects: Option<&Objects>) -> Vec<Target> {
    let at = cluster.hosts.iter().position(|other| other.name == host.name).unwrap_or_default();
    let others: Vec<&Host> =
        cluster.hosts.iter().cycle().skip(at + 1).take(cluster.hosts.len().saturating_sub(1)).collect();
    let mut targets = Vec::new();
    let mut add = |way, host: &str, what, address: IpAddr, port| {
        targets.push(Target { way, host: host.to_owned(), what, address: address.to_string(), port });
    };
    for other in others.iter().filter(|other| other.control_plane) {
        add(Way::Host, &other.name, "API server", other.node_address, API_PORT);
        if host.control_plane && cluster.runs_etcd() {
            add(Way::Host, &other.name, "etcd", other.node_address, ETCD_PEER_PORT);
        }
    }
    for other in others.iter().take(NEIGHBOURS) {
        add(Way::Host, &other.name, "kubelet", other.node_address, KUBELET_PORT);
        if let Some(address) = objects.and_then(|objects| dns_pod(objects, &other.name)) {
            add(Way::Pod, &other.name, "pod of cluster DNS", address, DNS_PORT);
        }
    }
    if objects.is_some_and(|objects| dns_pod(objects, &host.name).is_some()) {
        add(Way::Service, "", "cluster DNS", cluster.network.dns_ip().into(), DNS_PORT);
    }
    targets
}

/// The address of cluster DNS on a node, where it is Ready.
fn dns_pod(objects: &Objects, node: &str) -> Option<IpAddr> {
    let pod = objects.of("pods").iter().find(|pod| {
        let ready = super::seen::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
        pod["metadata"]["labels"]["k8s-app"] == "kube-dns"
            && pod["metadata"]["namespace"] == "kube-system"
            && pod["metadata"]["deletionTimestamp"].is_null()
            && pod["spec"]["nodeName"] == node
            && ready
            && list(&pod["status"]["podIPs"]).len() == 1
    })?;
    pod["status"]["podIP"].as_str().and_then(|address| address.parse().ok())
}

/// All at once; bash opens the connections, which every distribution has that kinstall is tested on.
pub fn script(targets: &[Target]) -> String {
    let tries = targets.iter().enumerate().map(|(index, target)| {
        format!(
            "( said=$(timeout {SECONDS} bash -c \": </dev/tcp/{}/{}\" 2>&1); status=$?; \
             said=$(echo \"$said\" | tr \"\\n\" \" \"); echo \"{MARK}{index} $status $said\" ) &\n",
            target.address, target.port
        )
    });
    format!("export LC_ALL=C\n{}wait\n", tries.collect::<String>())
}

pub fn parse(targets: &[Target], lines: &[String]) -> Vec<Reach> {
    let answer = |index: usize| {
        let mine = format!("{MARK}{index} ");
        let said = lines.iter().find_map(|line| line.strip_prefix(&mine)).unwrap_or_default();
        let (status, words) = said.split_once(' ').unwrap_or((said, ""));
        match status {
            "0" => Answer::Open,
            "124" => Answer::Silent,
            _ if words.contains("timed out") => Answer::Silent,
            _ if words.contains("refused") => Answer::Refused,
            _ if words.contains("No route") || words.contains("unreachable") => Answer::NoRoute,
            _ => Answer::Unknown,
        }
    };
    targets.iter().enumerate().map(|(index, target)| Reach { target: target.clone(), answer: answer(index) }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_are_asked_for_those_they_need() {
        let hosts: String = (1..=3)
            .map(|n| {
                format!(
                    "- {{name: h{n}, address: 10.0.0.{n}, role: {}}}\n",
                    if n == 1 { "controlPlane" } else { "worker" }
                )
            })
            .collect();
        let cluster = Cluster::parse(&format!("cluster: c\nhosts:\n{hosts}"), "i", std::path::Path::new("/")).unwrap();
        let pod = |node: &str, ip: &str, ready: &str| {
            json!({"metadata": {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}, "spec": {"nodeName": node},
                   "status": {"podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let objects = Objects::with(
            "pods",
            vec![pod("h1", "10.244.0.2", "True"), pod("h2", "10.244.1.2", "True"), pod("h3", "10.244.2.2", "False")],
        );
        let of = |index: usize| {
            let targets = targets(&cluster, &cluster.hosts[index], Some(&objects));
            targets.iter().map(|t| format!("{}:{}", t.address, t.port)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(0), "10.0.0.2:10250 10.244.1.2:53 10.0.0.3:10250 10.96.0.10:53");
        assert_eq!(of(2), "10.0.0.1:6443 10.0.0.1:10250 10.244.0.2:53 10.0.0.2:10250 10.244.1.2:53");
        assert_eq!(targets(&cluster, &cluster.hosts[1], None).len(), 3);
    }

    #[test]
    fn connections_are_tried_and_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let closed = {
            let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            other.local_addr().unwrap().port()
        };
        let target = |port| Target { way: Way::Host, host: "h".into(), what: "x", address: "127.0.0.1".into(), port };
        let targets = [target(open), target(closed)];
        let output = std::process::Command::new("sh").args(["-c", &script(&targets)]).output().unwrap();
        let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        let answers: Vec<_> = parse(&targets, &lines).iter().map(|reach| reach.answer).collect();
        assert_eq!(answers, [Answer::Open, Answer::Refused], "{lines:?}");
        let said = |line: &str| parse(&targets[..1], &[format!("{MARK}0 {line}")])[0].answer;
        assert_eq!(said("124 "), Answer::Silent);
        assert_eq!(said("1 bash: connect: No route to host"), Answer::NoRoute);
        assert_eq!(said("127 timeout: not found"), Answer::Unknown);
        assert_eq!(parse(&targets[..1], &[])[0].answer, Answer::Unknown);
    }
}
