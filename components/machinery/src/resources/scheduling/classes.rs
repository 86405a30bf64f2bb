//! Leases, PriorityClasses and RuntimeClasses (kubernetes `pkg/apis/{coordination,scheduling,node}/validation`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod},
    value::{bool_at, default_absent, get, int_at, list_at, map_at, name, str_at},
};

pub(super) fn lease(lease: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = int_at(lease, "spec.leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.push(FieldError::invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    errors.extend(lease.get("spec").and_then(|s| meta::non_negative(s, "leaseTransitions", &path)));
    let strategy = get(lease, "spec.strategy").and_then(Value::as_str);
    if let Some(strategy) = strategy {
        errors.extend(strategy_problems(strategy, &path.child("strategy")));
    }
    if !str_at(lease, "spec.preferredHolder").is_empty() && strategy.is_none_or(str::is_empty) {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}

/// How a leader is chosen: the one way upstream knows, or somebody's own. Upstream names the field twice in the path.
fn strategy_problems(strategy: &str, path: &Path) -> Vec<FieldError> {
    const KNOWN: &[&str] = &["OldestEmulationVersion"];
    let at = path.child("strategy");
    if strategy.contains('/') {
        FieldError::each_invalid(&at, strategy, names::qualified_name(strategy))
    } else if KNOWN.contains(&strategy) {
        Vec::new()
    } else {
        vec![FieldError::not_supported(&at, strategy, KNOWN)]
    }
}

pub(super) fn priority_defaults(class: &mut Value) {
    default_absent(class, "preemptionPolicy", "PreemptLowerPriority");
}

/// The classes the system makes: name and value.
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const USER_MAX: i64 = 1_000_000_000;

pub(super) fn priority(class: &Value) -> Vec<FieldError> {
    let root = Path::default();
    let mut errors = Vec::new();
    let value = int_at(class, "value").unwrap_or(0);
    if name(class).starts_with("system-") {
        errors.extend(system_problem(class, value).map(|why| {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}");
            FieldError::forbidden(&Path::new("metadata").child("name"), detail)
        }));
    } else if value > USER_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
        errors.push(FieldError::forbidden(&root.child("value"), detail));
    }
    if class.get("preemptionPolicy").is_some() {
        errors.extend(meta::one_of(class, "preemptionPolicy", &root, &["PreemptLowerPriority", "Never"]));
    }
    errors
}

fn system_problem(class: &Value, value: i64) -> Option<String> {
    let name = name(class);
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, right)) if *right != value => Some(format!("value of {name} PriorityClass must be {right}")),
        Some(_) if bool_at(class, "globalDefault") => {
            Some(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => None,
    }
}

pub(super) fn priority_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if int_at(new, "value").unwrap_or(0) != int_at(old, "value").unwrap_or(0) {
        errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    errors.extend(meta::immutable(new, old, &["preemptionPolicy"]));
    errors
}

pub(super) fn runtime(class: &Value) -> Vec<FieldError> {
    let at = Path::new("handler");
    let handler = str_at(class, "handler");
    let mut errors: Vec<FieldError> =
        names::dns1123_label(handler).into_iter().map(|p| FieldError::invalid(&at, handler, p)).collect();
    errors.extend(pod::limits(map_at(class, "overhead.podFixed"), &Path::new("overhead")));
    let path = Path::new("scheduling");
    errors.extend(meta::labels(get(class, "scheduling.nodeSelector"), &path.child("nodeSelector")));
    let (tolerations, at) = (list_at(class, "scheduling.tolerations"), path.child("tolerations"));
    errors.extend(pod::tolerations(tolerations, &at));
    for (i, toleration) in tolerations.iter().enumerate().filter(|(i, t)| tolerations[..*i].contains(t)) {
        errors.push(FieldError::duplicate(&at.index(i), toleration.clone()));
    }
    errors
}

pub(super) fn runtime_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = runtime(new);
    errors.extend(meta::immutable(new, old, &["handler"]));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn leases() {
        let of = |spec: Value| texts(&lease(&json!({"spec": spec})));
        assert_eq!(of(json!({"strategy": "OldestEmulationVersion", "preferredHolder": "a"})), [""; 0]);
        assert_eq!(of(json!({"strategy": "example.com/own"})), [""; 0]);
        assert_eq!(
            of(json!({"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "a"})),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
            ]
        );
        assert_eq!(
            of(json!({"strategy": "Foo"})),
            ["spec.strategy.strategy: Unsupported value: \"Foo\": supported values: \"OldestEmulationVersion\""]
        );
    }

    #[test]
    fn priorities() {
        let of = |name: &str, value: i64| texts(&priority(&json!({"metadata": {"name": name}, "value": value})));
        assert!(of("a", 1).is_empty() && of("system-node-critical", 2_000_001_000).is_empty());
        assert_eq!(
            of("a", 1_000_000_001),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        let mut empty = json!({"metadata": {"name": "a"}, "preemptionPolicy": ""});
        priority_defaults(&mut empty);
        assert_eq!(texts(&priority(&empty)), ["preemptionPolicy: Required value"]);
        assert!(of("system-x", 1)[0].ends_with("error: system-x is not a known system priority class"));
        assert!(
            of("system-node-critical", 1)[0]
                .ends_with("value of system-node-critical PriorityClass must be 2000001000")
        );
        assert_eq!(
            texts(&priority_update(&json!({"value": 2, "preemptionPolicy": "Never"}), &json!({"value": 1}))),
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"Never\": field is immutable"
            ]
        );
    }

    #[test]
    fn runtimes() {
        let class =
            json!({"handler": "h", "overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "b"}}});
        assert!(runtime(&class).is_empty());
        assert_eq!(runtime(&json!({"handler": "H"})).len(), 1);
        assert_eq!(
            texts(&runtime(&json!({"handler": "h", "overhead": {"podFixed": {"cpu": "-1", "storage": "1"}}}))),
            [
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "overhead.limits[storage]: Invalid value: \"storage\": must be a standard resource for containers",
            ]
        );
        assert_eq!(runtime_update(&json!({"handler": "i"}), &class).len(), 1);
    }
}
