//! Nodes and pods as network namespaces, the plugin really executed, real packets. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cni::Config;
use cni::agent::overlay::Peer;
use cni::agent::policy::{self, Namespace, Peer as PolicyPeer, Policy, PolicyRule, PortMatch, PortName};
use cni::agent::{conflist, masquerade, overlay};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use netlink::netns::NetNs;
use netlink::nftables;
use netlink::rtnl::{Route, Rtnl, VethPair};
use serde_json::{Value, json};

struct Node {
    netns: NetNs,
    config: Config,
    pod_cidr: ipnet::Ipv4Net,
    dir: tempfile::TempDir,
}

struct Pod {
    netns: NetNs,
    id: String,
    ip: Ipv4Addr,
}

fn cable(a: &NetNs, b: &NetNs, a_net: &str, b_net: &str) {
    let mut rt = Rtnl::open_in(a).unwrap();
    let n = a_net.as_bytes().iter().fold(7u8, |n, b| n.wrapping_mul(31).wrapping_add(*b));
    let name = if a_net.starts_with("192") { "eth1" } else { "eth0" };
    rt.add_veth(&VethPair {
        name,
        alias: "cable",
        mac: [2, 9, 9, 9, n, 1],
        peer_name: "eth0",
        peer_mac: [2, 9, 9, 9, n, 2],
        peer_netns: b.as_fd(),
        mtu: 1500,
    })
    .unwrap();
    let dev = rt.link(name).unwrap().unwrap().index;
    rt.add_address(dev, a_net.parse().unwrap()).unwrap();
    let mut other = Rtnl::open_in(b).unwrap();
    let dev = other.link("eth0").unwrap().unwrap().index;
    other.set_up(dev).unwrap();
    other.add_address(dev, b_net.parse().unwrap()).unwrap();
}

fn node(n: u8, backend: &str) -> Node {
    let netns = NetNs::anonymous().expect("root");
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let text = format!(
        "kubeconfig: /none\nnodeName: n{n}\nnodeIp: 10.99.0.{n}\nclusterCidr: 10.244.0.0/16\nbackend: {backend}\ncniConfDir: {at}/net.d\ndataDir: {at}/data\n"
    );
    std::fs::write(dir.path().join("config.yaml"), text).unwrap();
    netns
        .run(|| {
            Rtnl::open().unwrap().set_up(1).unwrap();
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        })
        .unwrap();
    let config = Config::read(&dir.path().join("config.yaml")).unwrap();
    Node { netns, config, pod_cidr: format!("10.244.{n}.0/24").parse().unwrap(), dir }
}

impl Node {
    fn peer(&self) -> Peer {
        Peer { ip: self.config.node_ip, pod_cidr: self.pod_cidr }
    }

    fn connect(&self, peers: &[Peer]) {
        self.netns
            .run(|| {
                let mtu = overlay::ensure(&self.config, self.pod_cidr, peers).unwrap();
                conflist::write(&self.config, self.pod_cidr, mtu).unwrap();
                masquerade::ensure(self.config.cluster_cidr).unwrap();
            })
            .unwrap();
    }

    /// Executes the plugin as a container runtime does, with the agent's configuration.
    fn plugin(&self, command: &str, pod: &NetNs, id: &str, extra: Value) -> (bool, Value) {
        let text = std::fs::read_to_string(self.dir.path().join("net.d").join(cni::CONFLIST)).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["name"] = list["name"].clone();
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.as_fd().as_raw_fd());
        let out = self
            .netns
            .run(|| {
                let mut child = Command::new(env!("CARGO_BIN_EXE_kinstall-cni"))
                    .env_clear()
                    .envs([
                        ("CNI_COMMAND", command),
                        ("CNI_CONTAINERID", id),
                        ("CNI_IFNAME", "eth0"),
                        ("CNI_NETNS", &netns),
                    ])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
                child.wait_with_output().unwrap()
            })
            .unwrap();
        let value = if out.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&out.stdout).unwrap() };
        (out.status.success(), value)
    }

    fn pod_with(&self, id: &str, ports: Value) -> Pod {
        let netns = NetNs::anonymous().unwrap();
        Rtnl::open_in(&netns).unwrap().set_up(1).unwrap();
        let (ok, result) = self.plugin("ADD", &netns, id, json!({"runtimeConfig": {"portMappings": ports}}));
        assert!(ok, "{result}");
        let ip = result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/32").parse().unwrap();
        Pod { netns, id: id.into(), ip }
    }

    fn pod(&self, id: &str) -> Pod {
        self.pod_with(id, json!([]))
    }
}

