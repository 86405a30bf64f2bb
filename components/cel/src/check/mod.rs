//! The type checker: gives every node a type and every call its possible overloads, or says what is wrong (cel-go `checker`).

mod unify;

use std::{collections::HashMap, sync::Arc};

use self::unify::Bindings;
use crate::{
    ast::{Expr, Fold, Id, Item, Kind, Literal},
    env::Env,
    functions::{self, Known},
    source::Problem,
    types::Type,
};

/// What the checker found out.
pub struct Checked {
    /// By node.
    pub types: Vec<Type>,
    pub overloads: HashMap<Id, Vec<&'static str>>,
}

pub fn check(env: &Env, root: &mut Expr, nodes: usize) -> Result<Checked, Vec<Problem>> {
    let mut checker = Checker {
        env,
        bindings: Bindings::default(),
        scopes: Vec::new(),
        types: vec![Type::Dyn; nodes],
        overloads: HashMap::new(),
        problems: Vec::new(),
        mixes: false,
    };
    checker.check(root);
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    let types = checker.types.iter().map(|t| checker.bindings.resolve(t)).collect();
    Ok(Checked { types, overloads: checker.overloads })
}

struct Checker<'e> {
    env: &'e Env,
    bindings: Bindings,
    /// Variables of folds, the innermost last.
    scopes: Vec<(Arc<str>, Type)>,
    types: Vec<Type>,
    overloads: HashMap<Id, Vec<&'static str>>,
    problems: Vec<Problem>,
    /// Whether literals may hold values of different types.
    mixes: bool,
}

