//! Real packets through the proxy's rules: a "host" namespace with a "pod" and a "client" on links of their own. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use netlink::netns::NetNs;
use netlink::nftables;
use netlink::rtnl::{Route, Rtnl, VethPair};
use proxy::{Endpoint, Node, Port, Service, Slice, SlicePort, State, table};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const POD2: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

struct World {
    host: NetNs,
    client: NetNs,
    pod: NetNs,
}

fn net(ip: Ipv4Addr, prefix: u8) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new(ip, prefix).unwrap()
}

fn world() -> World {
    let [host, client, pod] = [(); 3].map(|()| NetNs::anonymous().expect("root"));
    let mut rt = Rtnl::open_in(&host).unwrap();
    rt.set_up(1).unwrap();
    let mut link = |name: &str, netns: &NetNs, here: Ipv4Addr, there: &[Ipv4Addr]| {
        let pair = VethPair {
            name,
            alias: "test",
            mac: [2, 0, 0, 0, here.octets()[1], 1],
            peer_name: "eth0",
            peer_mac: [2, 0, 0, 0, here.octets()[1], 2],
            peer_netns: netns.as_fd(),
            mtu: 1500,
        };
        rt.add_veth(&pair).unwrap();
        let dev = rt.link(name).unwrap().unwrap().index;
        rt.add_address(dev, net(here, 24)).unwrap();
        let mut inside = Rtnl::open_in(netns).unwrap();
        inside.set_up(1).unwrap();
        let dev = inside.link("eth0").unwrap().unwrap().index;
        inside.set_up(dev).unwrap();
        for ip in there {
            inside.add_address(dev, net(*ip, 24)).unwrap();
        }
        let default = Route {
            dst: net(Ipv4Addr::UNSPECIFIED, 0),
            via: Some(here),
            dev,
            onlink: false,
            src: None,
            proto: 3,
            metric: 0,
        };
        inside.replace_route(&default).unwrap();
    };
    link("to-client", &client, HOST, &[CLIENT]);
    link("to-pod", &pod, Ipv4Addr::new(10, 244, 0, 1), &[POD, POD2]);
    host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap().unwrap();
    host.run(|| proxy::route_service_cidr(&node())).unwrap().unwrap();
    World { host, client, pod }
}

fn node() -> Node {
    Node {
        name: "here".into(),
        ip: HOST,
        zone: None,
        cluster_cidr: net(Ipv4Addr::new(10, 244, 0, 0), 16),
        service_cidr: net(Ipv4Addr::new(10, 96, 0, 0), 16),
        node_port_addresses: vec![],
    }
}

fn service() -> Service {
    let port = |name: &str, proto| Port { name: name.into(), proto, port: 80, node_port: Some(30080) };
    Service {
        cluster_ip: VIP,
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        affinity: None,
        internal_local: false,
        external_local: false,
        health_check_node_port: None,
        ports: vec![port("web", 6), port("dns", 17)],
    }
}

fn endpoint(ip: Ipv4Addr, node: &str) -> Endpoint {
    Endpoint {
        ip,
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.into()),
        zone_hints: vec![],
        node_hints: vec![],
    }
}

fn state(service: Service, endpoints: Vec<Endpoint>) -> State {
    let port = |name: &str, proto| SlicePort { name: name.into(), proto, port: 8080 };
    let mut state = State::default();
    state.services.insert(("default".into(), "web".into()), service);
    state.slices.insert(
        ("default".into(), "web-1".into()),
        Slice { service: "web".into(), ports: vec![port("web", 6), port("dns", 17)], endpoints },
    );
    state
}

impl World {
    fn set(&self, state: &State) {
        let table = table::desired(&node(), state).table;
        self.host.run(|| nftables::replace(&table)).unwrap().unwrap();
    }

    /// A server that answers each connection with its own address and the client's.
    fn serve(&self, ip: Ipv4Addr) {
        let listener = self.pod.run(|| TcpListener::bind((ip, 8080)).unwrap()).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                drop(write!(stream, "{ip} {}", peer.ip()));
            }
        });
    }
}

/// For an answer that has to come: this process may be paused meanwhile.
const LONG: Duration = Duration::from_secs(10);
/// To see that none comes.
const SHORT: Duration = Duration::from_secs(1);

/// `server client`, as the server sees them.
fn ask(netns: &NetNs, to: impl Into<SocketAddr>) -> std::io::Result<String> {
    ask_for(netns, to, LONG)
}

fn ask_for(netns: &NetNs, to: impl Into<SocketAddr>, patience: Duration) -> std::io::Result<String> {
    let to = to.into();
    netns.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?
}