/// Answers each connection with the client's address.
fn serve(netns: &NetNs, port: u16) {
    let listener = netns.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            drop(write!(stream, "{}", peer.ip()));
        }
    });
}

/// Where an answer has to come: this process may be paused meanwhile.
fn ask(netns: &NetNs, ip: Ipv4Addr, port: u16) -> Option<String> {
    ask_for(netns, ip, port, Duration::from_secs(10))
}

/// To see that none comes.
fn ask_briefly(netns: &NetNs, ip: Ipv4Addr, port: u16) -> Option<String> {
    ask_for(netns, ip, port, Duration::from_millis(700))
}

fn ask_for(netns: &NetNs, ip: Ipv4Addr, port: u16, patience: Duration) -> Option<String> {
    netns
        .run(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), patience).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        })
        .unwrap()
}

fn two_nodes(backend: &str) -> (Node, Node) {
    let (a, b) = (node(1, backend), node(2, backend));
    cable(&a.netns, &b.netns, "10.99.0.1/24", "10.99.0.2/24");
    a.connect(&[b.peer()]);
    b.connect(&[a.peer()]);
    (a, b)
}

#[test]
fn pods_reach_each_other_their_node_and_the_outside() {
    for backend in ["vxlan", "host-gw"] {
        let (a, b) = two_nodes(backend);
        let outside = NetNs::anonymous().unwrap();
        cable(&a.netns, &outside, "192.0.2.1/24", "192.0.2.2/24");
        let (one, two, far) = (a.pod("one"), a.pod("two"), b.pod("far"));
        for netns in [&one.netns, &far.netns, &a.netns, &outside] {
            serve(netns, 80);
        }
        assert_eq!(ask(&two.netns, one.ip, 80).unwrap(), two.ip.to_string(), "same node");
        assert_eq!(ask(&one.netns, far.ip, 80).unwrap(), one.ip.to_string(), "{backend}: other node, own address");
        assert_eq!(ask(&far.netns, one.ip, 80).unwrap(), far.ip.to_string());
        assert_eq!(ask(&a.netns, one.ip, 80).unwrap(), "10.99.0.1", "node to pod");
        assert_eq!(ask(&one.netns, "10.99.0.1".parse().unwrap(), 80).unwrap(), one.ip.to_string(), "pod to node");
        let node_source = if backend == "vxlan" { "10.244.1.0" } else { "10.99.0.1" };
        assert_eq!(ask(&a.netns, far.ip, 80).unwrap(), node_source, "{backend}: node to a pod elsewhere");
        assert_eq!(ask(&one.netns, "192.0.2.2".parse().unwrap(), 80).unwrap(), "192.0.2.1", "masqueraded when leaving");
        let mtu = Rtnl::open_in(&one.netns).unwrap().link("eth0").unwrap().unwrap().mtu;
        assert_eq!(mtu, if backend == "vxlan" { 1450 } else { 1500 });

        // The second node goes and comes back with another podCIDR; nothing is left of the first.
        a.connect(&[]);
        assert_eq!(ask_briefly(&one.netns, far.ip, 80), None);
        a.connect(&[b.peer()]);
        assert_eq!(ask(&one.netns, far.ip, 80).unwrap(), one.ip.to_string());
    }
}

#[test]
fn pods_are_reached_again_after_the_nodes_address_was_away() {
    let (a, b) = two_nodes("vxlan");
    let pod = a.pod("pod");
    serve(&pod.netns, 80);
    assert!(ask(&a.netns, pod.ip, 80).is_some());
    let mut rt = Rtnl::open_in(&a.netns).unwrap();
    let (eth0, address) = (rt.link("eth0").unwrap().unwrap().index, "10.99.0.1/24".parse().unwrap());
    rt.delete_address(eth0, address).unwrap();
    rt.add_address(eth0, address).unwrap();
    assert_eq!(ask_briefly(&a.netns, pod.ip, 80), None, "the kernel dropped the route");
    a.connect(&[b.peer()]);
    let restore = || a.netns.run(|| cni::restore_routes(&a.config.data_dir, a.config.node_ip).unwrap()).unwrap();
    assert_eq!((restore(), restore()), (1, 0));
    assert!(ask(&a.netns, pod.ip, 80).is_some());
}

