//! Routes to the other nodes' pods.
//!
//! With VXLAN the device `kinvx` has one neighbour, one forwarding entry and one route for each other node, all static: its MAC
//! address follows from the node's address, so nothing has to be announced or learned. The device's own address, the first
//! of the node's podCIDR, is the source of the node's own connections to other nodes' pods.
//! With `host-gw` there is only the route. Each change compares with what the kernel has, so a restart changes nothing.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context, anyhow};
use ipnet::Ipv4Net;
use netlink::IgnoreMissing;
use netlink::rtnl::{Link, Mac, Neighbour, Route, Rtnl, Vxlan};

use super::config::{Backend, Config};

pub const DEVICE: &str = "kinvx";
/// IPv4, UDP, VXLAN and the inner Ethernet header.
const VXLAN_OVERHEAD: u32 = 50;

/// What must be known of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub ip: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
}

/// Makes the kernel's routes those to these peers; the MTU for pods.
pub fn ensure(config: &Config, pod_cidr: Ipv4Net, peers: &[Peer]) -> anyhow::Result<u32> {
    let mut rt = Rtnl::open()?;
    let underlay = underlay(&mut rt, config.node_ip)?;
    match config.backend {
        Backend::Vxlan => {
            let mtu = if config.mtu > 0 { config.mtu } else { underlay.mtu.saturating_sub(VXLAN_OVERHEAD) };
            let dev = device(&mut rt, config, &underlay, pod_cidr, mtu)?;
            let fdb = peers.iter().map(|p| Neighbour { ip: p.ip, mac: mac(p.ip), dev }).collect();
            let neighbours =
                peers.iter().map(|p| Neighbour { ip: p.pod_cidr.network(), mac: mac(p.ip), dev }).collect();
            let routes = peers.iter().map(|p| route(p.pod_cidr, p.pod_cidr.network(), dev, true)).collect();
            let have = rt.fdb(dev)?;
            converge(&mut rt, have, fdb, Rtnl::delete_fdb, Rtnl::replace_fdb)?;
            let have = rt.neighbours(dev)?;
            converge(&mut rt, have, neighbours, Rtnl::delete_neighbour, Rtnl::replace_neighbour)?;
            let have = rt.routes(crate::ROUTE_PROTO)?;
            converge(&mut rt, have, routes, Rtnl::delete_route, Rtnl::replace_route)?;
            Ok(mtu)
        }
        Backend::HostGw => {
            let routes = peers.iter().map(|p| route(p.pod_cidr, p.ip, underlay.index, false)).collect();
            let have = rt.routes(crate::ROUTE_PROTO)?;
            converge(&mut rt, have, routes, Rtnl::delete_route, Rtnl::replace_route)?;
            rt.delete_link(DEVICE).ignore_missing()?;
            Ok(if config.mtu > 0 { config.mtu } else { underlay.mtu })
        }
    }
}

fn route(dst: Ipv4Net, via: Ipv4Addr, dev: u32, onlink: bool) -> Route {
    Route { dst, via: Some(via), dev, onlink, src: None, proto: crate::ROUTE_PROTO, metric: 0 }
}

/// Locally administered; the same on every node that computes it.
pub fn mac(node: Ipv4Addr) -> Mac {
    let [a, b, c, d] = node.octets();
    [0x02, 0x6b, a, b, c, d]
}

/// Removes what is not wanted, then adds what is missing.
fn converge<T: Ord>(
    rt: &mut Rtnl,
    have: Vec<T>,
    want: BTreeSet<T>,
    delete: impl Fn(&mut Rtnl, &T) -> netlink::Result<()>,
    add: impl Fn(&mut Rtnl, &T) -> netlink::Result<()>,
) -> netlink::Result<()> {
    let have: BTreeSet<T> = have.into_iter().collect();
    for stale in have.difference(&want) {
        delete(rt, stale).ignore_missing()?;
    }
    want.difference(&have).try_for_each(|missing| add(rt, missing))
}

/// The link that has the node's address.
fn underlay(rt: &mut Rtnl, node_ip: Ipv4Addr) -> anyhow::Result<Link> {
    let index = rt.addresses()?.into_iter().find(|(_, net)| net.addr() == node_ip).map(|(index, _)| index);
    let index = index.ok_or_else(|| {
        anyhow!("no link of this host has the node's address {node_ip}; correct nodeIp or the host's network")
    })?;
    rt.links()?.into_iter().find(|link| link.index == index).context("the link with the node's address vanished")
}

/// The tunnel device; one that differs in what cannot be changed is made anew.
fn device(rt: &mut Rtnl, config: &Config, underlay: &Link, pod_cidr: Ipv4Net, mtu: u32) -> anyhow::Result<u32> {
    let vxlan =
        Vxlan { vni: config.vni, local: Some(config.node_ip), port: config.vxlan_port, underlay: underlay.index };
    let wanted_mac = mac(config.node_ip);
    let is_right = |link: &Link| link.vxlan.as_ref() == Some(&vxlan) && link.mac == Some(wanted_mac);
    let before = rt.link(DEVICE)?;
    let existing = before.as_ref().filter(|link| is_right(link));
    if existing.is_none() {
        if before.is_some() {
            rt.delete_link(DEVICE).ignore_missing()?;
        }
        rt.add_vxlan(DEVICE, crate::ALIAS, wanted_mac, mtu, &vxlan)?;
    }
    let link = rt.link(DEVICE)?.context("the tunnel device vanished")?;
    if link.mtu != mtu {
        rt.set_mtu(link.index, mtu)?;
    }
    if !link.up {
        rt.set_up(link.index)?;
    }
    let own = Ipv4Net::new_assert(pod_cidr.network(), 32);
    let addresses = rt.addresses()?;
    for (_, stale) in addresses.iter().filter(|(dev, net)| *dev == link.index && *net != own) {
        rt.delete_address(link.index, *stale).ignore_missing()?;
    }
    if !addresses.contains(&(link.index, own)) {
        rt.add_address(link.index, own)?;
    }
    Ok(link.index)
}
