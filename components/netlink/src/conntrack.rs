//! Connection tracking (`nfnetlink_conntrack.h`): list UDP flows and forget single ones.
//!
//! UDP has no end of connection: a flow that was sent to an endpoint which is gone would follow its old translation for as
//! long as the client keeps sending, so the proxy deletes such entries.

use std::net::Ipv4Addr;

use nix::sys::socket::SockProtocol;

use crate::Result;
use crate::socket::Socket;
use crate::wire::{self, flag};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub src: (Ipv4Addr, u16),
    pub dst: (Ipv4Addr, u16),
    pub proto: u8,
}

/// A tracked flow: where the client sent it, and from where the answer comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
    /// The original tuple as the kernel wrote it: the key to delete by.
    raw: Vec<u8>,
}

impl Flow {
    /// A flow for tests of code that chooses among flows.
    #[must_use]
    pub fn new(original: Tuple, reply: Tuple) -> Self {
        Self { original, reply, raw: Vec::new() }
    }
}

/// Every tracked IPv4 UDP flow.
pub fn udp_flows() -> Result<Vec<Flow>> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let mut flows = Vec::new();
    let head = [libc::AF_INET as u8, 0, 0, 0];
    socket.get(
        GET,
        flag::DUMP,
        || "list tracked connections".into(),
        |w| w.raw(&head),
        |_, payload| {
            flows.extend(payload.get(4..).and_then(parse).filter(|flow| flow.original.proto == UDP));
            Ok(())
        },
    )?;
    Ok(flows)
}

/// Forgets a flow; its next packet is looked at as a new one.
pub fn delete(flow: &Flow) -> Result<()> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    socket.request(
        DELETE,
        0,
        || format!("delete tracked connection {:?}", flow.original),
        |w| {
            w.raw(&[libc::AF_INET as u8, 0, 0, 0]);
            w.attr(CTA_TUPLE_ORIG | NESTED, &flow.raw);
        },
    )
}

fn parse(body: &[u8]) -> Option<Flow> {
    let raw = wire::attr(body, CTA_TUPLE_ORIG)?;
    Some(Flow { original: tuple(raw)?, reply: tuple(wire::attr(body, CTA_TUPLE_REPLY)?)?, raw: raw.to_vec() })
}

fn tuple(body: &[u8]) -> Option<Tuple> {
    let ip = wire::attr(body, CTA_TUPLE_IP)?;
    let proto = wire::attr(body, CTA_TUPLE_PROTO)?;
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(wire::attr(ip, kind)?).ok()?));
    let port = |kind| wire::attr(proto, kind).and_then(|v| Some(u16::from_be_bytes(v.try_into().ok()?))).unwrap_or(0);
    Some(Tuple {
        src: (address(CTA_IP_V4_SRC)?, port(CTA_PROTO_SRC_PORT)),
        dst: (address(CTA_IP_V4_DST)?, port(CTA_PROTO_DST_PORT)),
        proto: *wire::attr(proto, CTA_PROTO_NUM)?.first()?,
    })
}
