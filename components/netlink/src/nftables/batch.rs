//! One nftables transaction as netlink messages.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::encode::{anonymous_name, encode_expr, encode_verdict, shape};
use super::expr::{Expr, SetRef};
use super::model::{Chain, ChainKind, Data, Field, Rule, Set, Table, Value};
use crate::socket::Socket;
use crate::wire::{self, Writer, flag};
use crate::{Error, Result};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(super) const FAMILY: u8 = 2; // NFPROTO_IPV4
/// An attribute is at most 64 KiB long, so elements go in portions.
const ELEMENTS_EACH: usize = 400;
const VERDICT_TYPE: u32 = 0xffff_ff00;

mod msg {
    pub const NEW_TABLE: u16 = 0;
    pub const DEL_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const DEL_CHAIN: u16 = 5;
    pub const NEW_RULE: u16 = 6;
    pub const DEL_RULE: u16 = 8;
    pub const NEW_SET: u16 = 9;
    pub const DEL_SET: u16 = 11;
    pub const NEW_ELEMENT: u16 = 12;
    pub const GET_ELEMENT: u16 = 13;
    pub const DEL_ELEMENT: u16 = 14;
}

mod set_flag {
    pub const ANONYMOUS: u32 = 1;
    pub const CONSTANT: u32 = 2;
    pub const MAP: u32 = 8;
    pub const TIMEOUT: u32 = 0x10;
    pub const EVAL: u32 = 0x20;
}

