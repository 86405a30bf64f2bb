//! What the kernel answers, as data; an answer that lacks what it must have is `None`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{AF_INET, IFF_UP, Link, RTNH_F_ONLINK, Route, Vxlan, ifla};
use crate::wire;

pub(crate) fn parse_route(payload: &[u8]) -> Option<Route> {
    let (head, rest) = payload.split_at_checked(12)?;
    if head[0] != AF_INET || head[4] != libc::RT_TABLE_MAIN || head[7] != libc::RTN_UNICAST {
        return None;
    }
    let address = |kind| wire::attr(rest, kind).and_then(ipv4);
    let dst = address(libc::RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED);
    Some(Route {
        dst: Ipv4Net::new(dst, head[1]).ok()?,
        via: address(libc::RTA_GATEWAY),
        dev: wire::u32_at(wire::attr(rest, libc::RTA_OIF)?, 0)?,
        onlink: wire::u32_at(head, 8)? & RTNH_F_ONLINK != 0,
        src: address(libc::RTA_PREFSRC),
        proto: head[5],
        metric: wire::attr(rest, libc::RTA_PRIORITY).and_then(|v| wire::u32_at(v, 0)).unwrap_or(0),
    })
}

pub(super) fn parse_link(payload: &[u8]) -> Option<Link> {
    let (head, rest) = payload.split_at_checked(16)?;
    let mut link = Link { index: wire::u32_at(head, 4)?, up: wire::u32_at(head, 8)? & IFF_UP != 0, ..Link::default() };
    for (kind, value) in wire::attrs(rest) {
        match kind {
            libc::IFLA_IFNAME => link.name = wire::text(value),
            libc::IFLA_MTU => link.mtu = wire::u32_at(value, 0)?,
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_IFALIAS => link.alias = Some(wire::text(value)),
            libc::IFLA_LINKINFO => {
                link.kind = wire::attr(value, ifla::INFO_KIND).map(wire::text);
                if link.kind.as_deref() == Some("vxlan") {
                    link.vxlan = wire::attr(value, ifla::INFO_DATA).and_then(parse_vxlan);
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn parse_vxlan(data: &[u8]) -> Option<Vxlan> {
    let number = |kind| wire::attr(data, kind).and_then(|v| wire::u32_at(v, 0));
    Some(Vxlan {
        vni: number(ifla::VXLAN_ID)?,
        local: wire::attr(data, ifla::VXLAN_LOCAL).and_then(ipv4),
        port: wire::attr(data, ifla::VXLAN_PORT).and_then(|v| Some(u16::from_be_bytes(v.try_into().ok()?)))?,
        underlay: number(ifla::VXLAN_LINK).unwrap_or(0),
    })
}

pub(super) fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}
