//! What calls of Kubernetes' functions cost, and of functions whose cost Kubernetes sets (apiserver `pkg/cel/library/cost.go`).

use super::{
    super::{AUTHORIZATION_CHECK, Cost, REGEX_LENGTH, STRING_TRAVERSAL, Size},
    Arg, Coster, ONE,
};
use crate::{
    ast::{Expr, Kind, Literal},
    types::Type,
};

impl Coster<'_> {
    /// Cost and result size; `None` for functions that cost what cel-go says.
    pub(super) fn library(
        &self,
        function: &str,
        overload: &str,
        target: Option<&Arg>,
        (args, infos): (&[Expr], &[Arg]),
    ) -> Option<(Cost, Option<Size>)> {
        let traversal = |size: Size| size.scaled(STRING_TRAVERSAL);
        let first = infos.first();
        Some(match (function, target) {
            ("check", _) => (Cost::fixed(AUTHORIZATION_CHECK), None),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub",
                _,
            ) => (ONE, None),
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target)) => {
                match self.element(target) {
                    Some(item) => {
                        let text = matches!(item.ty, Type::String | Type::Bytes);
                        let each = if text { ONE.plus(traversal(item.size)) } else { ONE };
                        (target.size.times(each), None)
                    }
                    None => (traversal(target.size), None),
                }
            }
            ("url", _) => (traversal(first?.size), None),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target)) => {
                (traversal(target.size), Some(target.size))
            }
            ("replace", Some(target)) => {
                let [from, to, ..] = infos else { return None };
                (target.size.scaled(2.0 * STRING_TRAVERSAL), Some(replaced(target.size, from.size, to.size)))
            }
            ("split", Some(target)) => {
                let max = match args.get(1).map(|a| &a.kind) {
                    Some(Kind::Literal(Literal::Int(limit))) => u64::try_from(*limit).unwrap_or(target.size.max),
                    _ => target.size.max,
                };
                (target.size.scaled(2.0 * STRING_TRAVERSAL), Some(Size { min: 0, max }))
            }
            ("join", Some(target)) => {
                let mut size = self.element(target).map_or(Size::default(), |item| target.size.times(item.size));
                if let Some(separator) = first {
                    let gaps = Size { min: target.size.min.saturating_sub(1), max: target.size.max.saturating_sub(1) };
                    size = size.plus(separator.size.times(gaps));
                }
                (traversal(size), Some(size))
            }
            ("find" | "findAll", Some(target)) => {
                let text = traversal(target.size.plus(ONE));
                let size = Size { min: 0, max: target.size.max };
                (text.times(first?.size.scaled(REGEX_LENGTH)), Some(size))
            }
            ("ip", Some(_)) => (ONE, None),
            ("containsIP" | "containsCIDR", Some(_)) => {
                let bytes = Size { min: 4, max: 16 };
                let mut cost = traversal(bytes.plus(bytes));
                if function == "containsCIDR" {
                    cost = cost.plus(traversal(bytes)).plus(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(traversal(first?.size));
                }
                (cost, None)
            }
            _ => return None,
        })
    }
}

/// How long a text can become by replacing `from` by `to`.
fn replaced(text: Size, from: Size, to: Size) -> Size {
    let (mut count, mut kept) = (Size::default(), Size::default());
    if from.min == 0 {
        // an empty text is found around every character
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if to.max <= from.min {
        kept.max = text.max;
    } else {
        count.max = text.max.div_ceil(from.min);
    }
    if from.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if from.max <= to.min {
        kept.min = text.min;
    } else {
        count.min = text.min.div_ceil(from.max);
    }
    count.times(to).plus(kept)
}
