//! Expressions as the parser makes them: macros are already expanded to folds, operators are calls (`_+_`, `_&&_`, …).

use std::sync::Arc;

/// Numbers the nodes of one expression, from 0 without gaps.
pub type Id = usize;

/// A node, with the place of its operator or first character, in characters from the start.
#[derive(Clone, Debug)]
pub struct Expr {
    pub id: Id,
    pub at: usize,
    /// Nodes on the longest way down; bounded by the parser.
    pub depth: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Literal(Literal),
    Ident(Arc<str>),
    /// `operand.field`; `test` is `has(operand.field)`.
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        test: bool,
    },
    Call {
        function: Arc<str>,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List(Vec<Item>),
    Map(Vec<Entry>),
    /// `Name.of.type{field: value}`
    Struct {
        name: Arc<str>,
        fields: Vec<Field>,
    },
    Fold(Box<Fold>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// An element of a list; an optional one (`[?x]`) is left out when it has no value.
#[derive(Clone, Debug)]
pub struct Item {
    pub value: Expr,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Arc<str>,
    pub at: usize,
    pub value: Expr,
    pub optional: bool,
}

/// A loop: `accu = init; for var (, var2) in range while cond { accu = step }; result`. What macros become.
#[derive(Clone, Debug)]
pub struct Fold {
    pub range: Expr,
    pub var: Arc<str>,
    pub var2: Option<Arc<str>>,
    pub accu: Arc<str>,
    pub init: Expr,
    pub cond: Expr,
    pub step: Expr,
    pub result: Expr,
}

impl Fold {
    /// A fold over nothing that only gives a name to a value.
    pub fn is_bind(&self) -> bool {
        &*self.accu != ACCU && matches!(self.cond.kind, Kind::Literal(Literal::Bool(false)))
    }
}

/// The accumulator of macros; no client can write this name.
pub const ACCU: &str = "@result";

impl Expr {
    /// `a.b.c` as one name, if the node is such a chain.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", operand.qualified_name()?)),
            _ => None,
        }
    }

    /// Calls `f` with every child.
    pub fn each_child<'e>(&'e self, mut f: impl FnMut(&'e Expr)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => f(operand),
            Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).for_each(f),
            Kind::List(items) => items.iter().for_each(|i| f(&i.value)),
            Kind::Map(entries) => entries.iter().for_each(|e| {
                f(&e.key);
                f(&e.value);
            }),
            Kind::Struct { fields, .. } => fields.iter().for_each(|i| f(&i.value)),
            Kind::Fold(fold) => {
                [&fold.range, &fold.init, &fold.cond, &fold.step, &fold.result].into_iter().for_each(f);
            }
        }
    }
}
