//! What a pod asks of the scheduler: node selectors, affinity, tolerations, spreading.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, int_at, list_at, str_at},
};

pub(super) fn validate(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = meta::labels(get(spec, "nodeSelector"), &path.child("nodeSelector"));
    errors.extend(tolerations(list_at(spec, "tolerations"), &path.child("tolerations")));
    errors.extend(spread(list_at(spec, "topologySpreadConstraints"), &path.child("topologySpreadConstraints")));
    if let Some(affinity) = spec.get("affinity") {
        errors.extend(node_affinity(affinity, &path.child("affinity").child("nodeAffinity")));
        for kind in ["podAffinity", "podAntiAffinity"] {
            errors.extend(pod_affinity(affinity, kind, &path.child("affinity").child(kind)));
        }
    }
    errors
}

pub(in crate::resources) fn tolerations(tolerations: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = path.index(i);
        let key = str_at(toleration, "key");
        let operator = str_at(toleration, "operator");
        if !key.is_empty() {
            errors
                .extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&at.child("key"), key, p)));
        } else if operator != "Exists" {
            errors.push(FieldError::invalid(
                &at.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if get(toleration, "tolerationSeconds").is_some() && str_at(toleration, "effect") != "NoExecute" {
            errors.push(FieldError::invalid(
                &at.child("effect"),
                str_at(toleration, "effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        let value = str_at(toleration, "value");
        if operator == "Exists" && !value.is_empty() {
            errors.push(FieldError::invalid(
                &at.child("operator"),
                value,
                "value must be empty when `operator` is 'Exists'",
            ));
        }
        errors.extend(meta::optional_one_of(toleration, "operator", &at, &["Equal", "Exists", "Gt", "Lt"]));
        errors.extend(meta::optional_one_of(
            toleration,
            "effect",
            &at,
            &["NoExecute", "NoSchedule", "PreferNoSchedule"],
        ));
    }
    errors
}

fn spread(constraints: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, constraint) in constraints.iter().enumerate() {
        let at = path.index(i);
        let skew = int_at(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(&at.child("maxSkew"), skew, "must be greater than zero"));
        }
        if str_at(constraint, "topologyKey").is_empty() {
            errors.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        }
        errors.extend(meta::one_of(constraint, "whenUnsatisfiable", &at, &["DoNotSchedule", "ScheduleAnyway"]));
        errors.extend(meta::label_selector(constraint.get("labelSelector"), &at.child("labelSelector")));
    }
    errors
}

fn node_affinity(affinity: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(required) = get(affinity, "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution") {
        errors.extend(node_selector(required, &path.child("requiredDuringSchedulingIgnoredDuringExecution")));
    }
    for (i, term) in
        list_at(affinity, "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
    {
        let at = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(i);
        errors.extend(weight(term, &at));
        errors.extend(node_selector_term(term.get("preference").unwrap_or(&Value::Null), &at.child("preference")));
    }
    errors
}

fn weight(term: &Value, path: &Path) -> Option<FieldError> {
    let weight = int_at(term, "weight").unwrap_or(0);
    (!(1..=100).contains(&weight))
        .then(|| FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"))
}

/// A `v1.NodeSelector`, as in pods and volumes.
pub(in crate::resources) fn node_selector(selector: &Value, path: &Path) -> Vec<FieldError> {
    let terms = list_at(selector, "nodeSelectorTerms");
    let at = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        return vec![FieldError::required(&at, "must have at least one node selector term")];
    }
    terms.iter().enumerate().flat_map(|(i, term)| node_selector_term(term, &at.index(i))).collect()
}

fn node_selector_term(term: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, requirement) in list_at(term, "matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(i);
        let values = list_at(requirement, "values").len();
        match str_at(requirement, "operator") {
            "In" | "NotIn" if values == 0 => {
                errors.push(FieldError::required(
                    &at.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                errors.push(FieldError::forbidden(
                    &at.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            "Gt" | "Lt" if values != 1 => {
                errors.push(FieldError::required(
                    &at.child("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.push(FieldError::invalid(&at.child("operator"), other, "not a valid selector operator")),
        }
        let key = str_at(requirement, "key");
        errors.extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&at.child("key"), key, p)));
    }
    errors
}

fn pod_affinity(affinity: &Value, kind: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(affinity) = affinity.get(kind) else { return errors };
    for (i, term) in list_at(affinity, "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        errors.extend(affinity_term(term, &path.child("requiredDuringSchedulingIgnoredDuringExecution").index(i)));
    }
    for (i, weighted) in list_at(affinity, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let at = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(i);
        errors.extend(weight(weighted, &at));
        errors.extend(affinity_term(
            weighted.get("podAffinityTerm").unwrap_or(&Value::Null),
            &at.child("podAffinityTerm"),
        ));
    }
    errors
}

fn affinity_term(term: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = meta::label_selector(term.get("labelSelector"), &path.child("labelSelector"));
    if str_at(term, "topologyKey").is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    errors
}
