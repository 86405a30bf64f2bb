//! Nodes that the restored store knows and the inventory does not: their hosts are no more.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::commands::Run;
use crate::commands::node::volumes::lost_with;

/// Deletes them with their pods, so that these are made anew elsewhere at once, and tells which claims have lost their volume.
pub async fn forget(run: &Run<'_>, client: &Client) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let known = |node: &Node| run.cluster.hosts.iter().any(|host| host.name == node.name_any());
    let gone: Vec<Node> = nodes.list(&ListParams::default()).await?.into_iter().filter(|node| !known(node)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let volumes = Api::<PersistentVolume>::all(client.clone()).list(&ListParams::default()).await?.items;
    for node in gone {
        let name = node.name_any();
        let hostname = node.labels().get("kubernetes.io/hostname").unwrap_or(&name);
        for claim in lost_with(&volumes, hostname) {
            run.printer.warning(&format!(
                "{claim} was on {name}, which is no more: delete the claim, so that its pod gets an empty one, or name a host {name} \
                 in the inventory and restore with its volumes"
            ));
        }
        missing(nodes.delete(&name, &DeleteParams::default()).await)?;
        let on_it = ListParams::default().fields(&format!("spec.nodeName={name}"));
        for pod in Api::<Pod>::all(client.clone()).list(&on_it).await? {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            missing(pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await)?;
        }
        run.printer.event("nodeGone", &format!("  node {name} is forgotten: no host has it"), json!({"node": name}));
    }
    Ok(())
}

/// What is gone already is what is wanted.
fn missing<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        result => result.map(Some),
    }
}
