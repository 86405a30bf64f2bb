//! One device of a ResourceSlice (kubernetes `validateDevice`).

use serde_json::Value;

use super::{
    capacity::policy,
    device::taint,
    names::{each, label, qualified, set, shortened},
    slice::{named_counters, node_name},
};
use crate::{
    field::{FieldError, Path},
    names,
    resources::pod,
    value::{bool_at, list_at, map_at, str_at},
};

const ENTRIES_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const KEY_MAX: usize = 63 + 1 + 32;
const TEXT_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
const COUNTERS_MAX: usize = 32;
const BINDINGS_MAX: usize = 4;

/// `placed`: every device says where it is. What did not change since `old` is not judged anew.
pub(super) fn device(device: &Value, old: Option<&Value>, placed: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = label(str_at(device, "name"), &path.child("name"));
    errors.extend(sizes(device, path));
    errors.extend(entries(device, "attributes", path, attribute));
    let changed = |field: &str| old.is_none_or(|old| old.get(field) != device.get(field));
    if changed("capacity") {
        let shared = bool_at(device, "allowMultipleAllocations");
        errors.extend(entries(device, "capacity", path, |it, at| policy(it, shared, at)));
    }
    if changed("taints") {
        let at = path.child("taints");
        errors.extend(each(list_at(device, "taints"), TAINTS_MAX, &at, |it, at| taint(it, None, at)));
    }
    let consumed = |it: &Value, at: &Path| named_counters(it, "counterSet", at);
    let at = path.child("consumesCounters");
    errors.extend(set(list_at(device, "consumesCounters"), CONSUMPTIONS_MAX, &at, consumed, |it| {
        str_at(it, "counterSet")
    }));
    errors.extend(place(device, placed, path));
    errors.extend(bindings(device, path));
    errors
}

fn sizes(device: &Value, path: &Path) -> Vec<FieldError> {
    let count = |field| map_at(device, field).map_or(0, serde_json::Map::len);
    let mut errors = Vec::new();
    let total = count("attributes") + count("capacity");
    if total > ENTRIES_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {ENTRIES_MAX}");
        errors.push(FieldError::invalid(path, total, detail));
    }
    if count("attributes") > VALUES_MAX {
        let detail = format!("the total number of attribute values must not exceed {VALUES_MAX}");
        errors.push(FieldError::invalid(path, count("attributes"), detail));
    }
    errors
}

fn entries(
    device: &Value,
    field: &str,
    path: &Path,
    item: impl Fn(&Value, &Path) -> Vec<FieldError>,
) -> Vec<FieldError> {
    let at = path.child(field);
    let mut errors = Vec::new();
    for (key, value) in map_at(device, field).into_iter().flatten() {
        errors.extend(qualified(key, &at));
        errors.extend(item(value, &at.key(&shortened(key, KEY_MAX))));
    }
    errors
}

/// One value of one of four types. (Lists of values are behind a gate that is off.)
fn attribute(attribute: &Value, path: &Path) -> Vec<FieldError> {
    const ONE: &str = "exactly one value must be specified";
    let given = |field: &&str| attribute.get(*field).is_some_and(|v| !v.is_null());
    let text = |field: &str| attribute.get(field).and_then(Value::as_str);
    let mut errors = Vec::new();
    if text("string").is_some_and(|t| t.len() > TEXT_MAX) {
        errors.push(FieldError::too_long(&path.child("string"), TEXT_MAX));
    }
    if let Some(version) = text("version") {
        let at = path.child("version");
        if !is_semantic_version(version) {
            errors.push(FieldError::invalid(&at, version, "must be a string compatible with semver.org spec 2.0.0"));
        }
        if version.len() > TEXT_MAX {
            errors.push(FieldError::too_long(&at, TEXT_MAX));
        }
    }
    match ["bool", "int", "string", "version"].iter().filter(|f| given(f)).count() {
        0 => errors.push(FieldError::invalid(path, "", ONE)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, attribute.clone(), ONE)),
    }
    errors
}

