//! Evaluation: a walk over the tree that counts what it costs and stops when that is too much.

mod fold;

use std::{cell::RefCell, collections::HashMap, fmt, sync::Arc};

use regex::Regex;

use crate::{
    ast::{Expr, Kind, Literal},
    check::named_type,
    cost::{self, CALL_LIMIT},
    env::Program,
    functions::{self, kubernetes::authz::Authorize, regexes},
    value::{Key, List, MAX_DEPTH, Map, Text, Val},
};

/// Bytes that one evaluation may make, at most.
const MEMORY_LIMIT: usize = 64 << 20;

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    /// Limits end the evaluation, whatever `&&` and `||` would make of it.
    pub fatal: bool,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), fatal: false }
    }

    fn over_limit() -> Self {
        Fault { message: "operation cancelled: actual cost limit exceeded".into(), fatal: true }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

type Answer<'a> = Result<Val<'a>, Fault>;

/// Named expressions that are computed when first used, each able to use those before it: `variables.name`.
#[derive(Default)]
pub struct Variables<'a> {
    pub programs: &'a [(String, Program)],
    computed: RefCell<HashMap<String, Answer<'a>>>,
}

impl<'a> Variables<'a> {
    pub fn new(programs: &'a [(String, Program)]) -> Self {
        Variables { programs, computed: RefCell::default() }
    }
}

/// What an expression runs on.
#[derive(Default)]
pub struct Input<'a> {
    pub values: Vec<(&'a str, Val<'a>)>,
    pub variables: Option<&'a Variables<'a>>,
    pub authorizer: Option<&'a dyn Authorize>,
}

/// What is left to spend for one object; shared by the expressions that are evaluated for it.
#[derive(Clone, Copy, Debug)]
pub struct Budget(pub u64);

/// The state of one evaluation.
pub struct Ctx<'a> {
    values: Vec<(&'a str, Val<'a>)>,
    variables: Option<&'a Variables<'a>>,
    locals: Vec<(Arc<str>, Val<'a>)>,
    spent: u64,
    limit: u64,
    allocated: usize,
    regexes: HashMap<String, Arc<Regex>>,
    pub(crate) authorizer: Option<&'a dyn Authorize>,
}

impl Program {
    /// Runs it. The budget loses what it cost, also when it fails; a budget that is used up is a fatal fault.
    pub fn run<'a>(&self, input: &Input<'a>, budget: &mut Budget) -> Answer<'a> {
        let mut ctx = Ctx {
            values: input.values.clone(),
            variables: input.variables,
            locals: Vec::new(),
            spent: 0,
            limit: CALL_LIMIT.min(budget.0),
            allocated: 0,
            regexes: HashMap::new(),
            authorizer: input.authorizer,
        };
        let result = ctx.eval(&self.root);
        budget.0 = budget.0.saturating_sub(ctx.spent);
        result
    }
}

