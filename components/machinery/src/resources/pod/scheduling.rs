//! What a pod asks of the scheduler: node selectors, affinity, tolerations, spreading.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, int_at, list_at, str_at},
};

pub(super) fn affinity(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(affinity) = spec.get("affinity") {
        errors.extend(node_affinity(affinity, &path.child("nodeAffinity")));
        for kind in ["podAffinity", "podAntiAffinity"] {
            errors.extend(pod_affinity(affinity, kind, &path.child(kind)));
        }
    }
    errors
}

/// Conditions a pod waits for before it counts as ready, and gates it waits at before it is scheduled.
pub(super) fn gates(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, gate) in list_at(spec, "readinessGates").iter().enumerate() {
        let at = path.child("readinessGates").index(i).child("conditionType");
        let name = str_at(gate, "conditionType");
        errors.extend(names::qualified_name(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
    }
    let mut seen = Vec::new();
    for (i, gate) in list_at(spec, "schedulingGates").iter().enumerate() {
        let at = path.child("schedulingGates").index(i);
        let name = str_at(gate, "name");
        errors.extend(names::qualified_name(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        seen.push(name);
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

pub(super) fn spread(spec: &Value, path: &Path) -> Vec<FieldError> {
    let constraints = list_at(spec, "topologySpreadConstraints");
    let mut errors = Vec::new();
    for (i, constraint) in constraints.iter().enumerate() {
        let at = path.index(i);
        let (key, action) = (str_at(constraint, "topologyKey"), str_at(constraint, "whenUnsatisfiable"));
        let skew = int_at(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(&at.child("maxSkew"), skew, "must be greater than zero"));
        }
        if key.is_empty() {
            errors.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        } else {
            let at = at.child("topologyKey");
            errors.extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&at, key, p)));
        }
        errors.extend(meta::one_of(constraint, "whenUnsatisfiable", &at, &["DoNotSchedule", "ScheduleAnyway"]));
        let same = |other: &Value| str_at(other, "topologyKey") == key && str_at(other, "whenUnsatisfiable") == action;
        if constraints[i + 1..].iter().any(same) {
            let at = at.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&at, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = int_at(constraint, "minDomains") {
            let at = at.child("minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(&at, domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(&at, domains, detail));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.extend(meta::optional_one_of(constraint, field, &at, &["Honor", "Ignore"]));
        }
        if !list_at(constraint, "matchLabelKeys").is_empty() && constraint.get("labelSelector").is_none() {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(&at.child("matchLabelKeys"), detail));
        }
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
    errors.extend(match_fields(term, path));
    errors
}

/// `matchFields`: only the node's name can be asked for, one at a time.
fn match_fields(term: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, requirement) in list_at(term, "matchFields").iter().enumerate() {
        let at = path.child("matchFields").index(i);
        let (key, values) = (str_at(requirement, "key"), list_at(requirement, "values"));
        match str_at(requirement, "operator") {
            "In" | "NotIn" if values.len() != 1 => {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(&at.child("values"), detail));
            }
            "In" | "NotIn" => {}
            other => errors.push(FieldError::invalid(&at.child("operator"), other, "not a valid selector operator")),
        }
        if key != "metadata.name" {
            errors.push(FieldError::invalid(&at.child("key"), key, "not a valid field selector key"));
        }
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
    errors.extend(meta::label_selector(term.get("namespaceSelector"), &path.child("namespaceSelector")));
    for name in list_at(term, "namespaces").iter().filter_map(Value::as_str) {
        let at = path.child("namespaces");
        errors.extend(names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
    }
    let key = str_at(term, "topologyKey");
    let at = path.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&at, "can not be empty"));
    }
    errors.extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&at, key, p)));
    errors
}
