//! What the status of controllers of pods may say (kubernetes `Validate*StatusUpdate`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    resources::meta,
    value::{get, int_at},
};

/// Numbers of one kind, and which of them is not more than which other: (field, bound, upstream's words).
struct Rules {
    numbers: &'static [&'static str],
    bounds: &'static [(&'static str, &'static str, &'static str)],
}

const REPLICAS: &str = "cannot be greater than status.replicas";

const REPLICA_SET: Rules = Rules {
    numbers: &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ],
    bounds: &[
        ("fullyLabeledReplicas", "replicas", REPLICAS),
        ("readyReplicas", "replicas", REPLICAS),
        ("availableReplicas", "replicas", REPLICAS),
        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
    ],
};
const DEPLOYMENT: Rules = Rules {
    numbers: &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ],
    bounds: &[
        ("updatedReplicas", "replicas", REPLICAS),
        ("readyReplicas", "replicas", REPLICAS),
        ("availableReplicas", "replicas", REPLICAS),
        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
    ],
};
const STATEFUL_SET: Rules = Rules {
    numbers: &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ],
    bounds: &[
        ("readyReplicas", "replicas", REPLICAS),
        ("currentReplicas", "replicas", REPLICAS),
        ("updatedReplicas", "replicas", REPLICAS),
        ("availableReplicas", "replicas", REPLICAS),
        ("availableReplicas", "readyReplicas", "cannot be greater than status.readyReplicas"),
    ],
};
const DAEMON_SET: Rules = Rules {
    numbers: &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ],
    bounds: &[],
};

fn check(rules: &Rules, new: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let Some(status) = new.get("status") else { return Vec::new() };
    let mut errors: Vec<FieldError> =
        rules.numbers.iter().filter_map(|field| meta::non_negative(status, field, &path)).collect();
    for (field, bound, detail) in rules.bounds {
        let (value, most) = (int_at(status, field).unwrap_or(0), int_at(status, bound).unwrap_or(0));
        if value > most {
            errors.push(FieldError::invalid(&path.child(field), value, *detail));
        }
    }
    errors
}

pub(in crate::resources) fn replica_set(new: &Value, _: &Value) -> Vec<FieldError> {
    check(&REPLICA_SET, new)
}

pub(in crate::resources) fn deployment(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = check(&DEPLOYMENT, new);
    errors.extend(collisions(new, old));
    errors
}

pub(in crate::resources) fn stateful_set(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = check(&STATEFUL_SET, new);
    errors.extend(collisions(new, old));
    errors
}

pub(in crate::resources) fn daemon_set(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = check(&DAEMON_SET, new);
    errors.extend(collisions(new, old));
    errors
}

/// A counter that only grows, or names would be used again.
fn collisions(new: &Value, old: &Value) -> Option<FieldError> {
    let count = |object: &Value| get(object, "status.collisionCount").and_then(Value::as_i64);
    let (after, before) = (count(new).unwrap_or(0), count(old)?);
    let at = Path::new("status").child("collisionCount");
    (after < before).then(|| FieldError::invalid(&at, after, "cannot be decremented"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_not_more_than_the_whole() {
        let good = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}});
        assert!(replica_set(&good, &good).is_empty() && stateful_set(&good, &good).is_empty());
        let bad = json!({"status": {"replicas": 2, "readyReplicas": 3}});
        assert_eq!(
            deployment(&bad, &good)[0].to_string(),
            "status.readyReplicas: Invalid value: 3: cannot be greater than status.replicas"
        );
        let counted = json!({"status": {"collisionCount": 2}});
        assert_eq!(
            daemon_set(&json!({"status": {"collisionCount": 1}}), &counted)[0].to_string(),
            "status.collisionCount: Invalid value: 1: cannot be decremented"
        );
        assert_eq!(
            stateful_set(&json!({"status": {}}), &counted)[0].to_string(),
            "status.collisionCount: Invalid value: 0: cannot be decremented"
        );
    }
}
