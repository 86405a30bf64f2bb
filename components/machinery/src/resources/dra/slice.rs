//! ResourceSlices (kubernetes `pkg/apis/resource`): what devices a driver offers.

use serde_json::Value;

use super::device::{driver_name, taint, taint_defaults};
use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod},
    value::{bool_at, each_mut, get, int_at, list_at, str_at, with_mut},
};

const DEVICES_MAX: usize = 128;
const POOL_NAME_MAX: usize = 253;
const TAINTS_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 32;
const PLACES: &[&str] = &["allNodes", "nodeName", "nodeSelector", "perDeviceNodeSelection"];

pub(super) fn defaults(slice: &mut Value) {
    with_mut(slice, "spec", |spec| each_mut(spec, "devices", |device| each_mut(device, "taints", taint_defaults)));
}

pub(super) fn validate(slice: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = slice.get("spec").unwrap_or(&Value::Null);
    let mut errors = driver_name(str_at(spec, "driver"), &path.child("driver"));
    errors.extend(pool(get(spec, "pool").unwrap_or(&Value::Null), &path.child("pool")));
    errors.extend(place(spec, &path));
    let devices = list_at(spec, "devices");
    let at = path.child("devices");
    if devices.len() > DEVICES_MAX {
        errors.push(FieldError::too_many(&at, devices.len(), DEVICES_MAX));
    }
    for (i, item) in devices.iter().enumerate() {
        let name = str_at(item, "name");
        if devices[..i].iter().any(|d| str_at(d, "name") == name) {
            errors.push(FieldError::duplicate(&at.index(i).child("name"), name));
        }
        errors.extend(device(item, &at.index(i)));
    }
    errors
}

fn pool(pool: &Value, path: &Path) -> Vec<FieldError> {
    let name = str_at(pool, "name");
    let at = path.child("name");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if name.len() > POOL_NAME_MAX {
        errors.push(FieldError::too_long(&at, POOL_NAME_MAX));
    } else {
        let parts = name.split('/').flat_map(names::dns1123_subdomain);
        errors.extend(parts.map(|p| FieldError::invalid(&at, name, p)));
    }
    let count = int_at(pool, "resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        errors.push(FieldError::invalid(&path.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    errors.extend(meta::non_negative(pool, "generation", path));
    errors
}

/// Where the devices are: exactly one way to say it.
fn place(spec: &Value, path: &Path) -> Vec<FieldError> {
    let text = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let given = |field: &&&str| match spec.get(**field) {
        Some(Value::Bool(flag)) => *flag,
        Some(value) => !value.is_null(),
        None => false,
    };
    let mut errors = Vec::new();
    for field in
        ["allNodes", "perDeviceNodeSelection"].into_iter().filter(|f| spec.get(*f).is_some() && !bool_at(spec, f))
    {
        errors.push(FieldError::invalid(&path.child(field), false, "must be either unset or set to true"));
    }
    match PLACES.iter().filter(given).count() {
        0 => errors.push(FieldError::required(path, text)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, Value::Null, text)),
    }
    if let Some(name) = spec.get("nodeName").and_then(Value::as_str) {
        let at = path.child("nodeName");
        match name {
            "" => errors.push(FieldError::invalid(&at, name, "must be either unset or set to a non-empty string")),
            _ => errors.extend(names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(&at, name, p))),
        }
    }
    if let Some(selector) = spec.get("nodeSelector") {
        errors.extend(pod::node_selector(selector, &path.child("nodeSelector")));
    }
    errors
}

fn device(device: &Value, path: &Path) -> Vec<FieldError> {
    let (name, at) = (str_at(device, "name"), path.child("name"));
    let mut errors: Vec<FieldError> = match name {
        "" => vec![FieldError::required(&at, "")],
        _ => names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at, name, p)).collect(),
    };
    let count = |field| get(device, field).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let total = count("attributes") + count("capacity");
    if total > ATTRIBUTES_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        errors.push(FieldError::invalid(path, total, detail));
    }
    for (key, attribute) in get(device, "attributes").and_then(Value::as_object).into_iter().flatten() {
        let at = path.child("attributes").key(key);
        let set = attribute.as_object().map_or(0, serde_json::Map::len);
        match set {
            0 => errors.push(FieldError::required(&at, "exactly one value must be specified")),
            1 => {}
            _ => errors.push(FieldError::invalid(&at, attribute.clone(), "exactly one value must be specified")),
        }
    }
    let taints = list_at(device, "taints");
    if taints.len() > TAINTS_MAX {
        errors.push(FieldError::too_many(&path.child("taints"), taints.len(), TAINTS_MAX));
    }
    for (i, item) in taints.iter().enumerate() {
        errors.extend(taint(item, &path.child("taints").index(i)));
    }
    errors
}

/// A driver keeps its slices where they are.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    errors.extend(meta::immutable(new, old, &["spec.driver", "spec.pool.name"]));
    errors.extend(meta::immutable(new, old, &["spec.nodeName"]));
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

    #[test]
    fn slices() {
        let mut good = slice();
        defaults(&mut good);
        assert_eq!(validate(&good).iter().map(FieldError::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(good["spec"]["devices"][0]["taints"][0]["timeAdded"].is_string());
        let mut bad = good.clone();
        bad["spec"]["allNodes"] = true.into();
        bad["spec"]["devices"] = json!([{"name": "a"}, {"name": "a"}]);
        assert_eq!(validate(&bad).len(), 2);
        bad = good.clone();
        bad["spec"]["driver"] = "e.io".into();
        assert_eq!(validate_update(&bad, &good).len(), 1);
        assert_eq!(validate(&json!({"spec": {}})).len(), 4);
    }
}
