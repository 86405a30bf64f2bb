//! RBAC (`rbac.authorization.k8s.io/v1`): rules of roles, given to subjects by bindings; nothing is ever denied, only not allowed.

use std::collections::{BTreeMap, HashMap};

use machinery::value::{list_at, str_at};
use serde_json::Value;

use super::Attributes;
use crate::identity::Identity;

type Names = Vec<String>;

/// A PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Names,
    pub api_groups: Names,
    pub resources: Names,
    pub resource_names: Names,
    pub non_resource_urls: Names,
}

fn names(value: &Value, key: &str) -> Names {
    list_at(value, key).iter().filter_map(Value::as_str).map(Into::into).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|x| x == "*" || x == wanted)
}

impl Rule {
    pub fn from_value(value: &Value) -> Self {
        Rule {
            verbs: names(value, "verbs"),
            api_groups: names(value, "apiGroups"),
            resources: names(value, "resources"),
            resource_names: names(value, "resourceNames"),
            non_resource_urls: names(value, "nonResourceURLs"),
        }
    }

    fn matches(&self, what: &Attributes) -> bool {
        has(&self.verbs, &what.verb)
            && if what.is_resource { self.matches_resource(what) } else { self.matches_path(&what.path) }
    }

    fn matches_resource(&self, what: &Attributes) -> bool {
        has(&self.api_groups, &what.group)
            && self.resources.iter().any(|r| resource_matches(r, &what.resource, &what.subresource))
            && (self.resource_names.is_empty() || self.resource_names.contains(&what.name))
    }

    fn matches_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => url == path,
        })
    }
}

/// `*` is everything, `pods` only pods, `pods/log` that, `*/scale` every scale.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((r, s)) => {
            !subresource.is_empty() && (r == "*" || r == resource) && (s == "*" && r != "*" || s == subresource)
        }
    }
}

#[derive(Clone, Debug)]
enum Subject {
    User(String),
    Group(String),
    /// The account's user name, and `name/namespace`.
    Account(String, String),
}

impl Subject {
    fn from_value(value: &Value, binding_namespace: &str) -> Option<Self> {
        let name = str_at(value, "name");
        match str_at(value, "kind") {
            "User" => Some(Subject::User(name.into())),
            "Group" => Some(Subject::Group(name.into())),
            "ServiceAccount" => {
                let namespace = match str_at(value, "namespace") {
                    "" => binding_namespace,
                    namespace => namespace,
                };
                (!namespace.is_empty()).then(|| {
                    Subject::Account(format!("system:serviceaccount:{namespace}:{name}"), format!("{name}/{namespace}"))
                })
            }
            _ => None,
        }
    }

    fn is(&self, who: &Identity) -> bool {
        match self {
            Subject::User(name) | Subject::Account(name, _) => *name == who.user,
            Subject::Group(name) => who.in_group(name),
        }
    }

