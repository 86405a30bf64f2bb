//! Printer columns of policies and bindings.

use serde_json::Value;

use super::super::{
    Cell, Column,
    cells::{label_selector, or},
    columns::{AGE, NAME, text},
};
use crate::value::{get, list_at, str_at};

const fn count(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "integer", format: "", priority: 0, description: "", cell }
}

const PARAM_KIND: Column = text("ParamKind", 0, Cell::Of(param_kind));

pub(super) const VALIDATING: &[Column] =
    &[NAME, count("Validations", Cell::Of(|o| list_at(o, "spec.validations").len().into())), PARAM_KIND, AGE];
pub(super) const MUTATING: &[Column] =
    &[NAME, count("Mutations", Cell::Of(|o| list_at(o, "spec.mutations").len().into())), PARAM_KIND, AGE];
pub(super) const BINDING: &[Column] =
    &[NAME, text("PolicyName", 0, Cell::Path("spec.policyName")), text("ParamRef", 0, Cell::Of(param_ref)), AGE];

fn param_kind(policy: &Value) -> Value {
    match get(policy, "spec.paramKind") {
        Some(kind) => format!("{}/{}", str_at(kind, "apiVersion"), str_at(kind, "kind")).into(),
        None => "<unset>".into(),
    }
}

fn param_ref(binding: &Value) -> Value {
    let Some(reference) = get(binding, "spec.paramRef") else { return "<unset>".into() };
    match (str_at(reference, "name"), str_at(reference, "namespace")) {
        ("", _) => label_selector(reference.get("selector")),
        (name, "") => or(&format!("*/{name}"), ""),
        (name, namespace) => format!("{namespace}/{name}").into(),
    }
}
