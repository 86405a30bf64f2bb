//! Macros of the standard and of the optional and two-variable libraries, as the folds cel-go makes of them, so that costs agree.

use std::sync::Arc;

use crate::{
    ast::{ACCU, Expr, Fold, Item, Kind, Literal},
    parser::Nodes,
    source::Problem,
};

type Result<T> = std::result::Result<T, Problem>;

/// `has(a.b)`; everything else is a plain call.
pub fn global(nodes: &mut Nodes, at: usize, name: &str, mut args: Vec<Expr>) -> Result<Expr> {
    if name != "has" || args.len() != 1 {
        return Ok(nodes.call(at, name, args));
    }
    match args.pop() {
        Some(Expr { id, at: _, depth, kind: Kind::Select { operand, field, test: false } }) => {
            Ok(Expr { id, at, depth, kind: Kind::Select { operand, field, test: true } })
        }
        other => Err(problem(other.map_or(at, |e| e.at), "invalid argument to has() macro")),
    }
}

fn problem(at: usize, message: &str) -> Problem {
    Problem { at, message: message.into() }
}

/// A macro called on `target`, or a plain member call.
pub fn method(nodes: &mut Nodes, at: usize, name: &str, target: Expr, args: Vec<Expr>) -> Result<Expr> {
    let mut build = Build { nodes, at };
    match (name, args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 2) => build.quantifier(name, target, args, 1),
        ("all" | "exists" | "existsOne", 3) => build.quantifier(name, target, args, 2),
        ("map", 2 | 3) => build.list(target, args, 1),
        ("filter", 2) => build.filter(target, args),
        ("transformList", 3 | 4) => build.list(target, args, 2),
        ("transformMap", 3 | 4) => build.map(target, args, false),
        ("transformMapEntry", 3 | 4) => build.map(target, args, true),
        ("sortBy", 2) => build.sort(target, args),
        ("optMap", 2) => build.optional(target, args, true),
        ("optFlatMap", 2) => build.optional(target, args, false),
        _ => Ok(build.nodes.method(at, name, target, args)),
    }
}

struct Build<'n> {
    nodes: &'n mut Nodes,
    at: usize,
}

/// Iteration variables and what follows them in a macro's arguments.
struct Parts {
    var: Arc<str>,
    var2: Option<Arc<str>>,
    rest: std::vec::IntoIter<Expr>,
}

