//! Rule expressions (`nf_tables.h`), and the matches kinstall's rules are made of.
//!
//! Registers are numbered in words of four bytes, from 0; a concatenated key occupies consecutive words.

use super::model::{Set, Verdict};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads a property of the packet's way.
    Meta {
        key: Meta,
        reg: u32,
    },
    /// Sets the packet's mark from a register.
    SetMark {
        reg: u32,
    },
    /// Loads header bytes; `base` 1 is the network header, 2 the transport header.
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        reg: u32,
    },
    /// Goes on only if the register compares so.
    Cmp {
        op: Cmp,
        reg: u32,
        data: Vec<u8>,
    },
    /// reg = (reg & mask) ^ xor
    Bitwise {
        reg: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    CtState {
        reg: u32,
    },
    CtStatus {
        reg: u32,
    },
    /// Loads the type (RTN_LOCAL, …) of an address.
    FibType {
        of: Fib,
        reg: u32,
    },
    /// A random number below `modulus`.
    Random {
        modulus: u32,
        reg: u32,
    },
    /// Looks a register up in a set or map.
    Lookup {
        set: SetRef,
        reg: u32,
        found: Found,
    },
    /// Adds the register's value to a set, or renews its time.
    Remember {
        set: String,
        reg: u32,
    },
    Load {
        reg: u32,
        data: Vec<u8>,
    },
    Verdict(Verdict),
    Nat {
        kind: NatKind,
        address: u32,
        port: Option<u32>,
    },
    /// Source address of the outgoing link; ports fully random when several must share one.
    Masquerade,
    /// ICMP port unreachable.
    Reject,
    /// TCP reset. For TCP it beats `Reject`: the kernel only notes an ICMP error that arrives while `connect` holds the
    /// socket, so a client on this host would learn of it a second later, with the next SYN.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    L4Proto = 16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq = 0,
    Ne = 1,
    Le = 3,
    Ge = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fib {
    Source = 1,
    Destination = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Source = 0,
    Destination = 1,
}

/// What to do with a key that is found; any other ends the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Go on with the rule (a plain set).
    GoOn,
    /// Take the verdict (a verdict map).
    TakeVerdict,
    /// Load the value (a map).
    Load(u32),
}

/// A set by name, or one that belongs to its rule alone and goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetRef {
    Named(String),
    Anonymous(Box<Set>),
}

/// Ready-made pieces of rules.
pub mod matches {
    use std::net::Ipv4Addr;

    use ipnet::Ipv4Net;

    use super::super::model::{Rule, Verdict, key};
    use super::{Cmp, Expr, Fib, Found, Meta, NatKind, SetRef};

    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const SCTP: u8 = 132;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    const RTN_LOCAL: u32 = 2;
    const CT_ESTABLISHED_RELATED: u32 = 2 | 4;
    const CT_NEW: u32 = 8;
    const CT_STATUS_DNAT: u32 = 32;

    /// Joins the pieces of a rule.
    #[must_use]
    pub fn rule(parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
        parts.into_iter().flatten().collect()
    }

    #[must_use]
    pub fn load_source(reg: u32) -> Vec<Expr> {
        vec![Expr::Payload { base: NETWORK, offset: 12, len: 4, reg }]
    }

    #[must_use]
    pub fn load_destination(reg: u32) -> Vec<Expr> {
        vec![Expr::Payload { base: NETWORK, offset: 16, len: 4, reg }]
    }

    /// Protocol into `reg`, destination port into the next.
    #[must_use]
    pub fn load_proto_port(reg: u32) -> Vec<Expr> {
        vec![Expr::Meta { key: Meta::L4Proto, reg }, load_port(reg + 1)]
    }

    fn load_port(reg: u32) -> Expr {
        Expr::Payload { base: TRANSPORT, offset: 2, len: 2, reg }
    }

    /// `ip daddr . meta l4proto . th dport` in registers 0 to 2.
    #[must_use]
    pub fn load_service() -> Vec<Expr> {
        rule([load_destination(0), load_proto_port(1)])
    }

    /// Looks up what is loaded at register 0 in a verdict map.
    #[must_use]
    pub fn vmap(set: &str) -> Vec<Expr> {
        take_verdict(SetRef::Named(set.into()))
    }

    #[must_use]
    pub fn take_verdict(set: SetRef) -> Vec<Expr> {
        vec![Expr::Lookup { set, reg: 0, found: Found::TakeVerdict }]
    }

    /// What is loaded at register 0 is in the set.
    #[must_use]
    pub fn in_set(set: &str) -> Vec<Expr> {
        vec![Expr::Lookup { set: SetRef::Named(set.into()), reg: 0, found: Found::GoOn }]
    }

    fn in_net(load: Vec<Expr>, net: Ipv4Net, op: Cmp) -> Vec<Expr> {
        let mut rule = load;
        if net.prefix_len() < 32 {
            rule.push(Expr::Bitwise { reg: 0, mask: key::ip(net.netmask()), xor: vec![0; 4] });
        }
        rule.push(Expr::Cmp { op, reg: 0, data: key::ip(net.network()) });
        rule
    }

