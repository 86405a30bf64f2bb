//! What an object counts against a ResourceQuota (kubernetes `pkg/quota/v1/evaluator/core`).
//!
//! In: objects as JSON, by the group and plural of their resource. Out: amounts by the names that `spec.hard` uses. Shared by
//! admission, which charges what is written, and the quota controller, which counts what is there: both must agree to the
//! last millicore. Pure; the time is the caller's to give.

mod objects;
mod pod;
mod scopes;

use std::collections::BTreeMap;

use notation::quantity::{Format, Quantity};
use serde_json::Value;
use time::OffsetDateTime;

pub use pod::{Requests, constraints, limits, requests};
pub use scopes::matches_scopes;

/// Amounts by name.
pub type Usage = BTreeMap<String, Quantity>;

/// A kind of object that quotas count, by group and plural.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub group: String,
    pub plural: String,
}

impl Kind {
    pub fn new(group: &str, plural: &str) -> Self {
        Kind { group: group.to_owned(), plural: plural.to_owned() }
    }

    fn core(plural: &str) -> Self {
        Self::new("", plural)
    }

    /// `count/deployments.apps`, `count/pods`.
    pub fn count_name(&self) -> String {
        if self.group.is_empty() {
            format!("count/{}", self.plural)
        } else {
            format!("count/{}.{}", self.plural, self.group)
        }
    }

    fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// Whether more than the number of its objects is counted, so that they have to be looked at.
    pub fn is_measured(&self) -> bool {
        ["pods", "services", "persistentvolumeclaims"].iter().any(|p| self.is_core(p))
    }

    /// Whether `name`, as in `spec.hard`, says something about this kind.
    pub fn is_counted_by(&self, name: &str) -> bool {
        name == self.count_name() || Kind::counted_by(name).as_ref() == Some(self)
    }

    /// What a name in `spec.hard` counts; `None` for names that nothing is known of.
    pub fn counted_by(name: &str) -> Option<Self> {
        if let Some(counted) = name.strip_prefix("count/") {
            let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
            return Some(Kind::new(group, plural));
        }
        match name {
            "services" | "services.nodeports" | "services.loadbalancers" => Some(Kind::core("services")),
            "persistentvolumeclaims" | "requests.storage" => Some(Kind::core("persistentvolumeclaims")),
            "configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers" => Some(Kind::core(name)),
            name if name.contains(objects::STORAGE_CLASS) => Some(Kind::core("persistentvolumeclaims")),
            name if pod::is_counted_by(name) => Some(Kind::core("pods")),
            _ => None,
        }
    }
}

fn one() -> Quantity {
    Quantity::from_int(1, Format::DecimalSi)
}

