//! What an nftables table consists of. Family `ip`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::expr::Expr;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls the chain; without it, it is reached by jumps only.
    pub base: Option<BaseChain>,
    pub rules: Vec<Rule>,
}

/// The expressions of one rule, from left to right.
pub type Rule = Vec<Expr>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub kind: ChainKind,
    pub hook: Hook,
    pub priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

/// `nf_inet_hooks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A set, a map, or a verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub key: Vec<Field>,
    /// What a key maps to; a plain set maps to nothing.
    pub value: Option<Value>,
    /// Elements the packets themselves add live this long.
    pub timeout: Option<Duration>,
    pub elements: BTreeMap<Vec<u8>, Data>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Verdict,
    Fields(Vec<Field>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    Verdict(Verdict),
    Fields(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// One part of a key, with the number the `nft` command knows its type by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Ipv4,
    Proto,
    Port,
    /// A number in the host's byte order.
    Number,
}

impl Field {
    pub(super) fn type_id(self) -> u32 {
        match self {
            Field::Ipv4 => 7,
            Field::Proto => 12,
            Field::Port => 13,
            Field::Number => 4,
        }
    }

    pub(super) fn len(self) -> u32 {
        match self {
            Field::Ipv4 | Field::Number => 4,
            Field::Proto => 1,
            Field::Port => 2,
        }
    }
}

impl Set {
    #[must_use]
    pub fn new(key: &[Field]) -> Self {
        Self { key: key.to_vec(), value: None, timeout: None, elements: BTreeMap::new() }
    }

    #[must_use]
    pub fn map(key: &[Field], value: Value) -> Self {
        Self { value: Some(value), ..Self::new(key) }
    }

    /// Everything but the elements: two sets alike in this can be turned into each other.
    pub(super) fn same_shape(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value && self.timeout == other.timeout
    }
}

impl Table {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub fn base_chain(&mut self, name: &str, kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) {
        self.chains.insert(name.into(), Chain { base: Some(BaseChain { kind, hook, priority }), rules });
    }

    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<Rule>) {
        self.chains.insert(name.into(), Chain { base: None, rules });
    }
}

/// Builds element keys and values; each part of several is padded to a register of four bytes.
pub mod key {
    use super::Ipv4Addr;

    #[must_use]
    pub fn ip(ip: Ipv4Addr) -> Vec<u8> {
        ip.octets().to_vec()
    }

    #[must_use]
    pub fn ip_ip(a: Ipv4Addr, b: Ipv4Addr) -> Vec<u8> {
        [a.octets(), b.octets()].concat()
    }

    #[must_use]
    pub fn ip_port(ip: Ipv4Addr, port: u16) -> Vec<u8> {
        let [high, low] = port.to_be_bytes();
        [ip.octets(), [high, low, 0, 0]].concat()
    }

    #[must_use]
    pub fn proto_port(proto: u8, port: u16) -> Vec<u8> {
        let [high, low] = port.to_be_bytes();
        vec![proto, 0, 0, 0, high, low, 0, 0]
    }

    #[must_use]
    pub fn ip_proto_port(ip: Ipv4Addr, proto: u8, port: u16) -> Vec<u8> {
        [ip.octets().to_vec(), proto_port(proto, port)].concat()
    }

    #[must_use]
    pub fn number(n: u32) -> Vec<u8> {
        n.to_ne_bytes().to_vec()
    }
}