    fn describe(&self) -> String {
        match self {
            Subject::User(name) => format!("User {name:?}"),
            Subject::Group(name) => format!("Group {name:?}"),
            Subject::Account(_, name) => format!("ServiceAccount {name:?}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Binding {
    subjects: Vec<Subject>,
    cluster_role: bool,
    role: String,
}

impl Binding {
    fn from_value(value: &Value, namespace: &str) -> Self {
        Binding {
            subjects: list_at(value, "subjects").iter().filter_map(|s| Subject::from_value(s, namespace)).collect(),
            cluster_role: str_at(value, "roleRef.kind") == "ClusterRole",
            role: str_at(value, "roleRef.name").into(),
        }
    }

    fn is_for(&self, who: &Identity) -> bool {
        self.subjects.iter().any(|s| s.is(who))
    }
}

/// All RBAC objects, decoded. Cluster-wide things lie under the namespace "".
#[derive(Default)]
pub struct Index {
    roles: HashMap<(String, String), Vec<Rule>>,
    bindings: HashMap<String, BTreeMap<String, Binding>>,
}

impl Index {
    pub fn set(&mut self, plural: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let is_role = matches!(plural, "roles" | "clusterroles");
        match (is_role, object) {
            (true, Some(object)) => {
                let rules = list_at(object, "rules").iter().map(Rule::from_value).collect();
                self.roles.insert((namespace.into(), name.into()), rules);
            }
            (true, None) => {
                self.roles.remove(&(namespace.to_owned(), name.to_owned()));
            }
            (false, Some(object)) => {
                self.bindings
                    .entry(namespace.into())
                    .or_default()
                    .insert(name.into(), Binding::from_value(object, namespace));
            }
            (false, None) => {
                self.bindings.get_mut(namespace).map(|b| b.remove(name));
            }
        }
    }

    /// The rules that hold for `who` in a namespace (or, with "", everywhere).
    pub fn rules_for<'a>(&'a self, who: &'a Identity, namespace: &'a str) -> impl Iterator<Item = &'a Rule> {
        let here = if namespace.is_empty() { None } else { self.bindings.get(namespace) };
        let in_scope = self
            .bindings
            .get("")
            .into_iter()
            .flatten()
            .map(|(_, b)| ("", b))
            .chain(here.into_iter().flatten().map(move |(_, b)| (namespace, b)));
        in_scope.filter(|(_, b)| b.is_for(who)).flat_map(|(scope, b)| {
            let home = if b.cluster_role { "" } else { scope };
            self.roles.get(&(home.to_owned(), b.role.clone())).into_iter().flatten()
        })
    }

    /// The bindings that hold for `who` where `what` is asked, with their namespace.
    fn bindings_for<'a>(
        &'a self,
        who: &'a Identity,
        what: &'a Attributes,
    ) -> impl Iterator<Item = (&'a str, &'a String, &'a Binding)> {
        let namespace = if what.is_resource { what.namespace.as_str() } else { "" };
        let scopes = [Some(""), Some(namespace).filter(|n| !n.is_empty())];
        scopes.into_iter().flatten().flat_map(move |scope| {
            let bindings = self.bindings.get(scope).into_iter().flatten();
            bindings.filter(|(_, b)| b.is_for(who)).map(move |(name, b)| (scope, name, b))
        })
    }

    fn rules_of(&self, scope: &str, binding: &Binding) -> Option<&Vec<Rule>> {
        let home = if binding.cluster_role { "" } else { scope };
        self.roles.get(&(home.to_owned(), binding.role.clone()))
    }

    /// What allows `what`, in upstream's words; `None` if nothing does.
    pub fn explain(&self, who: &Identity, what: &Attributes) -> Option<String> {
        self.bindings_for(who, what).find_map(|(scope, name, binding)| {
            self.rules_of(scope, binding)?.iter().find(|rule| rule.matches(what))?;
            let subject = binding.subjects.iter().find(|s| s.is(who))?;
            let role = if binding.cluster_role { "ClusterRole" } else { "Role" };
            let to = subject.describe();
            Some(match scope {
                "" => format!("RBAC: allowed by ClusterRoleBinding {name:?} of {role} {:?} to {to}", binding.role),
                _ => format!("RBAC: allowed by RoleBinding \"{name}/{scope}\" of {role} {:?} to {to}", binding.role),
            })
        })
    }

    /// The roles that bindings of `who` name and that do not exist; empty if there are none.
    pub fn missing_roles(&self, who: &Identity, what: &Attributes) -> String {
        let missing = self.bindings_for(who, what).filter(|(scope, _, b)| self.rules_of(scope, b).is_none());
        let mut texts: Vec<String> = missing
            .map(|(_, _, b)| {
                let kind = if b.cluster_role { "clusterrole" } else { "role" };
                format!("{kind}.rbac.authorization.k8s.io {:?} not found", b.role)
            })
            .collect();
        texts.dedup();
        match texts.len() {
            0 | 1 => texts.pop().unwrap_or_default(),
            _ => format!("[{}]", texts.join(", ")),
        }
    }

    pub fn allows(&self, who: &Identity, what: &Attributes) -> bool {
        let namespace = if what.is_resource { &what.namespace } else { "" };
        self.rules_for(who, namespace).any(|rule| rule.matches(what))
    }

    /// What `rules` give and `who` does not hold yet (privilege escalation check); one verb, group, resource at a time.
    pub fn missing(&self, who: &Identity, namespace: &str, rules: &[Rule]) -> Vec<Rule> {
        let held: Vec<&Rule> = self.rules_for(who, namespace).collect();
        let steps = rules.iter().flat_map(Rule::single_steps);
        steps.filter(|step| !held.iter().any(|h| h.includes(step))).collect()
    }

    pub fn role_rules(&self, namespace: &str, name: &str) -> Option<&[Rule]> {
        self.roles.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice)
    }
}

impl Rule {
    /// Full authority.
    pub fn everything() -> [Rule; 2] {
        let all = || vec!["*".to_owned()];
        [
            Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
        ]
    }

