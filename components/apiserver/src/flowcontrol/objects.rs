//! FlowSchemas and PriorityLevelConfigurations as the dispatcher uses them.

use std::collections::BTreeMap;

use http::HeaderValue;
use machinery::{
    request_info::RequestInfo,
    value::{bool_at, get, int_at, list_at, str_at},
};
use serde::Deserialize;
use serde_json::Value;

use crate::identity::Identity;

const DEFAULTS: &str = include_str!("../bootstrap/flowcontrol.yaml");
/// These two exist whatever anybody deletes.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];
/// More cards in a hand would not fit a 64-bit hash.
pub const HAND_MAX: usize = 16;

type Objects = BTreeMap<String, Value>;

/// All objects of both kinds, by name.
#[derive(Clone, Default)]
pub struct Sources {
    pub schemas: Objects,
    pub levels: Objects,
}

impl Sources {
    /// What upstream begins with.
    pub fn defaults() -> Self {
        let mut sources = Sources::default();
        for document in serde_yaml::Deserializer::from_str(DEFAULTS) {
            let Ok(object) = Value::deserialize(document) else { continue };
            let name = str_at(&object, "metadata.name").to_owned();
            match str_at(&object, "kind") {
                "FlowSchema" => sources.schemas.insert(name, object),
                _ => sources.levels.insert(name, object),
            };
        }
        sources
    }

    /// What holds: the cluster's objects with the mandatory ones, or the defaults while there are none.
    pub fn effective(&self) -> Sources {
        let defaults = Sources::defaults();
        let complete = |own: &Objects, default: &Objects| {
            if own.is_empty() {
                return default.clone();
            }
            let mut all = own.clone();
            for name in MANDATORY {
                if let Some(object) = default.get(name) {
                    all.entry(name.to_owned()).or_insert_with(|| object.clone());
                }
            }
            all
        };
        Sources {
            schemas: complete(&self.schemas, &defaults.schemas),
            levels: complete(&self.levels, &defaults.levels),
        }
    }
}

/// How much of the server a priority level may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub name: String,
    pub uid: String,
    pub exempt: bool,
    /// Its share of all seats.
    pub nominal: u32,
    /// What others can never take of it.
    pub min: u32,
    /// Where its borrowing ends.
    pub max: u32,
    /// Too many requests are refused, not queued.
    pub reject: bool,
    pub queues: usize,
    pub hand: usize,
    pub queue_length: usize,
}

/// Shares become seats; upstream: `NominalCL(i) = ceil(ServerCL * NCS(i) / sum_ncs)`.
pub fn levels(objects: &Objects, seats: u32) -> Vec<Level> {
    let part = |object: &Value| {
        let exempt = str_at(object, "spec.type") == "Exempt";
        get(object, if exempt { "spec.exempt" } else { "spec.limited" }).cloned().unwrap_or_default()
    };
    let shares = |part: &Value, exempt: bool| {
        let default = if exempt { 0 } else { 30 };
        u64::try_from(int_at(part, "nominalConcurrencyShares").unwrap_or(default)).unwrap_or(0)
    };
    let is_exempt = |object: &Value| str_at(object, "spec.type") == "Exempt";
    let sum: u64 = objects.values().map(|o| shares(&part(o), is_exempt(o))).sum::<u64>().max(1);
    let percent = |of: u32, percent: i64| u32::try_from((i64::from(of) * percent + 50) / 100).unwrap_or(0);
    let count = |value: &Value, path: &str, default: i64| {
        usize::try_from(int_at(value, path).filter(|n| *n > 0).unwrap_or(default)).unwrap_or(1)
    };
    objects
        .iter()
        .map(|(name, object)| {
            let (exempt, part) = (is_exempt(object), part(object));
            let nominal = u32::try_from((u64::from(seats) * shares(&part, exempt)).div_ceil(sum)).unwrap_or(seats);
            let lendable = percent(nominal, int_at(&part, "lendablePercent").unwrap_or(0).clamp(0, 100));
            let queuing = get(&part, "limitResponse.queuing").cloned().unwrap_or_default();
            let queues = count(&queuing, "queues", 64);
            Level {
                name: name.clone(),
                uid: str_at(object, "metadata.uid").to_owned(),
                exempt,
                nominal,
                min: nominal - lendable.min(nominal),
                max: match int_at(&part, "borrowingLimitPercent") {
                    Some(limit) => nominal.saturating_add(percent(nominal, limit.max(0))).min(seats),
                    None => seats,
                },
                reject: str_at(&part, "limitResponse.type") == "Reject",
                queues,
                hand: count(&queuing, "handSize", 8).min(queues).min(HAND_MAX),
                queue_length: count(&queuing, "queueLengthLimit", 50),
            }
        })
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    None,
    User,
    Namespace,
}

