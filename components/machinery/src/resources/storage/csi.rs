//! CSI drivers, their nodes, capacities and attachments (kubernetes `pkg/apis/storage/validation`).

use serde_json::{Value, json};

use super::volumes::inline_volume;
use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::meta,
    value::{default_to, get, int_at, list_at, object_mut, str_at},
};

const DRIVER_NAME_MAX: usize = 63;
const NODE_ID_MAX: usize = 256;
const MESSAGE_MAX: usize = 1024;
const METADATA_MAX: usize = 256 * 1024;
const TOKEN_MIN: i64 = 600;
const TOKEN_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_MIN: i64 = 10;

/// Names of drivers are domain names, in whatever case.
pub(in crate::resources) fn driver_name(name: &str, path: &Path) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > DRIVER_NAME_MAX {
        errors.push(FieldError::too_long(path, DRIVER_NAME_MAX));
    }
    let problems = names::dns1123_subdomain(&name.to_lowercase());
    errors.extend(problems.into_iter().map(|p| FieldError::invalid(path, name, p)));
    errors
}

pub(super) fn driver_defaults(driver: &mut Value) {
    let Some(spec) = object_mut(driver, "spec") else { return };
    default_to(spec, "attachRequired", true);
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if list_at(spec, "volumeLifecycleModes").is_empty() {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
    for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        default_to(spec, field, false);
    }
}

pub(super) fn driver(driver: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = driver.get("spec").unwrap_or(&Value::Null);
    let policies = &["File", "None", "ReadWriteOnceWithFSType"];
    let mut errors: Vec<FieldError> =
        meta::optional_one_of(spec, "fsGroupPolicy", &path, policies).into_iter().collect();
    errors.extend(tokens(spec, &path.child("tokenRequests")));
    for mode in list_at(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str) {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            let at = path.child("volumeLifecycleModes");
            errors.push(FieldError::not_supported(&at, mode, &["Persistent", "Ephemeral"]));
        }
    }
    let period = int_at(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|s| *s < UPDATE_PERIOD_MIN);
    errors.extend(period.map(|seconds| {
        let at = path.child("nodeAllocatableUpdatePeriodSeconds");
        FieldError::invalid(&at, seconds, format!("must be greater than or equal to {UPDATE_PERIOD_MIN} seconds"))
    }));
    errors
}

fn tokens(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut audiences = Vec::new();
    for (i, request) in list_at(spec, "tokenRequests").iter().enumerate() {
        let (at, audience) = (path.index(i), str_at(request, "audience"));
        if audiences.contains(&audience) {
            errors.push(FieldError::duplicate(&at.child("audience"), audience));
            continue;
        }
        audiences.push(audience);
        let detail = match int_at(request, "expirationSeconds") {
            Some(seconds) if seconds < TOKEN_MIN => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > TOKEN_MAX => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        errors.push(FieldError::invalid(&at.child("expirationSeconds"), request["expirationSeconds"].clone(), detail));
    }
    errors
}

pub(super) fn driver_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = driver(new);
    // upstream's path of the first is not the field's name
    for (field, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
        let [after, before] =
            [new, old].map(|driver| get(driver, "spec").and_then(|s| s.get(field)).cloned().unwrap_or_default());
        if after != before {
            errors.push(FieldError::invalid(&path.child(shown), after, meta::IMMUTABLE));
        }
    }
    errors
}