/// `1.2.3-alpha.1+build`: three numbers, then perhaps parts of a pre-release and of a build.
fn is_semantic_version(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let core: Vec<&str> = core.split('.').collect();
    core.len() == 3
        && core.into_iter().all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// `counters` of a set.
pub(super) fn counters(owner: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("counters");
    let Some(all) = map_at(owner, "counters").filter(|all| !all.is_empty()) else {
        return vec![FieldError::required(&at, "")];
    };
    if all.len() > COUNTERS_MAX {
        return vec![FieldError::too_many(&at, all.len(), COUNTERS_MAX)];
    }
    all.keys().flat_map(|key| label(key, &at)).collect()
}

/// Where the device is, if the slice leaves it to its devices.
fn place(device: &Value, placed: bool, path: &Path) -> Vec<FieldError> {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` \
        is set to true in the ResourceSlice spec";
    const NONE: &str = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
        true in the ResourceSlice spec";
    let field = |name: &str| device.get(name).filter(|v| !v.is_null());
    if !placed {
        let any = ["nodeName", "nodeSelector", "allNodes"].into_iter().any(|name| field(name).is_some());
        return any.then(|| FieldError::invalid(path, Value::Null, NONE)).into_iter().collect();
    }
    let mut errors = Vec::new();
    let mut given = Vec::new();
    match field("nodeName").and_then(Value::as_str) {
        Some("") => errors.push(FieldError::invalid(&path.child("nodeName"), "", "must not be empty")),
        Some(name) => {
            given.push("`nodeName`");
            errors.extend(node_name(name, &path.child("nodeName")));
        }
        None => {}
    }
    if let Some(selector) = field("nodeSelector") {
        given.push("`nodeSelector`");
        errors.extend(pod::node_selector(selector, &path.child("nodeSelector")));
    }
    match field("allNodes").and_then(Value::as_bool) {
        Some(true) => given.push("`allNodes`"),
        Some(false) => {
            errors.push(FieldError::invalid(&path.child("allNodes"), false, "must be either unset or set to true"));
        }
        None => {}
    }
    match given.len() {
        0 => errors.push(FieldError::required(path, ONE)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, format!("{{{}}}", given.join(", ")), ONE)),
    }
    errors
}

/// Conditions a device waits for and those that end the waiting: both or none, and no condition twice.
pub(super) fn bindings(owner: &Value, path: &Path) -> Vec<FieldError> {
    const FIELDS: [&str; 2] = ["bindingConditions", "bindingFailureConditions"];
    let at = FIELDS.map(|field| path.child(field));
    let [good, bad] = FIELDS.map(|field| list_at(owner, field));
    let named = |it: &Value, at: &Path| {
        let name = it.as_str().unwrap_or_default();
        FieldError::each_invalid(at, name, names::qualified_name(name))
    };
    let mut errors = each(good, BINDINGS_MAX, &at[0], named);
    errors.extend(each(bad, BINDINGS_MAX, &at[1], named));
    for (i, name) in good.iter().enumerate().filter(|(i, name)| good[..*i].contains(name)) {
        errors.push(FieldError::duplicate(&at[0].index(i), name.clone()));
    }
    for (i, name) in bad.iter().enumerate() {
        if bad[..i].contains(name) {
            errors.push(FieldError::duplicate(&at[1].index(i), name.clone()));
        }
        if good.contains(name) {
            let detail = "bindingFailureConditions must not overlap with bindingConditions";
            errors.push(FieldError::invalid(&at[1].index(i), name.clone(), detail));
        }
    }
    if good.is_empty() && !bad.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        errors.push(FieldError::invalid_no_list(&at[0], detail));
    }
    if bad.is_empty() && !good.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        errors.push(FieldError::invalid_no_list(&at[1], detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(it: Value, placed: bool) -> Vec<String> {
        device(&it, None, placed, &Path::new("d")).iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn attributes_and_counters() {
        assert_eq!(
            found(
                json!({"name": "a", "attributes": {"e.io/x": {"int": 1}, "v": {"version": "1.2.3-rc.1+b"}},
                "capacity": {"memory": {"value": "1Gi"}}, "consumesCounters": [{"counterSet": "c", "counters": {"m": {"value": "1"}}}]}),
                false
            ),
            [""; 0]
        );
        let it = json!({"name": "a", "attributes": {"a": {}, "b": {"int": 1, "bool": true}, "c": {"version": "1.02.3"}, "d": {"string": "x".repeat(65)}},
            "consumesCounters": [{"counterSet": "c", "counters": {}}, {}]});
        assert_eq!(
            found(it, false),
            [
                "d.attributes[a]: Invalid value: \"\": exactly one value must be specified",
                "d.attributes[b]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
                "d.attributes[c].version: Invalid value: \"1.02.3\": must be a string compatible with semver.org spec 2.0.0",
                "d.attributes[d].string: Too long: may not be more than 64 bytes",
                "d.consumesCounters[0].counters: Required value",
                "d.consumesCounters[1].counterSet: Required value",
                "d.consumesCounters[1].counters: Required value",
            ]
        );
    }

    #[test]
    fn places() {
        const NONE: &str = "d: Invalid value: \"null\": `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        assert_eq!(found(json!({"name": "a", "nodeName": "n"}), false), [NONE]);
        assert_eq!(found(json!({"name": "a", "nodeName": "n"}), true), [""; 0]);
        assert_eq!(found(json!({"name": "a"}), true).len(), 1);
        let both = found(json!({"name": "a", "nodeName": "n", "allNodes": true}), true);
        assert!(both[0].starts_with("d: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of"));
    }

    #[test]
    fn binding_conditions_come_in_pairs() {
        assert_eq!(
            found(json!({"name": "a", "bindingConditions": ["x", "x"], "bindingFailureConditions": ["x"]}), false),
            [
                "d.bindingConditions[1]: Duplicate value: \"x\"",
                "d.bindingFailureConditions[0]: Invalid value: \"x\": bindingFailureConditions must not overlap with bindingConditions",
            ]
        );
        let many =
            json!({"name": "a", "bindingConditions": ["a", "b", "c", "d", "e"], "bindingFailureConditions": ["x"]});
        assert_eq!(found(many, false), ["d.bindingConditions: Too many: 5: must have at most 4 items"]);
    }
}