/// Sends requests that fit to a priority level.
pub struct Schema {
    pub name: String,
    pub level: String,
    pub uid: Option<HeaderValue>,
    pub distinguisher: Distinguisher,
    precedence: i64,
    rules: Vec<Rule>,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<(Vec<String>, Vec<String>)>,
}

enum Subject {
    User(String),
    Group(String),
    /// Namespace and name; a name `*` is every account.
    Account(String, String),
}

struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

/// In the order they are asked: by precedence, then by name.
pub fn schemas(objects: &Objects) -> Vec<Schema> {
    let mut schemas: Vec<Schema> = objects.iter().map(|(name, object)| Schema::from_value(name, object)).collect();
    schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
    schemas
}

fn texts(value: &Value, path: &str) -> Vec<String> {
    list_at(value, path).iter().filter_map(Value::as_str).map(Into::into).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|x| x == "*" || x == wanted)
}

impl Schema {
    fn from_value(name: &str, object: &Value) -> Self {
        Schema {
            name: name.to_owned(),
            level: str_at(object, "spec.priorityLevelConfiguration.name").to_owned(),
            uid: HeaderValue::from_str(str_at(object, "metadata.uid")).ok(),
            distinguisher: match str_at(object, "spec.distinguisherMethod.type") {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            precedence: int_at(object, "spec.matchingPrecedence").filter(|p| *p > 0).unwrap_or(1000),
            rules: list_at(object, "spec.rules").iter().map(Rule::from_value).collect(),
        }
    }

    pub fn fits(&self, who: &Identity, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.subjects.iter().any(|s| s.is(who)) && rule.fits(info))
    }
}

impl Rule {
    fn from_value(value: &Value) -> Self {
        Rule {
            subjects: list_at(value, "subjects").iter().filter_map(Subject::from_value).collect(),
            resources: list_at(value, "resourceRules")
                .iter()
                .map(|rule| ResourceRule {
                    verbs: texts(rule, "verbs"),
                    groups: texts(rule, "apiGroups"),
                    resources: texts(rule, "resources"),
                    namespaces: texts(rule, "namespaces"),
                    cluster_scope: bool_at(rule, "clusterScope"),
                })
                .collect(),
            paths: list_at(value, "nonResourceRules")
                .iter()
                .map(|rule| (texts(rule, "verbs"), texts(rule, "nonResourceURLs")))
                .collect(),
        }
    }

    fn fits(&self, info: &RequestInfo) -> bool {
        if info.is_resource {
            return self.resources.iter().any(|rule| rule.fits(info));
        }
        self.paths
            .iter()
            .any(|(verbs, urls)| has(verbs, info.verb) && urls.iter().any(|url| fits_path(url, &info.path)))
    }
}

/// `*`, `/healthz`, or all below with `/healthz/*`.
fn fits_path(url: &str, path: &str) -> bool {
    url == "*"
        || url == path
        || url.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('/') && path.starts_with(prefix))
}