impl Build<'_> {
    fn parts(&self, args: Vec<Expr>, variables: usize) -> Result<Parts> {
        let mut rest = args.into_iter();
        let mut name = || match rest.next() {
            Some(Expr { kind: Kind::Ident(name), .. }) if &*name != ACCU => Ok(name),
            other => Err(problem(other.map_or(self.at, |e| e.at), "argument must be a simple name")),
        };
        let var = name()?;
        let var2 = if variables == 2 { Some(name()?) } else { None };
        Ok(Parts { var, var2, rest })
    }

    fn take(&mut self, parts: &mut Parts) -> Result<Expr> {
        parts.rest.next().ok_or_else(|| problem(self.at, "macro call with too few arguments"))
    }

    fn accu(&mut self) -> Expr {
        self.nodes.ident(self.at, ACCU)
    }

    fn truth(&mut self, value: bool) -> Expr {
        self.nodes.literal(self.at, Literal::Bool(value))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.nodes.call(self.at, function, args)
    }

    fn fold(&mut self, parts: Parts, range: Expr, [init, cond, step, result]: [Expr; 4]) -> Expr {
        let fold = Fold { range, var: parts.var, var2: parts.var2, accu: ACCU.into(), init, cond, step, result };
        self.nodes.make(self.at, Kind::Fold(Box::new(fold)))
    }

    fn quantifier(&mut self, name: &str, target: Expr, args: Vec<Expr>, variables: usize) -> Result<Expr> {
        let mut parts = self.parts(args, variables)?;
        let predicate = self.take(&mut parts)?;
        let accu = self.accu();
        let four = match name {
            "all" => {
                let (init, seen) = (self.truth(true), self.accu());
                let cond = self.call("@not_strictly_false", vec![seen]);
                let step = self.call("_&&_", vec![accu, predicate]);
                [init, cond, step, self.accu()]
            }
            "exists" => {
                let (init, seen) = (self.truth(false), self.accu());
                let open = self.call("!_", vec![seen]);
                let cond = self.call("@not_strictly_false", vec![open]);
                let step = self.call("_||_", vec![accu, predicate]);
                [init, cond, step, self.accu()]
            }
            _ => {
                let init = self.nodes.literal(self.at, Literal::Int(0));
                let cond = self.truth(true);
                let one = self.nodes.literal(self.at, Literal::Int(1));
                let more = self.call("_+_", vec![accu, one]);
                let same = self.accu();
                let step = self.call("_?_:_", vec![predicate, more, same]);
                let (count, one) = (self.accu(), self.nodes.literal(self.at, Literal::Int(1)));
                [init, cond, step, self.call("_==_", vec![count, one])]
            }
        };
        Ok(self.fold(parts, target, four))
    }

    fn append(&mut self, value: Expr) -> Expr {
        let one = self.nodes.make(self.at, Kind::List(vec![Item { value, optional: false }]));
        let accu = self.accu();
        self.call("_+_", vec![accu, one])
    }

    /// The step, only where the predicate holds.
    fn when(&mut self, predicate: Option<Expr>, step: Expr) -> Expr {
        match predicate {
            Some(predicate) => {
                let same = self.accu();
                self.call("_?_:_", vec![predicate, step, same])
            }
            None => step,
        }
    }

    fn list(&mut self, target: Expr, args: Vec<Expr>, variables: usize) -> Result<Expr> {
        let filtered = args.len() == variables + 2;
        let mut parts = self.parts(args, variables)?;
        let predicate = if filtered { Some(self.take(&mut parts)?) } else { None };
        let value = self.take(&mut parts)?;
        let step = self.append(value);
        let step = self.when(predicate, step);
        let (init, cond) = (self.nodes.make(self.at, Kind::List(Vec::new())), self.truth(true));
        let result = self.accu();
        Ok(self.fold(parts, target, [init, cond, step, result]))
    }

    fn filter(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr> {
        let mut parts = self.parts(args, 1)?;
        let predicate = self.take(&mut parts)?;
        let item = self.nodes.ident(self.at, &parts.var);
        let step = self.append(item);
        let step = self.when(Some(predicate), step);
        let (init, cond) = (self.nodes.make(self.at, Kind::List(Vec::new())), self.truth(true));
        let result = self.accu();
        Ok(self.fold(parts, target, [init, cond, step, result]))
    }

    fn map(&mut self, target: Expr, args: Vec<Expr>, entry: bool) -> Result<Expr> {
        let filtered = args.len() == 4;
        let mut parts = self.parts(args, 2)?;
        let predicate = if filtered { Some(self.take(&mut parts)?) } else { None };
        let value = self.take(&mut parts)?;
        let accu = self.accu();
        let args = if entry {
            vec![accu, value]
        } else {
            let key = self.nodes.ident(self.at, &parts.var);
            vec![accu, key, value]
        };
        let step = self.call("cel.@mapInsert", args);
        let step = self.when(predicate, step);
        let (init, cond) = (self.nodes.make(self.at, Kind::Map(Vec::new())), self.truth(true));
        let result = self.accu();
        Ok(self.fold(parts, target, [init, cond, step, result]))
    }

    /// `name` for `value` inside `result`.
    fn bind(&mut self, name: &str, value: Expr, result: Expr) -> Expr {
        let fold = Fold {
            range: self.nodes.make(self.at, Kind::List(Vec::new())),
            var: "#unused".into(),
            var2: None,
            accu: name.into(),
            init: value,
            cond: self.truth(false),
            step: self.nodes.ident(self.at, name),
            result,
        };
        self.nodes.make(self.at, Kind::Fold(Box::new(fold)))
    }

    /// The list sorted by a key of each element.
    fn sort(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr> {
        const INPUT: &str = "@input";
        let unsorted = self.nodes.ident(self.at, INPUT);
        let keys = self.list(unsorted, args, 1)?;
        let unsorted = self.nodes.ident(self.at, INPUT);
        let sorted = self.nodes.method(self.at, "@sortByAssociatedKeys", unsorted, vec![keys]);
        Ok(self.bind(INPUT, target, sorted))
    }

    fn optional(&mut self, target: Expr, args: Vec<Expr>, wrap: bool) -> Result<Expr> {
        const TARGET: &str = "@target";
        let mut parts = self.parts(args, 1)?;
        let inner = self.take(&mut parts)?;
        let found = self.nodes.ident(self.at, TARGET);
        let has = self.nodes.method(self.at, "hasValue", found, Vec::new());
        let found = self.nodes.ident(self.at, TARGET);
        let value = self.nodes.method(self.at, "value", found, Vec::new());
        let name = parts.var.clone();
        let mapped = self.bind(&name, value, inner);
        let yes = if wrap { self.call("optional.of", vec![mapped]) } else { mapped };
        let no = self.call("optional.none", Vec::new());
        let choice = self.call("_?_:_", vec![has, yes, no]);
        Ok(self.bind(TARGET, target, choice))
    }
}
