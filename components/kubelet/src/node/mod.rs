//! The Node object: registration, conditions, heartbeat.

pub mod host;
pub mod lease;
pub mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::Notify;

use crate::config::Config;
use crate::cri::Cri;

/// While the node is not ready the runtime is asked this often: its status cannot be watched.
const CHECK_NOT_READY: Duration = Duration::from_millis(200);
const CHECK_READY: Duration = Duration::from_secs(5);
/// What the API has is read this often: others write there, too. When the node was not heard of for a while its conditions are
/// Unknown, and nobody but the kubelet says otherwise (nodeStatusUpdateFrequency, pkg/kubelet/kubelet_node_status.go).
const READ: Duration = Duration::from_secs(10);
/// An unchanged status is repeated this often.
const REPORT: Duration = Duration::from_secs(300);

pub struct NodeKeeper {
    pub config: Arc<Config>,
    pub client: kube::Client,
    pub cri: Cri,
    pub host: host::Host,
    pub runtime_lists: Arc<AtomicBool>,
    pub ready: Arc<AtomicBool>,
    /// Signalled once, when the node first exists in the API.
    pub registered: Arc<Notify>,
}

impl NodeKeeper {
    /// Registers the node and keeps its status true, for ever.
    pub async fn run(self) {
        let mut delay = Duration::from_millis(100);
        let mut known = loop {
            match self.register().await {
                Ok(node) => break node,
                Err(error) => tracing::warn!("node not registered: {error:#}"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(5));
        };
        self.registered.notify_one();
        let mut reported = tokio::time::Instant::now() - REPORT;
        let mut read = tokio::time::Instant::now();
        loop {
            if read.elapsed() >= READ {
                read = tokio::time::Instant::now();
                // a Node that is gone, or that lacks a label, is not made anew because it was looked at
                if let Ok(Some(node)) = self.read().await {
                    known = node;
                }
            }
            let previous = known.status.clone().unwrap_or_default();
            let fresh = self.current_status(&previous).await;
            let ready = status::is_ready(&fresh);
            self.ready.store(ready, Ordering::Relaxed);
            if status::differs(&previous, &fresh) || reported.elapsed() >= REPORT {
                match self.report(&previous, &fresh).await {
                    Ok(node) => {
                        known = node;
                        reported = tokio::time::Instant::now();
                    }
                    Err(error) => {
                        tracing::warn!("node status not reported: {error:#}");
                        known = self.register().await.unwrap_or(known);
                    }
                }
            }
            tokio::time::sleep(if ready { CHECK_READY } else { CHECK_NOT_READY }).await;
        }
    }

    async fn current_status(&self, previous: &NodeStatus) -> NodeStatus {
        let runtime = self.cri.status().await;
        let version = self.cri.version().await.ok();
        let images = self.cri.list_images().await.unwrap_or_default();
        let facts = status::Facts {
            runtime,
            version,
            images,
            disk: host::disk(&self.config.root_dir),
            memory_available: host::memory_available(),
            pids: host::pids(),
            lists: self.runtime_lists.load(Ordering::Relaxed),
        };
        status::compute(&self.config, &self.host, &facts, previous)
    }

    async fn report(&self, previous: &NodeStatus, fresh: &NodeStatus) -> Result<Node> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = status::patch(previous, fresh)?;
        let sent = api.patch_status(&self.config.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        sent.context("cannot patch the node's status")
    }

    async fn read(&self) -> Result<Option<Node>> {
        let api: Api<Node> = Api::all(self.client.clone());
        api.get_opt(&self.config.node_name).await.context("cannot read the node")
    }

    async fn register(&self) -> Result<Node> {
        let api: Api<Node> = Api::all(self.client.clone());
        let labels = labels(&self.config);
        if let Some(node) = self.read().await? {
            let missing: BTreeMap<_, _> = labels
                .into_iter()
                .filter(|(k, v)| node.metadata.labels.as_ref().and_then(|l| l.get(k)) != Some(v))
                .collect();
            if missing.is_empty() {
                return Ok(node);
            }
            let patch = serde_json::json!({"metadata": {"labels": missing}});
            let patched = api.patch(&self.config.node_name, &PatchParams::default(), &Patch::Merge(patch)).await;
            return patched.context("cannot label the node");
        }
        let taints = &self.config.register_with_taints;
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.config.node_name.clone()),
                labels: Some(labels),
                annotations: Some(
                    [("volumes.kubernetes.io/controller-managed-attach-detach".into(), "true".into())].into(),
                ),
                ..Default::default()
            },
            spec: Some(NodeSpec { taints: (!taints.is_empty()).then(|| taints.clone()), ..Default::default() }),
            status: Some(self.current_status(&NodeStatus::default()).await),
        };
        api.create(&PostParams::default(), &node).await.context("cannot create the node")
    }
}

fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", host::arch()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", host::arch()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_string(), v.to_string()))
    .collect();
    labels.extend(config.node_labels.clone());
    labels
}