impl Subject {
    fn from_value(value: &Value) -> Option<Self> {
        match str_at(value, "kind") {
            "User" => Some(Subject::User(str_at(value, "user.name").into())),
            "Group" => Some(Subject::Group(str_at(value, "group.name").into())),
            "ServiceAccount" => Some(Subject::Account(
                str_at(value, "serviceAccount.namespace").into(),
                str_at(value, "serviceAccount.name").into(),
            )),
            _ => None,
        }
    }

    fn is(&self, who: &Identity) -> bool {
        match self {
            Subject::User(name) => name == "*" || *name == who.user,
            Subject::Group(name) => name == "*" || who.in_group(name),
            Subject::Account(namespace, name) => {
                let account = who.user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
                account.is_some_and(|(ns, n)| ns == namespace && (name == "*" || n == name))
            }
        }
    }
}

impl ResourceRule {
    fn fits(&self, info: &RequestInfo) -> bool {
        let scope = match info.namespace.as_str() {
            "" => self.cluster_scope,
            namespace => has(&self.namespaces, namespace),
        };
        scope && has(&self.verbs, info.verb) && has(&self.groups, &info.group) && self.fits_name(info)
    }

    fn fits_name(&self, info: &RequestInfo) -> bool {
        self.resources.iter().any(|rule| match rule.split_once('/') {
            _ if rule == "*" => true,
            None => info.subresource.is_empty() && *rule == info.resource,
            Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Method;
    use serde_json::json;

    fn schema_of(user: &str, groups: &[&str], method: Method, path: &str) -> String {
        let sources = Sources::default().effective();
        let info = RequestInfo::parse(&method, path, "");
        let who = Identity::new(user, groups.iter().copied());
        schemas(&sources.schemas).into_iter().find(|s| s.fits(&who, &info)).unwrap().name
    }

    #[test]
    fn the_defaults_sort_requests_as_upstream() {
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
        for (user, groups, method, path, wanted) in [
            ("admin", &["system:masters"][..], Method::GET, "/api/v1/pods", "exempt"),
            ("joe", &[], Method::GET, "/readyz", "probes"),
            ("system:node:n1", &["system:nodes"], Method::PUT, lease, "system-node-high"),
            ("system:node:n1", &["system:nodes"], Method::PATCH, "/api/v1/nodes/n1/status", "system-node-high"),
            ("system:node:n1", &["system:nodes"], Method::GET, "/api/v1/pods", "system-nodes"),
            ("system:kube-scheduler", &[], Method::PUT, lease, "system-leader-election"),
            ("system:kube-scheduler", &[], Method::GET, "/api/v1/pods", "kube-scheduler"),
            (
                "system:serviceaccount:kube-system:x",
                &["system:serviceaccounts"],
                Method::GET,
                "/api/v1/pods",
                "kube-system-service-accounts",
            ),
            ("system:serviceaccount:a:x", &["system:serviceaccounts"], Method::GET, "/api/v1/pods", "service-accounts"),
            ("joe", &[], Method::GET, "/api/v1/pods", "global-default"),
        ] {
            assert_eq!(schema_of(user, groups, method, path), wanted, "{user} {path}");
        }
    }

    #[test]
    fn shares_become_seats() {
        let levels = levels(&Sources::default().effective().levels, 600);
        let level = |name: &str| levels.iter().find(|l| l.name == name).unwrap();
        assert!(level("exempt").exempt && level("exempt").nominal == 0);
        assert_eq!((level("node-high").nominal, level("node-high").min, level("node-high").max), (98, 73, 600));
        assert_eq!((level("catch-all").nominal, level("catch-all").reject), (13, true));
        assert_eq!(level("workload-low").min, 24);
    }

    #[test]
    fn own_objects_replace_the_defaults_but_for_the_mandatory_ones() {
        let mut sources = Sources::default();
        sources.levels.insert("own".into(), json!({"metadata": {"name": "own"}, "spec": {"type": "Limited"}}));
        let names: Vec<String> = sources.effective().levels.into_keys().collect();
        assert_eq!(names, ["catch-all", "exempt", "own"]);
    }
}
