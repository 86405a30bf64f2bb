//! The expressions of admission policies and webhooks, compiled, with what is wrong with them (kubernetes
//! `pkg/apis/admissionregistration/validation`).

use std::collections::{BTreeMap, BTreeSet};

use cel::{Env, Program};
use serde_json::Value;

use super::{Declared, Returns, compile, environment, types::with_variables};
use crate::{
    FieldError, Path, names,
    value::{list_at, str_at},
};

const MAX_CONDITIONS: usize = 64;
const MAX_AUDIT_ANNOTATIONS: usize = 20;
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A policy (of either kind), ready to run.
#[derive(Debug, Default)]
pub struct Policy {
    pub conditions: Vec<(String, Program)>,
    pub variables: Vec<(String, Program)>,
    pub validations: Vec<Validation>,
    pub audit: Vec<Audit>,
    pub mutations: Vec<Mutation>,
}

#[derive(Debug)]
pub struct Validation {
    pub program: Program,
    pub message_program: Option<Program>,
    pub message: String,
    /// Empty means `Invalid`.
    pub reason: String,
}

#[derive(Debug)]
pub struct Audit {
    pub key: String,
    pub program: Program,
}

#[derive(Debug)]
pub enum Mutation {
    Apply(Program),
    Patch(Program),
}

/// What compiling gathers.
struct Compiler {
    policy: Policy,
    errors: Vec<FieldError>,
    /// Everything that expressions of the policy may refer to; grows with its variables.
    env: Env,
    params: bool,
    types: BTreeMap<String, cel::Type>,
}

impl Policy {
    /// Of a ValidatingAdmissionPolicy or MutatingAdmissionPolicy. A policy with errors must not run.
    pub fn compile(object: &Value) -> (Self, Vec<FieldError>) {
        let spec = &object["spec"];
        let path = Path::new("spec");
        let params = spec.get("paramKind").is_some_and(|k| !k.is_null());
        let mutates = str_at(object, "kind") == "MutatingAdmissionPolicy";
        let env = environment(Declared { params, authorizer: true, mutations: mutates });
        let mut compiler =
            Compiler { policy: Policy::default(), errors: Vec::new(), env, params, types: BTreeMap::new() };
        let (conditions, errors) =
            match_conditions(list_at(spec, "matchConditions"), params, &path.child("matchConditions"));
        compiler.policy.conditions = conditions;
        compiler.errors.extend(errors);
        compiler.declare_variables();
        for (i, variable) in list_at(spec, "variables").iter().enumerate() {
            compiler.variable(variable, &path.child("variables").index(i));
        }
        if mutates {
            compiler.mutations(list_at(spec, "mutations"), &path.child("mutations"));
        } else {
            compiler.validations(object, spec, &path);
        }
        (compiler.policy, compiler.errors)
    }
}

