//! Disruption budgets and controller revisions.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    resources::{conditions, meta, workload::rules},
    structure::{self, Fields, Part},
    value::{get, list_at, str_at, with_mut},
};

const EVICTION_POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

pub(in crate::resources) fn pdb_defaults(budget: &mut Value) {
    with_mut(budget, "spec", |spec| {
        // an unset policy counts healthy pods only; that is said nowhere but there
        if str_at(spec, "unhealthyPodEvictionPolicy").is_empty() {
            crate::value::remove(spec, "unhealthyPodEvictionPolicy");
        }
    });
}

pub(in crate::resources) fn pdb(budget: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (least, most) = (get(budget, "spec.minAvailable"), get(budget, "spec.maxUnavailable"));
    if least.is_some() && most.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors
            .push(FieldError::invalid_omitted(&path, format!("{}: {detail}", structure::shown(&budget["spec"], SPEC))));
    }
    for (amount, at) in [(least, path.child("minAvailable")), (most, path.child("maxUnavailable"))] {
        errors.extend(rules::int_or_percent(amount, &at));
        errors.extend(rules::at_most_all(amount, &at));
    }
    errors.extend(meta::label_selector(get(budget, "spec.selector"), &path.child("selector")));
    let policy = get(budget, "spec.unhealthyPodEvictionPolicy").and_then(Value::as_str);
    if let Some(policy) = policy.filter(|p| !EVICTION_POLICIES.contains(p)) {
        errors.push(FieldError::not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, EVICTION_POLICIES));
    }
    errors
}

/// Upstream's structure of a budget's spec.
const SPEC: Fields = &[
    ("MinAvailable", "minAvailable", Part::Any),
    ("Selector", "selector", Part::Any),
    ("MaxUnavailable", "maxUnavailable", Part::Any),
    ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", Part::Any),
];

/// A selector that was stored with values that labels cannot have does not keep its budget from being written.
pub(in crate::resources) fn pdb_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::new("spec").child("selector");
    let tolerated = !meta::label_selector(get(old, "spec.selector"), &at).is_empty();
    let values = |error: &FieldError| error.field.starts_with("spec.selector.") && error.field.contains(".values[");
    pdb(new).into_iter().filter(|error| !(tolerated && values(error))).collect()
}

pub(in crate::resources) fn pdb_status(budget: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let Some(status) = budget.get("status") else { return Vec::new() };
    let mut errors = conditions::validate(list_at(status, "conditions"), &path.child("conditions"));
    let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    errors.extend(counts.into_iter().filter_map(|field| meta::non_negative(status, field, &path)));
    errors
}

pub(in crate::resources) fn controller_revision(revision: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if revision.get("data").is_none_or(Value::is_null) {
        errors.push(FieldError::required(&Path::new("data"), "data is mandatory"));
    }
    errors.extend(meta::non_negative(revision, "revision", &Path::default()));
    errors
}

pub(in crate::resources) fn controller_revision_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = controller_revision(new);
    errors.extend(meta::immutable(new, old, &["data"]));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(spec: Value) -> Vec<String> {
        pdb(&json!({"spec": spec})).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn budgets_fail_in_upstreams_words() {
        const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
        assert_eq!(texts(json!({"minAvailable": "100%", "unhealthyPodEvictionPolicy": "AlwaysAllow"})), [""; 0]);
        assert_eq!(
            texts(json!({"minAvailable": 1, "maxUnavailable": "1%", "selector": {"matchLabels": {"a": "b"}}})),
            [concat!(
                r#"spec: Invalid value: {"MinAvailable":1,"Selector":{"matchLabels":{"a":"b"}},"MaxUnavailable":"1%","#,
                r#""UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set"#
            )]
        );
        for (amount, why) in [
            (json!(-1), "-1: must be greater than or equal to 0".to_owned()),
            (json!("+1%"), format!("\"+1%\": {PERCENT}")),
            (json!("1"), format!("\"1\": {PERCENT}")),
            (json!("101%"), "\"101%\": must not be greater than 100%".to_owned()),
            (json!("99999999999999999999%"), "\"99999999999999999999%\": must not be greater than 100%".to_owned()),
        ] {
            assert_eq!(
                texts(json!({"maxUnavailable": amount})),
                [format!("spec.maxUnavailable: Invalid value: {why}")]
            );
        }
        assert_eq!(
            texts(json!({"unhealthyPodEvictionPolicy": "Never"})),
            [
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\""
            ]
        );
    }

    #[test]
    fn selectors_of_old_stay() {
        let with = |value: &str| json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": [value]}]}}});
        assert_eq!(pdb_update(&with("a b"), &with("b")).len(), 1);
        assert_eq!(pdb_update(&with("a b"), &with("c d")), []);
    }

    #[test]
    fn conditions_are_judged_before_numbers() {
        let status = json!({"status": {"expectedPods": -1, "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "a"}]}});
        let found: Vec<String> = pdb_status(&status).iter().map(|e| e.field.clone()).collect();
        assert_eq!(found, ["status.conditions[0].lastTransitionTime", "status.expectedPods"]);
    }
}
