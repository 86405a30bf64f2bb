//! Whether a node can start a pod, proven by one: nothing else asks the container runtime, what it calls and the pod network at
//! once, and containers that run on hide all of it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher::Config;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::api::apply::Applier;
use crate::api::wait;

const NAMESPACE: &str = "kube-system";
/// On pods of ours, so that those of a run that was killed are found.
const MARK: &str = "kinstall.dev/proof-for";
const PURPOSE: &str = "upgrade";
/// What it runs is on the node already.
const LIMIT: Duration = Duration::from_secs(60);
/// So often in a row a kubelet is refused by its runtime within some eight seconds; after that it only waits longer.
const REFUSALS: i32 = 5;

/// What came of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Started,
    /// The kubelet would not have it, and has not asked the runtime: the node is full, or has pressure. Says nothing of the version.
    NotTaken(String),
}

/// Starts a pod of `image` on the node and takes it away again.
///
/// # Errors
/// Why it did not start.
pub async fn start(client: &Client, node: &str, image: &str, timeout: Duration) -> anyhow::Result<Proof> {
    let name = name(node);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    // one that a killed run has left proves nothing
    remove(&pods, &name).await.with_context(|| format!("cannot remove the pod {NAMESPACE}/{name} of a run before"))?;
    let result = match create(client, &pods, node, image).await {
        Ok(uid) => watch(client, &name, &uid, timeout.min(LIMIT)).await,
        Err(error) => Err(error.context("no pod can be brought to it")),
    };
    if let Err(error) = remove(&pods, &name).await {
        // it has ended, or its node does; the next run removes it
        tracing::warn!("the pod {NAMESPACE}/{name} stays: {error}");
    }
    result
}

/// Removes those that killed runs have left.
pub async fn remove_all(client: &Client) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(&format!("{MARK}={PURPOSE}"));
    for pod in pods.list(&ours).await? {
        remove(&pods, &pod.name_any()).await?;
    }
    Ok(())
}

/// Gives its uid: what is told of others of its name, that runs before have had, is not of it.
async fn create(client: &Client, pods: &Api<Pod>, node: &str, image: &str) -> anyhow::Result<String> {
    Applier::new(client.clone()).apply(&[pod(node, image)]).await?;
    let created = pods.get(&name(node)).await?;
    match created.uid() {
        Some(uid) if created.metadata.deletion_timestamp.is_none() => Ok(uid),
        _ => bail!("one of a run before is still there"),
    }
}

/// At once, whatever its kubelet says.
async fn remove(pods: &Api<Pod>, name: &str) -> kube::Result<()> {
    match pods.delete(name, &DeleteParams::default().grace_period(0)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

fn name(node: &str) -> String {
    format!("kinstall-upgrade-{node}")
}

/// With a network of its own, so that the pod network is part of it. It is given to the node past the scheduler: the node may be
/// cordoned.
fn pod(node: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name(node), "namespace": NAMESPACE, "labels": {MARK: PURPOSE}},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "Never",
                // nothing to check: it ends at once, and well
                "command": ["/kinstall-components", "probe", "run"],
            }],
        },
    })
}

async fn watch(client: &Client, name: &str, uid: &str, timeout: Duration) -> anyhow::Result<Proof> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let of_pod = Config::default().fields(&format!("involvedObject.kind=Pod,involvedObject.name={name}"));
    let mut verdict = None;
    let mut refusal = None;
    let judged = wait::until(pods, Config::default().fields(&format!("metadata.name={name}")), timeout, |found| {
        verdict = found.values().find(|pod| pod.metadata.uid.as_deref() == Some(uid)).and_then(judge);
        verdict.is_some()
    });
    let refused = wait::until(events, of_pod, timeout, |found| {
        let warnings: Vec<_> = found.values().filter(|event| warns_of(event, uid)).collect();
        let last = warnings.iter().max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        refusal = last.map(|event| event.message.clone().unwrap_or_default());
        warnings.iter().map(|event| event.count.unwrap_or(1)).sum::<i32>() >= REFUSALS
    });
    let tries = tokio::select! {
        _ = judged => None,
        Ok(_) = refused => Some(format!("{REFUSALS} times")),
    };
    match (verdict, refusal) {
        (Some(verdict), _) => verdict.map_err(anyhow::Error::msg),
        (None, Some(why)) => {
            let tries = tries.unwrap_or_else(|| format!("for {} s", timeout.as_secs()));
            bail!("it cannot start a pod, tried {tries}: {why}")
        }
        (None, None) => bail!("a pod did not start on it within {} s", timeout.as_secs()),
    }
}

/// Events outlive their pods, and the next pod on this node has the same name.
fn warns_of(event: &Event, uid: &str) -> bool {
    event.type_.as_deref() == Some("Warning") && event.involved_object.uid.as_deref() == Some(uid)
}

/// None: not yet.
fn judge(pod: &Pod) -> Option<Result<Proof, String>> {
    let status = pod.status.as_ref()?;
    let state = status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref());
    let said = |reason: &Option<String>, message: &Option<String>| {
        let said: Vec<_> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        if said.is_empty() { "without a word".to_owned() } else { said.join(": ") }
    };
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return Some(match ended.exit_code {
            0 => Ok(Proof::Started),
            code => Err(format!("a pod on it ended with exit code {code}: {}", said(&ended.reason, &ended.message))),
        });
    }
    match status.phase.as_deref() {
        Some("Succeeded") => Some(Ok(Proof::Started)),
        Some("Failed") => Some(Ok(Proof::NotTaken(said(&status.reason, &status.message)))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_container_that_ran_proves_it_and_a_pod_that_was_not_taken_says_nothing() {
        let ended = |code: i32, reason: &str| {
            json!({"phase": "Running", "containerStatuses": [{"name": "probe", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "reason": reason}}}]})
        };
        let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "probe", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        for (status, expected) in [
            (json!({"phase": "Pending"}), None),
            (waiting, None),
            (ended(0, "Completed"), Some(Ok(Proof::Started))),
            (json!({"phase": "Succeeded"}), Some(Ok(Proof::Started))),
            (ended(128, "StartError"), Some(Err("a pod on it ended with exit code 128: StartError".to_owned()))),
            (
                json!({"phase": "Failed", "reason": "OutOfpods", "message": "the node is full"}),
                Some(Ok(Proof::NotTaken("OutOfpods: the node is full".into()))),
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"status": status})).unwrap();
            assert_eq!(judge(&pod), expected, "{pod:?}");
        }
    }

    #[test]
    fn what_was_told_of_a_pod_before_it_is_not_held_against_it() {
        let event = |type_: &str, uid: &str| -> Event {
            let of = json!({"kind": "Pod", "name": "kinstall-upgrade-h1", "uid": uid});
            serde_json::from_value(json!({"metadata": {}, "type": type_, "involvedObject": of})).unwrap()
        };
        assert!(warns_of(&event("Warning", "2"), "2"));
        assert!(!warns_of(&event("Warning", "1"), "2") && !warns_of(&event("Normal", "2"), "2"));
    }

    #[test]
    fn its_pod_belongs_to_the_node_and_pulls_nothing() {
        let pod: Pod = serde_json::from_value(pod("h1", "kinstall.local/components:1")).unwrap();
        assert_eq!(pod.name_any(), "kinstall-upgrade-h1");
        assert_eq!(pod.labels().get(MARK).map(String::as_str), Some(PURPOSE));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("h1"));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Never"));
        assert!(
            spec.tolerations.unwrap().iter().any(|all| all.operator.as_deref() == Some("Exists") && all.key.is_none())
        );
    }
}
