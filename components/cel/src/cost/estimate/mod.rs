//! The cost of an expression before it runs, from declared sizes (cel-go `checker/cost.go`).

mod library;

use std::{collections::HashMap, sync::Arc};

use super::{Cost, LIST_BASE, MAP_BASE, REGEX_LENGTH, STRING_TRAVERSAL, STRUCT_BASE, Size, UNKNOWN};
use crate::{
    ast::{ACCU, Expr, Fold, Id, Kind, Literal},
    env::{Env, Program},
    schema::{Schema, Shape},
    types::Type,
};

const ONE: Cost = Cost::fixed(1);

pub fn estimate(env: &Env, program: &Program) -> Cost {
    let mut coster = Coster {
        env,
        program,
        paths: HashMap::new(),
        locals: Vec::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
    };
    coster.cost(&program.root)
}

/// Sizes of what a container holds.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Size,
    value: Size,
}

struct Local {
    path: Vec<String>,
    size: Option<Size>,
    entries: Option<Entries>,
}

struct Coster<'p> {
    env: &'p Env,
    program: &'p Program,
    /// The way from a variable to a node's value.
    paths: HashMap<Id, Vec<String>>,
    locals: Vec<(Arc<str>, Local)>,
    sizes: HashMap<Id, Size>,
    entries: HashMap<Id, Entries>,
}

/// An argument, or what is inside of one.
struct Arg {
    ty: Type,
    path: Vec<String>,
    size: Size,
}

