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
    const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let mut errors = Vec::new();
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = path.index(i);
        let [key, operator, effect, value] = ["key", "operator", "effect", "value"].map(|f| str_at(toleration, f));
        if !key.is_empty() {
            errors.extend(FieldError::each_invalid(&at.child("key"), key, names::qualified_name(key)));
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at.child("operator"), operator, detail));
        }
        if get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&at.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    errors.push(FieldError::invalid(&at.child("operator"), value, problems.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.push(FieldError::invalid(&at.child("operator"), value, detail));
                }
            }
            // `Gt` and `Lt` are behind a gate that is off (TaintTolerationComparisonOperators)
            other => errors.push(FieldError::not_supported(&at.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(&at.child("effect"), effect, EFFECTS));
        }
    }
    errors
}

pub(super) fn spread(spec: &Value, path: &Path) -> Vec<FieldError> {
    const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    const POLICIES: &[&str] = &["Honor", "Ignore"];
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
        }
        if !ACTIONS.contains(&action) {
            errors.push(FieldError::not_supported(&at.child("whenUnsatisfiable"), action, ACTIONS));
        }
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
            if let Some(policy) = constraint.get(field).and_then(Value::as_str).filter(|p| !POLICIES.contains(p)) {
                errors.push(FieldError::not_supported(&at.child(field), policy, POLICIES));
            }
        }
        errors.extend(spread_keys(constraint, &at.child("matchLabelKeys")));
        errors.extend(meta::label_selector(constraint.get("labelSelector"), &at.child("labelSelector")));
    }
    errors
}

/// The labels a selector speaks of.
fn selected_keys(selector: Option<&Value>) -> Vec<&str> {
    let Some(selector) = selector else { return Vec::new() };
    let labels = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let expressions = list_at(selector, "matchExpressions").iter().map(|e| str_at(e, "key"));
    labels.map(|(key, _)| key.as_str()).chain(expressions).collect()
}

fn spread_keys(constraint: &Value, path: &Path) -> Vec<FieldError> {
    let keys = list_at(constraint, "matchLabelKeys");
    let selector = constraint.get("labelSelector");
    let mut errors = Vec::new();
    if !keys.is_empty() && selector.is_none() {
        errors.push(FieldError::forbidden(path, "must not be specified when labelSelector is not set"));
    }
    let selected = selected_keys(selector);
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        errors.extend(FieldError::each_invalid(&path.index(i), key, names::qualified_name(key)));
        if selected.contains(&key) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(i), key, detail));
        }
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
        // what is only wished for may name values that no label can have
        let preference = term.get("preference").unwrap_or(&Value::Null);
        errors.extend(node_selector_term(preference, false, &at.child("preference")));
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
    terms.iter().enumerate().flat_map(|(i, term)| node_selector_term(term, true, &at.index(i))).collect()
}

fn node_selector_term(term: &Value, check_values: bool, path: &Path) -> Vec<FieldError> {
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
        errors.extend(FieldError::each_invalid(&at.child("key"), key, names::qualified_name(key)));
        let values = list_at(requirement, "values").iter().filter_map(Value::as_str).enumerate();
        for (j, value) in values.filter(|_| check_values) {
            errors.extend(FieldError::each_invalid(&at.child("values").index(j), value, names::label_value(value)));
        }
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
        } else {
            for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
                let at = at.child("values").index(j);
                errors.extend(FieldError::each_invalid(&at, value, names::dns1123_subdomain(value)));
            }
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
        errors.extend(FieldError::each_invalid(&path.child("namespace"), name, names::dns1123_label(name)));
    }
    errors.extend(affinity_keys(term, path));
    let key = str_at(term, "topologyKey");
    let at = path.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&at, "can not be empty"));
    }
    errors.extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&at, key, p)));
    errors
}

/// `matchLabelKeys` and `mismatchLabelKeys`; the server itself adds an expression to the selector for each of the former.
fn affinity_keys(term: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let selector = term.get("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = list_at(term, field);
        let at = path.child(field);
        if !keys.is_empty() && selector.is_none() {
            errors.push(FieldError::forbidden(&at, "must not be specified when labelSelector is not set"));
            continue;
        }
        for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
            errors.extend(FieldError::each_invalid(&at.index(i), key, names::qualified_name(key)));
        }
    }
    let matched: Vec<&str> = list_at(term, "matchLabelKeys").iter().filter_map(Value::as_str).collect();
    let labels = selector.and_then(|s| s.get("matchLabels")).and_then(Value::as_object);
    let mut seen: Vec<&str> = labels.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    for expression in selector.map(|s| list_at(s, "matchExpressions")).unwrap_or_default() {
        let key = str_at(expression, "key");
        if let Some(i) = matched.iter().position(|k| *k == key)
            && seen.contains(&key)
        {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(i), key, detail));
        }
        seen.push(key);
    }
    let mismatched = list_at(term, "mismatchLabelKeys");
    for (i, key) in matched.iter().enumerate().filter(|(_, key)| mismatched.iter().any(|m| m == **key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(&path.child("matchLabelKeys").index(i), *key, detail));
    }
    errors
}
