//! ServiceCIDRs: ready while they are there, and kept when they are deleted until no Service has an address that lies in no other
//! (upstream: pkg/controller/servicecidrs).

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};

const NAME: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long a deleted range stays at least: whoever allocates may have seen it just before.
const GRACE_SECONDS: i64 = 10;
const BLOCKED: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let (to, informers) = (queue.clone(), ctx.informers.clone());
    ctx.informers.service_cidrs.on_change(move |old, new| {
        new.into_iter().for_each(|it| to.add(Key::of(it.as_ref())));
        // another range that comes or goes may set free one that waits, or hold it
        if old.is_none() || new.is_none() {
            informers.service_cidrs.list().iter().for_each(|it| to.add(Key::of(it.as_ref())));
        }
    });
    let (to, informers) = (queue.clone(), ctx.informers.clone());
    ctx.informers.ip_addresses.on_change(move |old, new| {
        if old.is_some() && new.is_some() {
            return;
        }
        let ranges = informers.service_cidrs.list();
        let waiting = ranges.iter().filter(|it| it.metadata.deletion_timestamp.is_some());
        waiting.for_each(|it| to.add(Key::of(it.as_ref())));
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.service_cidrs.wait_synced().await;
        informers.ip_addresses.wait_synced().await;
    };
    let (ctx, again) = (Arc::new(ctx.clone()), queue.clone());
    queue.work(tasks, NAME, 1, ready, move |key| {
        let (ctx, again) = (ctx.clone(), again.clone());
        async move { sync(&ctx, &key, &again).await }
    });
}

async fn sync(ctx: &Ctx, key: &Key, queue: &WorkQueue) -> anyhow::Result<()> {
    let Some(range) = ctx.informers.service_cidrs.get_key(key) else { return Ok(()) };
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        if !meta::has_finalizer(&range.metadata, FINALIZER) {
            patch(ctx, &key.name, json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
        }
        return set_ready(ctx, &range, "True", "", "Kubernetes Service CIDR is ready").await;
    };
    let others: Vec<IpNet> = ctx
        .informers
        .service_cidrs
        .list()
        .iter()
        .filter(|it| meta::name(&it.metadata) != key.name)
        .flat_map(|it| nets(it))
        .collect();
    let addresses: Vec<IpAddr> = ctx.informers.ip_addresses.list().iter().filter_map(|it| allocated(it)).collect();
    if !may_go(&nets(&range), &others, &addresses) {
        return set_ready(ctx, &range, "False", "Terminating", BLOCKED).await;
    }
    let left = meta::until(deleted.0, GRACE_SECONDS, meta::now());
    if !left.is_zero() {
        queue.add_after(key.clone(), left);
        return Ok(());
    }
    match meta::has_finalizer(&range.metadata, FINALIZER) {
        true => patch(ctx, &key.name, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})).await,
        false => Ok(()),
    }
}

async fn patch(ctx: &Ctx, name: &str, patch: Value) -> anyhow::Result<()> {
    let api = ctx.cluster_api::<ServiceCIDR>();
    match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Err(error) if !meta::not_found(&error) => {
            Err(error).with_context(|| format!("cannot write the finalizers of ServiceCIDR {name}"))
        }
        _ => Ok(()),
    }
}

async fn set_ready(ctx: &Ctx, range: &ServiceCIDR, status: &str, reason: &str, message: &str) -> anyhow::Result<()> {
    let conditions = range.status.as_ref().and_then(|it| it.conditions.as_ref());
    if conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == status) {
        return Ok(());
    }
    let name = meta::name(&range.metadata);
    let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": meta::now_time()});
    let applied = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "status": {"conditions": [ready]}});
    let params = PatchParams::apply(NAME).force();
    match ctx.cluster_api::<ServiceCIDR>().patch_status(name, &params, &Patch::Apply(applied)).await {
        Err(error) if !meta::not_found(&error) => {
            Err(error).with_context(|| format!("cannot write the status of ServiceCIDR {name}"))
        }
        _ => Ok(()),
    }
}

fn nets(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// The address of an object that belongs to a Service.
fn allocated(address: &IPAddress) -> Option<IpAddr> {
    let manager = meta::label(&address.metadata, "ipaddress.kubernetes.io/managed-by");
    (manager == Some("ipallocator.k8s.io")).then(|| meta::name(&address.metadata).parse().ok()).flatten()
}

/// Whether no address is left without a range.
fn may_go(own: &[IpNet], others: &[IpNet], addresses: &[IpAddr]) -> bool {
    let held = |net: &IpNet| others.iter().any(|other| other.contains(net));
    let lost = |address: &&IpAddr| {
        own.iter().any(|net| net.contains(*address)) && !others.iter().any(|net| net.contains(*address))
    };
    own.iter().all(held) || !addresses.iter().any(|address| lost(&address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_range_goes_when_no_address_needs_it() {
        let nets = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect::<Vec<IpNet>>();
        let own = nets(&["10.1.0.0/24"]);
        let inside: Vec<IpAddr> = vec!["10.1.0.7".parse().unwrap()];
        let outside: Vec<IpAddr> = vec!["10.2.0.7".parse().unwrap()];
        assert!(may_go(&own, &[], &[]) && may_go(&own, &[], &outside));
        assert!(!may_go(&own, &nets(&["10.2.0.0/24"]), &inside));
        assert!(may_go(&own, &nets(&["10.1.0.0/16"]), &inside));
        assert!(may_go(&own, &nets(&["10.1.0.0/28"]), &inside));
        assert!(may_go(&own, &own.clone(), &inside));
    }
}
