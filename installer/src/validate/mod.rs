//! Proves that the cluster works, from nodes up to an application with a volume behind the Ingress.

mod hindered;
mod network;
pub mod report;
pub mod wordpress;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::Value;

pub use hindered::Patience;
pub use report::Report;

use crate::api::wait::{self, node_ready, workload_available};
use crate::cluster::Cluster;

/// Nodes and addons.
pub async fn basics(report: &mut Report<'_>, client: &Client, cluster: &Cluster, addons: &[Value]) -> bool {
    let timeout = cluster.limits.ready_timeout;
    let hint = "see `kinstall status`, `kubectl describe node`, and `journalctl -u kinstall-kubelet` on the host";
    let nodes = report.check("nodes are Ready", hint, nodes_ready(client, cluster, timeout)).await.is_some();
    let hint =
        "see `kinstall doctor`, `kubectl -n kube-system get pods -o wide` and `kubectl -n kube-system describe pod`";
    let available = addons_available(client, addons, timeout, Patience::default());
    nodes & report.check("addons are available", hint, available).await.is_some()
}

/// Waits for every Deployment, DaemonSet and StatefulSet among `addons`; but not for pods on a host that is gone or full.
///
/// # Errors
/// What is not available when the time is up, or the nodes that keep it from that.
pub async fn addons_available(
    client: &Client,
    addons: &[Value],
    timeout: Duration,
    patience: Patience,
) -> anyhow::Result<((), String)> {
    tokio::select! {
        available = workloads_available(client, addons, timeout) => available,
        hindered = hindered::nodes(client, patience) => bail!("{hindered}"),
    }
}

/// DNS, pod to pod, Service and NodePort from pods on the nodes.
pub async fn network(report: &mut Report<'_>, client: &Client, cluster: &Cluster, image: &str) {
    network::run(report, client, cluster, image).await;
}

pub async fn nodes_ready(client: &Client, cluster: &Cluster, timeout: Duration) -> anyhow::Result<((), String)> {
    let wanted: BTreeSet<&str> = cluster.hosts.iter().map(|host| host.name.as_str()).collect();
    let ready = |nodes: &BTreeMap<String, Node>| -> BTreeSet<String> {
        nodes.values().filter(|node| node_ready(node)).map(ResourceExt::name_any).collect()
    };
    let result = wait::until(Api::<Node>::all(client.clone()), watcher::Config::default(), timeout, |nodes| {
        let ready = ready(nodes);
        wanted.iter().all(|name| ready.contains(*name))
    })
    .await;
    match result {
        Ok(nodes) => Ok(((), format!("{} of {}", ready(&nodes).len(), wanted.len()))),
        Err(nodes) => {
            let ready = ready(&nodes);
            let missing: Vec<_> = wanted.iter().filter(|name| !ready.contains(**name)).copied().collect();
            bail!("not Ready after {} s: {}", timeout.as_secs(), missing.join(", "))
        }
    }
}

/// Waits for every Deployment, DaemonSet and StatefulSet among `documents`.
pub async fn workloads_available(
    client: &Client,
    documents: &[Value],
    timeout: Duration,
) -> anyhow::Result<((), String)> {
    let workloads: Vec<_> = documents
        .iter()
        .filter_map(|document| {
            let kind =
                document["kind"].as_str().filter(|kind| ["Deployment", "DaemonSet", "StatefulSet"].contains(kind))?;
            let metadata = &document["metadata"];
            Some((
                kind.to_owned(),
                metadata["namespace"].as_str().unwrap_or("default").to_owned(),
                metadata["name"].as_str()?.to_owned(),
            ))
        })
        .collect();
    let waits = workloads.iter().map(|(kind, namespace, name)| {
        let resource = kube::discovery::ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        async move {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let available = wait::until_dynamic(api, config, timeout, |objects| {
                objects.values().any(|object| workload_available(kind, object))
            })
            .await;
            (!available).then(|| format!("{kind} {namespace}/{name}"))
        }
    });
    let missing: Vec<_> = futures::future::join_all(waits).await.into_iter().flatten().collect();
    if missing.is_empty() {
        Ok(((), format!("{} of {}", workloads.len(), workloads.len())))
    } else {
        bail!("not available after {} s: {}", timeout.as_secs(), missing.join(", "))
    }
}