#[test]
fn the_plugin_keeps_the_specification() {
    let (a, _b) = two_nodes("vxlan");
    let pod = a.pod("id");
    let version = a.plugin("VERSION", &pod.netns, "", json!({}));
    assert!(version.0 && version.1["supportedVersions"].as_array().unwrap().contains(&json!("1.0.0")));
    assert!(a.plugin("CHECK", &pod.netns, &pod.id, json!({})).0);
    let (ok, error) = a.plugin("ADD", &pod.netns, &pod.id, json!({}));
    assert!(
        !ok && error["code"] == 100 && error["msg"].as_str().unwrap().contains("already has 10.244.1.1"),
        "{error}"
    );
    assert!(a.plugin("STATUS", &pod.netns, "", json!({})).0);
    for _ in 0..2 {
        assert_eq!(a.plugin("DEL", &pod.netns, &pod.id, json!({})), (true, Value::Null));
    }
    assert!(!a.plugin("CHECK", &pod.netns, &pod.id, json!({})).0);
    assert_eq!(Rtnl::open_in(&pod.netns).unwrap().link("eth0").unwrap(), None);

    let (kept, gone) = (a.pod("kept"), a.pod("gone"));
    assert!(
        a.plugin(
            "GC",
            &pod.netns,
            "",
            json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]})
        )
        .0
    );
    assert!(Rtnl::open_in(&kept.netns).unwrap().link("eth0").unwrap().is_some());
    assert!(Rtnl::open_in(&gone.netns).unwrap().link("eth0").unwrap().is_none());

    let bare = NetNs::anonymous().unwrap();
    let (ok, result) = a.plugin("ADD", &bare, "lo", json!({"type": "loopback"}));
    assert!(
        ok && result["interfaces"][0]["name"] == "lo" && Rtnl::open_in(&bare).unwrap().link("lo").unwrap().unwrap().up
    );

    let many = NetNs::anonymous().unwrap();
    let start = Instant::now();
    for n in 0..10 {
        assert!(a.plugin("ADD", &many, &format!("many-{n}"), json!({})).0);
        assert!(a.plugin("DEL", &many, &format!("many-{n}"), json!({})).0);
    }
    eprintln!("ADD and DEL together: {:?} each", start.elapsed() / 10);
}

#[test]
fn host_ports_reach_their_pod_from_everywhere() {
    let (a, _b) = two_nodes("vxlan");
    let outside = NetNs::anonymous().unwrap();
    cable(&a.netns, &outside, "192.0.2.1/24", "192.0.2.2/24");
    let (node_ip, outer, localhost) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::LOCALHOST);
    let mapping =
        |ip: &str, proto: &str| json!([{"hostPort": 5000, "containerPort": 80, "protocol": proto, "hostIP": ip}]);
    // Three pods, one port: by address and by protocol.
    let loopback = a.pod_with("loopback", mapping("127.0.0.1", "tcp"));
    let tcp = a.pod_with("tcp", mapping("10.99.0.1", "TCP"));
    let udp = a.pod_with("udp", mapping("10.99.0.1", "UDP"));
    serve(&loopback.netns, 80);
    serve(&tcp.netns, 80);
    assert!(ask(&a.netns, localhost, 5000).is_some());
    assert_eq!(ask(&a.netns, node_ip, 5000).unwrap(), "10.99.0.1");
    assert_eq!(ask_briefly(&outside, outer, 5000), None, "not on other addresses");
    let server = udp.netns.run(|| UdpSocket::bind("0.0.0.0:80").unwrap()).unwrap();
    let client = a.netns.run(|| UdpSocket::bind("10.99.0.1:0").unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send_to(b"x", (node_ip, 5000)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 4]).unwrap();
    server.send_to(b"y", from).unwrap();
    client.recv_from(&mut [0; 4]).unwrap();

    let everywhere = a.pod_with("everywhere", json!([{"hostPort": 8080, "containerPort": 80}]));
    serve(&everywhere.netns, 80);
    assert_eq!(ask(&outside, outer, 8080).unwrap(), "192.0.2.2", "the client's own address");
    assert!(ask(&a.netns, localhost, 8080).is_some());
    assert!(ask(&everywhere.netns, node_ip, 8080).is_some(), "the pod itself");
    let second = NetNs::anonymous().unwrap();
    let (ok, error) = a.plugin(
        "ADD",
        &second,
        "second",
        json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 81}]}}),
    );
    assert!(!ok && error["msg"].as_str().unwrap().starts_with("host port 8080 is taken"), "{error}");
    assert!(Rtnl::open_in(&second).unwrap().link("eth0").unwrap().is_none(), "rolled back");
    assert!(ask(&outside, outer, 8080).is_some(), "the first pod keeps its port");
    a.plugin("DEL", &everywhere.netns, "everywhere", json!({}));
    assert_eq!(ask_briefly(&outside, outer, 8080), None);
    assert!(ask(&a.netns, node_ip, 5000).is_some());
}

fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn select(pairs: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(pairs)), ..LabelSelector::default() }
}

#[test]
fn policies_are_enforced_between_pods_of_one_node_and_of_several() {
    let (a, b) = two_nodes("vxlan");
    let (web, friend, stranger, far) = (a.pod("web"), a.pod("friend"), a.pod("stranger"), b.pod("far"));
    serve(&web.netns, 80);
    serve(&web.netns, 81);
    serve(&stranger.netns, 80);
    serve(&a.netns, 82);
    let mut state = policy::State::default();
    for (name, node, pod) in
        [("web", "n1", &web), ("friend", "n1", &friend), ("stranger", "n1", &stranger), ("far", "n2", &far)]
    {
        let app = if name == "far" { "friend" } else { name };
        let ports = vec![("http".to_string(), 6, 80)];
        state.pods.insert(
            ("ns".into(), name.into()),
            policy::Pod { ip: pod.ip, node: node.into(), labels: labels(&[("app", app)]), ports },
        );
    }
    state
        .namespaces
        .insert((String::new(), "ns".into()), Namespace { labels: labels(&[("kubernetes.io/metadata.name", "ns")]) });
    let mut before: Option<nftables::Table> = None;
    let mut apply = |state: &policy::State| {
        let table = policy::desired(state, "n1");
        a.netns
            .run(|| match &before {
                None => nftables::replace(&table).unwrap(),
                Some(old) => drop(nftables::update(old, &table).unwrap()),
            })
            .unwrap();
        before = Some(table);
    };
    let open = |from: &Pod, to: &Pod, port| ask(&from.netns, to.ip, port).is_some();
    let shut = |from: &Pod, to: &Pod, port| ask_briefly(&from.netns, to.ip, port).is_none();

    apply(&state);
    assert!(open(&stranger, &web, 80));
    let key = ("ns".to_string(), "only-friends".to_string());
    let rule = |peers, port| PolicyRule { peers, ports: vec![PortMatch { proto: 6, port }] };
    let friends = || vec![PolicyPeer::Pods { namespaces: None, pods: Some(select(&[("app", "friend")])) }];
    let web_policy = |ingress| Policy { pods: select(&[("app", "web")]), ingress, egress: None };

    state.policies.insert(key.clone(), web_policy(Some(vec![])));
    apply(&state);
    assert!(shut(&friend, &web, 80), "default deny");
    assert!(ask(&a.netns, web.ip, 80).is_some(), "the node may always");
    assert!(open(&web, &stranger, 80), "egress is not restricted");

    state.policies.insert(key.clone(), web_policy(Some(vec![rule(friends(), PortName::Named("http".into()))])));
    apply(&state);
    assert!(open(&friend, &web, 80) && open(&far, &web, 80));
    assert!(shut(&friend, &web, 81) && shut(&stranger, &web, 80));

    let by_namespace =
        vec![PolicyPeer::Pods { namespaces: Some(select(&[("kubernetes.io/metadata.name", "ns")])), pods: None }];
    state.policies.insert(key.clone(), web_policy(Some(vec![rule(by_namespace, PortName::Range(81, 90))])));
    apply(&state);
    assert!(open(&stranger, &web, 81) && shut(&stranger, &web, 80));

    let block = vec![PolicyPeer::Block {
        cidr: "10.244.0.0/16".parse().unwrap(),
        except: vec![format!("{}/32", stranger.ip).parse().unwrap()],
    }];
    state.policies.insert(key.clone(), web_policy(Some(vec![rule(block, PortName::Any)])));
    apply(&state);
    assert!(shut(&stranger, &web, 80) && open(&friend, &web, 80) && open(&far, &web, 81));

    let egress = Policy {
        pods: LabelSelector::default(),
        ingress: None,
        egress: Some(vec![PolicyRule {
            peers: vec![PolicyPeer::Pods { namespaces: None, pods: Some(select(&[("app", "web")])) }],
            ports: vec![],
        }]),
    };
    state.policies = [(key, egress)].into();
    apply(&state);
    assert!(open(&friend, &web, 80) && shut(&friend, &stranger, 80));
    assert!(ask(&friend.netns, "10.99.0.1".parse().unwrap(), 82).is_some(), "a pod may always reach its node");
    state.policies.clear();
    apply(&state);
    assert!(open(&friend, &stranger, 80));
}

