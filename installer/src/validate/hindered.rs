//! Nodes on which pods will not become Ready however long one waits: the host is gone, or its disk is full.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};

use crate::api::wait::{self, node_condition, node_silent};

/// How long a node may stay so until it is not waited for any more.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The cluster has given it up.
    pub silent: Duration,
    /// Its kubelet says that hardly any room is left on its disk (`DiskPressure`): what is short of room may still do.
    pub full: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silent: Duration::from_secs(20), full: Duration::from_secs(60) }
    }
}

/// Waits until nodes are hindered and stay so. Says which, and by what.
pub async fn nodes(client: &Client, patience: Patience) -> String {
    type Is = fn(&Node) -> bool;
    let hindrances: [(Is, Duration, &str); 2] = [
        (node_silent, patience.silent, "has not said a word for a minute: is the host up and reachable?"),
        (full, patience.full, "has hardly any room left on its disk (DiskPressure): free some space there"),
    ];
    let nodes = || Api::<Node>::all(client.clone());
    loop {
        let any = |node: &Node| hindrances.iter().any(|(is, ..)| is(node));
        let seen =
            wait::until(nodes(), watcher::Config::default(), Duration::MAX, |nodes| nodes.values().any(any)).await;
        let seen = seen.unwrap_or_else(|nodes| nodes);
        let Some((is, within, what)) = hindrances.iter().find(|(is, ..)| seen.values().any(is)) else { continue };
        let over = wait::until(nodes(), watcher::Config::default(), *within, |nodes| !nodes.values().any(is)).await;
        let Err(nodes) = over else { continue };
        let names: Vec<_> = nodes.values().filter(|node| is(node)).map(ResourceExt::name_any).collect();
        // none: nobody could look for so long
        if !names.is_empty() {
            return format!("{} {what}", names.join(", "));
        }
    }
}

fn full(node: &Node) -> bool {
    node_condition(node, "DiskPressure").is_some_and(|condition| condition.status == "True")
}
