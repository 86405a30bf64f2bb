//! Expressions that choose devices (dynamic-resource-allocation `cel`).

use std::sync::OnceLock;

use cel::{Env, Schema, Shape, Type};
use serde_json::Value;

use super::names::each;
use crate::{
    field::{FieldError, Path},
    value::{get, str_at},
};

const SELECTORS_MAX: usize = 32;
const EXPRESSION_MAX: usize = 10 * 1024;
const COST_MAX: u64 = 1_000_000;
const DOMAIN_MAX: u64 = 63;
/// Attributes and capacities of a device, and bytes of an attribute.
const ENTRIES_MAX: u64 = 32;
const TEXT_MAX: u64 = 64;

/// What expressions see as `device`.
fn environment() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        let by_name = |leaf: Schema| Schema::map(Schema::map(leaf).max(ENTRIES_MAX)).max(ENTRIES_MAX);
        let device = Schema::object(
            "kubernetes.DRADevice",
            [
                ("driver", Schema::string().max(DOMAIN_MAX)),
                ("attributes", by_name(Schema::dynamic().max(TEXT_MAX))),
                ("capacity", by_name(Schema::of(Shape::Typed(Type::Opaque("kubernetes.Quantity"))))),
                ("allowMultipleAllocations", Schema::of(Shape::Bool)),
            ],
        );
        Env::new().with("device", device)
    })
}

/// `stored`: these very selectors are there already, and what was once good stays good.
pub(super) fn selectors(selectors: &[Value], stored: bool, path: &Path) -> Vec<FieldError> {
    each(selectors, SELECTORS_MAX, path, |selector, at| match get(selector, "cel").filter(|c| !c.is_null()) {
        None => vec![FieldError::required(&at.child("cel"), "")],
        Some(_) if stored => Vec::new(),
        Some(cel) => expression(str_at(cel, "expression"), &at.child("cel").child("expression")).into_iter().collect(),
    })
}

fn expression(source: &str, path: &Path) -> Option<FieldError> {
    if source.len() > EXPRESSION_MAX {
        return Some(FieldError::too_long(path, EXPRESSION_MAX));
    }
    // upstream adds the macro `cel.bind` for these expressions only; it is not known here
    if source.contains("cel.bind") {
        return None;
    }
    let env = environment();
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(error) => return Some(FieldError::invalid(path, source, format!("compilation failed: {error}"))),
    };
    let found = program.output();
    if !matches!(found, Type::Bool | Type::Dyn) {
        let detail = format!("must evaluate to bool or the unknown type, not {found}");
        return Some(FieldError::invalid(path, source, detail));
    }
    (program.estimate(env).max > COST_MAX).then(|| FieldError::forbidden(path, "too complex, exceeds cost limit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(sources: &[&str]) -> Vec<String> {
        let list: Vec<Value> = sources.iter().map(|s| json!({"cel": {"expression": s}})).collect();
        selectors(&list, false, &Path::new("s")).iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn what_drivers_documentation_shows_compiles() {
        let good = [
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model == 'LATEST-GPU-MODEL' && device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0",
            "'dra.example.com' in device.attributes && device.attributes['dra.example.com'].health",
            "device.attributes['d.io'].version.isGreaterThan(semver('1.2.3'))",
            "device.allowMultipleAllocations == true",
            "cel.bind(dra, device.attributes['d.io'], dra.a && dra.b)",
            "device.attributes['d.io'].flag",
        ];
        assert_eq!(texts(&good), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_with_others() {
        assert_eq!(
            texts(&["device.driver"]),
            [
                "s[0].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or the unknown type, not string"
            ]
        );
        assert!(texts(&["nothing.else"])[0].contains("compilation failed: ERROR: <input>:1:1: undeclared reference"));
        let costly = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, device.attributes.all(e, a + b + c + d == e)))))";
        assert_eq!(texts(&[costly]), ["s[0].cel.expression: Forbidden: too complex, exceeds cost limit"]);
        assert_eq!(
            texts(&[&"a".repeat(EXPRESSION_MAX + 1)])[0],
            "s[0].cel.expression: Too long: may not be more than 10240 bytes"
        );
        assert!(selectors(&[json!({"cel": {"expression": "x"}})], true, &Path::new("s")).is_empty());
    }
}