impl<'a> Ctx<'a> {
    fn spend(&mut self, cost: u64) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(Fault::over_limit()) } else { Ok(()) }
    }

    /// Notes memory that a function makes.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Result<(), Fault> {
        self.allocated = self.allocated.saturating_add(bytes);
        if self.allocated > MEMORY_LIMIT { Err(Fault::over_limit()) } else { Ok(()) }
    }

    /// A container an expression made, unless it nests too deeply.
    pub(crate) fn made(&self, value: Val<'a>) -> Answer<'a> {
        if value.depth() > MAX_DEPTH { Err(Fault::over_limit()) } else { Ok(value) }
    }

    pub(crate) fn regex(&mut self, pattern: &str) -> Result<Arc<Regex>, Fault> {
        if let Some(known) = self.regexes.get(pattern) {
            return Ok(known.clone());
        }
        let regex = regexes::shared(pattern)?;
        self.regexes.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }

    fn eval(&mut self, node: &Expr) -> Answer<'a> {
        stacker::maybe_grow(64 * 1024, 1024 * 1024, || self.node(node))
    }

    fn node(&mut self, node: &Expr) -> Answer<'a> {
        match &node.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => {
                self.spend(1)?;
                self.ident(name)
            }
            Kind::Select { operand, field, test } => {
                let operand = self.eval(operand)?;
                if !test {
                    self.spend(1)?;
                }
                self.select(&operand, field, *test)
            }
            Kind::Call { function, target, args } => self.call(function, target.as_deref(), args),
            Kind::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    let value = self.eval(&item.value)?;
                    match (item.optional, value) {
                        (true, Val::Optional(inner)) => values.extend(inner.map(|v| (*v).clone())),
                        (_, value) => values.push(value),
                    }
                }
                self.spend(cost::LIST_BASE)?;
                self.allocate(values.len() * size_of::<Val<'_>>())?;
                self.made(Val::list(values))
            }
            Kind::Map(entries) => {
                let mut values = std::collections::BTreeMap::new();
                for entry in entries {
                    let key = self.eval(&entry.key)?;
                    let key = Key::of(&key)
                        .ok_or_else(|| Fault::new(format!("unsupported key type: {}", key.type_name())))?;
                    let value = self.eval(&entry.value)?;
                    let value = match (entry.optional, value) {
                        (true, Val::Optional(None)) => continue,
                        (true, Val::Optional(Some(inner))) => (*inner).clone(),
                        (_, value) => value,
                    };
                    if values.insert(key, value).is_some() {
                        return Err(Fault::new("failed with repeated key"));
                    }
                }
                self.spend(cost::MAP_BASE)?;
                self.allocate(values.len() * 2 * size_of::<Val<'_>>())?;
                self.made(Val::map(values))
            }
            Kind::Struct { name, fields } => {
                let mut values = std::collections::BTreeMap::new();
                for field in fields {
                    let value = match (field.optional, self.eval(&field.value)?) {
                        (true, Val::Optional(None)) => continue,
                        (true, Val::Optional(Some(inner))) => (*inner).clone(),
                        (_, value) => value,
                    };
                    values.insert(Key::Str(field.name.clone()), value);
                }
                self.spend(cost::STRUCT_BASE)?;
                self.allocate(values.len() * 2 * size_of::<Val<'_>>())?;
                self.made(Val::object(values, Some(name.clone())))
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, name: &str) -> Answer<'a> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(n, _)| &**n == name) {
            return Ok(value.clone());
        }
        if let Some((_, value)) = self.values.iter().find(|(n, _)| *n == name) {
            return Ok(value.clone());
        }
        if name == "variables" && self.variables.is_some() {
            return Ok(Val::Variables);
        }
        match named_type(name) {
            Some(_) => Ok(Val::Type(name.into())),
            None => Err(Fault::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, operand: &Val<'a>, field: &str, test: bool) -> Answer<'a> {
        let found = match operand {
            Val::Optional(None) if test => return Ok(Val::Bool(false)),
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => {
                let found = self.optional_field(inner, field)?;
                return Ok(if test { Val::Bool(matches!(found, Val::Optional(Some(_)))) } else { found });
            }
            Val::Variables if test => return Ok(Val::Bool(self.has_variable(field))),
            Val::Variables => return self.variable(field),
            Val::Map(map) => map.field(field),
            _ => return Err(Fault::new("no such overload")),
        };
        match found {
            _ if test => Ok(Val::Bool(found.is_some())),
            Some(value) => Ok(value),
            None => Err(Fault::new(format!("no such key: {field}"))),
        }
    }

    /// `operand.?field`
    fn optional_field(&mut self, operand: &Val<'a>, field: &str) -> Answer<'a> {
        match operand {
            Val::Optional(None) => Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => self.optional_field(&inner.clone(), field),
            Val::Map(map) => Ok(Val::Optional(map.field(field).map(Arc::new))),
            Val::Variables if self.has_variable(field) => {
                self.variable(field).map(|value| Val::Optional(Some(Arc::new(value))))
            }
            Val::Variables => Ok(Val::Optional(None)),
            _ => Err(Fault::new("no such overload")),
        }
    }

    fn has_variable(&self, name: &str) -> bool {
        self.variables.is_some_and(|v| v.programs.iter().any(|(n, _)| n == name))
    }

    /// Computed once, with the cost counted to whoever asks first.
    fn variable(&mut self, name: &str) -> Answer<'a> {
        let unknown = || Fault::new(format!("no such key: {name}"));
        let variables = self.variables.ok_or_else(unknown)?;
        if let Some(known) = variables.computed.borrow().get(name) {
            return known.clone();
        }
        let (_, program) = variables.programs.iter().find(|(n, _)| n == name).ok_or_else(unknown)?;
        let locals = std::mem::take(&mut self.locals);
        let result = self.eval(&program.root);
        self.locals = locals;
        // what did not fit one expression's limit is not known to fail
        if !matches!(&result, Err(fault) if fault.fatal) {
            variables.computed.borrow_mut().insert(name.to_owned(), result.clone());
        }
        result
    }

    fn call(&mut self, function: &str, target: Option<&Expr>, args: &[Expr]) -> Answer<'a> {
        match (function, args) {
            ("_&&_", [left, right]) => return self.logic(left, right, false),
            ("_||_", [left, right]) => return self.logic(left, right, true),
            ("_?_:_", [condition, yes, no]) => {
                return match self.eval(condition)? {
                    Val::Bool(true) => self.eval(yes),
                    Val::Bool(false) => self.eval(no),
                    _ => Err(Fault::new("no such overload")),
                };
            }
            ("@not_strictly_false", [inner]) => {
                let open = match self.eval(inner) {
                    Ok(value) => !matches!(value, Val::Bool(false)),
                    Err(fault) if fault.fatal => return Err(fault),
                    Err(_) => true,
                };
                self.spend(1)?;
                return Ok(Val::Bool(open));
            }
            ("_?._", [operand, field]) => {
                let operand = self.eval(operand)?;
                self.spend(1)?;
                let Kind::Literal(Literal::String(field)) = &field.kind else {
                    return Err(Fault::new("no such overload"));
                };
                return self.optional_field(&operand, field);
            }
            _ => {}
        }
        let known = functions::find(function).ok_or_else(|| Fault::new(format!("unknown function '{function}'")))?;
        let mut values = Vec::with_capacity(args.len() + 1);
        for node in target.into_iter().chain(args) {
            values.push(self.eval(node)?);
        }
        self.spend(cost::runtime::call(function, &values))?;
        (known.run)(self, &values)
    }

    /// `&&` and `||`: the side that decides wins over a failure of the other.
    fn logic(&mut self, left: &Expr, right: &Expr, decisive: bool) -> Answer<'a> {
        let first = match self.eval(left) {
            Ok(Val::Bool(b)) if b == decisive => return Ok(Val::Bool(decisive)),
            Ok(Val::Bool(_)) => None,
            Ok(_) => Some(Fault::new("no such overload")),
            Err(fault) if fault.fatal => return Err(fault),
            Err(fault) => Some(fault),
        };
        match (self.eval(right), first) {
            (Ok(Val::Bool(b)), _) if b == decisive => Ok(Val::Bool(decisive)),
            (Err(fault), _) if fault.fatal => Err(fault),
            (_, Some(fault)) => Err(fault),
            (Ok(Val::Bool(b)), None) => Ok(Val::Bool(b)),
            (Ok(_), None) => Err(Fault::new("no such overload")),
            (Err(fault), None) => Err(fault),
        }
    }
}