#[test]
fn cluster_ip_and_node_port_reach_endpoints_with_the_right_source() {
    let w = world();
    w.serve(POD);
    w.set(&state(service(), vec![endpoint(POD, "here")]));
    // From the pod itself: hairpin, so masqueraded. From outside: masqueraded, because answers must come back this way.
    assert_eq!(ask(&w.pod, (VIP, 80)).unwrap(), format!("{POD} 10.244.0.1"));
    assert_eq!(ask(&w.client, (VIP, 80)).unwrap(), format!("{POD} 10.244.0.1"));
    assert_eq!(ask(&w.client, (HOST, 30080)).unwrap(), format!("{POD} 10.244.0.1"));
    assert_eq!(ask(&w.pod, (HOST, 30080)).unwrap(), format!("{POD} 10.244.0.1"));
    assert_eq!(ask(&w.host, (VIP, 80)).unwrap(), format!("{POD} 10.244.0.1"));
    assert_eq!(ask(&w.host, (HOST, 30080)).unwrap(), format!("{POD} 10.244.0.1"));
    assert!(ask_for(&w.host, (Ipv4Addr::LOCALHOST, 30080), SHORT).is_err(), "not on the loopback");

    let mut local = service();
    local.external_local = true;
    w.set(&state(local.clone(), vec![endpoint(POD, "here")]));
    assert_eq!(
        ask(&w.client, (HOST, 30080)).unwrap(),
        format!("{POD} {CLIENT}"),
        "policy Local keeps the client's address"
    );
    w.set(&state(local, vec![endpoint(POD, "elsewhere")]));
    let dropped = ask_for(&w.client, (HOST, 30080), SHORT).unwrap_err();
    assert_eq!(dropped.kind(), ErrorKind::TimedOut, "no endpoint here: dropped");
    assert_eq!(ask(&w.host, (HOST, 30080)).unwrap(), format!("{POD} 10.244.0.1"), "from this node it may go anywhere");
}

#[test]
fn connections_spread_and_affinity_keeps_them_together() {
    let w = world();
    w.serve(POD);
    w.serve(POD2);
    let both = vec![endpoint(POD, "here"), endpoint(POD2, "here")];
    let servers = |to: (Ipv4Addr, u16)| -> std::collections::BTreeSet<String> {
        (0..24).map(|_| ask(&w.client, to).unwrap().split(' ').next().unwrap().to_string()).collect()
    };
    w.set(&state(service(), both.clone()));
    assert_eq!(servers((VIP, 80)).len(), 2);
    let mut sticky = service();
    sticky.affinity = Some(Duration::from_secs(100));
    w.set(&state(sticky.clone(), both));
    let through_ip = servers((VIP, 80));
    assert_eq!(through_ip.len(), 1);
    assert_eq!(servers((HOST, 30080)), through_ip, "ClusterIP and NodePort share the memory");
}

#[test]
fn without_endpoints_a_connection_is_refused_at_once() {
    let w = world();
    w.set(&state(service(), vec![]));
    for (from, to) in [
        (&w.client, (VIP, 80)),
        (&w.pod, (VIP, 80)),
        (&w.client, (HOST, 30080)),
        (&w.client, (VIP, 81)),
        (&w.client, (Ipv4Addr::new(10, 96, 3, 3), 443)),
    ] {
        assert_eq!(ask(from, to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to:?}");
    }
}

#[test]
fn load_balancer_addresses_obey_source_ranges() {
    let w = world();
    w.serve(POD);
    let address = Ipv4Addr::new(192, 0, 2, 7);
    let mut balanced = service();
    balanced.load_balancer_ips = vec![address];
    balanced.source_ranges = vec![net(CLIENT, 32)];
    w.set(&state(balanced.clone(), vec![endpoint(POD, "here")]));
    assert!(ask(&w.client, (address, 80)).is_ok());
    assert!(ask_for(&w.pod, (address, 80), SHORT).is_err());
    balanced.source_ranges.clear();
    w.set(&state(balanced, vec![endpoint(POD, "here")]));
    assert!(ask(&w.pod, (address, 80)).is_ok());
}

#[test]
fn udp_is_translated_both_ways() {
    let w = world();
    w.set(&state(service(), vec![endpoint(POD, "here")]));
    let server = w.pod.run(|| UdpSocket::bind((POD, 8080)).unwrap()).unwrap();
    let client = w.client.run(|| UdpSocket::bind((CLIENT, 0)).unwrap()).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.send_to(b"question", (VIP, 80)).unwrap();
    let mut buf = [0; 32];
    let (len, from) = server.recv_from(&mut buf).unwrap();
    server.send_to(&buf[..len], from).unwrap();
    assert_eq!(client.recv_from(&mut buf).unwrap(), (8, SocketAddr::from((VIP, 80))));
}

#[test]
fn cleanup_leaves_what_others_made() {
    let w = world();
    w.set(&state(service(), vec![endpoint(POD, "here")]));
    w.host
        .run(|| {
            let nft = |args: &[&str]| std::process::Command::new("nft").args(args).output().unwrap();
            nft(&["add", "table", "ip", "foreign"]);
            proxy::cleanup().unwrap();
            proxy::cleanup().unwrap();
            assert_eq!(String::from_utf8_lossy(&nft(&["list", "ruleset"]).stdout).trim(), "table ip foreign {\n}");
        })
        .unwrap();
}

#[test]
fn a_configuration_with_unknown_fields_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let good =
        "kubeconfig: /k\nnodeName: n\nnodeIp: 10.99.0.1\nclusterCidr: 10.244.0.0/16\nserviceCidr: 10.96.0.0/16\n";
    std::fs::write(&file, good).unwrap();
    let config = proxy::Config::read(file.path()).unwrap();
    assert_eq!(config.healthz_bind_address.to_string(), "127.0.0.1:10256");
    std::fs::write(&file, format!("{good}nodeIP: 10.99.0.1\n")).unwrap();
    assert!(format!("{:#}", proxy::Config::read(file.path()).unwrap_err()).contains("nodeIP"));
}
