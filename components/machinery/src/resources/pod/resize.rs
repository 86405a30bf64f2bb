//! `pods/resize` and `pods/ephemeralcontainers`: what each writes, and its rules (kubernetes `ValidatePodResize`,
//! `ValidatePodEphemeralContainersUpdate`, `dropNonResizeUpdates`).

use serde_json::{Map, Value};

use super::{annotations, is_sidecar, qos};
use crate::{
    field::{FieldError, Path},
    value::{get, list_at, map_at, str_at},
};

const LISTS: [&str; 2] = ["containers", "initContainers"];
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

pub(in crate::resources) fn prepare(name: &str, new: &mut Value, old: &Value) {
    if name == "resize" {
        *new = with_resources_of(new, old);
    }
}

pub(in crate::resources) fn validate(name: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    match name {
        "resize" => resize(new, old),
        "ephemeralcontainers" => ephemeral(new, old),
        _ => Vec::new(),
    }
}

/// The old pod with the resources that the new one's containers of the same names ask for.
fn with_resources_of(new: &Value, old: &Value) -> Value {
    let mut pod = old.clone();
    for list in LISTS {
        let wanted = list_at(new, &format!("spec.{list}"));
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(asked) = wanted.iter().find(|c| str_at(c, "name") == str_at(container, "name")) {
                copy(container, asked, "resources");
                copy(container, asked, "resizePolicy");
            }
        }
    }
    if let Some(asked) = new.get("spec") {
        copy(&mut pod["spec"], asked, "resources");
    }
    pod
}

fn copy(into: &mut Value, from: &Value, field: &str) {
    let Some(map) = into.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

fn resize(new: &Value, old: &Value) -> Vec<FieldError> {
    // what is about no field at all
    let refuse = |detail: &str| vec![FieldError::forbidden(&Path::new("[]"), detail)];
    if map_at(old, "metadata.annotations").is_some_and(|a| a.contains_key(annotations::MIRROR)) {
        return refuse("static pods cannot be resized");
    }
    if str_at(old, "spec.os.name") == "windows" {
        return refuse("windows pods cannot be resized");
    }
    let path = Path::new("spec");
    let mut errors = super::validate(new);
    let class = match str_at(old, "status.qosClass") {
        "" => qos::class(old),
        known => known,
    };
    if class != qos::class(new) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, str_at(new, "status.qosClass"), detail));
    }
    let running = list_at(old, "status.containerStatuses").iter().find(|s| get(s, "state.running").is_some());
    if running.is_some_and(|s| s.get("resources").is_none()) {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    for list in LISTS {
        let pairs = list_at(new, &format!("spec.{list}")).iter().zip(list_at(old, &format!("spec.{list}")));
        for (i, (after, before)) in pairs.enumerate() {
            let at = path.child(list).index(i).child("resources");
            if list == "initContainers" && !is_sidecar(after) {
                if after.get("resources") != before.get("resources") {
                    let detail = "resources for non-sidecar init containers are immutable";
                    errors.push(FieldError::forbidden(&path, detail));
                }
                continue;
            }
            errors.extend(not_removed(after, before, &at));
        }
    }
    errors.extend(not_removed(&new["spec"], &old["spec"], &path.child("resources")));
    if frozen(new) != frozen(old) {
        errors.push(FieldError::forbidden(&path, "only cpu and memory resources are mutable"));
    }
    errors
}

/// What was asked for may change, but not go.
fn not_removed(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["requests", "limits"] {
        let field = format!("resources.{list}");
        let (after, before) = (map_at(new, &field), map_at(old, &field));
        let gone = before.into_iter().flat_map(Map::keys).any(|name| after.is_none_or(|a| !a.contains_key(name)));
        if gone {
            errors.push(FieldError::forbidden(&path.child(list), format!("resource {list} cannot be removed")));
        }
    }
    errors
}

/// The spec without what a resize may change.
fn frozen(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    let strip = |owner: &mut Value| {
        for list in ["limits", "requests"] {
            let Some(amounts) = owner.get_mut("resources").and_then(|r| r.get_mut(list)) else { continue };
            if let Some(map) = amounts.as_object_mut() {
                map.retain(|name, _| !RESIZABLE.contains(&name.as_str()));
            }
            if amounts.as_object().is_some_and(Map::is_empty) {
                crate::value::remove(&mut owner["resources"], list);
            }
        }
        if owner.get("resources").and_then(Value::as_object).is_some_and(Map::is_empty) {
            crate::value::remove(owner, "resources");
        }
    };
    strip(&mut spec);
    for list in LISTS {
        crate::value::each_mut(&mut spec, list, strip);
    }
    spec
}

/// Ephemeral containers are added and never touched again.
fn ephemeral(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("ephemeralContainers");
    if map_at(old, "metadata.annotations").is_some_and(|a| a.contains_key(annotations::MIRROR)) {
        return vec![FieldError::forbidden(&Path::new("[]"), "static pods do not support ephemeral containers")];
    }
    let mut errors = super::validate(new);
    errors.extend(annotations::validate_update(new, old, &Path::new("metadata").child("annotations")));
    let now = list_at(new, "spec.ephemeralContainers");
    for before in list_at(old, "spec.ephemeralContainers") {
        let name = str_at(before, "name");
        match now.iter().find(|c| str_at(c, "name") == name) {
            None => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(after) if after != before => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be changed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: Value) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x:1", "resources": resources}]}});
        crate::resources::pod::defaults(&mut pod);
        crate::resources::pod::prepare_create(&mut pod);
        pod
    }

    fn texts(new: &Value, old: &Value) -> Vec<String> {
        let mut new = new.clone();
        prepare("resize", &mut new, old);
        validate("resize", &new, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cpu_and_memory_change_and_nothing_else() {
        let old = pod(json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}}));
        let mut other = pod(json!({"requests": {"cpu": "2", "ephemeral-storage": "1Gi"}}));
        other["spec"]["containers"][0]["image"] = "y:2".into();
        other["spec"]["restartPolicy"] = "Never".into();
        assert_eq!(texts(&other, &old), Vec::<String>::new());
        let mut prepared = other.clone();
        prepare("resize", &mut prepared, &old);
        assert_eq!(prepared["spec"]["containers"][0]["image"], "x:1");
        assert_eq!(prepared["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
        assert_eq!(
            texts(&pod(json!({"requests": {"cpu": "1", "ephemeral-storage": "2Gi"}})), &old),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        assert_eq!(
            texts(&pod(json!({"requests": {"ephemeral-storage": "1Gi"}})), &old),
            [
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
            ]
        );
    }

    #[test]
    fn ephemeral_containers_only_come() {
        let with = |list: Value| {
            let mut pod = pod(json!({}));
            pod["spec"]["ephemeralContainers"] = list;
            crate::resources::pod::defaults(&mut pod);
            pod
        };
        let one = with(json!([{"name": "debug", "image": "busybox"}]));
        let two = with(json!([{"name": "debug", "image": "busybox"}, {"name": "more", "image": "x"}]));
        assert_eq!(validate("ephemeralcontainers", &two, &one), Vec::new());
        let errors = validate("ephemeralcontainers", &with(json!([{"name": "debug", "image": "z"}])), &two);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().contains("\"debug\" may not be changed"), "{errors:?}");
    }
}
