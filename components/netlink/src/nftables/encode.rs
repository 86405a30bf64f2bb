//! Expressions, verdicts and key types as netlink attributes (`nf_tables.h`).

use super::batch::FAMILY;
use super::expr::{Expr, Found, Meta, SetRef};
use super::model::{Field, Set, Verdict};
use crate::wire::Writer;

/// Register 0 is the verdict; the four-byte registers begin here.
const REG32: u32 = 8;

/// The kernel numbers them.
pub(super) fn anonymous_name(set: &Set) -> &'static str {
    if set.value.is_some() { "__map%d" } else { "__set%d" }
}

/// Type number and length in bytes of a key or value.
pub(super) fn shape(fields: &[Field]) -> (u32, u32) {
    match fields {
        [one] => (one.type_id(), one.len()),
        several => (several.iter().fold(0, |id, field| id << 6 | field.type_id()), 4 * several.len() as u32),
    }
}

pub(super) fn encode_verdict(w: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    w.nest(2, |w| {
        w.be32(1, i32::cast_unsigned(code));
        if let Some(chain) = chain {
            w.str(2, chain);
        }
    });
}

pub(super) fn encode_expr(w: &mut Writer, expr: &Expr, next_id: &mut u32) {
    let reg = |n: u32| REG32 + n;
    w.nest(1, |w| {
        let mut named = |name: &str, body: &mut dyn FnMut(&mut Writer)| {
            w.str(1, name);
            w.nest(2, |w| body(w));
        };
        match expr {
            Expr::Meta { key, reg: r } => named("meta", &mut |w| {
                w.be32(2, *key as u32);
                w.be32(1, reg(*r));
            }),
            Expr::SetMark { reg: r } => named("meta", &mut |w| {
                w.be32(2, Meta::Mark as u32);
                w.be32(3, reg(*r));
            }),
            Expr::Payload { base, offset, len, reg: r } => named("payload", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, *base);
                w.be32(3, *offset);
                w.be32(4, *len);
            }),
            Expr::Cmp { op, reg: r, data } => named("cmp", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, *op as u32);
                w.nest(3, |w| w.attr(1, data));
            }),
            Expr::Bitwise { reg: r, mask, xor } => named("bitwise", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, reg(*r));
                w.be32(3, mask.len() as u32);
                w.nest(4, |w| w.attr(1, mask));
                w.nest(5, |w| w.attr(1, xor));
            }),
            Expr::CtState { reg: r } => named("ct", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, 0);
            }),
            Expr::CtStatus { reg: r } => named("ct", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, 2);
            }),
            Expr::FibType { of, reg: r } => named("fib", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, 3);
                w.be32(3, *of as u32);
            }),
            Expr::Random { modulus, reg: r } => named("numgen", &mut |w| {
                w.be32(1, reg(*r));
                w.be32(2, *modulus);
                w.be32(3, 1);
                w.be32(4, 0);
            }),
            Expr::Lookup { set, reg: r, found } => named("lookup", &mut |w| {
                match set {
                    SetRef::Named(name) => w.str(1, name),
                    SetRef::Anonymous(set) => {
                        w.str(1, anonymous_name(set));
                        w.be32(4, *next_id);
                        *next_id += 1;
                    }
                }
                w.be32(2, reg(*r));
                match found {
                    Found::GoOn => {}
                    Found::TakeVerdict => w.be32(3, 0),
                    Found::Load(into) => w.be32(3, reg(*into)),
                }
            }),
            Expr::Remember { set, reg: r } => named("dynset", &mut |w| {
                w.str(1, set);
                w.be32(3, 1);
                w.be32(4, reg(*r));
            }),
            Expr::Load { reg: r, data } => named("immediate", &mut |w| {
                w.be32(1, reg(*r));
                w.nest(2, |w| w.attr(1, data));
            }),
            Expr::Verdict(verdict) => named("immediate", &mut |w| {
                w.be32(1, 0);
                w.nest(2, |w| encode_verdict(w, verdict));
            }),
            Expr::Nat { kind, address, port } => named("nat", &mut |w| {
                w.be32(1, *kind as u32);
                w.be32(2, u32::from(FAMILY));
                w.be32(3, reg(*address));
                if let Some(port) = port {
                    w.be32(5, reg(*port));
                }
            }),
            Expr::Masquerade => named("masq", &mut |w| w.be32(1, 1 << 4)),
            Expr::Reset => named("reject", &mut |w| {
                w.be32(1, 1);
                w.attr(2, &[0]);
            }),
            Expr::Reject => named("reject", &mut |w| {
                w.be32(1, 0);
                w.attr(2, &[3]);
            }),
        }
    });
}