#[test]
fn cleanup_removes_all_of_ours_and_nothing_else() {
    let (a, _b) = two_nodes("vxlan");
    let _pod = a.pod_with("pod", json!([{"hostPort": 8080, "containerPort": 80}]));
    a.netns
        .run(|| {
            let nft =
                |args: &[&str]| String::from_utf8(Command::new("nft").args(args).output().unwrap().stdout).unwrap();
            nft(&["add", "table", "ip", "foreign"]);
            nftables::replace(&policy::desired(&policy::State::default(), "n1")).unwrap();
            let mut rt = Rtnl::open().unwrap();
            let eth0 = rt.link("eth0").unwrap().unwrap().index;
            let foreign = Route {
                dst: "172.16.0.0/24".parse().unwrap(),
                via: Some("10.99.0.2".parse().unwrap()),
                dev: eth0,
                onlink: false,
                src: None,
                proto: 4,
                metric: 0,
            };
            rt.replace_route(&foreign).unwrap();
            // As containerd keeps a pod's namespace, and one that is not containerd's.
            let names =
                ["cni-kinstall-test", "kinstall-test"].map(|n| format!("/run/netns/{n}-{}", std::process::id()));
            std::fs::create_dir_all("/run/netns").unwrap();
            for (n, name) in names.iter().enumerate() {
                std::fs::write(name, "").unwrap();
                let text = json!({"ip": "10.244.1.99", "containerID": n.to_string(), "ifname": "eth0", "netns": name});
                std::fs::write(a.config.data_dir.join(format!("kinstall/10.244.1.{}", 98 + n)), text.to_string())
                    .unwrap();
            }
            let none: Option<&str> = None;
            nix::mount::mount(
                Some("/proc/thread-self/ns/net"),
                names[0].as_str(),
                none,
                nix::mount::MsFlags::MS_BIND,
                none,
            )
            .unwrap();
            for _ in 0..2 {
                cni::cleanup_at(&a.config.cni_conf_dir, &a.config.data_dir).unwrap();
            }
            let left = names.each_ref().map(|name| std::fs::exists(name).unwrap());
            std::fs::remove_file(&names[1]).unwrap();
            assert_eq!(left, [false, true], "the runtime's namespace goes, others stay");
            assert_eq!(nft(&["list", "ruleset"]).trim(), "table ip foreign {\n}");
            let names: Vec<_> = rt.links().unwrap().into_iter().filter(|l| l.up).map(|l| l.name).collect();
            assert_eq!(names, ["lo", "eth0"]);
            assert_eq!(rt.routes(4).unwrap(), vec![foreign]);
            assert!(!a.config.cni_conf_dir.join(cni::CONFLIST).exists() && !a.config.data_dir.exists());
        })
        .unwrap();
}
