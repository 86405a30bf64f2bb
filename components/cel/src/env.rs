//! What an expression may refer to, and compiled expressions.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ast::{Expr, Kind, Literal},
    check::{self, Checked},
    cost::{self, Cost},
    functions::{regexes, time},
    parser,
    schema::{Field, Object, Schema},
    source::{CompileError, Problem},
    types::Type,
};

/// Declared variables, and whether the types of mutations (`Object{…}`, `JSONPatch{…}`) exist.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<String, Arc<Schema>>,
    mutates: bool,
}

/// A type whose values expressions can make.
pub struct Structure {
    name: String,
}

impl Env {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with(mut self, name: &str, schema: Schema) -> Self {
        self.variables.insert(name.to_owned(), Arc::new(schema));
        self
    }

    /// As in MutatingAdmissionPolicy.
    pub fn with_mutations(mut self) -> Self {
        self.mutates = true;
        self
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Schema> {
        self.variables.get(name).map(|s| &**s)
    }

    /// What a variable was declared as.
    pub fn declared(&self, name: &str) -> Option<&Schema> {
        self.variable(name)
    }

    pub(crate) fn mutates(&self) -> bool {
        self.mutates
    }

    pub(crate) fn structure(&self, name: &str) -> Option<Structure> {
        let known = name == "JSONPatch" || name == "Object" || name.starts_with("Object.");
        (self.mutates && known).then(|| Structure { name: name.to_owned() })
    }

    /// Parses and checks.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let mut parsed = parser::parse(source)?;
        let checked = check::check(self, &mut parsed.root, parsed.nodes)
            .map_err(|problems| CompileError::new(source, problems))?;
        let problems = literal_problems(&parsed.root);
        if !problems.is_empty() {
            return Err(CompileError::new(source, problems));
        }
        Ok(Program { source: source.to_owned(), root: parsed.root, checked })
    }
}

impl Structure {
    /// The type of a field; `None` if there is none.
    pub fn field(&self, field: &str) -> Option<Type> {
        match (self.name.as_str(), field) {
            ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
            ("JSONPatch", "value") => Some(Type::Dyn),
            ("JSONPatch", _) => None,
            _ => Some(Type::Dyn),
        }
    }

    pub fn ty(&self) -> Arc<Object> {
        let mut fields = BTreeMap::new();
        if self.name == "JSONPatch" {
            for (name, schema) in [
                ("op", Schema::string()),
                ("path", Schema::string()),
                ("from", Schema::string()),
                ("value", Schema::dynamic()),
            ] {
                fields.insert(name.to_owned(), Field { name: name.to_owned(), schema });
            }
        }
        Arc::new(Object { name: self.name.clone(), fields })
    }
}

/// A compiled expression.
pub struct Program {
    pub source: String,
    pub(crate) root: Expr,
    pub(crate) checked: Checked,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.source).finish()
    }
}

impl Program {
    /// The type of what it gives.
    pub fn output(&self) -> &Type {
        self.checked.types.get(self.root.id).unwrap_or(&Type::Dyn)
    }

    /// What running it may cost, by the declared sizes of its variables.
    pub fn estimate(&self, env: &Env) -> Cost {
        cost::estimate::estimate(env, self)
    }

    /// Whether it refers to a variable anywhere.
    pub fn mentions(&self, variable: &str) -> bool {
        fn search(node: &Expr, variable: &str) -> bool {
            let begins =
                |name: &str| name == variable || name.strip_prefix(variable).is_some_and(|r| r.starts_with('.'));
            if matches!(&node.kind, Kind::Ident(name) if begins(name)) {
                return true;
            }
            let mut found = false;
            node.each_child(|child| found = found || search(child, variable));
            found
        }
        stacker::grow(4 * 1024 * 1024, || search(&self.root, variable))
    }
}

/// Literal durations, timestamps and regular expressions are read when an expression is compiled.
fn literal_problems(root: &Expr) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut left = vec![root];
    while let Some(node) = left.pop() {
        if let Kind::Call { function, target, args } = &node.kind {
            let wrong = |argument: Option<&Expr>, reads: &dyn Fn(&str) -> bool| match argument {
                Some(Expr { kind: Kind::Literal(Literal::String(text)), at, .. }) if !reads(text) => {
                    Some(Problem { at: *at, message: format!("invalid {function} argument") })
                }
                _ => None,
            };
            let pattern = if target.is_some() { args.first() } else { args.get(1) };
            problems.extend(match &**function {
                "matches" => wrong(pattern, &|t| regexes::compile(t).is_ok()),
                "duration" => wrong(args.first(), &|t| time::parse_duration(t).is_some()),
                "timestamp" => wrong(args.first(), &|t| time::parse_timestamp(t, false).is_some()),
                _ => None,
            });
        }
        node.each_child(|child| left.push(child));
    }
    problems
}
