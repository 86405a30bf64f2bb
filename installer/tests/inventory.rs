//! Inventories as people write them: every problem at once, each where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use kinstall::cluster::{CONTROL_PLANE_TAINT, Cluster};

fn problems(text: &str) -> Vec<String> {
    let error = Cluster::parse(text, "inventory.yaml", Path::new("/work")).unwrap_err();
    error.list.iter().map(|p| format!("{}:{} {} {}", p.pos.line, p.pos.column, p.path, p.message)).collect()
}

fn good(text: &str) -> Cluster {
    Cluster::parse(text, "inventory.yaml", Path::new("/work")).unwrap()
}

#[test]
fn the_example_parses_and_its_hosts_are_resolved() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../inventory.example.yaml")).unwrap();
    let cluster = good(&text);
    assert_eq!(cluster.hosts.len(), 3);
    assert_eq!(cluster.hosts[0].taints, [CONTROL_PLANE_TAINT]);
    assert_eq!(cluster.hosts[1].labels["disk"], "ssd");
    assert_eq!((cluster.hosts[2].ssh.user.as_str(), cluster.hosts[2].ssh.port), ("admin", 2222));
    assert_eq!(cluster.hosts[2].node_address.to_string(), "10.99.0.13");
    assert_eq!(cluster.network.dns_ip().to_string(), "10.96.0.10");
    assert_eq!(cluster.wordpress.unwrap().host, "wordpress.local");
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text = "\
cluster: My Cluster
hosts:
  - name: h1
    adress: 10.99.0.11
    role: controlplane
  - name: h1
    address: 10.99.0.12
    role: worker
    port: seventy
network:
  podCidr: 10.96.0.0/12
";
    let found = problems(text);
    let expected = [
        "1:10 cluster \"My Cluster\" is no name",
        "hosts[0].address is required",
        "4:5 hosts[0].adress unknown field; did you mean \"address\"?",
        "5:11 hosts[0].role expected controlPlane or worker, found \"controlplane\"; did you mean \"controlPlane\"?",
        "6:11 hosts[1].name \"h1\" is already the host at line 3",
        "9:11 hosts[1].port expected a port from 1 to 65535, found \"seventy\"",
        "network podCidr 10.96.0.0/12 and serviceCidr 10.96.0.0/16 overlap",
    ];
    for part in expected {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part:?} is missing in {found:#?}");
    }
}

#[test]
fn control_planes_are_one() {
    let host = |index: u8, role: &str| format!("- {{name: h{index}, address: 10.0.0.{index}, role: {role}}}\n");
    let inventory = |hosts: String| format!("cluster: c\nhosts:\n{hosts}");
    assert!(problems(&inventory(host(1, "worker")))[0].contains("one host needs"));
    assert!(problems(&inventory(host(1, "controlPlane") + &host(2, "controlPlane")))[0].contains("majority"));
    let three = host(1, "controlPlane") + &host(2, "controlPlane") + &host(3, "controlPlane");
    assert!(problems(&inventory(three))[0].contains("later version"));
    let one = good(&inventory(host(1, "controlPlane")));
    assert!(one.hosts[0].worker && one.hosts[0].taints.is_empty(), "the only host also works");
}

#[test]
fn other_mistakes() {
    for (text, part) in [
        ("cluster: [\n", "not YAML"),
        ("cluster: a\ncluster: b\n", "already set at line 1"),
        ("- a\n", "expected fields"),
        ("cluster: c\nhosts: h1\n", "expected a list"),
        ("cluster: c\nhosts: []\n", "at least one host"),
        ("cluster: c\nversion: v1.30\nhosts: []\n", "not v1.30"),
        ("cluster: c\nhosts: [{name: h1, address: h1.example, role: controlPlane}]\n", "nodeAddress is required"),
        ("cluster: c\nhosts: [{name: h1, address: 10.244.0.3, role: controlPlane}]\n", "inside network.podCidr"),
        (
            "cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane, taints: [nonsense]}]\n",
            "key=value:Effect",
        ),
        ("cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n---\na: 1\n", "second document"),
        ("", "cluster is required"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.contains(part)), "{text:?}: {part:?} is missing in {found:#?}");
    }
}

#[test]
fn sample_stands_for_itself() {
    let hosts = "cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n";
    assert!(good(hosts).wordpress.is_none());
    assert!(good(&format!("{hosts}sample:\n  wordpress:\n")).wordpress.is_some());
    assert!(good(&format!("{hosts}sample: {{wordpress: {{enabled: false}}}}\n")).wordpress.is_none());
}
