//! `status.loadBalancer` of our Ingresses: the addresses of the nodes that serve them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use crate::{Args, table, watched};

/// After a write was refused (usually because another node's controller was faster), before looking again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the statuses right: every controller adds its own node and removes addresses that no node has any more.
pub async fn keep(client: Client, objects: watched::Objects, args: Args) {
    let Some(own) = args.node_ip else {
        return tracing::info!("no --node-ip: the status of Ingresses is left alone");
    };
    let own = own.to_string();
    loop {
        let nodes = node_addresses(&objects.nodes());
        let snapshot = objects.snapshot();
        let mut again = false;
        for ingress in snapshot.ingresses.iter().filter(|i| table::is_ours(i, &snapshot.classes, &args.ingress_class)) {
            if let Some(wanted) = wanted(ingress, &own, &nodes)
                && let Err(error) = write(&client, ingress, &wanted).await
            {
                tracing::debug!(ingress = %ingress.name_any(), "cannot write the status: {error}");
                again = true;
            }
        }
        if again {
            tokio::time::sleep(RETRY).await;
        } else {
            objects.statuses_changed().await;
        }
    }
}

fn node_addresses(nodes: &[Arc<Node>]) -> BTreeSet<String> {
    nodes
        .iter()
        .filter_map(|node| node.status.as_ref()?.addresses.as_ref())
        .flatten()
        .filter(|address| address.type_ == "InternalIP")
        .map(|address| address.address.clone())
        .collect()
}

/// The addresses that should stand there, if others do.
fn wanted(ingress: &Ingress, own: &str, nodes: &BTreeSet<String>) -> Option<Vec<String>> {
    let there: BTreeSet<String> = ingress
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|IngressLoadBalancerIngress { ip, .. }| ip.clone())
        .collect();
    let mut wanted: BTreeSet<String> = there.intersection(nodes).cloned().collect();
    wanted.insert(own.to_owned());
    (wanted != there).then(|| wanted.into_iter().collect())
}

async fn write(client: &Client, ingress: &Ingress, addresses: &[String]) -> kube::Result<()> {
    let api: Api<Ingress> = Api::namespaced(client.clone(), &ingress.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        // Two nodes at once: the slower one sees the other's address before it writes.
        "metadata": { "resourceVersion": ingress.resource_version() },
        "status": { "loadBalancer": { "ingress": addresses.iter().map(|ip| serde_json::json!({ "ip": ip })).collect::<Vec<_>>() } },
    });
    api.patch_status(&ingress.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_address_is_added_and_those_of_gone_nodes_are_removed() {
        let ingress: Ingress = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a" },
            "status": { "loadBalancer": { "ingress": [{ "ip": "10.99.0.11" }, { "ip": "10.99.0.99" }] } },
        }))
        .unwrap();
        let nodes: BTreeSet<String> = ["10.99.0.11", "10.99.0.12"].map(str::to_owned).into();
        assert_eq!(wanted(&ingress, "10.99.0.12", &nodes).unwrap(), ["10.99.0.11", "10.99.0.12"]);
        let nodes: BTreeSet<String> = ["10.99.0.11", "10.99.0.99"].map(str::to_owned).into();
        assert_eq!(wanted(&ingress, "10.99.0.11", &nodes), None);
    }
}