    /// The rule taken apart so that each piece has one verb and one target.
    fn single_steps(&self) -> Vec<Rule> {
        let one = |text: &String| vec![text.clone()];
        let mut steps = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                steps.push(Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let base =
                        Rule { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Rule::default() };
                    if self.resource_names.is_empty() {
                        steps.push(base.clone());
                    }
                    steps.extend(
                        self.resource_names.iter().map(|name| Rule { resource_names: one(name), ..base.clone() }),
                    );
                }
            }
        }
        steps
    }

    /// Whether this rule gives at least what a single step gives.
    fn includes(&self, step: &Rule) -> bool {
        let all = |mine: &[String], theirs: &[String]| theirs.iter().all(|t| has(mine, t));
        let names = self.resource_names.is_empty()
            || (!step.resource_names.is_empty() && step.resource_names.iter().all(|n| self.resource_names.contains(n)));
        let resources = step.resources.iter().all(|t| {
            self.resources.iter().any(|m| match t.split_once('/') {
                Some((resource, subresource)) => resource_matches(m, resource, subresource),
                None => m == "*" || m == t,
            })
        });
        let urls =
            step.non_resource_urls.iter().all(|url| self.matches_path(url) || self.non_resource_urls.contains(url));
        all(&self.verbs, &step.verbs) && all(&self.api_groups, &step.api_groups) && resources && names && urls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index() -> Index {
        let mut index = Index::default();
        index.set("clusterroles", "", "view", Some(&json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"]}, {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/api/*"]}]})));
        index.set("roles", "a", "own", Some(&json!({"rules": [{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["x"]}]})));
        index.set("clusterrolebindings", "", "b", Some(&json!({"subjects": [{"kind": "Group", "name": "dev"}], "roleRef": {"kind": "ClusterRole", "name": "view"}})));
        index.set("rolebindings", "a", "b", Some(&json!({"subjects": [{"kind": "ServiceAccount", "name": "sa"}], "roleRef": {"kind": "Role", "name": "own"}})));
        index
    }

    fn asks(verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.into(),
            is_resource: true,
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_apply_where_they_are_bound() {
        let index = index();
        let dev = Identity::new("joe", ["dev"]);
        let sa = Identity::new("system:serviceaccount:a:sa", [""; 0]);
        assert!(index.allows(&dev, &asks("get", "", "pods", "", "any", "p")));
        assert!(index.allows(&dev, &asks("get", "", "pods", "log", "any", "p")));
        assert!(!index.allows(&dev, &asks("get", "", "pods", "exec", "any", "p")));
        assert!(!index.allows(&dev, &asks("list", "", "pods", "", "", "")));
        assert!(index.allows(&sa, &asks("delete", "apps", "deployments", "", "a", "x")));
        assert!(!index.allows(&sa, &asks("delete", "apps", "deployments", "", "a", "y")));
        assert!(!index.allows(&sa, &asks("delete", "apps", "deployments", "", "b", "x")));
        let path = |p: &str| Attributes { verb: "get".into(), path: p.into(), ..Attributes::default() };
        assert!(
            index.allows(&dev, &path("/metrics"))
                && index.allows(&dev, &path("/api/v1"))
                && !index.allows(&dev, &path("/metricsx"))
        );
    }

    #[test]
    fn decisions_are_explained() {
        let index = index();
        let dev = Identity::new("joe", ["dev"]);
        let sa = Identity::new("system:serviceaccount:a:sa", [""; 0]);
        let why = |who: &Identity, what: &Attributes| index.explain(who, what).unwrap_or_default();
        assert_eq!(
            why(&dev, &asks("get", "", "pods", "", "any", "p")),
            "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"view\" to Group \"dev\""
        );
        assert_eq!(
            why(&sa, &asks("get", "apps", "deployments", "", "a", "x")),
            "RBAC: allowed by RoleBinding \"b/a\" of Role \"own\" to ServiceAccount \"sa/a\""
        );
        assert_eq!(why(&sa, &asks("get", "", "pods", "", "a", "x")), "");
    }

    #[test]
    fn nobody_gives_what_he_has_not() {
        let index = index();
        let dev = Identity::new("joe", ["dev"]);
        let rule = |v: Value| Rule::from_value(&v);
        let missing = |v: Value| index.missing(&dev, "a", &[rule(v)]);
        assert!(missing(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})).is_empty());
        assert!(!missing(json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]})).is_empty());
        let some = missing(json!({"verbs": ["get"], "apiGroups": ["", "apps"], "resources": ["pods"]}));
        assert_eq!(some, [rule(json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods"]}))]);
    }
}
