//! The kernel accepts what the crate writes, and `nft` reads it back as meant. Needs root; each test has a network
//! namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use netlink::netns::NetNs;
use netlink::nftables::{
    self, ChainKind, Change, Data, Expr, Fib, Field, Hook, Set, SetRef, Table, Value, Verdict, key, matches::*,
};
use netlink::rtnl::{Neighbour, Route, Rtnl, VethPair, Vxlan};

fn ruleset() -> String {
    let out = Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn in_netns(f: impl FnOnce() + Send) {
    NetNs::anonymous()
        .expect("root")
        .run(|| {
            Rtnl::open().unwrap().set_up(1).unwrap();
            f();
        })
        .unwrap();
}

/// A table that uses every expression.
fn everything(ports: &[u16]) -> Table {
    let ip: Ipv4Addr = "127.0.0.1".parse().unwrap();
    let mut table = Table::new("kinstall-test");
    let mut services = Set::map(&[Field::Ipv4, Field::Proto, Field::Port], Value::Verdict);
    services
        .elements
        .insert(key::ip_proto_port("127.9.9.9".parse().unwrap(), TCP, 80), Data::Verdict(Verdict::Goto("svc".into())));
    services
        .elements
        .insert(key::ip_proto_port("127.9.9.9".parse().unwrap(), UDP, 80), Data::Verdict(Verdict::Goto("svc".into())));
    table.sets.insert("services".into(), services);
    let mut affinity = Set::new(&[Field::Ipv4]);
    affinity.timeout = Some(Duration::from_secs(60));
    table.sets.insert("affinity".into(), affinity);
    let mut hairpin = Set::new(&[Field::Ipv4, Field::Ipv4]);
    hairpin.elements.insert(key::ip_ip(ip, ip), Data::None);
    table.sets.insert("hairpin".into(), hairpin);

    let mut endpoints = Set::map(&[Field::Number], Value::Fields(vec![Field::Ipv4, Field::Port]));
    for (n, port) in ports.iter().enumerate() {
        endpoints.elements.insert(key::number(n as u32), Data::Fields(key::ip_port(ip, *port)));
    }
    let balance = rule([
        vec![Expr::Random { modulus: ports.len() as u32, reg: 0 }],
        dnat_map(SetRef::Anonymous(Box::new(endpoints))),
    ]);
    let remember = rule([load_source(0), vec![Expr::Remember { set: "affinity".into(), reg: 0 }]]);
    table
        .chain("svc", vec![rule([source_not_in("127.0.0.0/8".parse().unwrap()), add_mark(0x4000)]), remember, balance]);
    table.chain(
        "never",
        vec![
            rule([
                is_local(Fib::Destination),
                proto(TCP),
                port_range(1, 5),
                established(),
                new_connection(),
                verdict(Verdict::Drop),
            ]),
            rule([load_source(0), in_set("affinity"), dnat_to(ip, 5)]),
        ],
    );
    table.base_chain("output", ChainKind::Nat, Hook::Output, -100, vec![rule([load_service(), vmap("services")])]);
    table.base_chain(
        "postrouting",
        ChainKind::Nat,
        Hook::Postrouting,
        100,
        vec![
            rule([has_mark(0x4000), clear_mark(0x4000), vec![Expr::Masquerade]]),
            rule([destination_in("10.0.0.0/8".parse().unwrap()), was_dnat(), vec![Expr::Masquerade]]),
        ],
    );
    table.base_chain(
        "filter",
        ChainKind::Filter,
        Hook::Output,
        0,
        vec![rule([destination_in("127.8.0.0/16".parse().unwrap()), vec![Expr::Reject]])],
    );
    table
}

#[test]
fn packets_follow_a_table_and_its_updates_and_foreign_tables_stay() {
    in_netns(|| {
        assert!(Command::new("nft").args(["add", "table", "ip", "foreign"]).status().unwrap().success());
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        let (a, b) = (first.local_addr().unwrap().port(), second.local_addr().unwrap().port());
        let one = everything(&[a]);
        nftables::replace(&one).unwrap();
        let listed = ruleset();
        for wanted in [
            "goto svc",
            "numgen random mod 1 map",
            "masquerade fully-random",
            "reject",
            "update @affinity { ip saddr }",
            "fib daddr type local",
        ] {
            assert!(listed.contains(wanted), "{wanted} is missing in\n{listed}");
        }
        let service = "127.9.9.9:80";
        assert_eq!(TcpStream::connect(service).unwrap().peer_addr().unwrap().to_string(), service);
        first.accept().unwrap();

        let two = everything(&[b]);
        assert_eq!(nftables::update(&one, &two).unwrap(), Change::Increment);
        TcpStream::connect(service).unwrap();
        second.accept().unwrap();
        assert_eq!(nftables::update(&two, &two).unwrap(), Change::Nothing);
        let refused = TcpStream::connect_timeout(&"127.8.0.1:80".parse().unwrap(), Duration::from_secs(2)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        let mut smaller = two.clone();
        smaller.chains.remove("never");
        smaller.sets.get_mut("services").unwrap().elements.clear();
        smaller.chains.remove("svc");
        smaller.sets.remove("affinity");
        assert_eq!(nftables::update(&two, &smaller).unwrap(), Change::Increment);
        let mut reshaped = smaller.clone();
        reshaped.sets.get_mut("hairpin").unwrap().timeout = Some(Duration::from_secs(1));
        assert_eq!(nftables::update(&smaller, &reshaped).unwrap(), Change::Replacement);
        assert!(!nftables::create_if_missing(&reshaped).unwrap());

        nftables::delete("kinstall-test").unwrap();
        nftables::delete("kinstall-test").unwrap();
        assert_eq!(ruleset().trim(), "table ip foreign {\n}");
        assert!(nftables::create_if_missing(&reshaped).unwrap());
    });
}

#[test]
fn a_large_table_is_one_transaction_and_an_error_names_its_object() {
    in_netns(|| {
        let mut table = everything(&[1]);
        let services = table.sets.get_mut("services").unwrap();
        for n in 0..20_000u32 {
            let ip = Ipv4Addr::from(0x0a60_0000 + n);
            services.elements.insert(key::ip_proto_port(ip, TCP, 80), Data::Verdict(Verdict::Goto("svc".into())));
        }
        nftables::replace(&table).unwrap();
        nftables::replace(&table).unwrap();
        let mut broken = table.clone();
        broken.chain("lost", vec![jump("nowhere")]);
        let error = nftables::update(&table, &broken).unwrap_err();
        assert_eq!(error.to_string(), "nftables: add rule kinstall-test lost: ENOENT: No such file or directory");
        assert!(!ruleset().contains("chain lost"));
    });
}

#[test]
fn udp_flows_are_listed_and_forgotten() {
    in_netns(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        nftables::replace(&everything(&[server.local_addr().unwrap().port()])).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", "127.9.9.9:80").unwrap();
        server.recv_from(&mut [0; 8]).unwrap();
        let flows = netlink::conntrack::udp_flows().unwrap();
        let flow = flows.iter().find(|f| f.original.dst == ("127.9.9.9".parse().unwrap(), 80)).expect("tracked");
        assert_eq!(flow.reply.src.1, server.local_addr().unwrap().port());
        netlink::conntrack::delete(flow).unwrap();
        assert!(!netlink::conntrack::udp_flows().unwrap().contains(flow));
    });
}

#[test]
fn what_is_taken_away_is_heard_of_and_what_is_added_is_not() {
    in_netns(|| {
        let mut rt = Rtnl::open().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let next = || heard.recv_timeout(Duration::from_secs(5)).map_err(|_| "nothing was heard");
        netlink::changes::watch(move || {
            told.send(()).ok();
        })
        .unwrap();
        let route = |net: &str| Route {
            dst: net.parse().unwrap(),
            via: None,
            dev: 1,
            onlink: false,
            src: None,
            proto: 76,
            metric: 0,
        };
        let (first, second) = (route("10.1.0.0/16"), route("10.2.0.0/16"));
        rt.replace_route(&first).unwrap();
        rt.replace_route(&second).unwrap();
        rt.delete_route(&first).unwrap();
        next().unwrap();
        let address = "10.3.0.1/32".parse().unwrap();
        rt.add_address(1, address).unwrap();
        next().unwrap();
        rt.delete_address(1, address).unwrap();
        next().unwrap();
        assert_eq!(heard.try_iter().count(), 0, "the kernel told of three changes, not of two new routes");
    });
}

#[test]
fn links_routes_and_neighbours_are_read_back() {
    let other = NetNs::anonymous().unwrap();
    in_netns(|| {
        let mut rt = Rtnl::open().unwrap();
        use std::os::fd::AsFd;
        let mac = [2, 1, 1, 1, 1, 1];
        rt.add_veth(&VethPair {
            name: "veth-a",
            alias: "ours",
            mac,
            peer_name: "eth0",
            peer_mac: [2, 1, 1, 1, 1, 2],
            peer_netns: other.as_fd(),
            mtu: 1400,
        })
        .unwrap();
        let veth = rt.link("veth-a").unwrap().unwrap();
        assert_eq!(
            (veth.mtu, veth.mac, veth.alias.as_deref(), veth.kind.as_deref(), veth.up),
            (1400, Some(mac), Some("ours"), Some("veth"), true)
        );
        assert_eq!(Rtnl::open_in(&other).unwrap().link("eth0").unwrap().unwrap().mtu, 1400);
        assert_eq!(rt.link("absent").unwrap(), None);

        rt.add_address(veth.index, "10.99.0.1/24".parse().unwrap()).unwrap();
        assert!(rt.addresses().unwrap().contains(&(veth.index, "10.99.0.1/24".parse().unwrap())));
        let vxlan = Vxlan { vni: 1, local: Some("10.99.0.1".parse().unwrap()), port: 8472, underlay: veth.index };
        rt.add_vxlan("kinvx", "ours", mac, 1350, &vxlan).unwrap();
        let device = rt.link("kinvx").unwrap().unwrap();
        assert_eq!(device.vxlan, Some(vxlan));

        let peer = Neighbour { ip: "10.244.2.0".parse().unwrap(), mac, dev: device.index };
        let fdb = Neighbour { ip: "10.99.0.2".parse().unwrap(), ..peer.clone() };
        rt.replace_neighbour(&peer).unwrap();
        rt.replace_fdb(&fdb).unwrap();
        assert_eq!(rt.neighbours(device.index).unwrap(), vec![peer.clone()]);
        assert_eq!(rt.fdb(device.index).unwrap(), vec![fdb.clone()]);
        let route = Route {
            dst: "10.244.2.0/24".parse().unwrap(),
            via: Some(peer.ip),
            dev: device.index,
            onlink: true,
            src: None,
            proto: 76,
            metric: 0,
        };
        rt.replace_route(&route).unwrap();
        rt.replace_route(&route).unwrap();
        assert_eq!(rt.routes(76).unwrap(), vec![route.clone()]);
        rt.delete_route(&route).unwrap();
        rt.delete_neighbour(&peer).unwrap();
        rt.delete_fdb(&fdb).unwrap();
        assert!(
            rt.routes(76).unwrap().is_empty()
                && rt.neighbours(device.index).unwrap().is_empty()
                && rt.fdb(device.index).unwrap().is_empty()
        );
        rt.delete_link("kinvx").unwrap();
        assert!(rt.delete_link("kinvx").unwrap_err().is_not_found());
    });
}
