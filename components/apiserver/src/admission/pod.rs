//! Priority, DefaultTolerationSeconds and PodTopologyLabels.

use machinery::{
    ApiError,
    value::{get, int_at, list_at, object_mut, str_at},
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
        let all = registry::look_all(core, classes, "").await?;
        all.into_iter().filter(|c| c["globalDefault"] == true).min_by_key(|c| int_at(c, "value").unwrap_or(0))
    } else {
        match registry::look(core, classes, "", &name).await {
            Ok(class) => Some(class),
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
    let policy = class.as_deref().map_or("", |c| str_at(c, "preemptionPolicy"));
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    let given = str_at(pod, "spec.preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(attempt.target.forbidden(&format!("the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name")));
    }
    let spec = &mut pod["spec"];
    spec["priority"] = value.into();
    spec["preemptionPolicy"] = policy.into();
    if let Some(class) = class {
        spec["priorityClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}

/// There is one default class at most.
pub async fn one_default(attempt: &Attempt<'_>, class: &Value) -> Result<(), ApiError> {
    let (group, plural) = ("scheduling.k8s.io", "priorityclasses");
    let written = attempt.is(Operation::Create, group, plural) || attempt.is(Operation::Update, group, plural);
    if !written || class["globalDefault"] != true {
        return Ok(());
    }
    let all = registry::read_all(&attempt.call.core, &attempt.target.resource, "").await?;
    let defaults = all.iter().filter(|s| s.object["globalDefault"] == true);
    let mut names = defaults.map(|s| str_at(&s.object, "metadata.name"));
    match names.find(|name| *name != attempt.target.name) {
        None => Ok(()),
        Some(name) => {
            let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(attempt.target.forbidden(&why))
        }
    }
}

/// Where a pod is bound to, it carries as labels.
pub async fn topology_labels(attempt: &Attempt<'_>, binding: &mut Value) -> Result<(), ApiError> {
    const LABELS: &[&str] = &["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];
    if attempt.operation != Operation::Create || attempt.subresource != "binding" || !attempt.is_of("", "pods") {
        return Ok(());
    }
    let Some(nodes) = registry::find("", "v1", "nodes") else { return Ok(()) };
    let node = match registry::read(&attempt.call.core, nodes, "", str_at(binding, "target.name")).await {
        Ok(stored) => stored.object,
        // whether the node must exist is not this plugin's question
        Err(error) if error.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    };
    for label in LABELS {
        if let Some(value) = get(&node, "metadata.labels").and_then(|l| l.get(*label))
            && let Some(labels) = object_mut(binding, "metadata").and_then(|m| object_mut(m, "labels"))
        {
            labels[*label] = value.clone();
        }
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
