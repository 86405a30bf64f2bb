//! CSI drivers, their nodes, capacities and attachments (kubernetes `pkg/apis/storage/validation`).

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::meta,
    value::{default_to, get, int_at, list_at, name, object_mut, str_at},
};

const DRIVER_NAME_MAX: usize = 63;
const NODE_ID_MAX: usize = 192;
const MESSAGE_MAX: usize = 1024 * 4;
const TOKEN_MIN: i64 = 600;
const TOKEN_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_MIN: i64 = 10;

/// Names of drivers are domain names, in whatever case.
pub(super) fn driver_name(name: &str, path: &Path) -> Vec<FieldError> {
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
    let mut errors = driver_name(name(driver), &Path::new("name"));
    errors.extend(meta::optional_one_of(spec, "fsGroupPolicy", &path, &["File", "None", "ReadWriteOnceWithFSType"]));
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
    let mut errors = driver(new);
    errors.extend(meta::immutable(new, old, &["spec.attachRequired", "spec.volumeLifecycleModes"]));
    errors
}

pub(super) fn node(node: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("drivers");
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for (i, driver) in list_at(node, "spec.drivers").iter().enumerate() {
        let (at, name, id) = (path.index(i), str_at(driver, "name"), str_at(driver, "nodeID"));
        errors.extend(driver_name(name, &at.child("name")));
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        seen.push(name);
        if id.is_empty() {
            errors.push(FieldError::required(&at.child("nodeID"), ""));
        } else if id.len() > NODE_ID_MAX {
            errors.push(FieldError::invalid(
                &at.child("nodeID"),
                id,
                format!("must be {NODE_ID_MAX} characters or less"),
            ));
        }
        if let Some(count) = int_at(driver, "allocatable.count").filter(|c| *c < 0) {
            let at = at.child("allocatable").child("count");
            errors.push(FieldError::invalid(&at, count, "must be greater than or equal to 0"));
        }
        let keys = list_at(driver, "topologyKeys");
        for (j, key) in keys.iter().enumerate() {
            let at = at.child("topologyKeys").index(j);
            if keys[..j].contains(key) {
                errors.push(FieldError::duplicate(&at, key.clone()));
            }
            let text = key.as_str().unwrap_or_default();
            errors.extend(names::qualified_name(text).into_iter().map(|p| FieldError::invalid(&at, text, p)));
        }
    }
    errors
}

/// A driver that stays keeps what it said, but for how many volumes it takes.
pub(super) fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let lasting = |driver: &Value| ["name", "nodeID", "topologyKeys"].map(|f| driver.get(f).cloned());
    let mut errors = node(new);
    for before in list_at(old, "spec.drivers") {
        let after = list_at(new, "spec.drivers").iter().find(|d| str_at(d, "name") == str_at(before, "name"));
        if let Some(after) = after.filter(|after| lasting(after) != lasting(before)) {
            errors.push(FieldError::invalid(&Path::new("CSINodeDriver"), after.clone(), meta::IMMUTABLE));
        }
    }
    errors
}

pub(super) fn capacity(capacity: &Value) -> Vec<FieldError> {
    let class = str_at(capacity, "storageClassName");
    let at = Path::new("storageClassName");
    let mut errors: Vec<FieldError> =
        names::dns1123_subdomain(class).into_iter().map(|p| FieldError::invalid(&at, class, p)).collect();
    for field in ["capacity", "maximumVolumeSize"] {
        let parsed = capacity.get(field).and_then(|v| quantity::from_json(v).ok());
        if let Some(size) = parsed.filter(|q| q.sign() < 0) {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(&Path::new(field), size.to_string(), detail));
        }
    }
    errors.extend(meta::label_selector(capacity.get("nodeTopology"), &Path::new("nodeTopology")));
    errors
}

pub(super) fn capacity_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = capacity(new);
    errors.extend(meta::immutable(new, old, &["nodeTopology", "storageClassName"]));
    errors
}

pub(super) fn attachment(attachment: &Value) -> Vec<FieldError> {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let path = Path::new("spec");
    let mut errors = driver_name(str_at(attachment, "spec.attacher"), &path.child("attacher"));
    let at = path.child("source");
    let volume = get(attachment, "spec.source.persistentVolumeName").and_then(Value::as_str);
    match (volume, get(attachment, "spec.source.inlineVolumeSpec")) {
        (None, None) => errors.push(FieldError::required(&at, ONE)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&at, ONE)),
        (Some(""), None) => errors.push(FieldError::required(
            &at.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        )),
        (Some(name), None) => {
            let at = at.child("persistentVolumeName");
            errors.extend(names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        }
        (None, Some(_)) => {}
    }
    let node = str_at(attachment, "spec.nodeName");
    let at = path.child("nodeName");
    errors.extend(names::dns1123_subdomain(node).into_iter().map(|p| FieldError::invalid(&at, node, p)));
    errors
}

pub(super) fn attachment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    meta::immutable(new, old, &["spec"])
}

pub(super) fn attachment_status(new: &Value, _: &Value) -> Vec<FieldError> {
    ["attachError", "detachError"]
        .into_iter()
        .filter(|error| str_at(new, &format!("status.{error}.message")).len() > MESSAGE_MAX)
        .map(|error| FieldError::too_long(&Path::new("status").child(error).child("message"), MESSAGE_MAX))
        .collect()
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
                "spec.attachRequired: Invalid value: false: field is immutable",
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
        assert_eq!(node_update(&other, &n).len(), 1);
        let a = json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert!(attachment(&a).is_empty());
        assert_eq!(attachment(&json!({"spec": {"attacher": "d", "nodeName": "n"}})).len(), 1);
    }

    #[test]
    fn capacities() {
        let c = json!({"storageClassName": "c", "capacity": "1Gi"});
        assert!(capacity(&c).is_empty());
        assert_eq!(capacity_update(&json!({"storageClassName": "d"}), &c).len(), 1);
        assert_eq!(capacity(&json!({"storageClassName": "c", "capacity": "-1"})).len(), 1);
    }
}
