//! Pods: what they ask for, and from when on they no longer count.

use std::collections::{BTreeMap, BTreeSet};

use notation::quantity::{self, Quantity};
use serde_json::Value;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Usage, one};

/// `requests` or `limits`, by resource name.
pub type Requests = BTreeMap<String, Quantity>;

const COMPUTE: &[&str] = &[
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// What a quota on it makes every container say.
const MUST_BE_SAID: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

pub(crate) fn is_counted_by(name: &str) -> bool {
    COMPUTE.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || name.strip_prefix("requests.").is_some_and(|rest| rest.contains('/'))
}

fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    object.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn amounts(object: &Value, path: &str) -> Requests {
    crate::amounts(object.pointer(path))
}

fn add_to(total: &mut Requests, more: &Requests) {
    crate::add(total, more);
}

fn raise_to(total: &mut Requests, other: &Requests) {
    for (name, amount) in other {
        let most = total.get(name).map_or(*amount, |mine| (*mine).max(*amount));
        total.insert(name.clone(), most);
    }
}

/// The requests of a whole pod: containers and sidecars together, init containers one after the other, what the pod itself
/// says instead, and overhead (KEP-753, KEP-2837).
pub fn requests(pod: &Value) -> Requests {
    sum(pod, "requests")
}

pub fn limits(pod: &Value) -> Requests {
    sum(pod, "limits")
}

fn sum(pod: &Value, what: &str) -> Requests {
    let path = format!("/resources/{what}");
    let mut total = Requests::new();
    for container in list(pod, "/spec/containers") {
        add_to(&mut total, &amounts(container, &path));
    }
    let (mut sidecars, mut peak) = (Requests::new(), Requests::new());
    for container in list(pod, "/spec/initContainers") {
        let mut step = amounts(container, &path);
        if text(container, "/restartPolicy") == "Always" {
            add_to(&mut sidecars, &step);
            add_to(&mut total, &step);
            step = sidecars.clone();
        } else {
            add_to(&mut step, &sidecars);
        }
        raise_to(&mut peak, &step);
    }
    raise_to(&mut total, &peak);
    total.extend(amounts(pod, &format!("/spec/resources/{what}")));
    let overhead = amounts(pod, "/spec/overhead");
    for (name, amount) in &overhead {
        // a limit that is not there stays away
        if what == "requests" || total.contains_key(name) {
            add_to(&mut total, &Requests::from([(name.clone(), *amount)]));
        }
    }
    total
}

/// Finished pods, and those that should be gone by now, cost nothing.
fn is_alive(pod: &Value, now: OffsetDateTime) -> bool {
    if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        return false;
    }
    let deleted = OffsetDateTime::parse(text(pod, "/metadata/deletionTimestamp"), &Rfc3339).ok();
    let grace = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    match (deleted, grace) {
        (Some(at), Some(grace)) => now <= at + Duration::seconds(grace),
        _ => true,
    }
}

pub(crate) fn add(usage: &mut Usage, pod: &Value, now: OffsetDateTime) {
    if !is_alive(pod, now) {
        return;
    }
    usage.insert("pods".into(), one());
    usage.extend(compute(&requests(pod), &limits(pod)));
}

/// The names under which a quota knows requests and limits.
fn compute(requests: &Requests, limits: &Requests) -> Usage {
    let mut usage = Usage::new();
    for (name, amount) in requests {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                usage.insert(name.clone(), *amount);
                usage.insert(format!("requests.{name}"), *amount);
            }
            name if name.starts_with("hugepages-") => {
                usage.insert(name.to_owned(), *amount);
                usage.insert(format!("requests.{name}"), *amount);
            }
            name if name.contains('/') && !name.contains("kubernetes.io/") => {
                usage.insert(format!("requests.{name}"), *amount);
            }
            _ => {}
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    usage
}

/// Where cpu or memory are limited, every container has to say how much it takes; `Err` says which does not.
pub fn constraints(required: &[String], pod: &Value) -> Result<(), String> {
    let required: BTreeSet<&str> = required.iter().map(String::as_str).filter(|r| MUST_BE_SAID.contains(r)).collect();
    let of_pod = compute(&amounts(pod, "/spec/resources/requests"), &amounts(pod, "/spec/resources/limits"));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers")) {
        let said = compute(&amounts(container, "/resources/requests"), &amounts(container, "/resources/limits"));
        for name in required.iter().filter(|name| !said.contains_key(**name) && !of_pod.contains_key(**name)) {
            missing.entry(name).or_default().insert(text(container, "/name"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    Err(format!("must specify {}", list.join("; ")))
}

/// Nothing asked for and nothing limited.
pub(crate) fn is_best_effort(pod: &Value) -> bool {
    let says = |owner: &Value| {
        ["/resources/requests", "/resources/limits"].iter().any(|path| {
            let amounts = owner.pointer(path).and_then(Value::as_object);
            let asked = |name: &str| amounts.and_then(|a| a.get(name)).and_then(|q| quantity::from_json(q).ok());
            ["cpu", "memory"].iter().any(|name| asked(name).is_some_and(|q| !q.is_zero()))
        })
    };
    let mut all = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    !all.any(says) && !pod.get("spec").is_some_and(says)
}