    #[must_use]
    pub fn source_in(net: Ipv4Net) -> Vec<Expr> {
        in_net(load_source(0), net, Cmp::Eq)
    }

    #[must_use]
    pub fn source_not_in(net: Ipv4Net) -> Vec<Expr> {
        in_net(load_source(0), net, Cmp::Ne)
    }

    #[must_use]
    pub fn destination_in(net: Ipv4Net) -> Vec<Expr> {
        in_net(load_destination(0), net, Cmp::Eq)
    }

    #[must_use]
    pub fn destination_not_in(net: Ipv4Net) -> Vec<Expr> {
        in_net(load_destination(0), net, Cmp::Ne)
    }

    #[must_use]
    pub fn proto(proto: u8) -> Vec<Expr> {
        vec![Expr::Meta { key: Meta::L4Proto, reg: 0 }, Expr::Cmp { op: Cmp::Eq, reg: 0, data: vec![proto] }]
    }

    /// Destination port within a range.
    #[must_use]
    pub fn port_range(first: u16, last: u16) -> Vec<Expr> {
        let data = |port: u16| port.to_be_bytes().to_vec();
        if first == last {
            return vec![load_port(0), Expr::Cmp { op: Cmp::Eq, reg: 0, data: data(first) }];
        }
        vec![
            load_port(0),
            Expr::Cmp { op: Cmp::Ge, reg: 0, data: data(first) },
            Expr::Cmp { op: Cmp::Le, reg: 0, data: data(last) },
        ]
    }

    /// The address belongs to this host.
    #[must_use]
    pub fn is_local(of: Fib) -> Vec<Expr> {
        vec![Expr::FibType { of, reg: 0 }, Expr::Cmp { op: Cmp::Eq, reg: 0, data: key::number(RTN_LOCAL) }]
    }

    fn flags(load: Expr, bits: u32) -> Vec<Expr> {
        let zero = key::number(0);
        vec![
            load,
            Expr::Bitwise { reg: 0, mask: key::number(bits), xor: zero.clone() },
            Expr::Cmp { op: Cmp::Ne, reg: 0, data: zero },
        ]
    }

    #[must_use]
    pub fn established() -> Vec<Expr> {
        flags(Expr::CtState { reg: 0 }, CT_ESTABLISHED_RELATED)
    }

    #[must_use]
    pub fn new_connection() -> Vec<Expr> {
        flags(Expr::CtState { reg: 0 }, CT_NEW)
    }

    /// The destination of the connection was translated.
    #[must_use]
    pub fn was_dnat() -> Vec<Expr> {
        flags(Expr::CtStatus { reg: 0 }, CT_STATUS_DNAT)
    }

    #[must_use]
    pub fn has_mark(bit: u32) -> Vec<Expr> {
        flags(Expr::Meta { key: Meta::Mark, reg: 0 }, bit)
    }

    #[must_use]
    pub fn add_mark(bit: u32) -> Vec<Expr> {
        change_mark(bit, bit)
    }

    #[must_use]
    pub fn clear_mark(bit: u32) -> Vec<Expr> {
        change_mark(bit, 0)
    }

    fn change_mark(bit: u32, to: u32) -> Vec<Expr> {
        vec![
            Expr::Meta { key: Meta::Mark, reg: 0 },
            Expr::Bitwise { reg: 0, mask: key::number(!bit), xor: key::number(to) },
            Expr::SetMark { reg: 0 },
        ]
    }

    #[must_use]
    pub fn verdict(verdict: Verdict) -> Vec<Expr> {
        vec![Expr::Verdict(verdict)]
    }

    #[must_use]
    pub fn jump(chain: impl Into<String>) -> Vec<Expr> {
        verdict(Verdict::Jump(chain.into()))
    }

    #[must_use]
    pub fn goto(chain: impl Into<String>) -> Vec<Expr> {
        verdict(Verdict::Goto(chain.into()))
    }

    #[must_use]
    pub fn dnat_to(ip: Ipv4Addr, port: u16) -> Vec<Expr> {
        vec![
            Expr::Load { reg: 0, data: key::ip(ip) },
            Expr::Load { reg: 1, data: port.to_be_bytes().to_vec() },
            dnat_registers(),
        ]
    }

    /// DNAT to the address in register 0 and the port in register 1.
    #[must_use]
    pub fn dnat_registers() -> Expr {
        Expr::Nat { kind: NatKind::Destination, address: 0, port: Some(1) }
    }

    /// Looks up register 0 in a map of address and port, and translates to what it says.
    #[must_use]
    pub fn dnat_map(set: SetRef) -> Vec<Expr> {
        vec![Expr::Lookup { set, reg: 0, found: Found::Load(0) }, dnat_registers()]
    }
}
