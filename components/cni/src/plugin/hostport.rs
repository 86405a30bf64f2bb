//! Host ports: two maps in a table of their own, filled by every ADD and emptied by every DEL.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use netlink::IgnoreMissing;
use netlink::nftables::{
    self, Batch, ChainKind, Cmp, Data, Expr, Fib, Field, Hook, Meta, Set, SetRef, Table, Value, key, matches::*,
};

use super::conf::PortMapping;

pub const TABLE: &str = "kinstall-hostport";
/// protocol . port → pod, for mappings on every address of the host.
const PORTS: &str = "ports";
/// address . protocol . port → pod, for mappings on one address.
const ADDRESS_PORTS: &str = "address-ports";
/// pod . pod, for pods with mappings: a pod that reached itself.
const HAIRPIN: &str = "hairpin";
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

pub fn add(pod: Ipv4Addr, mappings: &[PortMapping]) -> anyhow::Result<()> {
    nftables::create_if_missing(&skeleton()).context("cannot create the table of host ports")?;
    let mut batch = Batch::new();
    for mapping in mappings {
        let (map, key, data) = element(pod, mapping)?;
        batch.add_new_element(TABLE, map, &key, &data);
    }
    batch.add_elements(TABLE, HAIRPIN, &[(&key::ip_ip(pod, pod), &Data::None)]);
    batch.commit().map_err(|error| {
        let ports: Vec<_> = mappings.iter().map(|m| m.host_port.to_string()).collect();
        let taken = error.is_exists();
        let error = anyhow::Error::new(error);
        if taken {
            error.context(format!("host port {} is taken by another pod", ports.join(" or ")))
        } else {
            error.context("cannot forward host ports")
        }
    })
}

/// Takes back what `add` made, as far as it is there. A port that another pod has by now stays with that pod.
pub fn remove(pod: Ipv4Addr, mappings: &[PortMapping]) -> anyhow::Result<()> {
    for mapping in mappings {
        let (map, key, data) = element(pod, mapping)?;
        if nftables::value(TABLE, map, &key)?.map(Data::Fields).as_ref() == Some(&data) {
            delete(map, &key)?;
        }
    }
    if mappings.is_empty() { Ok(()) } else { delete(HAIRPIN, &key::ip_ip(pod, pod)) }
}

fn delete(set: &str, key: &Vec<u8>) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    batch.delete_elements(TABLE, set, &[(key, &Data::None)]);
    batch.commit().ignore_missing().context("cannot remove a host port")
}

fn element(pod: Ipv4Addr, mapping: &PortMapping) -> anyhow::Result<(&'static str, Vec<u8>, Data)> {
    let proto = match mapping.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => TCP,
        "udp" => UDP,
        "sctp" => SCTP,
        other => bail!("host port {}: protocol {other} is not known", mapping.host_port),
    };
    let data = Data::Fields(key::ip_port(pod, mapping.container_port));
    if mapping.host_ip.is_empty() || mapping.host_ip == "0.0.0.0" {
        return Ok((PORTS, key::proto_port(proto, mapping.host_port), data));
    }
    let ip = mapping.host_ip.parse().with_context(|| format!("host address {} is not IPv4", mapping.host_ip))?;
    Ok((ADDRESS_PORTS, key::ip_proto_port(ip, proto, mapping.host_port), data))
}

fn skeleton() -> Table {
    let mut table = Table::new(TABLE);
    let to_pod = || Value::Fields(vec![Field::Ipv4, Field::Port]);
    table.sets.insert(PORTS.into(), Set::map(&[Field::Proto, Field::Port], to_pod()));
    table.sets.insert(ADDRESS_PORTS.into(), Set::map(&[Field::Ipv4, Field::Proto, Field::Port], to_pod()));
    table.sets.insert(HAIRPIN.into(), Set::new(&[Field::Ipv4, Field::Ipv4]));
    let named = |name: &str| SetRef::Named(name.into());
    table.chain(
        "forward-ports",
        vec![
            rule([load_service(), dnat_map(named(ADDRESS_PORTS))]),
            rule([is_local(Fib::Destination), load_proto_port(0), dnat_map(named(PORTS))]),
        ],
    );
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        table.base_chain(name, ChainKind::Nat, hook, -105, vec![jump("forward-ports")]);
    }
    table.base_chain(
        "postrouting",
        ChainKind::Nat,
        Hook::Postrouting,
        95,
        vec![
            rule([load_source(0), load_destination(1), in_set(HAIRPIN), was_dnat(), vec![Expr::Masquerade]]),
            // A loopback address means nothing to a pod: destination . destination is in the set if it is one of these pods.
            rule([
                source_in(LOOPBACK),
                load_destination(0),
                load_destination(1),
                in_set(HAIRPIN),
                was_dnat(),
                vec![Expr::Masquerade],
            ]),
        ],
    );
    // Routing loopback addresses to pods (below) must not let pods reach the host's loopback (CVE-2020-8558).
    let mut lo = b"lo".to_vec();
    lo.resize(16, 0);
    let not_from_lo = vec![Expr::Meta { key: Meta::InputName, reg: 0 }, Expr::Cmp { op: Cmp::Ne, reg: 0, data: lo }];
    table.base_chain(
        "input",
        ChainKind::Filter,
        Hook::Input,
        0,
        vec![rule([not_from_lo, destination_in(LOOPBACK), new_connection(), verdict(nftables::Verdict::Drop)])],
    );
    table
}

/// Lets connections from 127.0.0.1 be forwarded to the pod behind this link.
pub fn allow_loopback(link: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
    std::fs::write(&path, "1").with_context(|| format!("cannot set {path}"))
}
