//! Priority and DefaultTolerationSeconds.

use machinery::{
    ApiError,
    value::{int_at, list_at, str_at},
};
use serde_json::{Value, json};

use super::{Attempt, Operation};
use crate::registry;

const TOLERATION_SECONDS: i64 = 300;

/// `spec.priority` and `spec.preemptionPolicy` from the class, or from the cluster's default class.
pub async fn priority(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !attempt.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    let Some(classes) = registry::find("scheduling.k8s.io", "v1", "priorityclasses") else { return Ok(()) };
    let core = &attempt.call.core;
    let name = str_at(pod, "spec.priorityClassName").to_owned();
    let class = if name.is_empty() {
        let all = registry::read_all(core, classes, "").await?;
        all.into_iter()
            .map(|s| s.object)
            .filter(|c| c["globalDefault"] == true)
            .min_by_key(|c| int_at(c, "value").unwrap_or(0))
    } else {
        match registry::read(core, classes, "", &name).await {
            Ok(stored) => Some(stored.object),
            Err(error) if error.code == 404 => {
                return Err(attempt.target.forbidden(&format!("no PriorityClass with name {name} was found")));
            }
            Err(error) => return Err(error),
        }
    };
    let value = class.as_ref().and_then(|c| int_at(c, "value")).unwrap_or(0);
    if let Some(given) = int_at(pod, "spec.priority").filter(|g| *g != value) {
        return Err(attempt.target.forbidden(&format!("the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name")));
    }
    let spec = &mut pod["spec"];
    spec["priority"] = value.into();
    if let Some(class) = class {
        spec["priorityClassName"] = class["metadata"]["name"].clone();
        let policy = str_at(&class, "preemptionPolicy");
        spec["preemptionPolicy"] = if policy.is_empty() { "PreemptLowerPriority".into() } else { policy.into() };
    } else {
        machinery::value::default_to(spec, "preemptionPolicy", "PreemptLowerPriority");
    }
    Ok(())
}

/// Pods leave a node that is not ready or not reachable after five minutes, unless they say otherwise.
pub fn default_tolerations(attempt: &Attempt<'_>, pod: &mut Value) {
    if !attempt.is(Operation::Create, "", "pods") {
        return;
    }
    let mut tolerations = list_at(pod, "spec.tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            (str_at(t, "key") == key || str_at(t, "key").is_empty()) && matches!(str_at(t, "effect"), "" | "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}));
        }
    }
    pod["spec"]["tolerations"] = tolerations.into();
}
