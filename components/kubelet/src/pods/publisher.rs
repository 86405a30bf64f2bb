//! Sends a pod's status to the API: the newest only, at once, again until it arrives.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::api::is_status;

pub struct Publisher {
    wanted: watch::Sender<Wanted>,
    sent: watch::Receiver<Option<PodStatus>>,
    /// The version of the pod that was compared last.
    compared: Mutex<Option<String>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Wanted {
    status: PodStatus,
    /// How often somebody else has written over a condition.
    overwritten: u64,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Publisher {
    /// `initial` is what the API has.
    pub fn start(client: kube::Client, namespace: &str, name: &str, uid: &str, initial: PodStatus) -> Publisher {
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let (wanted, receiver) = watch::channel(Wanted { status: initial.clone(), overwritten: 0 });
        let (sent_to, sent) = watch::channel(Some(initial));
        let task = tokio::spawn(publish(api, name.to_string(), uid.to_string(), receiver, sent_to));
        Publisher { wanted, sent, compared: Mutex::new(None), task }
    }

    pub fn set(&self, status: PodStatus) {
        self.wanted.send_if_modified(|old| {
            let changed = old.status != status;
            if changed {
                old.status = status;
            }
            changed
        });
    }

    /// Says again what the API has otherwise: a node that was taken for dead finds its pods marked as not ready. A version
    /// is compared once, and what is there already changes nothing, so that this comes to rest.
    pub fn reconcile(&self, pod: &Pod) {
        let version = pod.resource_version();
        if std::mem::replace(&mut *self.compared.lock(), version.clone()) == version {
            return;
        }
        self.wanted.send_if_modified(|wanted| {
            let differs = pod.status.as_ref().is_some_and(|there| overwritten(&wanted.status, there));
            wanted.overwritten += u64::from(differs);
            differs
        });
    }

    /// Completes when the API has the newest status, or the pod is gone from it.
    pub async fn flushed(&self) {
        let wanted = self.wanted.borrow().status.clone();
        let mut sent = self.sent.clone();
        sent.wait_for(|sent| sent.as_ref().is_none_or(|sent| *sent == wanted)).await.ok();
    }
}

async fn publish(
    api: Api<Pod>,
    name: String,
    uid: String,
    mut wanted: watch::Receiver<Wanted>,
    sent: watch::Sender<Option<PodStatus>>,
) {
    let mut known = sent.borrow().clone().unwrap_or_default();
    let mut repeated = 0;
    while wanted.changed().await.is_ok() {
        let mut delay = Duration::from_millis(100);
        loop {
            let Wanted { status, overwritten } = wanted.borrow_and_update().clone();
            if overwritten != repeated {
                known.conditions = None;
            }
            let body = json!({"metadata": {"uid": uid}, "status": difference(&known, &status)});
            match api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(body)).await {
                Ok(_) => {
                    known = status.clone();
                    repeated = overwritten;
                    sent.send_replace(Some(status));
                    break;
                }
                Err(error) if is_status(&error, 404) || is_status(&error, 409) => {
                    // gone, or replaced by a pod of the same name
                    sent.send_replace(None);
                    break;
                }
                Err(error) => tracing::warn!("status of pod {name} not reported, trying again: {error}"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(5));
        }
    }
}

/// Whether a condition that this kubelet reports says something else there.
fn overwritten(ours: &PodStatus, there: &PodStatus) -> bool {
    let there = there.conditions.as_deref().unwrap_or_default();
    ours.conditions.iter().flatten().any(|own| {
        there.iter().any(|other| other.type_ == own.type_ && (other.status != own.status || other.reason != own.reason))
    })
}

/// The strategic merge patch from one status to the other; conditions of others stay as they are.
pub fn difference(old: &PodStatus, new: &PodStatus) -> Value {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (old, new) = (object(old), object(new));
    let mut patch = Map::new();
    for key in ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "ephemeralContainerStatuses"] {
        if old.contains_key(key) && !new.contains_key(key) {
            patch.insert(key.into(), Value::Null);
        }
    }
    for (key, value) in new {
        let before = old.get(&key);
        if before == Some(&value) {
            continue;
        }
        match key.as_str() {
            "conditions" => {
                let known: Vec<&Value> = before.and_then(Value::as_array).into_iter().flatten().collect();
                let changed = value.as_array().into_iter().flatten().filter(|c| !known.contains(c));
                patch.insert(key, changed.map(whole).collect());
            }
            // these lists merge by address: an old address would stay
            "podIPs" | "hostIPs" if before.is_some() => {
                let mut list = value.as_array().cloned().unwrap_or_default();
                list.push(json!({"$patch": "replace"}));
                patch.insert(key, Value::Array(list));
            }
            _ => {
                patch.insert(key, value);
            }
        }
    }
    Value::Object(patch)
}

/// Conditions are merged by type: a reason and a message of before would stay.
fn whole(condition: &Value) -> Value {
    let mut condition = condition.clone();
    for field in ["reason", "message"] {
        if condition.get(field).is_none() {
            condition[field] = Value::Null;
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_differences_are_sent() {
        let old = status(json!({"phase": "Running", "podIPs": [{"ip": "1"}], "reason": "x",
            "conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "2"}],
            "conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}]}));
        assert_eq!(
            difference(&old, &new),
            json!({"reason": null, "podIPs": [{"ip": "2"}, {"$patch": "replace"}],
                "conditions": [{"type": "B", "status": "False", "reason": null, "message": null}]})
        );
    }

    #[test]
    fn what_others_write_over_is_seen() {
        let ours = status(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let there = |ready: Value| status(json!({"conditions": [{"type": "Gate", "status": "False"}, ready]}));
        assert!(!overwritten(&ours, &there(json!({"type": "Ready", "status": "True"}))));
        assert!(overwritten(&ours, &there(json!({"type": "Ready", "status": "False"}))));
        assert!(overwritten(&ours, &there(json!({"type": "Ready", "status": "True", "reason": "NodeNotReady"}))));
        assert!(!overwritten(&ours, &status(json!({}))), "what was never there is on its way");
    }
}
