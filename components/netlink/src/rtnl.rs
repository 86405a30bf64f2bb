//! Links, addresses, routes and neighbours (rtnetlink(7)). IPv4.

pub(crate) mod parse;

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::Ipv4Net;
use nix::sys::socket::SockProtocol;

use crate::netns::NetNs;
use crate::socket::Socket;
use crate::wire::{self, Writer, flag};
use crate::{Error, Result};

use parse::{ipv4, parse_link, parse_route};

pub type Mac = [u8; 6];

const AF_INET: u8 = libc::AF_INET as u8;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;
pub(crate) const IFF_UP: u32 = libc::IFF_UP as u32;
const NUD_PERMANENT: u16 = libc::NUD_PERMANENT;
const NUD_NOARP: u16 = libc::NUD_NOARP;
const NTF_SELF: u8 = libc::NTF_SELF;
/// The gateway is on the link (`linux/rtnetlink.h`).
const RTNH_F_ONLINK: u32 = 4;

/// Attribute numbers of `if_link.h` that libc does not name.
mod ifla {
    pub const INFO_KIND: u16 = 1;
    pub const INFO_DATA: u16 = 2;
    pub const VETH_PEER: u16 = 1;
    pub const VXLAN_ID: u16 = 1;
    pub const VXLAN_LINK: u16 = 3;
    pub const VXLAN_LOCAL: u16 = 4;
    pub const VXLAN_LEARNING: u16 = 7;
    pub const VXLAN_PORT: u16 = 15;
}

/// A network interface as the kernel reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<Mac>,
    /// The free text set with `alias`; kinstall signs its links with it.
    pub alias: Option<String>,
    /// `veth`, `vxlan`, `bridge`, … ; none for hardware.
    pub kind: Option<String>,
    pub vxlan: Option<Vxlan>,
}

/// What makes a VXLAN device (RFC 7348) the one it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    pub vni: u32,
    pub local: Option<Ipv4Addr>,
    pub port: u16,
    pub underlay: u32,
}

/// A veth pair: one end here, up; the other in another namespace, to be set up there.
pub struct VethPair<'a> {
    pub name: &'a str,
    pub alias: &'a str,
    pub mac: Mac,
    pub peer_name: &'a str,
    pub peer_mac: Mac,
    pub peer_netns: BorrowedFd<'a>,
    pub mtu: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub dst: Ipv4Net,
    pub via: Option<Ipv4Addr>,
    pub dev: u32,
    /// The gateway is on the link even if no address says so.
    pub onlink: bool,
    /// The source address for connections from this host.
    pub src: Option<Ipv4Addr>,
    /// Who made the route (`rt_protos`); lets the maker find its own again.
    pub proto: u8,
    pub metric: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub ip: Ipv4Addr,
    pub mac: Mac,
    pub dev: u32,
}

/// A rtnetlink connection, bound to the namespace it was opened in.
pub struct Rtnl(Socket);

