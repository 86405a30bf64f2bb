//! Waiting for objects by watch, never by asking again.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// Follows a list until `done` holds for all of it. `Err` is what was there when the time was up.
pub async fn until<K>(
    api: Api<K>,
    config: Config,
    timeout: Duration,
    mut done: impl FnMut(&BTreeMap<String, K>) -> bool,
) -> Result<BTreeMap<String, K>, BTreeMap<String, K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    follow(api, config, timeout, key::<K>, &mut done).await
}

async fn follow<K>(
    api: Api<K>,
    config: Config,
    timeout: Duration,
    key: impl Fn(&K) -> String,
    done: &mut impl FnMut(&BTreeMap<String, K>) -> bool,
) -> Result<BTreeMap<String, K>, BTreeMap<String, K>>
where
    K: Clone + Debug + DeserializeOwned + Send + 'static,
    K: Resource,
{
    let mut seen: BTreeMap<String, K> = BTreeMap::new();
    let mut listing: BTreeMap<String, K> = BTreeMap::new();
    let mut synced = false;
    let follow = async {
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    listing.clear();
                    synced = false;
                }
                Ok(Event::InitApply(object)) => drop(listing.insert(key(&object), object)),
                Ok(Event::InitDone) => {
                    seen = std::mem::take(&mut listing);
                    synced = true;
                }
                Ok(Event::Apply(object)) => drop(seen.insert(key(&object), object)),
                Ok(Event::Delete(object)) => drop(seen.remove(&key(&object))),
                // the stream goes on by itself, with back-off
                Err(error) => tracing::debug!("watch: {error}"),
            }
            if synced && done(&seen) {
                return true;
            }
        }
        false
    };
    let finished = tokio::time::timeout(timeout, follow).await.unwrap_or(false);
    if finished { Ok(seen) } else { Err(seen) }
}

fn key<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

/// What a node's kubelet says, and since when.
pub fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node_condition(node, "Ready")
}

pub fn node_condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// A node's Ready condition is True.
pub fn node_ready(node: &Node) -> bool {
    ready_condition(node).is_some_and(|condition| condition.status == "True")
}

/// The cluster has given up waiting for a word of the node's kubelet, or never had one. A kubelet that says itself that its node is
/// not Ready is there, and ends pods.
pub fn node_silent(node: &Node) -> bool {
    ready_condition(node).is_none_or(|condition| condition.status == "Unknown")
}

/// A pod's Ready condition is True and it is not on its way out.
pub fn pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .is_some_and(|list| list.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

/// Whether a Deployment, DaemonSet or StatefulSet has every replica available in its newest form.
pub fn workload_available(kind: &str, object: &DynamicObject) -> bool {
    let number = |pointer: &str| object.data.pointer(pointer).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let seen = number("/status/observedGeneration") >= object.metadata.generation.unwrap_or(0);
    let replicas = object.data.pointer("/spec/replicas").and_then(serde_json::Value::as_i64).unwrap_or(1);
    seen && match kind {
        "DaemonSet" => {
            let wanted = number("/status/desiredNumberScheduled");
            wanted > 0
                && number("/status/numberAvailable") >= wanted
                && number("/status/updatedNumberScheduled") >= wanted
        }
        "StatefulSet" => number("/status/readyReplicas") >= replicas && number("/status/updatedReplicas") >= replicas,
        _ => number("/status/availableReplicas") >= replicas && number("/status/updatedReplicas") >= replicas,
    }
}

/// [`until`] for objects whose kind is known at run time only; false when the time was up.
pub async fn until_dynamic(
    api: Api<DynamicObject>,
    config: Config,
    timeout: Duration,
    mut done: impl FnMut(&BTreeMap<String, DynamicObject>) -> bool,
) -> bool {
    follow(api, config, timeout, |object: &DynamicObject| object.name_any(), &mut done).await.is_ok()
}