pub struct Batch {
    out: Writer,
    seq: u32,
    /// Where the last message starts, to ask for its acknowledgement.
    last: usize,
    next_set_id: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        let mut batch = Self { out: Writer::default(), seq: 0, last: 0, next_set_id: 0 };
        batch.frame(BATCH_BEGIN);
        batch
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seq == 1
    }

    /// Hands the transaction to the kernel, which applies all of it or nothing.
    pub fn commit(mut self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let last = self.seq;
        let flags_at = self.last + 6;
        let flags = wire::u16_at(&self.out.buf, flags_at).unwrap_or(0) | flag::ACK;
        self.out.buf[flags_at..flags_at + 2].copy_from_slice(&flags.to_ne_bytes());
        self.frame(BATCH_END);
        let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        socket.reserve(self.out.buf.len())?;
        socket.send(&self.out.buf)?;
        match socket.batch_answer(last)? {
            None => Ok(()),
            Some((seq, errno)) => Err(Error::Kernel { action: self.describe(seq, errno), errno }),
        }
    }

    fn frame(&mut self, kind: u16) {
        self.seq += 1;
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.out.message(kind, flag::REQUEST, self.seq, |w| w.raw(&[0, 0, high, low]));
    }

    fn push(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.seq += 1;
        self.last = self.out.buf.len();
        self.out.message(SUBSYSTEM << 8 | kind, flag::REQUEST | flags, self.seq, |w| {
            w.raw(&[FAMILY, 0, 0, 0]);
            body(w);
        });
    }

    pub fn ensure_table(&mut self, name: &str) {
        self.push(msg::NEW_TABLE, flag::CREATE, |w| w.str(1, name));
    }

    pub fn create_table_exclusively(&mut self, name: &str) {
        self.push(msg::NEW_TABLE, flag::CREATE | flag::EXCL, |w| w.str(1, name));
    }

    pub fn delete_table(&mut self, name: &str) {
        self.push(msg::DEL_TABLE, 0, |w| w.str(1, name));
    }

    /// Adds the table and all it holds.
    pub fn create(&mut self, table: &Table) {
        let name = &table.name;
        self.ensure_table(name);
        for (set_name, set) in &table.sets {
            self.add_set(name, set_name, set);
        }
        for (chain_name, chain) in &table.chains {
            self.add_chain(name, chain_name, chain);
        }
        for (set_name, set) in &table.sets {
            let all: Vec<_> = set.elements.iter().collect();
            self.add_elements(name, set_name, &all);
        }
        for (chain_name, chain) in &table.chains {
            self.add_rules(name, chain_name, chain);
        }
    }

    /// Adds the chain without its rules.
    pub fn add_chain(&mut self, table: &str, name: &str, chain: &Chain) {
        self.push(msg::NEW_CHAIN, flag::CREATE, |w| {
            w.str(1, table);
            w.str(3, name);
            if let Some(base) = chain.base {
                w.nest(4, |w| {
                    w.be32(1, base.hook as u32);
                    w.be32(2, base.priority.cast_unsigned());
                });
                w.be32(5, 1); // policy: accept
                w.str(
                    7,
                    match base.kind {
                        ChainKind::Filter => "filter",
                        ChainKind::Nat => "nat",
                    },
                );
            }
        });
    }

    pub fn delete_chain(&mut self, table: &str, name: &str) {
        self.push(msg::DEL_CHAIN, 0, |w| {
            w.str(1, table);
            w.str(3, name);
        });
    }

    pub fn flush_chain(&mut self, table: &str, name: &str) {
        self.push(msg::DEL_RULE, 0, |w| {
            w.str(1, table);
            w.str(2, name);
        });
    }

    pub fn add_rules(&mut self, table: &str, name: &str, chain: &Chain) {
        for rule in &chain.rules {
            self.add_rule(table, name, rule);
        }
    }

    fn add_rule(&mut self, table: &str, chain: &str, rule: &Rule) {
        let first_id = self.next_set_id + 1;
        for expr in rule {
            if let Expr::Lookup { set: SetRef::Anonymous(set), .. } = expr {
                self.add_anonymous_set(table, set);
            }
        }
        self.push(msg::NEW_RULE, flag::CREATE | flag::APPEND, |w| {
            w.str(1, table);
            w.str(2, chain);
            let mut id = first_id;
            w.nest(4, |w| {
                for expr in rule {
                    encode_expr(w, expr, &mut id);
                }
            });
        });
    }

    pub fn add_set(&mut self, table: &str, name: &str, set: &Set) {
        self.new_set(table, name, set, 0);
    }

    fn add_anonymous_set(&mut self, table: &str, set: &Set) {
        let name = anonymous_name(set);
        let id = self.new_set(table, name, set, set_flag::ANONYMOUS | set_flag::CONSTANT);
        let all: Vec<_> = set.elements.iter().collect();
        self.elements(msg::NEW_ELEMENT, table, name, Some(id), &all, true);
    }

    fn new_set(&mut self, table: &str, name: &str, set: &Set, flags: u32) -> u32 {
        self.next_set_id += 1;
        let id = self.next_set_id;
        let timeout = set.timeout.map_or(0, |_| set_flag::TIMEOUT | set_flag::EVAL);
        let map = set.value.as_ref().map_or(0, |_| set_flag::MAP);
        self.push(msg::NEW_SET, flag::CREATE, |w| {
            w.str(1, table);
            w.str(2, name);
            w.be32(3, flags | timeout | map);
            let (key_type, key_len) = shape(&set.key);
            w.be32(4, key_type);
            w.be32(5, key_len);
            if let Some(value) = &set.value {
                let (data_type, data_len) = match value {
                    Value::Verdict => (VERDICT_TYPE, 16),
                    Value::Fields(fields) => shape(fields),
                };
                w.be32(6, data_type);
                w.be32(7, data_len);
            }
            w.be32(10, id);
            if let Some(timeout) = set.timeout {
                w.be64(11, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            }
            // The byte order of the key, for whoever lists the table: 1 host, 2 network.
            let order: u32 = if set.key == [Field::Number] { 1 } else { 2 };
            let [a, b, c, d] = order.to_ne_bytes();
            w.attr(13, &[0, 4, a, b, c, d]);
        });
        id
    }

    pub fn delete_set(&mut self, table: &str, name: &str) {
        self.push(msg::DEL_SET, 0, |w| {
            w.str(1, table);
            w.str(2, name);
        });
    }

    pub fn add_elements(&mut self, table: &str, name: &str, elements: &[(&Vec<u8>, &Data)]) {
        self.elements(msg::NEW_ELEMENT, table, name, None, elements, true);
    }

    /// Adds elements that must not be there yet: one that is there with the same or another value is an error.
    pub fn add_new_element(&mut self, table: &str, name: &str, key: &Vec<u8>, data: &Data) {
        self.element_message(msg::NEW_ELEMENT, flag::CREATE | flag::EXCL, table, name, None, &[(key, data)], true);
    }

    pub fn delete_elements(&mut self, table: &str, name: &str, elements: &[(&Vec<u8>, &Data)]) {
        self.elements(msg::DEL_ELEMENT, table, name, None, elements, false);
    }

    fn elements(
        &mut self,
        kind: u16,
        table: &str,
        name: &str,
        id: Option<u32>,
        elements: &[(&Vec<u8>, &Data)],
        with_data: bool,
    ) {
        let flags = if kind == msg::NEW_ELEMENT { flag::CREATE } else { 0 };
        for portion in elements.chunks(ELEMENTS_EACH) {
            self.element_message(kind, flags, table, name, id, portion, with_data);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn element_message(
        &mut self,
        kind: u16,
        flags: u16,
        table: &str,
        name: &str,
        id: Option<u32>,
        elements: &[(&Vec<u8>, &Data)],
        with_data: bool,
    ) {
        self.push(kind, flags, |w| {
            w.str(1, table);
            w.str(2, name);
            if let Some(id) = id {
                w.be32(4, id);
            }
            w.nest(3, |w| {
                for (key, data) in elements {
                    w.nest(1, |w| {
                        w.nest(1, |w| w.attr(1, key));
                        match data {
                            Data::Verdict(verdict) if with_data => w.nest(2, |w| encode_verdict(w, verdict)),
                            Data::Fields(value) if with_data => w.nest(2, |w| w.attr(1, value)),
                            _ => {}
                        }
                    });
                }
            });
        });
    }

    /// Says what the message with this number wanted to do: kind, table, object.
    fn describe(&self, seq: u32, errno: Errno) -> String {
        let names = [
            "add table",
            "",
            "delete table",
            "add chain",
            "",
            "delete chain",
            "add rule",
            "",
            "delete rule",
            "add set",
            "",
            "delete set",
            "add element",
            "",
            "delete element",
        ];
        let found = wire::messages(&self.out.buf).find(|m| m.seq == seq);
        let Some((action, body)) =
            found.and_then(|m| Some((*names.get(usize::from(m.kind & 0xff))?, m.payload.get(4..)?)))
        else {
            return format!("nftables transaction ({errno})");
        };
        let name = |kind| wire::attr(body, kind).map(wire::text).unwrap_or_default();
        // A chain's name is attribute 3, every other object's is 2.
        let object = if action.ends_with("chain") { name(3) } else { name(2) };
        format!("nftables: {action} {} {object}", name(1))
    }
}

/// What a map has for a key, as bytes; `None` if the table, the map or the key is not there.
pub fn value(table: &str, name: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let mut found = None;
    let action = || format!("nftables: look up element {table} {name}");
    let request = |w: &mut Writer| {
        w.raw(&[FAMILY, 0, 0, 0]);
        w.str(1, table);
        w.str(2, name);
        w.nest(3, |w| w.nest(1, |w| w.nest(1, |w| w.attr(1, key))));
    };
    let result = socket.get(SUBSYSTEM << 8 | msg::GET_ELEMENT, 0, action, request, |_, payload| {
        let data = payload.get(4..).and_then(|body| {
            let element = wire::attr(wire::attr(body, 3)?, 1)?;
            wire::attr(wire::attr(element, 2)?, 1)
        });
        found = data.map(<[u8]>::to_vec);
        Ok(())
    });
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(|()| found),
    }
}