impl Coster<'_> {
    fn cost(&mut self, node: &Expr) -> Cost {
        stacker::maybe_grow(64 * 1024, 1024 * 1024, || self.node(node))
    }

    fn node(&mut self, node: &Expr) -> Cost {
        match &node.kind {
            Kind::Literal(_) => Cost::default(),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.to_string()], |l| l.path.clone());
                self.paths.insert(node.id, path);
                ONE
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut sum = self.cost(operand);
                if matches!(self.ty(operand), Type::Map(..) | Type::Object(_)) {
                    sum = sum.plus(ONE);
                }
                self.extend_path(node, operand, field);
                sum
            }
            Kind::Call { function, target, args } => self.call(node, function, target.as_deref(), args),
            Kind::List(items) => {
                let mut sum = Cost::fixed(LIST_BASE);
                let mut value: Option<Size> = None;
                for item in items {
                    sum = sum.plus(self.cost(&item.value));
                    let size = self.size_or_unknown(&item.value);
                    value = Some(value.map_or(size, |v| v.union(size)));
                }
                let entries = Entries { list: true, key: ONE, value: value.unwrap_or_default() };
                self.entries.insert(node.id, entries);
                sum
            }
            Kind::Map(pairs) => {
                let mut sum = Cost::fixed(MAP_BASE);
                let (mut key, mut value): (Option<Size>, Option<Size>) = (None, None);
                for pair in pairs {
                    sum = sum.plus(self.cost(&pair.key)).plus(self.cost(&pair.value));
                    let (k, v) = (self.size_or_unknown(&pair.key), self.size_or_unknown(&pair.value));
                    key = Some(key.map_or(k, |s| s.union(k)));
                    value = Some(value.map_or(v, |s| s.union(v)));
                }
                let entries = Entries { list: false, key: key.unwrap_or_default(), value: value.unwrap_or_default() };
                self.entries.insert(node.id, entries);
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Cost::fixed(STRUCT_BASE), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) if fold.is_bind() => self.bind(node, fold),
            Kind::Fold(fold) => self.fold(node, fold),
        }
    }

    fn ty(&self, node: &Expr) -> &Type {
        self.program.checked.types.get(node.id).unwrap_or(&Type::Dyn)
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|(n, _)| &**n == name).map(|(_, local)| local)
    }

    fn path(&self, node: &Expr) -> Vec<String> {
        if let Kind::Ident(name) = &node.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&node.id).cloned().unwrap_or_default()
    }

    fn extend_path(&mut self, node: &Expr, from: &Expr, step: &str) {
        let mut path = self.path(from);
        if !path.is_empty() {
            path.push(step.to_owned());
        }
        self.paths.insert(node.id, path);
    }

    /// The declared size of what lies at a path.
    fn declared(&self, path: &[String]) -> Option<Size> {
        let (variable, steps) = path.split_first()?;
        let root = self.env.variable(variable)?;
        let schema = steps.iter().try_fold(root.clone(), |schema, step| schema.step(step))?;
        Some(Size { min: 0, max: declared_max(&schema)? })
    }

    fn size(&mut self, node: &Expr) -> Option<Size> {
        if let Some(size) = self.sizes.get(&node.id) {
            return Some(*size);
        }
        let literal = match &node.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(items) => Some(items.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = literal {
            return Some(Size::fixed(size as u64));
        }
        if let Some(size) = self.declared(&self.path(node)) {
            self.sizes.insert(node.id, size);
            return Some(size);
        }
        if is_scalar(self.ty(node)) {
            return Some(ONE);
        }
        match &node.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, node: &Expr) -> Size {
        self.size(node).unwrap_or(UNKNOWN)
    }

    fn entries(&self, node: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&node.id) {
            return Some(*entries);
        }
        match &node.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    fn push(&mut self, name: &Arc<str>, range: &Expr, step: &str, size: Option<Size>) {
        let mut path = self.path(range);
        if !path.is_empty() {
            path.push(step.to_owned());
        }
        self.locals.push((name.clone(), Local { path, size, entries: None }));
    }

    fn push_accu(&mut self, fold: &Fold) {
        let local =
            Local { path: self.path(&fold.init), size: self.size(&fold.init), entries: self.entries(&fold.init) };
        self.locals.push((fold.accu.clone(), local));
    }

    fn fold(&mut self, node: &Expr, fold: &Fold) -> Cost {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let outside = self.locals.len();
        self.push_accu(fold);
        let entries = self.entries(&fold.range);
        let list = entries.map_or_else(|| matches!(self.ty(&fold.range), Type::List(_)), |e| e.list);
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        match &fold.var2 {
            Some(var2) => {
                self.push(&fold.var, &fold.range, if list { "@indices" } else { "@keys" }, key);
                self.push(var2, &fold.range, if list { "@items" } else { "@values" }, value);
            }
            None if list => self.push(&fold.var, &fold.range, "@items", value),
            None => self.push(&fold.var, &fold.range, "@keys", key),
        }
        let loop_cost = self.cost(&fold.cond).plus(self.cost(&fold.step));
        self.locals.truncate(outside + 1);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(outside);
        let range = self.size_or_unknown(&fold.range);
        sum = sum.plus(range.times(loop_cost));
        match fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(node.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(node.id, range);
                if let Some(entries) = self.entries(&fold.step) {
                    self.entries.insert(node.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn bind(&mut self, node: &Expr, fold: &Fold) -> Cost {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_accu(fold);
        let sum = sum.plus(self.cost(&fold.result));
        self.copy_sizes(node, &fold.result);
        self.locals.pop();
        sum
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entries(from) {
            self.entries.insert(to.id, entries);
        }
    }

    fn call(&mut self, node: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Cost {
        if let ("dyn", [inner]) = (function, args) {
            let cost = self.cost(inner).plus(ONE);
            self.copy_sizes(node, inner);
            return cost;
        }
        let arg_costs: Vec<Cost> = args.iter().map(|a| self.cost(a)).collect();
        let target_cost = target.map_or(Cost::default(), |t| self.cost(t));
        let infos: Vec<Arg> = args.iter().map(|a| self.arg(a)).collect();
        let target_info = target.map(|t| self.arg(t));
        let overloads: Vec<&str> = self.program.checked.overloads.get(&node.id).cloned().unwrap_or_default();
        let mut total: Option<Cost> = None;
        let mut result: Option<Size> = None;
        for overload in overloads {
            let (cost, size) = self.one(node, function, overload, target_info.as_ref(), (args, &infos, &arg_costs));
            total = Some(total.map_or(cost, |t| t.union(cost)));
            result = match (result, size) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            if let Some(container) = args.first() {
                let step = match overload {
                    "index_list" => "@items",
                    "index_map" => "@values",
                    _ => "",
                };
                if !step.is_empty() {
                    result = self.entries(container).map(|e| e.value);
                    self.extend_path(node, container, step);
                }
            }
            if result.is_none() {
                result = self.size(node);
            }
        }
        if let Some(size) = result {
            self.sizes.insert(node.id, size);
        }
        target_cost.plus(total.unwrap_or_default())
    }

    fn arg(&mut self, node: &Expr) -> Arg {
        let mut path = self.path(node);
        if path.first().is_some_and(|p| p == ACCU) {
            path.clear();
        }
        Arg { ty: self.ty(node).clone(), path, size: self.size_or_unknown(node) }
    }

    /// The elements of a list argument.
    fn element(&self, list: &Arg) -> Option<Arg> {
        let Type::List(item) = &list.ty else { return None };
        let mut path = list.path.clone();
        if !path.is_empty() {
            path.push("@items".into());
        }
        let size = self.declared(&path).unwrap_or(UNKNOWN);
        Some(Arg { ty: (**item).clone(), path, size })
    }

    /// Cost and result size of one overload, the arguments' own cost included.
    fn one(
        &mut self,
        node: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Arg>,
        (args, infos, costs): (&[Expr], &[Arg], &[Cost]),
    ) -> (Cost, Option<Size>) {
        let sum = costs.iter().fold(Cost::default(), |a, b| a.plus(*b));
        if let Some((cost, size)) = self.library(function, overload, target, (args, infos)) {
            return (cost.plus(sum), size);
        }
        let traversal = |size: Size| size.scaled(STRING_TRAVERSAL);
        match (function, infos, target) {
            ("format", [list], Some(text)) => (traversal(text.size).plus(sum), Some(text.size.plus(list.size))),
            ("bytes", [text], None) if overload == "string_to_bytes" => {
                let size = Size { min: text.size.min, max: text.size.max.saturating_mul(4) };
                (traversal(text.size).plus(sum), Some(size))
            }
            ("string", [bytes], None) if overload == "bytes_to_string" => {
                let size = Size { min: bytes.size.min / 4, max: bytes.size.max };
                (traversal(bytes.size).plus(sum), Some(size))
            }
            ("strings.quote", [text], None) => {
                let size = text.size.plus(text.size).plus(Size::fixed(2));
                (traversal(text.size).plus(sum), Some(size))
            }
            ("startsWith" | "endsWith", [part], Some(_)) => (traversal(part.size).plus(sum), None),
            ("@in", [_, list], None) if overload == "in_list" => (list.size.plus(sum), None),
            ("matches", [pattern], Some(text)) => {
                let text = traversal(text.size.plus(ONE));
                (text.times(pattern.size.scaled(REGEX_LENGTH)).plus(sum), None)
            }
            ("contains", [part], Some(text)) => (traversal(text.size).times(traversal(part.size)).plus(sum), None),
            ("slice" | "reverse" | "flatten", _, Some(list)) => (list.size.plus(ONE).plus(sum), Some(list.size)),
            ("sort" | "distinct" | "@sortByAssociatedKeys", _, Some(list)) => {
                (list.size.times(list.size).plus(ONE).plus(sum), Some(list.size))
            }
            ("sets.contains" | "sets.intersects", [a, b], None) => (a.size.times(b.size).plus(ONE).plus(sum), None),
            ("sets.equivalent", [a, b], None) => (a.size.times(b.size).times(Cost::fixed(2)).plus(ONE).plus(sum), None),
            ("_&&_" | "_||_", _, _) => {
                let (left, right) = pair(costs);
                (Cost { min: left.min, max: left.plus(right).max }, None)
            }
            ("_?_:_", [_, yes, no], _) => {
                let size = yes.size.union(no.size);
                if let [_, yes, no] = args
                    && let (Some(a), Some(b)) = (self.entries(yes), self.entries(no))
                {
                    self.entries.insert(node.id, join(a, b));
                }
                let branches = match costs {
                    [condition, yes, no] => condition.plus(yes.union(*no)),
                    _ => sum,
                };
                (branches, Some(size))
            }
            ("_+_", [a, b], _) if matches!(overload, "add_string" | "add_bytes" | "add_list") => {
                let size = a.size.plus(b.size);
                if let [a, b] = args
                    && let (Some(a), Some(b)) = (self.entries(a), self.entries(b))
                {
                    self.entries.insert(node.id, join(a, b));
                }
                let cost = if overload == "add_list" { ONE } else { traversal(size) };
                (cost.plus(sum), Some(size))
            }
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [a, b], _)
                if matches!(overload, "equals" | "not_equals" | "less_string" | "less_bytes") =>
            {
                let smallest = a.size.max.min(b.size.max);
                let range = Cost { min: u64::from(smallest > 0), max: smallest };
                (traversal(range).plus(sum), None)
            }
            _ => (ONE.plus(sum), None),
        }
    }
}

fn pair(costs: &[Cost]) -> (Cost, Cost) {
    match costs {
        [a, b] => (*a, *b),
        _ => Default::default(),
    }
}

fn join(a: Entries, b: Entries) -> Entries {
    Entries { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) }
}

/// What texts, lists and the like may grow to; fixed-size values count as nothing, as in upstream's declarations.
fn declared_max(schema: &Schema) -> Option<u64> {
    match (schema.max, &schema.shape) {
        (Some(max), _) => Some(max),
        (None, Shape::Bool | Shape::Int | Shape::Double) => Some(0),
        (None, Shape::Typed(_)) => None,
        (None, _) => Some(u64::MAX),
    }
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint | Type::Type(_) => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}