fn constant<'a>(literal: &Literal) -> Val<'a> {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(b) => Val::Bool(*b),
        Literal::Int(i) => Val::Int(*i),
        Literal::Uint(u) => Val::Uint(*u),
        Literal::Double(d) => Val::Double(*d),
        Literal::String(text) => Val::Str(Text::Owned(text.clone())),
        Literal::Bytes(bytes) => Val::Bytes(bytes.clone()),
    }
}

/// What an expression gave, as JSON; `None` for what JSON cannot say.
pub fn to_json(value: &Val<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        Val::Null => Value::Null,
        Val::Bool(b) => (*b).into(),
        Val::Int(i) => (*i).into(),
        Val::Uint(u) => (*u).into(),
        Val::Double(d) => serde_json::Number::from_f64(*d).map(Value::Number)?,
        Val::List(List::Json(items, _)) => Value::Array(items.to_vec()),
        Val::Map(Map::Json(map, _)) => Value::Object((*map).clone()),
        Val::List(list) => Value::Array(list.iter().map(|v| to_json(&v)).collect::<Option<_>>()?),
        Val::Map(map) => {
            let mut object = serde_json::Map::new();
            for key in map.keys() {
                let Key::Str(name) = &key else { return None };
                object.insert(name.to_string(), map.get(&key).and_then(|v| to_json(&v))?);
            }
            Value::Object(object)
        }
        Val::Bytes(bytes) => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        Val::Optional(Some(inner)) => to_json(inner)?,
        Val::Str(_) | Val::Duration(_) | Val::Timestamp(_) | Val::Extra(_) => {
            functions::convert::to_text(value).map(Value::String)?
        }
        Val::Type(_) | Val::Optional(None) | Val::Variables => return None,
    })
}
