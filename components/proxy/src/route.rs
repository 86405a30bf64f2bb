//! The route of the Service CIDR.
//!
//! A host's own connection to a cluster IP is routed once before it is translated. Without a default route that first
//! look-up would fail; with one, the source address would be chance. So the Service CIDR has a route, to the loopback
//! device because no packet ever follows it, with the node's address as source.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink::rtnl::{Route, Rtnl};
use netlink::{IgnoreMissing, Result};

/// Marks our route in the kernel (`rt_protos`); no known routing daemon uses the number.
const PROTO: u8 = 207;

/// Says whether anything had to be changed.
pub fn ensure(service_cidr: Ipv4Net, node_ip: Ipv4Addr) -> Result<bool> {
    let mut rt = Rtnl::open()?;
    let Some(lo) = rt.link("lo")? else { return Ok(false) };
    let wanted = Route {
        dst: service_cidr.trunc(),
        via: None,
        dev: lo.index,
        onlink: false,
        src: Some(node_ip),
        proto: PROTO,
        metric: 0,
    };
    let (right, wrong): (Vec<_>, Vec<_>) = rt.routes(PROTO)?.into_iter().partition(|route| *route == wanted);
    for old in &wrong {
        rt.delete_route(old).ignore_missing()?;
    }
    if right.is_empty() {
        rt.replace_route(&wanted)?;
    }
    Ok(right.is_empty())
}

pub fn delete() -> Result<()> {
    let mut rt = Rtnl::open()?;
    for route in rt.routes(PROTO)? {
        rt.delete_route(&route).ignore_missing()?;
    }
    Ok(())
}
