//! The whole agent against a (fake) API: nodes become routes and a configuration, policies become rules. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../proxy/tests/fake_api/mod.rs"]
mod fake_api;

use std::time::{Duration, Instant};

use fake_api::FakeApi;
use netlink::netns::NetNs;
use netlink::rtnl::{Rtnl, VethPair};
use serde_json::{Value, json};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";

fn node(n: u8, pod_cidr: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("n{n}"), "resourceVersion": "5"},
        "spec": {"podCIDR": pod_cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("10.99.0.{n}")}]},
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": "p", "resourceVersion": "6", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": "10.244.1.9"},
    })
}

fn policy() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "ns", "name": "deny", "resourceVersion": "7"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 80, "endPort": 90}]}]},
    })
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn routes() -> Vec<String> {
    Rtnl::open().unwrap().routes(208).unwrap().iter().map(|r| format!("{} via {}", r.dst, r.via.unwrap())).collect()
}

fn ruleset() -> String {
    String::from_utf8(std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap().stdout).unwrap()
}

async fn story() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let api = FakeApi::default();
    api.list(NODES, vec![node(1, None), node(2, Some("10.244.2.0/24"))]);
    api.list(PODS, vec![pod()]);
    api.serve(&dir.path().join("kubeconfig")).await;
    let config = format!(
        "kubeconfig: {at}/kubeconfig\nnodeName: n1\nnodeIp: 10.99.0.1\nclusterCidr: 10.244.0.0/16\ncniConfDir: {at}/net.d\ncniBinDir: {at}\ndataDir: {at}/data\nrouteCheckSeconds: 3600\n"
    );
    std::fs::write(dir.path().join("agent.yaml"), config).unwrap();
    let args = cni::Args { config: Some(dir.path().join("agent.yaml")), cleanup: false };
    let conflist = dir.path().join("net.d").join(cni::CONFLIST);
    // Left by the life before a reboot: no pod may start by it while the kernel knows no policy.
    std::fs::create_dir(dir.path().join("net.d")).unwrap();
    std::fs::write(&conflist, "old").unwrap();
    let running = tokio::spawn(cni::run(args.clone()));

    until("the watches", || [NODES, PODS, POLICIES].iter().all(|path| api.is_watched(path))).await;
    assert!(!conflist.exists(), "no podCIDR yet");
    api.event(NODES, "MODIFIED", node(1, Some("10.244.1.0/24")));
    until("the configuration", || conflist.exists()).await;
    assert_eq!(routes(), ["10.244.2.0/24 via 10.244.2.0"]);
    assert!(ruleset().contains("kinstall-policy"), "pods are invited when policies are enforced");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&conflist).unwrap()).unwrap();
    assert_eq!(written["plugins"][0]["podCIDR"], "10.244.1.0/24");
    assert_eq!(written["plugins"][0]["mtu"], 1450);

    api.event(NODES, "ADDED", node(3, Some("10.244.3.0/24")));
    until("a route to the new node", || routes().len() == 2).await;
    api.event(NODES, "DELETED", node(2, Some("10.244.2.0/24")));
    until("one route less", || routes() == ["10.244.3.0/24 via 10.244.3.0"]).await;

    assert!(!ruleset().contains("10.244.1.9"));
    api.event(POLICIES, "ADDED", policy());
    until("the policy", || ruleset().contains("10.244.1.9 : jump ingress/")).await;
    let rules = ruleset();
    assert!(
        rules.lines().any(|l| l.contains("ip saddr 192.0.2.0/24") && l.contains("80") && l.ends_with("return")),
        "{rules}"
    );
    api.event(POLICIES, "DELETED", policy());
    until("no policy", || !ruleset().contains("10.244.1.9")).await;

    // Something takes a route away, as the kernel does when a link or an address goes.
    let gone = Rtnl::open().unwrap().routes(208).unwrap().remove(0);
    Rtnl::open().unwrap().delete_route(&gone).unwrap();
    until("the route again", || routes() == ["10.244.3.0/24 via 10.244.3.0"]).await;

    // A mere restart of the agent, even without the API: pods go on being started.
    assert!(!running.is_finished());
    running.abort();
    drop(running.await);
    let text = std::fs::read_to_string(&conflist).unwrap();
    let unreachable = std::fs::read_to_string(dir.path().join("kubeconfig")).unwrap().replace("127.0.0.1", "127.0.0.2");
    std::fs::write(dir.path().join("kubeconfig"), unreachable).unwrap();
    let running = tokio::spawn(cni::run(args.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!running.is_finished());
    assert_eq!(std::fs::read_to_string(&conflist).unwrap(), text);
    running.abort();
    cni::run(cni::Args { cleanup: true, ..args }).await.unwrap();
    assert_eq!(ruleset(), "");
    assert!(routes().is_empty() && !conflist.exists());
}

#[test]
fn nodes_and_policies_arrive_in_the_kernel() {
    let other = NetNs::anonymous().expect("root");
    NetNs::anonymous()
        .unwrap()
        .run(|| {
            use std::os::fd::AsFd;
            let mut rt = Rtnl::open().unwrap();
            rt.set_up(1).unwrap();
            rt.add_veth(&VethPair {
                name: "eth0",
                alias: "cable",
                mac: [2, 0, 0, 0, 0, 1],
                peer_name: "eth0",
                peer_mac: [2, 0, 0, 0, 0, 2],
                peer_netns: other.as_fd(),
                mtu: 1500,
            })
            .unwrap();
            let dev = rt.link("eth0").unwrap().unwrap().index;
            rt.add_address(dev, "10.99.0.1/24".parse().unwrap()).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story());
        })
        .unwrap();
}
