//! Everything the scheduler writes. Each method starts a task: decisions never wait for the API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{
    Binding, Event, EventSource, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Status, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::Config;
use crate::cluster::{PodInfo, Uid};
use crate::volumes::{ClaimDecision, SELECTED_NODE, is_bound};

/// How many writes are under way at once; bindings that wait for volumes do not count.
const CONCURRENT_WRITES: usize = 64;

/// A binding came to its end.
pub struct Bound {
    pub pod: Arc<PodInfo>,
    pub node: String,
    pub decisions: Vec<ClaimDecision>,
    pub result: anyhow::Result<()>,
}

#[derive(Clone)]
pub struct Writer {
    client: Client,
    config: Arc<Config>,
    permits: Arc<Semaphore>,
    bound: mpsc::UnboundedSender<Bound>,
}

impl Writer {
    pub fn new(client: Client, config: Config) -> (Self, mpsc::UnboundedReceiver<Bound>) {
        let (bound, results) = mpsc::unbounded_channel();
        (
            Self { client, config: Arc::new(config), permits: Arc::new(Semaphore::new(CONCURRENT_WRITES)), bound },
            results,
        )
    }

    /// Settles the pod's claims, then binds it. The result comes through the channel; aborting the handle gives up silently.
    pub fn bind(&self, pod: Arc<PodInfo>, node: String, decisions: Vec<ClaimDecision>) -> tokio::task::AbortHandle {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let result = this.settle_and_bind(&pod, &node, &decisions).await;
            // The receiver only goes away with the whole scheduler.
            let _ = this.bound.send(Bound { pod, node, decisions, result });
        });
        task.abort_handle()
    }

    async fn settle_and_bind(&self, pod: &PodInfo, node: &str, decisions: &[ClaimDecision]) -> anyhow::Result<()> {
        for decision in decisions {
            self.announce(decision, node).await?;
        }
        let limit = Duration::from_secs(self.config.bind_timeout_seconds);
        for decision in decisions {
            let claim = decision.claim().name_any();
            let bound = tokio::time::timeout(limit, self.until_bound(decision, node)).await;
            bound.with_context(|| format!("timed out waiting for claim {claim} to be bound"))??;
        }
        let _permit = self.permits.acquire().await?;
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.into()),
                ..Default::default()
            },
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let _: Status = pods
            .create_subresource("binding", &pod.name, &PostParams::default(), &binding)
            .await
            .context("binding rejected")?;
        Ok(())
    }

    /// Tells the volume controller (an existing volume) or the provisioner (a new one) what was decided.
    async fn announce(&self, decision: &ClaimDecision, node: &str) -> anyhow::Result<()> {
        let _permit = self.permits.acquire().await?;
        match decision {
            ClaimDecision::Bind { claim, volume } => {
                let patch = json!({
                    "metadata": {
                        "resourceVersion": volume.resource_version(),
                        "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
                    },
                    "spec": {"claimRef": {
                        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name_any(), "namespace": claim.namespace(),
                        "uid": claim.uid(), "resourceVersion": claim.resource_version(),
                    }},
                });
                let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
                let name = volume.name_any();
                volumes
                    .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .with_context(|| format!("claiming volume {name}"))?;
            }
            ClaimDecision::Provision { claim } => {
                let patch = json!({"metadata": {"uid": claim.uid(), "annotations": {SELECTED_NODE: node}}});
                let name = claim.name_any();
                self.claims(claim)
                    .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .with_context(|| format!("selecting a node for claim {name}"))?;
            }
        }
        Ok(())
    }

    /// A provisioner that takes the annotation away says that this node cannot have the volume.
    async fn until_bound(&self, decision: &ClaimDecision, node: &str) -> anyhow::Result<()> {
        let claim = decision.claim();
        let needs_annotation = matches!(decision, ClaimDecision::Provision { .. });
        let settled = |found: Option<&PersistentVolumeClaim>| {
            let Some(found) = found else { return true };
            let refused =
                needs_annotation && found.annotations().get(SELECTED_NODE).is_none_or(|selected| selected != node);
            is_bound(found) || refused || found.metadata.deletion_timestamp.is_some() || found.uid() != claim.uid()
        };
        let name = claim.name_any();
        let found = await_condition(self.claims(claim), &name, settled)
            .await
            .with_context(|| format!("waiting for claim {name}"))?;
        match found {
            Some(found) if is_bound(&found) && found.uid() == claim.uid() => Ok(()),
            Some(found) if found.metadata.deletion_timestamp.is_none() && found.uid() == claim.uid() => {
                bail!("the provisioner of claim {name} refused node {node}")
            }
            _ => bail!("claim {name} was deleted while its volume was awaited"),
        }
    }

    fn claims(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default())
    }

    /// Records why the pod has no node, if that is not what its status says already.
    pub fn not_scheduled(&self, pod: &PodInfo, reason: &str, message: &str) {
        let conditions = pod.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let old = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        let unchanged = old.is_some_and(|condition| {
            condition.status == "False"
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref() == Some(message)
        });
        if unchanged {
            return;
        }
        let since = old
            .filter(|condition| condition.status == "False")
            .and_then(|condition| condition.last_transition_time.clone());
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(now), "lastProbeTime": null,
        });
        self.patch_status(pod, json!({"conditions": [condition]}));
    }

    /// Records, or with `None` removes, the node whose victims the pod waits for.
    pub fn nominate(&self, pod: &PodInfo, node: Option<&str>) {
        self.patch_status(pod, json!({"nominatedNodeName": node}));
    }

    /// Evicts a pod for a more important one: condition, graceful deletion, Event.
    pub fn evict(&self, victim: &Arc<PodInfo>, preemptor: &PodInfo, node: &str) {
        let this = self.clone();
        let victim = Arc::clone(victim);
        let note = format!("Preempted by pod {} on node {node}", preemptor.uid);
        let message = format!("{}: preempting to accommodate a higher priority pod", self.config.scheduler_name);
        tokio::spawn(async move {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
                "lastTransitionTime": now(), "lastProbeTime": null,
            });
            let Ok(_permit) = this.permits.acquire().await else { return };
            this.try_patch_status(&victim, json!({"conditions": [condition]})).await;
            let pods: Api<Pod> = Api::namespaced(this.client.clone(), &victim.namespace);
            let exactly = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
            let how = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
            match pods.delete(&victim.name, &how).await {
                Ok(_) => this.create_event(&victim, "Normal", "Preempted", "Preempting", &note).await,
                Err(error) => tracing::warn!(pod = %victim.name, namespace = %victim.namespace, %error, "cannot evict"),
            }
        });
    }

    pub fn scheduled(&self, pod: &Arc<PodInfo>, node: &str) {
        let note = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
        self.event(pod, "Normal", "Scheduled", "Binding", note);
    }

    pub fn failed(&self, pod: &Arc<PodInfo>, note: String) {
        self.event(pod, "Warning", "FailedScheduling", "Scheduling", note);
    }

    fn event(&self, pod: &Arc<PodInfo>, kind: &'static str, reason: &'static str, action: &'static str, note: String) {
        let this = self.clone();
        let pod = Arc::clone(pod);
        tokio::spawn(async move {
            let Ok(_permit) = this.permits.acquire().await else { return };
            this.create_event(&pod, kind, reason, action, &note).await;
        });
    }

    async fn create_event(&self, pod: &PodInfo, kind: &str, reason: &str, action: &str, note: &str) {
        let at = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", pod.name, at.as_nanosecond())),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            action: Some(action.into()),
            // The API server refuses longer notes.
            message: Some(note.chars().take(1024).collect()),
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                namespace: Some(pod.namespace.clone()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
                resource_version: pod.pod.resource_version(),
                field_path: None,
            },
            count: Some(1),
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            source: Some(EventSource { component: Some(self.config.scheduler_name.clone()), host: None }),
            reporting_component: Some(self.config.scheduler_name.clone()),
            reporting_instance: Some(self.config.instance.clone()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &pod.namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            tracing::debug!(pod = %pod.name, namespace = %pod.namespace, reason, %error, "cannot record an event");
        }
    }

    fn patch_status(&self, pod: &PodInfo, status: Value) {
        let this = self.clone();
        let target = Target { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
        tokio::spawn(async move {
            let Ok(_permit) = this.permits.acquire().await else { return };
            this.try_patch(&target, status).await;
        });
    }

    async fn try_patch_status(&self, pod: &PodInfo, status: Value) {
        self.try_patch(
            &Target { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() },
            status,
        )
        .await;
    }

    async fn try_patch(&self, target: &Target, status: Value) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &target.namespace);
        let patch = Patch::Strategic(json!({"metadata": {"uid": target.uid}, "status": status}));
        if let Err(error) = pods.patch_status(&target.name, &PatchParams::default(), &patch).await {
            tracing::debug!(pod = %target.name, namespace = %target.namespace, %error, "cannot write the status");
        }
    }
}

struct Target {
    namespace: String,
    name: String,
    uid: Uid,
}

fn now() -> Time {
    Time(Timestamp::now())
}