fn whole(count: usize) -> Quantity {
    Quantity::from_int(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// What one object uses.
pub fn usage(kind: &Kind, object: &Value, now: OffsetDateTime) -> Usage {
    let mut usage = Usage::from([(kind.count_name(), one())]);
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod::add(&mut usage, object, now),
        ("", "services") => objects::add_service(&mut usage, object),
        ("", "persistentvolumeclaims") => objects::add_claim(&mut usage, object),
        ("", plural @ ("configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers")) => {
            usage.insert(plural.to_owned(), one());
        }
        _ => {}
    }
    usage
}

/// `count` objects that are only counted.
pub fn count_only(kind: &Kind, count: usize) -> Usage {
    let mut usage = usage(kind, &Value::Null, OffsetDateTime::UNIX_EPOCH);
    usage.values_mut().for_each(|amount| *amount = whole(count));
    usage
}

pub fn add(total: &mut Usage, more: &Usage) {
    for (name, amount) in more {
        let sum = total.get(name).map_or(*amount, |before| *before + *amount);
        total.insert(name.clone(), sum);
    }
}

/// What of `new` comes on top of `old`; nothing that is not more than zero.
pub fn increase(new: Usage, old: &Usage) -> Usage {
    new.into_iter()
        .map(|(name, amount)| {
            let more = old.get(&name).map_or(amount, |before| amount - *before);
            (name, more)
        })
        .filter(|(_, amount)| amount.sign() > 0)
        .collect()
}

/// A list of amounts as JSON holds it; what is no quantity is left out.
pub fn amounts(value: Option<&Value>) -> Usage {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), notation::quantity::from_json(value).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn text(usage: &Usage) -> String {
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
    }

    fn of(plural: &str, object: Value) -> String {
        text(&usage(&Kind::new("", plural), &object, OffsetDateTime::now_utc()))
    }

    #[test]
    fn names_say_what_they_count() {
        for (name, kind) in [
            ("pods", Some(("", "pods"))),
            ("limits.cpu", Some(("", "pods"))),
            ("requests.example.com/gpu", Some(("", "pods"))),
            ("hugepages-2Mi", Some(("", "pods"))),
            ("count/deployments.apps", Some(("apps", "deployments"))),
            ("count/pods", Some(("", "pods"))),
            ("requests.storage", Some(("", "persistentvolumeclaims"))),
            ("gold.storageclass.storage.k8s.io/requests.storage", Some(("", "persistentvolumeclaims"))),
            ("services.nodeports", Some(("", "services"))),
            ("secrets", Some(("", "secrets"))),
            ("nonsense", None),
        ] {
            assert_eq!(Kind::counted_by(name), kind.map(|(g, p)| Kind::new(g, p)), "{name}");
        }
    }

    #[test]
    fn pods_use_what_their_containers_ask_for() {
        let container =
            |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"memory": "1Gi", "x.io/gpu": "2"}}});
        let mut pod = json!({"spec": {"containers": [container("100m"), container("200m")], "overhead": {"cpu": "10m"}},
                             "status": {"phase": "Running"}});
        assert_eq!(of("pods", pod.clone()), "count/pods=1,cpu=310m,limits.memory=2Gi,pods=1,requests.cpu=310m");
        pod["spec"]["initContainers"] = json!([container("1")]);
        assert!(of("pods", pod.clone()).contains("requests.cpu=1010m"));
        pod["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
        assert!(of("pods", pod.clone()).contains("requests.cpu=1310m"));
        pod["status"]["phase"] = "Failed".into();
        assert_eq!(of("pods", pod), "count/pods=1");
    }

    #[test]
    fn services_and_claims() {
        let ports = json!([{"port": 1}, {"port": 2}]);
        assert_eq!(
            of("services", json!({"spec": {"type": "NodePort", "ports": ports}})),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2"
        );
        assert!(
            of("services", json!({"spec": {"type": "LoadBalancer", "ports": ports}}))
                .contains("services.loadbalancers=1,services.nodeports=2")
        );
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(
            of("persistentvolumeclaims", claim),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=2Gi,persistentvolumeclaims=1,requests.storage=2Gi"
        );
        assert_eq!(text(&count_only(&Kind::new("", "secrets"), 3)), "count/secrets=3,secrets=3");
    }

    #[test]
    fn an_update_is_charged_what_it_adds() {
        let usage = |cpu: &str| amounts(Some(&json!({"cpu": cpu, "pods": "1"})));
        assert_eq!(text(&increase(usage("300m"), &usage("100m"))), "cpu=200m");
        assert!(increase(usage("100m"), &usage("300m")).is_empty());
    }

    #[test]
    fn containers_must_say_what_is_limited() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}]}});
        let required = ["limits.cpu".to_owned(), "requests.memory".to_owned(), "pods".to_owned()];
        assert_eq!(
            constraints(&required, &pod),
            Err("must specify limits.cpu for: a; requests.memory for: a,b".to_owned())
        );
        assert_eq!(constraints(&required[2..], &pod), Ok(()));
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = Kind::new("", "pods");
        let best_effort = json!({"spec": {"containers": [{"name": "a"}], "priorityClassName": "high"}});
        let in_scope = |spec: Value| matches_scopes(&json!({"spec": spec}), &pods, &best_effort);
        assert!(in_scope(json!({"scopes": ["BestEffort", "NotTerminating"]})));
        assert!(!in_scope(json!({"scopes": ["Terminating"]})) && !in_scope(json!({"scopes": ["NotBestEffort"]})));
        let class = |operator: &str, values: Value| {
            in_scope(json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": values}]}}))
        };
        assert!(class("In", json!(["high"])) && class("Exists", json!([])) && class("NotIn", json!(["low"])));
        assert!(!class("In", json!(["low"])) && !class("DoesNotExist", json!([])));
        assert!(!matches_scopes(&json!({"spec": {"scopes": ["BestEffort"]}}), &Kind::new("", "services"), &json!({})));
        assert!(matches_scopes(&json!({"spec": {}}), &Kind::new("", "services"), &json!({})));
    }
}
