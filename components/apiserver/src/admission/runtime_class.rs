//! RuntimeClass: a pod that names a class gets its overhead and its place, and the class must be there.

use machinery::{
    ApiError,
    value::{get, list_at, map_at, object_mut, str_at},
};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::registry;

pub async fn admit(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !attempt.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    let name = str_at(pod, "spec.runtimeClassName").to_owned();
    let refuse = |why: String| attempt.target.forbidden(&format!("pod rejected: {why}"));
    if name.is_empty() {
        return match get(pod, "spec.overhead") {
            Some(_) => Err(refuse("Pod Overhead set without corresponding RuntimeClass defined Overhead".into())),
            None => Ok(()),
        };
    }
    let Some(classes) = registry::find("node.k8s.io", "v1", "runtimeclasses") else { return Ok(()) };
    let class = match registry::read(&attempt.call.core, classes, "", &name).await {
        Ok(stored) => stored.object,
        Err(error) if error.code == 404 => return Err(refuse(format!("RuntimeClass {name:?} not found"))),
        Err(error) => return Err(error),
    };
    overhead(pod, &class).map_err(refuse)?;
    place(pod, &class).map_err(|why| attempt.target.forbidden(&why))
}

fn overhead(pod: &mut Value, class: &Value) -> Result<(), String> {
    let (given, wanted) = (get(pod, "spec.overhead").cloned(), get(class, "overhead.podFixed").cloned());
    match (given, wanted) {
        (Some(_), None) => Err("Pod Overhead set without corresponding RuntimeClass defined Overhead".into()),
        (Some(given), Some(wanted)) if given != wanted => {
            Err("Pod's Overhead doesn't match RuntimeClass's defined Overhead".into())
        }
        (None, Some(wanted)) => {
            pod["spec"]["overhead"] = wanted;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Node selector and tolerations of the class are the pod's as well.
fn place(pod: &mut Value, class: &Value) -> Result<(), String> {
    for (key, value) in map_at(class, "scheduling.nodeSelector").into_iter().flatten() {
        let own = get(pod, "spec.nodeSelector").and_then(|s| s.get(key));
        if let Some(own) = own.filter(|own| *own != value) {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            ));
        }
        if let Some(selector) = object_mut(&mut pod["spec"], "nodeSelector") {
            selector[key] = value.clone();
        }
    }
    let mut tolerations = list_at(pod, "spec.tolerations").to_vec();
    for toleration in list_at(class, "scheduling.tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if !tolerations.is_empty() {
        pod["spec"]["tolerations"] = tolerations.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_add_and_never_replace() {
        let class = json!({"overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]}});
        let mut pod = json!({"spec": {"tolerations": [{"key": "own"}]}});
        assert!(overhead(&mut pod, &class).is_ok() && place(&mut pod, &class).is_ok());
        assert_eq!(
            pod["spec"],
            json!({"tolerations": [{"key": "own"}, {"key": "k"}], "overhead": {"cpu": "1"}, "nodeSelector": {"a": "b"}})
        );
        assert!(overhead(&mut json!({"spec": {"overhead": {"cpu": "2"}}}), &class).is_err());
        assert!(overhead(&mut json!({"spec": {"overhead": {"cpu": "2"}}}), &json!({})).is_err());
        let conflict = place(&mut json!({"spec": {"nodeSelector": {"a": "c"}}}), &class);
        assert_eq!(
            conflict,
            Err("conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c".into())
        );
    }
}
