//! Whether a node's kubelet lives, where its host cannot be asked: it may have lost its power a moment ago, or only the operator's way
//! to it may be broken. In both cases the node is still Ready.

use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};

use crate::api::wait::node_silent;

/// A kubelet that lives renews its Lease every 10 s; one that does not is given up by the cluster after 40 s and some.
const LIMIT: Duration = Duration::from_secs(70);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// It renewed its Lease; or nobody gave it up in all the time that this takes.
    Beats,
    /// The cluster hears nothing of it.
    Silent,
}

/// Waits for the first sign of the one or the other: a Lease that changes under our eyes, so that no clocks are compared, or a
/// node that is given up.
pub async fn pulse(client: &Client, node: &str) -> Pulse {
    tokio::time::timeout(LIMIT, first_sign(client, node)).await.unwrap_or(Pulse::Beats)
}

async fn first_sign(client: &Client, node: &str) -> Pulse {
    let itself = || Config::default().fields(&format!("metadata.name={node}"));
    let nodes = watcher(Api::<Node>::all(client.clone()), itself()).default_backoff();
    let leases = watcher(Api::<Lease>::namespaced(client.clone(), "kube-node-lease"), itself()).default_backoff();
    pin_mut!(nodes, leases);
    let mut heard = Renewals::default();
    loop {
        // a watch that breaks goes on by itself, with back-off
        tokio::select! {
            Some(event) = nodes.next() => match event {
                Ok(Event::Apply(node) | Event::InitApply(node)) if node_silent(&node) => return Pulse::Silent,
                Ok(Event::Delete(_)) => return Pulse::Silent,
                _ => {}
            },
            Some(event) = leases.next() => match event {
                Ok(Event::Apply(lease) | Event::InitApply(lease)) if heard.is_new(&lease) => return Pulse::Beats,
                _ => {}
            },
            else => return Pulse::Beats,
        }
    }
}

/// The last renewal that was seen, in microseconds of the kubelet's own clock.
#[derive(Default)]
struct Renewals(Option<i64>);

impl Renewals {
    /// The first one says nothing: it may be old.
    fn is_new(&mut self, lease: &Lease) -> bool {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0.as_microsecond());
        let Some(renewed) = renewed else { return false };
        self.0.replace(renewed).is_some_and(|before| before != renewed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_renewal_that_was_awaited_is_a_sign_of_life() {
        let lease = |second: u32| -> Lease {
            let time = format!("2026-01-01T00:00:{second:02}.000000Z");
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"renewTime": time}})).unwrap()
        };
        let mut heard = Renewals::default();
        assert!(!heard.is_new(&lease(1)), "it was there before anybody looked");
        assert!(!heard.is_new(&lease(1)), "listed again");
        assert!(!heard.is_new(&Lease::default()));
        assert!(heard.is_new(&lease(11)));
    }
}