impl Checker<'_> {
    fn fail(&mut self, at: usize, message: String) -> Type {
        self.problems.push(Problem { at, message });
        Type::Error
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.fail(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn check(&mut self, node: &mut Expr) -> Type {
        let ty = stacker::maybe_grow(64 * 1024, 1024 * 1024, || self.node(node));
        if let Some(slot) = self.types.get_mut(node.id) {
            *slot = ty.clone();
        }
        ty
    }

    fn node(&mut self, node: &mut Expr) -> Type {
        self.resolve_names(node);
        let (id, at) = (node.id, node.at);
        match &mut node.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => match self.variable(name) {
                Some(ty) => ty,
                None => {
                    let name = name.clone();
                    self.undeclared(at, &name)
                }
            },
            Kind::Select { operand, field, test } => {
                let (field, test) = (field.clone(), *test);
                let operand = self.check(operand);
                let ty = self.select(at, &operand, &field, false);
                if test && !matches!(ty, Type::Error) { Type::Bool } else { ty }
            }
            Kind::Call { function, target, args } => {
                let function = function.clone();
                if &*function == "_?._" {
                    return self.optional_select(at, id, args);
                }
                let target = target.as_deref_mut().map(|t| self.check(t));
                // what is formatted may be of any types
                let mixes = self.mixes;
                self.mixes |= &*function == "format";
                let args: Vec<Type> = args.iter_mut().map(|a| self.check(a)).collect();
                self.mixes = mixes;
                self.call(id, at, &function, target, args)
            }
            Kind::List(items) => {
                let item = self.items(items);
                Type::list(item)
            }
            Kind::Map(entries) => {
                let (mut key, mut value) = (None, None);
                for entry in entries {
                    let found = self.check(&mut entry.key);
                    self.join(&mut key, found, entry.key.at);
                    let found = self.check(&mut entry.value);
                    let found = if entry.optional { self.unwrap_optional(found, entry.value.at) } else { found };
                    self.join(&mut value, found, entry.value.at);
                }
                let mut known = |ty: Option<Type>| ty.unwrap_or_else(|| self.bindings.fresh());
                let (key, value) = (known(key), known(value));
                Type::map(key, value)
            }
            Kind::Struct { name, fields } => {
                let name = name.clone();
                let Some(shape) = self.env.structure(&name) else { return self.undeclared(at, &name) };
                for field in fields {
                    let found = self.check(&mut field.value);
                    let found = if field.optional { self.unwrap_optional(found, field.value.at) } else { found };
                    match shape.field(&field.name) {
                        None => drop(self.fail(field.at, format!("undefined field '{}'", field.name))),
                        Some(wanted) if !self.bindings.assignable(&wanted, &found) => {
                            let found = self.bindings.resolve(&found);
                            self.fail(
                                field.at,
                                format!(
                                    "expected type of field '{}' is '{wanted}' but provided type is '{found}'",
                                    field.name
                                ),
                            );
                        }
                        Some(_) => {}
                    }
                }
                Type::Object(shape.ty())
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    /// Names with dots: functions of libraries (`sets.contains`) and variables (`authorizer.requestResource`).
    fn resolve_names(&self, node: &mut Expr) {
        let local = |name: &str| {
            let root = name.split('.').next().unwrap_or_default();
            self.scopes.iter().any(|(n, _)| &**n == root)
        };
        match &mut node.kind {
            Kind::Call { function, target, .. } => {
                let Some(prefix) = target.as_deref().and_then(Expr::qualified_name) else { return };
                let name = format!("{prefix}.{function}");
                if functions::find(&name).is_some() && !local(&name) {
                    *function = name.into();
                    *target = None;
                }
            }
            Kind::Select { test: false, .. } => {
                let Some(name) = node.qualified_name() else { return };
                if self.env.variable(&name).is_some() && !local(&name) {
                    node.kind = Kind::Ident(name.into());
                }
            }
            _ => {}
        }
    }

    fn variable(&mut self, name: &str) -> Option<Type> {
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(n, _)| &**n == name) {
            return Some(ty.clone());
        }
        self.env.variable(name).map(|s| s.ty()).or_else(|| named_type(name).map(|t| Type::Type(Arc::new(t))))
    }

    fn select(&mut self, at: usize, operand: &Type, field: &str, inside: bool) -> Type {
        match self.bindings.head(operand) {
            Type::Optional(inner) if !inside => match self.select(at, &inner, field, true) {
                Type::Error => Type::Error,
                found => Type::optional(found),
            },
            Type::Map(_, value) => (*value).clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.schema.ty(),
                None => self.fail(at, format!("undefined field '{field}'")),
            },
            Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Error => Type::Error,
            other => {
                let other = self.bindings.resolve(&other);
                self.fail(at, format!("type '{other}' does not support field selection"))
            }
        }
    }

    fn optional_select(&mut self, at: usize, id: Id, args: &mut [Expr]) -> Type {
        let [operand, field] = args else { return Type::Error };
        let operand = self.check(operand);
        let Kind::Literal(Literal::String(name)) = &field.kind else { return Type::Error };
        let name = name.clone();
        self.overloads.insert(id, vec!["select_optional_field"]);
        match self.select(at, &operand, &name, false) {
            Type::Error => Type::Error,
            already @ Type::Optional(_) => already,
            found => Type::optional(found),
        }
    }

    fn call(&mut self, id: Id, at: usize, name: &str, target: Option<Type>, args: Vec<Type>) -> Type {
        let Some(function) = functions::find(name).filter(|f| !f.name.starts_with("jsonpatch.") || self.env.mutates())
        else {
            return self.undeclared(at, name);
        };
        let member = target.is_some();
        let given: Vec<Type> = target.into_iter().chain(args).collect();
        if given.iter().any(|t| matches!(t, Type::Error)) {
            return Type::Error;
        }
        match self.overload(function, member, &given) {
            Some((ids, result)) => {
                self.overloads.insert(id, ids);
                result
            }
            None => {
                let shown: Vec<String> = given.iter().map(|t| self.bindings.resolve(t).to_string()).collect();
                let applied = match shown.split_first() {
                    Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
                    _ => format!("({})", shown.join(", ")),
                };
                self.fail(at, format!("found no matching overload for '{name}' applied to '{applied}'"))
            }
        }
    }

    /// Every overload that fits, and what the call gives.
    fn overload(&mut self, function: &Known, member: bool, given: &[Type]) -> Option<(Vec<&'static str>, Type)> {
        let mut found: Option<(Vec<&'static str>, Type)> = None;
        for overload in function.overloads.iter().filter(|o| o.member == member && o.args.len() == given.len()) {
            let mut signature = overload.args.clone();
            signature.push(overload.result.clone());
            let mut signature = self.bindings.instantiate(&signature);
            let Some(result) = signature.pop() else { continue };
            let mark = self.bindings.mark();
            if !signature.iter().zip(given).all(|(wanted, given)| self.bindings.assignable(wanted, given)) {
                self.bindings.undo(mark);
                continue;
            }
            match &mut found {
                None => found = Some((vec![overload.id], result)),
                Some((ids, known)) => {
                    ids.push(overload.id);
                    if self.bindings.resolve(known) != self.bindings.resolve(&result) {
                        *known = Type::Dyn;
                    }
                }
            }
        }
        found
    }

    fn items(&mut self, items: &mut [Item]) -> Type {
        let mut joined = None;
        for item in items {
            let found = self.check(&mut item.value);
            let found = if item.optional { self.unwrap_optional(found, item.value.at) } else { found };
            self.join(&mut joined, found, item.value.at);
        }
        joined.unwrap_or_else(|| self.bindings.fresh())
    }

    fn unwrap_optional(&mut self, ty: Type, at: usize) -> Type {
        match self.bindings.head(&ty) {
            Type::Optional(inner) => (*inner).clone(),
            dynamic if dynamic.is_dyn() => Type::Dyn,
            other => {
                let other = self.bindings.resolve(&other);
                self.fail(at, format!("expected type 'optional_type({other})' but found '{other}'"))
            }
        }
    }

    /// Elements of one literal have one type.
    fn join(&mut self, joined: &mut Option<Type>, found: Type, at: usize) {
        let Some(before) = joined.clone() else {
            *joined = Some(found);
            return;
        };
        match self.bindings.join(&before, &found) {
            Some(general) => *joined = Some(general),
            None if self.mixes => *joined = Some(Type::Dyn),
            None => {
                let (before, found) = (self.bindings.resolve(&before), self.bindings.resolve(&found));
                self.fail(at, format!("expected type '{before}' but found '{found}'"));
            }
        }
    }

    fn expect(&mut self, at: usize, wanted: &Type, found: &Type) {
        if !self.bindings.assignable(wanted, found) {
            let (wanted, found) = (self.bindings.resolve(wanted), self.bindings.resolve(found));
            self.fail(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.check(&mut fold.range);
        let accu = self.check(&mut fold.init);
        let (first, second) = match (self.bindings.head(&range), fold.var2.is_some()) {
            (Type::List(item), false) => ((*item).clone(), Type::Dyn),
            (Type::List(item), true) => (Type::Int, (*item).clone()),
            (Type::Map(key, value), _) => ((*key).clone(), (*value).clone()),
            (Type::Dyn | Type::Param(_), _) => (Type::Dyn, Type::Dyn),
            (Type::Error, _) => (Type::Error, Type::Error),
            (other, _) => {
                let other = self.bindings.resolve(&other);
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fail(fold.range.at, message);
                (Type::Error, Type::Error)
            }
        };
        let outside = self.scopes.len();
        self.scopes.push((fold.accu.clone(), accu.clone()));
        let with_accu = self.scopes.len();
        self.scopes.push((fold.var.clone(), first));
        if let Some(var2) = &fold.var2 {
            self.scopes.push((var2.clone(), second));
        }
        let cond = self.check(&mut fold.cond);
        self.expect(fold.cond.at, &Type::Bool, &cond);
        let step = self.check(&mut fold.step);
        self.expect(fold.step.at, &accu, &step);
        self.scopes.truncate(with_accu);
        let result = self.check(&mut fold.result);
        self.scopes.truncate(outside);
        result
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// Types that have a name in expressions.
pub fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        _ => return None,
    })
}