impl Rtnl {
    pub fn open() -> Result<Self> {
        Ok(Self(Socket::open(SockProtocol::NetlinkRoute)?))
    }

    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns
            .run(Self::open)
            .map_err(|e| Error::Socket(e.raw_os_error().map_or(nix::errno::Errno::EIO, nix::errno::Errno::from_raw)))?
    }

    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        self.0.get(
            libc::RTM_GETLINK,
            flag::DUMP,
            || "list links".into(),
            |w| ifinfo(w, 0, 0, 0),
            |_, payload| {
                links.extend(parse_link(payload));
                Ok(())
            },
        )?;
        Ok(links)
    }

    /// The link of this name; `None` if there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut found = None;
        let result = self.0.get(
            libc::RTM_GETLINK,
            0,
            || format!("look up link {name}"),
            |w| {
                ifinfo(w, 0, 0, 0);
                w.str(libc::IFLA_IFNAME, name);
            },
            |_, payload| {
                found = parse_link(payload);
                Ok(())
            },
        );
        match result {
            Ok(()) => Ok(found),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn add_veth(&mut self, pair: &VethPair<'_>) -> Result<()> {
        let action = || format!("create veth {} with peer {}", pair.name, pair.peer_name);
        self.0.request(libc::RTM_NEWLINK, flag::CREATE | flag::EXCL, action, |w| {
            ifinfo(w, 0, IFF_UP, IFF_UP);
            w.str(libc::IFLA_IFNAME, pair.name);
            w.u32(libc::IFLA_MTU, pair.mtu);
            w.attr(libc::IFLA_ADDRESS, &pair.mac);
            w.nest(libc::IFLA_LINKINFO, |w| {
                w.str(ifla::INFO_KIND, "veth");
                w.nest(ifla::INFO_DATA, |w| {
                    w.nest(ifla::VETH_PEER, |w| {
                        // The kernel refuses a peer that is up before it is paired.
                        ifinfo(w, 0, 0, 0);
                        w.str(libc::IFLA_IFNAME, pair.peer_name);
                        w.u32(libc::IFLA_MTU, pair.mtu);
                        w.attr(libc::IFLA_ADDRESS, &pair.peer_mac);
                        w.u32(libc::IFLA_NET_NS_FD, pair.peer_netns.as_raw_fd().cast_unsigned());
                    });
                });
            });
        })?;
        self.set_alias(pair.name, pair.alias)
    }

    /// Creates a VXLAN device that is up and learns nothing: every peer is told to it.
    pub fn add_vxlan(&mut self, name: &str, alias: &str, mac: Mac, mtu: u32, vxlan: &Vxlan) -> Result<()> {
        self.0.request(
            libc::RTM_NEWLINK,
            flag::CREATE | flag::EXCL,
            || format!("create vxlan device {name}"),
            |w| {
                ifinfo(w, 0, IFF_UP, IFF_UP);
                w.str(libc::IFLA_IFNAME, name);
                w.u32(libc::IFLA_MTU, mtu);
                w.attr(libc::IFLA_ADDRESS, &mac);
                w.nest(libc::IFLA_LINKINFO, |w| {
                    w.str(ifla::INFO_KIND, "vxlan");
                    w.nest(ifla::INFO_DATA, |w| {
                        w.u32(ifla::VXLAN_ID, vxlan.vni);
                        w.attr(ifla::VXLAN_LEARNING, &[0]);
                        w.be16(ifla::VXLAN_PORT, vxlan.port);
                        w.u32(ifla::VXLAN_LINK, vxlan.underlay);
                        if let Some(local) = vxlan.local {
                            w.attr(ifla::VXLAN_LOCAL, &local.octets());
                        }
                    });
                });
            },
        )?;
        self.set_alias(name, alias)
    }

    /// Signs a link (the kernel takes no alias while it creates one).
    fn set_alias(&mut self, name: &str, alias: &str) -> Result<()> {
        self.0.request(
            libc::RTM_NEWLINK,
            0,
            || format!("sign link {name}"),
            |w| {
                ifinfo(w, 0, 0, 0);
                w.str(libc::IFLA_IFNAME, name);
                w.str(libc::IFLA_IFALIAS, alias);
            },
        )
    }

    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.0.request(libc::RTM_NEWLINK, 0, || format!("set link {index} up"), |w| ifinfo(w, index, IFF_UP, IFF_UP))
    }

    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.0.request(
            libc::RTM_NEWLINK,
            0,
            || format!("set mtu of link {index}"),
            |w| {
                ifinfo(w, index, 0, 0);
                w.u32(libc::IFLA_MTU, mtu);
            },
        )
    }

    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        self.0.request(
            libc::RTM_DELLINK,
            0,
            || format!("delete link {name}"),
            |w| {
                ifinfo(w, 0, 0, 0);
                w.str(libc::IFLA_IFNAME, name);
            },
        )
    }

    pub fn add_address(&mut self, dev: u32, address: Ipv4Net) -> Result<()> {
        self.address(libc::RTM_NEWADDR, flag::CREATE | flag::REPLACE, dev, address)
    }

    pub fn delete_address(&mut self, dev: u32, address: Ipv4Net) -> Result<()> {
        self.address(libc::RTM_DELADDR, 0, dev, address)
    }

    fn address(&mut self, kind: u16, flags: u16, dev: u32, address: Ipv4Net) -> Result<()> {
        self.0.request(
            kind,
            flags,
            || format!("address {address} on link {dev}"),
            |w| {
                w.raw(&[AF_INET, address.prefix_len(), 0, 0]);
                w.raw(&dev.to_ne_bytes());
                w.attr(libc::IFA_LOCAL, &address.addr().octets());
                w.attr(libc::IFA_ADDRESS, &address.addr().octets());
            },
        )
    }

    /// Every IPv4 address with the index of its link.
    pub fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Net)>> {
        let mut all = Vec::new();
        self.0.get(
            libc::RTM_GETADDR,
            flag::DUMP,
            || "list addresses".into(),
            |w| w.raw(&[AF_INET, 0, 0, 0, 0, 0, 0, 0]),
            |_, payload| {
                let parsed = (|| {
                    let (head, rest) = payload.split_at_checked(8)?;
                    let ip = ipv4(wire::attr(rest, libc::IFA_LOCAL).or_else(|| wire::attr(rest, libc::IFA_ADDRESS))?)?;
                    Some((wire::u32_at(head, 4)?, Ipv4Net::new(ip, head[1]).ok()?))
                })();
                all.extend(parsed);
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// Adds the route, or replaces the one to the same destination with the same metric.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        self.0.request(
            libc::RTM_NEWROUTE,
            flag::CREATE | flag::REPLACE,
            || format!("route to {}", route.dst),
            |w| route_body(w, route),
        )
    }

    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        self.0.request(libc::RTM_DELROUTE, 0, || format!("delete route to {}", route.dst), |w| route_body(w, route))
    }

    /// The routes of the main table that `proto` made.
    pub fn routes(&mut self, proto: u8) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        let head = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.0.get(
            libc::RTM_GETROUTE,
            flag::DUMP,
            || "list routes".into(),
            |w| w.raw(&head),
            |_, payload| {
                all.extend(parse_route(payload).filter(|route| route.proto == proto));
                Ok(())
            },
        )?;
        Ok(all)
    }

    pub fn replace_neighbour(&mut self, neighbour: &Neighbour) -> Result<()> {
        self.neighbour(libc::RTM_NEWNEIGH, AF_INET, neighbour)
    }

    pub fn delete_neighbour(&mut self, neighbour: &Neighbour) -> Result<()> {
        self.neighbour(libc::RTM_DELNEIGH, AF_INET, neighbour)
    }

    /// Tells a VXLAN device behind which host a MAC address is.
    pub fn replace_fdb(&mut self, entry: &Neighbour) -> Result<()> {
        self.neighbour(libc::RTM_NEWNEIGH, AF_BRIDGE, entry)
    }

    pub fn delete_fdb(&mut self, entry: &Neighbour) -> Result<()> {
        self.neighbour(libc::RTM_DELNEIGH, AF_BRIDGE, entry)
    }

    fn neighbour(&mut self, kind: u16, family: u8, n: &Neighbour) -> Result<()> {
        let flags = if kind == libc::RTM_NEWNEIGH { flag::CREATE | flag::REPLACE } else { 0 };
        let (state, ntf) = if family == AF_BRIDGE { (NUD_PERMANENT | NUD_NOARP, NTF_SELF) } else { (NUD_PERMANENT, 0) };
        self.0.request(
            kind,
            flags,
            || format!("neighbour {} on link {}", n.ip, n.dev),
            |w| {
                w.raw(&[family, 0, 0, 0]);
                w.raw(&n.dev.to_ne_bytes());
                w.raw(&state.to_ne_bytes());
                w.raw(&[ntf, 0]);
                w.attr(libc::NDA_DST, &n.ip.octets());
                w.attr(libc::NDA_LLADDR, &n.mac);
            },
        )
    }

    /// The permanent neighbours of a link.
    pub fn neighbours(&mut self, dev: u32) -> Result<Vec<Neighbour>> {
        self.neighbour_dump(AF_INET, dev)
    }

    /// The static forwarding entries of a VXLAN device.
    pub fn fdb(&mut self, dev: u32) -> Result<Vec<Neighbour>> {
        self.neighbour_dump(AF_BRIDGE, dev)
    }

    fn neighbour_dump(&mut self, family: u8, dev: u32) -> Result<Vec<Neighbour>> {
        let mut all = Vec::new();
        self.0.get(
            libc::RTM_GETNEIGH,
            flag::DUMP,
            || "list neighbours".into(),
            |w| w.raw(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            |_, payload| {
                let parsed = (|| {
                    let (head, rest) = payload.split_at_checked(12)?;
                    let permanent = wire::u16_at(head, 8)? & NUD_PERMANENT != 0;
                    let n = Neighbour {
                        ip: ipv4(wire::attr(rest, libc::NDA_DST)?)?,
                        mac: wire::attr(rest, libc::NDA_LLADDR)?.try_into().ok()?,
                        dev: wire::u32_at(head, 4)?,
                    };
                    (permanent && n.dev == dev).then_some(n)
                })();
                all.extend(parsed);
                Ok(())
            },
        )?;
        Ok(all)
    }
}

fn ifinfo(w: &mut Writer, index: u32, flags: u32, change: u32) {
    w.raw(&[0, 0, 0, 0]);
    w.raw(&index.to_ne_bytes());
    w.raw(&flags.to_ne_bytes());
    w.raw(&change.to_ne_bytes());
}

fn route_body(w: &mut Writer, route: &Route) {
    let scope = if route.via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    w.raw(&[AF_INET, route.dst.prefix_len(), 0, 0, libc::RT_TABLE_MAIN, route.proto, scope, libc::RTN_UNICAST]);
    let flags = if route.onlink { RTNH_F_ONLINK } else { 0 };
    w.raw(&flags.to_ne_bytes());
    w.attr(libc::RTA_DST, &route.dst.network().octets());
    w.u32(libc::RTA_OIF, route.dev);
    if let Some(via) = route.via {
        w.attr(libc::RTA_GATEWAY, &via.octets());
    }
    if let Some(src) = route.src {
        w.attr(libc::RTA_PREFSRC, &src.octets());
    }
    if route.metric != 0 {
        w.u32(libc::RTA_PRIORITY, route.metric);
    }
}