/// `matchConditions` of policies and webhooks: compiled, and what is wrong with them.
pub fn match_conditions(list: &[Value], params: bool, path: &Path) -> (Vec<(String, Program)>, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut conditions = Vec::new();
    if list.is_empty() {
        return (conditions, errors);
    }
    if list.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, list.len(), MAX_CONDITIONS));
    }
    let env = environment(Declared { params, authorizer: true, mutations: false });
    let mut seen = BTreeSet::new();
    for (i, condition) in list.iter().enumerate() {
        let at = path.index(i);
        let (name, expression) = (str_at(condition, "name"), str_at(condition, "expression").trim());
        if expression.is_empty() {
            errors.push(FieldError::required(&at.child("expression"), ""));
        } else {
            match compile(&env, expression, Returns::Bool) {
                Ok(program) => conditions.push((name.to_owned(), program)),
                Err(why) => errors.push(FieldError::invalid(&at.child("expression"), expression, why)),
            }
        }
        let at = at.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        errors.extend(names::qualified_name(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
    (conditions, errors)
}

fn is_identifier(name: &str) -> bool {
    let first = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    first && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) && !RESERVED.contains(&name)
}

impl Compiler {
    /// Makes `variables` an object of what was compiled so far.
    fn declare_variables(&mut self) {
        self.env = with_variables(self.env.clone(), &self.types);
    }

    /// Compiles the text of a field; what is wrong is noted there, with the text as the client wrote it.
    fn expression(&mut self, env: &Env, source: &str, written: &str, returns: Returns, at: &Path) -> Option<Program> {
        match compile(env, source, returns) {
            Ok(program) => Some(program),
            Err(why) => {
                self.errors.push(FieldError::invalid(at, written, why));
                None
            }
        }
    }

    fn variable(&mut self, variable: &Value, path: &Path) {
        let (name, expression) = (str_at(variable, "name"), str_at(variable, "expression"));
        if name.trim().is_empty() {
            self.errors.push(FieldError::required(&path.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            self.errors.push(FieldError::invalid(&path.child("name"), name, "name is not a valid CEL identifier"));
        }
        if expression.trim().is_empty() {
            self.errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
            return;
        }
        let env = self.env.clone();
        let at = path.child("expression");
        if let Some(program) = self.expression(&env, expression, expression, Returns::Any, &at) {
            self.types.insert(name.to_owned(), program.output().clone());
            self.policy.variables.push((name.to_owned(), program));
            self.declare_variables();
        } else {
            // one error is enough: what refers to it is not wrong by itself
            self.types.insert(name.to_owned(), cel::Type::Dyn);
            self.declare_variables();
        }
    }

    fn validations(&mut self, object: &Value, spec: &Value, path: &Path) {
        let (validations, annotations) = (list_at(spec, "validations"), list_at(spec, "auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            let detail = "validations or auditAnnotations must contain at least one item";
            self.errors.push(FieldError::required(&path.child("validations"), detail));
            self.errors.push(FieldError::required(&path.child("auditAnnotations"), detail));
            return;
        }
        for (i, validation) in validations.iter().enumerate() {
            self.validation(validation, &path.child("validations").index(i));
        }
        let path = path.child("auditAnnotations");
        if annotations.len() > MAX_AUDIT_ANNOTATIONS {
            let detail = format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations");
            self.errors.push(FieldError::invalid(&path, annotations.to_vec(), detail));
        }
        let mut keys = BTreeSet::new();
        for (i, annotation) in annotations.iter().enumerate() {
            self.audit(str_at(object, "metadata.name"), annotation, &path.index(i));
            let key = str_at(annotation, "key");
            if !keys.insert(key) {
                self.errors.push(FieldError::duplicate(&path.index(i).child("key"), key));
            }
        }
    }

    fn validation(&mut self, validation: &Value, path: &Path) {
        let text = |key: &str| str_at(validation, key);
        let (expression, message, message_expression) =
            (text("expression"), text("message"), text("messageExpression"));
        let mut program = None;
        if expression.trim().is_empty() {
            self.errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
        } else {
            let env = self.env.clone();
            program = self.expression(&env, expression, expression, Returns::Bool, &path.child("expression"));
        }
        let mut message_program = None;
        let at = path.child("messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            self.errors.push(FieldError::invalid(&at, message_expression, "must be non-empty if specified"));
        } else if !message_expression.is_empty() {
            let env = self.without_authorizer();
            message_program = self.expression(&env, message_expression, message_expression, Returns::Text, &at);
        }
        let at = path.child("message");
        if !message.is_empty() && message.trim().is_empty() {
            self.errors.push(FieldError::invalid(&at, message, "message must be non-empty if specified"));
        } else if message.trim().contains(['\n', '\r']) {
            self.errors.push(FieldError::invalid(&at, message, "message must not contain line breaks"));
        }
        if let Some(reason) = validation.get("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            self.errors.push(FieldError::not_supported(&path.child("reason"), reason, REASONS));
        }
        if let Some(program) = program {
            let (message, reason) = (message.trim().to_owned(), text("reason").to_owned());
            self.policy.validations.push(Validation { program, message_program, message, reason });
        }
    }

    /// Messages may not depend on who asks.
    fn without_authorizer(&self) -> Env {
        let env = environment(Declared { params: self.params, authorizer: false, mutations: false });
        match self.env.declared("variables") {
            Some(variables) => env.with("variables", variables.clone()),
            None => env,
        }
    }

    fn audit(&mut self, policy: &str, annotation: &Value, path: &Path) {
        let (key, written) = (str_at(annotation, "key"), str_at(annotation, "valueExpression"));
        let at = path.child("key");
        if policy.is_empty() {
            self.errors.push(FieldError::invalid(&at, key, "requires metadata.name be non-empty"));
        } else {
            let full = format!("{policy}/{key}");
            let problems = names::qualified_name(&full);
            self.errors.extend(problems.into_iter().map(|p| FieldError::invalid(&at, full.as_str(), p)));
        }
        let at = path.child("valueExpression");
        let source = written.trim();
        if source.is_empty() {
            self.errors.push(FieldError::required(&at, "valueExpression is not specified"));
        } else if source.len() > MAX_VALUE_EXPRESSION {
            let detail = format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length");
            self.errors.push(FieldError::required(&at, detail));
        } else {
            let env = self.env.clone();
            if let Some(program) = self.expression(&env, source, written, Returns::TextOrNull, &at) {
                self.policy.audit.push(Audit { key: key.to_owned(), program });
            }
        }
    }

    fn mutations(&mut self, mutations: &[Value], path: &Path) {
        if mutations.is_empty() {
            self.errors.push(FieldError::required(path, "mutations must contain at least one item"));
        }
        for (i, mutation) in mutations.iter().enumerate() {
            self.mutation(mutation, &path.index(i));
        }
    }

    fn mutation(&mut self, mutation: &Value, path: &Path) {
        let kind = str_at(mutation, "patchType");
        let (own, other, returns) = match kind {
            "JSONPatch" => ("jsonPatch", "applyConfiguration", Returns::Patches),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Returns::Object),
            "" => return self.errors.push(FieldError::required(&path.child("patchType"), "")),
            _ => {
                let at = path.child("patchType");
                return self.errors.push(FieldError::not_supported(&at, kind, &["ApplyConfiguration", "JSONPatch"]));
            }
        };
        match mutation.get(own).filter(|m| !m.is_null()) {
            None => {
                let detail = format!("must be specified when patchType is {kind}");
                self.errors.push(FieldError::required(&path.child(own), detail));
            }
            Some(given) => {
                let at = path.child(own).child("expression");
                let source = str_at(given, "expression").trim();
                if source.is_empty() {
                    self.errors.push(FieldError::required(&at, ""));
                } else {
                    let env = self.env.clone();
                    let program = self.expression(&env, source, source, returns, &at);
                    let make = if returns == Returns::Object { Mutation::Apply } else { Mutation::Patch };
                    self.policy.mutations.extend(program.map(make));
                }
            }
        }
        if mutation.get(other).is_some_and(|m| !m.is_null()) {
            let detail = format!("must not be specified when patchType is {kind}");
            self.errors.push(FieldError::invalid(&path.child(other), format!("{{{other}}}"), detail));
        }
    }
}
