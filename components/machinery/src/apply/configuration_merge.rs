//! An apply configuration merged into an object by nobody in particular: what MutatingAdmissionPolicies do (apiserver
//! `pkg/admission/plugin/policy/mutating/patch/smd.go`).

use serde_json::Value;

use super::{
    merge::merge,
    shape::{Resolved, Shape},
    validate::validate,
};

/// `live` with what `config` says. Atomic maps and lists are refused: what the configuration leaves out of them would be lost.
pub fn merge_configuration(live: &Value, config: &Value, shape: &Shape) -> Result<Value, String> {
    validate(config, shape).map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut atomics = Vec::new();
    find_atomics(config, shape, "", &mut atomics);
    if !atomics.is_empty() {
        let names = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {names}"));
    }
    Ok(merge(live, config, shape))
}

fn find_atomics(value: &Value, shape: &Shape, path: &str, found: &mut Vec<String>) {
    match (value, shape.resolve()) {
        (Value::Object(entries), Resolved::Map { map, atomic }) => {
            if atomic {
                found.push(path.to_owned());
            }
            for (key, inner) in entries {
                if let Some(field) = map.fields.get(key) {
                    find_atomics(inner, field, &format!("{path}.{key}"), found);
                }
            }
        }
        (Value::Array(items), Resolved::List(list)) => {
            if list.is_atomic() {
                found.push(path.to_owned());
            }
            for (i, item) in items.iter().enumerate() {
                find_atomics(item, &list.item, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::apply::built_in;

    #[test]
    fn configurations_merge_and_atomics_are_refused() {
        let shape = built_in("io.k8s.api.apps.v1.Deployment");
        let live =
            json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}}});
        let config =
            json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "b", "image": "y"}]}}}});
        let merged = merge_configuration(&live, &config, &shape).unwrap();
        assert_eq!(merged["spec"]["replicas"], 2);
        assert_eq!(merged["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
        let atomic = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(
            merge_configuration(&live, &atomic, &shape).unwrap_err(),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector"
        );
        assert!(merge_configuration(&live, &json!({"spec": {"nope": 1}}), &shape).unwrap_err().contains("nope"));
    }
}
