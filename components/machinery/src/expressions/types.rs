//! Type checking of policies against the kinds they are about (apiserver `pkg/admission/plugin/policy/validating/typechecking.go`).
//!
//! Expressions are compiled with `object` as anything, so that a policy can be about many kinds. What would not compile if `object` were
//! of a kind its rules name is not refused, but told in `status.typeChecking`.

use std::{collections::BTreeMap, sync::Arc};

use cel::{
    Env, Schema, Shape,
    schema::{Field, Object, escape},
};
use serde_json::{Value, json};

use super::{Declared, environment};
use crate::{
    Resource, resources,
    schema::{self, Type},
    value::{list_at, str_at},
};

/// Kinds that are looked at, at most.
const MAX_KINDS: usize = 10;
/// Definitions within each other; those that refer to themselves are anything from there on.
const MAX_DEPTH: usize = 12;

/// What expressions see of a built-in kind.
pub fn built_in(definition: &str) -> Schema {
    object(definition, MAX_DEPTH)
}

fn object(definition: &str, depth: usize) -> Schema {
    let Some(known) = schema::definition(definition).filter(|_| depth > 0) else { return Schema::dynamic() };
    let field = |(name, ty): (&String, &Type)| {
        let schema = of(ty, depth - 1);
        Some((escape(name)?, Field { name: name.clone(), schema }))
    };
    let fields: BTreeMap<String, Field> = known.fields.iter().filter_map(field).collect();
    Schema::of(Shape::Object(Arc::new(Object { name: definition.to_owned(), fields })))
}

fn of(ty: &Type, depth: usize) -> Schema {
    match ty {
        Type::Object(name) => object(name, depth),
        Type::Map(values) => Schema::map(of(values, depth)),
        Type::List(items) => Schema::list(of(items, depth)),
        Type::String => Schema::string(),
        Type::Bytes => Schema::of(Shape::Bytes),
        Type::Time | Type::MicroTime => Schema::of(Shape::Timestamp(false)),
        Type::Int32 | Type::Int64 => Schema::of(Shape::Int),
        Type::Float => Schema::of(Shape::Double),
        Type::Bool => Schema::of(Shape::Bool),
        Type::Quantity | Type::IntOrString | Type::Any => Schema::dynamic(),
    }
}

/// `status.typeChecking` of a ValidatingAdmissionPolicy.
pub fn type_checking(policy: &Value) -> Value {
    let spec = &policy["spec"];
    let kinds: Vec<(String, Env)> = kinds(spec).into_iter().map(|kind| (kind_text(kind), typed(spec, kind))).collect();
    let mut warnings = Vec::new();
    for (i, validation) in list_at(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = str_at(validation, field);
            if source.trim().is_empty() {
                continue;
            }
            let found: Vec<String> = kinds
                .iter()
                .filter_map(|(kind, env)| Some(format!("{kind}: {}\n", env.compile(source).err()?)))
                .collect();
            if !found.is_empty() {
                let place = format!("spec.validations[{i}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": found.join("\n")}));
            }
        }
    }
    if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) }
}

/// The built-in kinds that the rules name without wildcards.
fn kinds(spec: &Value) -> Vec<&'static Resource> {
    let mut kinds: Vec<&'static Resource> = Vec::new();
    for rule in list_at(spec, "matchConstraints.resourceRules") {
        let texts = |field| list_at(rule, field).iter().filter_map(Value::as_str);
        for group in texts("apiGroups") {
            for version in texts("apiVersions") {
                for plural in texts("resources") {
                    let Some(found) = resources::find(group, version, plural) else { continue };
                    let is_new =
                        !kinds.iter().any(|k| k.plural == found.plural && k.api_version() == found.api_version());
                    if is_new && kinds.len() < MAX_KINDS {
                        kinds.push(found);
                    }
                }
            }
        }
    }
    kinds
}

/// As Go writes a GroupVersionKind.
fn kind_text(resource: &Resource) -> String {
    format!("{}, Kind={}", resource.api_version(), resource.kind)
}

/// The environment in which `object` is of this kind; variables have the types that follow from that.
fn typed(spec: &Value, kind: &Resource) -> Env {
    let params = spec.get("paramKind").filter(|k| k.is_object());
    let declared = Declared { params: params.is_some(), authorizer: true, mutations: false };
    let shape = built_in(kind.definition);
    let mut env = environment(declared).with("object", shape.clone()).with("oldObject", shape);
    if let Some(params) = params {
        let (version, kind) = (str_at(params, "apiVersion"), str_at(params, "kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        if let Some(found) = resources::find_kind(group, version, kind) {
            env = env.with("params", built_in(found.definition));
        }
    }
    let mut types: BTreeMap<String, cel::Type> = BTreeMap::new();
    for variable in list_at(spec, "variables") {
        env = with_variables(env, &types);
        let ty = env.compile(str_at(variable, "expression")).map_or(cel::Type::Dyn, |p| p.output().clone());
        types.insert(str_at(variable, "name").to_owned(), ty);
    }
    with_variables(env, &types)
}

/// Declares `variables` with the types that are known so far.
pub(super) fn with_variables(env: Env, types: &BTreeMap<String, cel::Type>) -> Env {
    let field = |(name, ty): (&String, &cel::Type)| {
        (name.clone(), Field { name: name.clone(), schema: Schema::of(Shape::Typed(ty.clone())) })
    };
    let fields = types.iter().map(field).collect();
    let object = Object { name: "kubernetes.variables".into(), fields };
    env.with("variables", Schema::of(Shape::Object(Arc::new(object))))
}