pub(super) fn node(node: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("drivers");
    let drivers = list_at(node, "spec.drivers");
    let mut errors = Vec::new();
    for (i, driver) in drivers.iter().enumerate() {
        let (at, name) = (path.index(i), str_at(driver, "name"));
        errors.extend(driver_name(name, &at.child("name")));
        errors.extend(node_id(str_at(driver, "nodeID"), &at.child("nodeID")));
        errors.extend(driver.get("allocatable").and_then(|a| meta::non_negative(a, "count", &at.child("allocatable"))));
        if drivers[..i].iter().any(|other| str_at(other, "name") == name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        errors.extend(topology_keys(list_at(driver, "topologyKeys"), &at));
    }
    errors
}

fn node_id(id: &str, path: &Path) -> Option<FieldError> {
    match id.len() {
        0 => Some(FieldError::required(path, "")),
        1..=NODE_ID_MAX => None,
        _ => Some(FieldError::invalid(path, id, format!("must be {NODE_ID_MAX} characters or less"))),
    }
}

/// Upstream shows the driver's path for every fault.
fn topology_keys(keys: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if keys[..i].contains(key) {
            errors.push(FieldError::duplicate(path, text));
        }
        errors.extend(FieldError::each_invalid(path, text, names::qualified_name(text)));
    }
    errors
}

/// A driver that stays keeps what it said, but for how many volumes it takes.
pub(super) fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let lasting = |driver: &Value| {
        let mut driver = driver.clone();
        crate::value::remove(&mut driver, "allocatable");
        driver
    };
    let at = Path::new("spec").child("drivers");
    let mut errors = node(new);
    for before in list_at(old, "spec.drivers") {
        let same = list_at(new, "spec.drivers").iter().filter(|d| str_at(d, "name") == str_at(before, "name"));
        let changed = same.map(lasting).filter(|after| *after != lasting(before));
        errors.extend(changed.map(|after| FieldError::invalid(&at, after, meta::IMMUTABLE)));
    }
    errors
}

pub(super) fn capacity(capacity: &Value) -> Vec<FieldError> {
    let mut errors = meta::label_selector(capacity.get("nodeTopology"), &Path::new("nodeTopology"));
    let class = str_at(capacity, "storageClassName");
    errors.extend(FieldError::each_invalid(&Path::new("storageClassName"), class, names::dns1123_subdomain(class)));
    let parsed = capacity.get("capacity").and_then(|v| quantity::from_json(v).ok());
    if let Some(size) = parsed.filter(|q| q.sign() < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&Path::new("capacity"), size.to_string(), detail));
    }
    errors
}

pub(super) fn capacity_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = capacity(new);
    errors.extend(meta::immutable(new, old, &["nodeTopology", "storageClassName"]));
    errors
}

/// What v1 asks beside the rest comes last, as its own check.
pub(super) fn attachment(attachment: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = attachment_parts(attachment);
    errors.extend(driver_name(str_at(attachment, "spec.attacher"), &path.child("attacher")));
    if let Some(volume) = get(attachment, "spec.source.persistentVolumeName").and_then(Value::as_str) {
        let at = path.child("source").child("persistentVolumeName");
        errors.extend(FieldError::each_invalid(&at, volume, names::dns1123_subdomain(volume)));
    }
    errors
}

fn attachment_parts(attachment: &Value) -> Vec<FieldError> {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if str_at(attachment, "spec.attacher").is_empty() {
        errors.push(FieldError::required(&path.child("attacher"), ""));
    }
    let at = path.child("source");
    let volume = get(attachment, "spec.source.persistentVolumeName").and_then(Value::as_str);
    match (volume, get(attachment, "spec.source.inlineVolumeSpec")) {
        (None, None) => errors.push(FieldError::required(&at, ONE)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&at, ONE)),
        (Some(""), None) => errors.push(FieldError::required(
            &at.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        )),
        (None, Some(spec)) => errors.extend(inline_volume(spec, &at.child("inlineVolumeSpec"))),
        (Some(_), None) => {}
    }
    let node = str_at(attachment, "spec.nodeName");
    errors.extend(FieldError::each_invalid(&path.child("nodeName"), node, names::dns1123_subdomain(node)));
    errors.extend(status_of_attachment(attachment));
    errors
}

pub(super) fn attachment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = attachment_parts(new);
    errors.extend(attachment_parts(new));
    errors.extend(meta::immutable(new, old, &["spec"]));
    errors
}

/// The spec is what it was, and was judged.
pub(super) fn attachment_status(new: &Value, _: &Value) -> Vec<FieldError> {
    let mut errors = status_of_attachment(new);
    errors.extend(status_of_attachment(new));
    errors
}

