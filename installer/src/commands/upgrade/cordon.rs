//! Cordons of ours, told apart from those of the operator by an annotation: a later run takes back what a killed one left, and
//! nothing else.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// On a node that is cordoned for the time of its upgrade.
pub const MARK: &str = "kinstall.dev/cordoned-for";
const PURPOSE: &str = "upgrade";

/// Cordons the node and marks it as ours. False: somebody else has cordoned it, and it stays so.
pub async fn cordon(client: &Client, node: &Node) -> kube::Result<bool> {
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    if is_cordoned {
        return Ok(is_ours(node));
    }
    let patch = json!({"metadata": {"annotations": {MARK: PURPOSE}}, "spec": {"unschedulable": true}});
    change(client, &node.name_any(), patch).await.map(|()| true)
}

/// Takes back the cordons of ours on nodes for which `which` holds. Gives their names.
pub async fn release(client: &Client, which: impl Fn(&str) -> bool) -> kube::Result<Vec<String>> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let mut released = Vec::new();
    for name in nodes.iter().filter(|node| is_ours(node)).map(|node| node.name_any()).filter(|name| which(name)) {
        let patch = json!({"metadata": {"annotations": {MARK: null}}, "spec": {"unschedulable": null}});
        change(client, &name, patch).await?;
        released.push(name);
    }
    Ok(released)
}

fn is_ours(node: &Node) -> bool {
    node.annotations().get(MARK).is_some_and(|purpose| purpose == PURPOSE)
}

async fn change(client: &Client, node: &str, patch: Value) -> kube::Result<()> {
    Api::<Node>::all(client.clone()).patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}
