//! Which requests a webhook wants to see (apiserver `pkg/admission/plugin/webhook/predicates/rules`).

use machinery::value::{list_at, str_at};
use serde_json::Value;

use crate::admission::Operation;

/// A request as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-wide resources.
    pub namespace: &'a str,
}

/// `admissionregistration.k8s.io/v1` RuleWithOperations.
#[derive(Clone, Debug)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

pub fn operation_text(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|it| it == "*" || it == wanted)
}

impl Rule {
    pub fn from_value(rule: &Value) -> Self {
        let texts = |field| list_at(rule, field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Rule {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: str_at(rule, "scope").to_owned(),
        }
    }

    pub fn matches(&self, asked: &Asked) -> bool {
        self.in_scope(asked)
            && has(&self.operations, operation_text(asked.operation))
            && has(&self.groups, asked.group)
            && has(&self.versions, asked.version)
            && self.resources.iter().any(|it| names(it, asked))
    }

    /// A namespace is no part of itself.
    fn in_scope(&self, asked: &Asked) -> bool {
        let namespaced = asked.resource != "namespaces" && !asked.namespace.is_empty();
        match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        }
    }
}

/// `pods` is pods alone, `pods/*` also everything of them, `*` every resource but no subresource.
fn names(pattern: &str, asked: &Asked) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    (resource == "*" || resource == asked.resource) && (subresource == "*" || subresource == asked.subresource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(resources: &[&str], scope: &str) -> Rule {
        let rule = json!({"operations": ["CREATE", "CONNECT"], "apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": resources, "scope": scope});
        Rule::from_value(&rule)
    }

    const POD: Asked = Asked {
        operation: Operation::Create,
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace: "n",
    };

    #[test]
    fn resources_and_subresources() {
        let attach = Asked { operation: Operation::Connect, subresource: "attach", ..POD };
        for (pattern, pod, sub) in [
            ("pods", true, false),
            ("*", true, false),
            ("pods/*", true, true),
            ("pods/attach", false, true),
            ("*/attach", false, true),
            ("*/*", true, true),
            ("services", false, false),
        ] {
            let rule = rule(&[pattern], "*");
            assert_eq!((rule.matches(&POD), rule.matches(&attach)), (pod, sub), "{pattern}");
        }
    }

    #[test]
    fn scopes_operations_and_groups() {
        let namespace = Asked { resource: "namespaces", ..POD };
        assert!(rule(&["*"], "Cluster").matches(&namespace) && !rule(&["*"], "Namespaced").matches(&namespace));
        assert!(rule(&["*"], "Namespaced").matches(&POD) && !rule(&["*"], "Cluster").matches(&POD));
        let any = rule(&["*"], "*");
        assert!(!any.matches(&Asked { operation: Operation::Delete, ..POD }));
        assert!(!any.matches(&Asked { group: "batch", ..POD }) && !any.matches(&Asked { version: "v2", ..POD }));
    }
}