fn status_of_attachment(attachment: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    let entries = get(attachment, "status.attachmentMetadata").and_then(Value::as_object).into_iter().flatten();
    if entries.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>() > METADATA_MAX {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), METADATA_MAX));
    }
    for field in ["attachError", "detachError"] {
        let Some(error) = get(attachment, "status").and_then(|s| s.get(field)) else { continue };
        let at = path.child(field);
        if str_at(error, "message").len() > MESSAGE_MAX {
            // upstream names the other limit
            errors.push(FieldError::too_long(&at.child("message"), METADATA_MAX));
        }
        if let Some(code) = int_at(error, "errorCode").filter(|code| *code < 0) {
            let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
            errors.push(FieldError::invalid(&at.child("errorCode"), code, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn drivers() {
        let mut d = json!({"metadata": {"name": "d.io"}, "spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 3600}]}});
        driver_defaults(&mut d);
        assert!(driver(&d).is_empty());
        let mut other = d.clone();
        other["spec"]["attachRequired"] = false.into();
        other["spec"]["tokenRequests"] = json!([{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]);
        assert_eq!(
            texts(&driver_update(&other, &d)),
            [
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.attachedRequired: Invalid value: false: field is immutable",
            ]
        );
    }

    #[test]
    fn lives_of_volumes() {
        let d = json!({"metadata": {"name": "d.io"}, "spec": {"volumeLifecycleModes": ["Foo"]}});
        assert_eq!(
            texts(&driver(&d)),
            ["spec.volumeLifecycleModes: Unsupported value: \"Foo\": supported values: \"Persistent\", \"Ephemeral\""]
        );
    }

    #[test]
    fn nodes_and_attachments() {
        let n = json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a"]}]}});
        assert!(node(&n).is_empty());
        let mut other = n.clone();
        other["spec"]["drivers"][0]["nodeID"] = "m".into();
        other["spec"]["drivers"][0]["allocatable"] = json!({"count": -1});
        assert_eq!(
            texts(&node_update(&other, &n)),
            [
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers: Invalid value: {\"name\":\"d\",\"nodeID\":\"m\",\"topologyKeys\":[\"a\"]}: field is immutable",
            ]
        );
        let twice = json!({"spec": {"drivers": [{"name": "d", "nodeID": "x".repeat(257), "topologyKeys": ["a", "a"]}, {"name": "d", "nodeID": ""}]}});
        let found = texts(&node(&twice));
        assert!(found[0].ends_with("must be 256 characters or less"));
        assert_eq!(
            found[1..],
            [
                "spec.drivers[0]: Duplicate value: \"a\"",
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].name: Duplicate value: \"d\"",
            ]
        );
        let a = json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert!(attachment(&a).is_empty());
        assert_eq!(attachment(&json!({"spec": {"attacher": "d", "nodeName": "n"}})).len(), 1);
        let mut told = a.clone();
        told["status"] = json!({"attachError": {"message": "x".repeat(1025), "errorCode": -1}});
        let told = texts(&attachment_update(&told, &a));
        let wanted = [
            "status.attachError.message: Too long: may not be more than 262144 bytes",
            "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ];
        assert_eq!((&told[..2], &told[2..]), (&wanted.map(str::to_owned)[..], &wanted.map(str::to_owned)[..]));
        let inline = json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"inlineVolumeSpec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "nfs": {"server": "s", "path": "/"}}}}});
        assert_eq!(
            texts(&attachment(&inline)),
            [
                "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
            ]
        );
    }

    #[test]
    fn capacities() {
        let c = json!({"storageClassName": "c", "capacity": "1Gi"});
        assert!(capacity(&c).is_empty());
        assert_eq!(capacity_update(&json!({"storageClassName": "d"}), &c).len(), 1);
        assert_eq!(capacity(&json!({"storageClassName": "c", "capacity": "-1"})).len(), 1);
    }
}
