//! Roles of the controllers, each bound to the service account of its name.

use serde_json::{Value, json};

const RULES: &str = include_str!("controllers.txt");
const PREFIX: &str = "system:controller:";

/// ClusterRole and ClusterRoleBinding of every controller.
pub fn objects() -> Vec<Value> {
    let mut roles: Vec<(&str, Vec<Value>)> = Vec::new();
    for line in RULES.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("  "), roles.last_mut()) {
            (Some(text), Some((_, rules))) => rules.push(rule(text)),
            _ => roles.push((line.trim(), Vec::new())),
        }
    }
    roles.into_iter().flat_map(|(name, rules)| [role(name, rules), binding(name)]).collect()
}

/// `verbs groups resources [names]`, each a list with commas.
fn rule(text: &str) -> Value {
    let mut parts = text.split_whitespace().map(|part| part.split(',').map(|it| if it == "core" { "" } else { it }));
    let mut next = || parts.next().map(Iterator::collect::<Vec<&str>>).unwrap_or_default();
    let mut rule = json!({"verbs": next(), "apiGroups": next(), "resources": next()});
    let names = next();
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

fn metadata(name: &str) -> Value {
    json!({"name": format!("{PREFIX}{name}"), "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}})
}

fn role(name: &str, rules: Vec<Value>) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata(name), "rules": rules})
}

fn binding(name: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata(name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("{PREFIX}{name}")},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::{resources, value::list_at};

    #[test]
    fn every_role_is_valid_and_bound() {
        let all = objects();
        assert!(all.len() > 70 && all.len().is_multiple_of(2), "{}", all.len());
        for object in &all {
            let kind = object["kind"].as_str().unwrap_or_default();
            let row = resources::find_kind("rbac.authorization.k8s.io", "v1", kind);
            let problems = row.map(|row| row.validate_create(object));
            assert!(problems.is_some_and(|p| p.is_empty()), "{object}");
        }
        let certificates = all.iter().find(|o| o["metadata"]["name"] == "system:controller:certificate-controller");
        let rules = certificates.map(|c| list_at(c, "rules").to_vec()).unwrap_or_default();
        assert_eq!(rules[2]["resourceNames"], json!(["kubernetes.io/kube-apiserver-client-kubelet"]));
        assert_eq!(rules[5]["apiGroups"], json!(["", "events.k8s.io"]));
    }
}
