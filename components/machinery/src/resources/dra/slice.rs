//! ResourceSlices (kubernetes `pkg/apis/resource`): what devices a driver offers.

use serde_json::Value;

use super::{
    device::taint_defaults,
    names::{label, pool, set},
    offer::{counters, device},
};
use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod, storage::driver_name},
    value::{bool_at, each_mut, get, int_at, list_at, str_at, with_mut},
};

const DEVICES_MAX: usize = 128;
/// Where devices have taints or consume counters.
const SPECIAL_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;

pub(super) fn defaults(slice: &mut Value) {
    with_mut(slice, "spec", |spec| each_mut(spec, "devices", |device| each_mut(device, "taints", taint_defaults)));
}

pub(super) fn validate(slice: &Value) -> Vec<FieldError> {
    spec(slice, None)
}

/// A driver keeps its slices where they are.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    spec(new, Some(old))
}

fn spec(slice: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = slice.get("spec").unwrap_or(&Value::Null);
    let mut errors = driver_name(str_at(spec, "driver"), &path.child("driver"));
    errors.extend(resource_pool(get(spec, "pool").unwrap_or(&Value::Null), &path.child("pool")));
    if let Some(old) = old {
        errors.extend(meta::immutable(slice, old, &["spec.pool.name", "spec.driver", "spec.nodeName"]));
    }
    errors.extend(place(spec, &path));
    let given = |field: &str| spec.get(field).is_some_and(|v| !v.is_null());
    if given("sharedCounters") && given("devices") {
        errors.push(FieldError::invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    errors.extend(devices(spec, old, &path.child("devices")));
    let sets = list_at(spec, "sharedCounters");
    let named = |it: &Value, at: &Path| named_counters(it, "name", at);
    errors.extend(set(sets, COUNTER_SETS_MAX, &path.child("sharedCounters"), named, |it| str_at(it, "name")));
    errors
}

fn devices(spec: &Value, old: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let list = list_at(spec, "devices");
    let special = |it: &Value| !list_at(it, "taints").is_empty() || !list_at(it, "consumesCounters").is_empty();
    let max = if list.iter().any(special) { SPECIAL_DEVICES_MAX } else { DEVICES_MAX };
    let placed = bool_at(spec, "perDeviceNodeSelection");
    let before = old.map(|old| list_at(old, "spec.devices")).unwrap_or_default();
    let check = |it: &Value, at: &Path| {
        let old = before.iter().find(|b| str_at(b, "name") == str_at(it, "name"));
        device(it, old, placed, at)
    };
    set(list, max, path, check, |it| str_at(it, "name"))
}

/// A set of counters, shared or consumed; `field` holds its name.
pub(super) fn named_counters(it: &Value, field: &str, path: &Path) -> Vec<FieldError> {
    let (name, at) = (str_at(it, field), path.child(field));
    let mut errors = match name {
        "" => vec![FieldError::required(&at, "")],
        _ => label(name, &at),
    };
    errors.extend(counters(it, path));
    errors
}

fn resource_pool(resources: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = pool(str_at(resources, "name"), &path.child("name"));
    let number = |field: &str| int_at(resources, field).unwrap_or(0);
    if number("resourceSliceCount") <= 0 {
        let at = path.child("resourceSliceCount");
        errors.push(FieldError::invalid(&at, number("resourceSliceCount"), "must be greater than zero"));
    }
    if number("generation") < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("generation"), number("generation"), detail));
    }
    errors
}

pub(super) fn node_name(name: &str, path: &Path) -> Vec<FieldError> {
    FieldError::each_invalid(path, name, names::dns1123_subdomain(name))
}

/// Where the devices are: exactly one way to say it.
fn place(spec: &Value, path: &Path) -> Vec<FieldError> {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut errors = Vec::new();
    let mut given = Vec::new();
    match spec.get("nodeName").and_then(Value::as_str) {
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path.child("nodeName"), "", detail));
        }
        Some(name) => {
            given.push("`nodeName`");
            errors.extend(node_name(name, &path.child("nodeName")));
        }
        None => {}
    }
    if let Some(selector) = spec.get("nodeSelector").filter(|s| !s.is_null()) {
        given.push("`nodeSelector`");
        errors.extend(pod::node_selector(selector, &path.child("nodeSelector")));
        let terms = list_at(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let at = path.child("nodeSelector").child("nodeSelectorTerms");
            errors.push(FieldError::invalid(&at, terms.to_vec(), "must have exactly one node selector term"));
        }
    }
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match spec.get(field).and_then(Value::as_bool) {
            Some(true) => given.push(shown),
            Some(false) => {
                errors.push(FieldError::invalid(&path.child(field), false, "must be either unset or set to true"));
            }
            None => {}
        }
    }
    match given.len() {
        0 => errors.push(FieldError::required(path, ONE)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            errors.push(FieldError::invalid(path, shown, format!("{ONE}, but multiple fields are set")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice() -> Value {
        json!({"spec": {"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}, "devices": [
            {"name": "a", "attributes": {"model": {"string": "x"}}, "taints": [{"key": "k", "effect": "NoExecute"}]}]}})
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn slices() {
        let mut good = slice();
        defaults(&mut good);
        assert_eq!(texts(&validate(&good)), [""; 0]);
        assert!(good["spec"]["devices"][0]["taints"][0]["timeAdded"].is_string());
        let mut bad = good.clone();
        bad["spec"]["allNodes"] = true.into();
        bad["spec"]["devices"] = json!([{"name": "a"}, {"name": "a"}]);
        bad["spec"]["sharedCounters"] = json!([{"name": "c", "counters": {"A": {"value": "1"}}}, {"name": ""}]);
        bad["spec"]["pool"]["generation"] = (-1).into();
        let found = texts(&validate(&bad));
        assert_eq!(
            found[..4],
            [
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
                "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
                "spec.devices[1]: Duplicate value: \"a\"",
            ]
        );
        assert!(found[4].starts_with("spec.sharedCounters[0].counters: Invalid value: \"A\""));
        assert_eq!(
            found[5..],
            ["spec.sharedCounters[1].name: Required value", "spec.sharedCounters[1].counters: Required value"]
        );
        bad = good.clone();
        bad["spec"]["driver"] = "e.io".into();
        assert_eq!(texts(&validate_update(&bad, &good)), ["spec.driver: Invalid value: \"e.io\": field is immutable"]);
    }

    #[test]
    fn one_place() {
        let mut it = slice();
        it["spec"]["nodeName"] = "".into();
        it["spec"]["perDeviceNodeSelection"] = false.into();
        assert_eq!(
            texts(&validate(&it)),
            [
                "spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string",
                "spec.perDeviceNodeSelection: Invalid value: false: must be either unset or set to true",
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ]
        );
    }

    #[test]
    fn many_devices() {
        let list = |n: usize, taint: bool| {
            let mut it = slice();
            it["spec"]["devices"] = (0..n)
                .map(|i| json!({"name": format!("d{i}"), "taints": if taint { json!([{"key": "k", "effect": "None"}]) } else { json!([]) }}))
                .collect();
            texts(&validate(&it))
        };
        assert_eq!(list(128, false), [""; 0]);
        assert_eq!(list(129, false), ["spec.devices: Too many: 129: must have at most 128 items"]);
        assert_eq!(list(65, true), ["spec.devices: Too many: 65: must have at most 64 items"]);
    }
}
