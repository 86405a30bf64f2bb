//! Addresses of Services: each one is an IPAddress object, written in the transaction that writes its Service, and comes from one
//! of the ServiceCIDRs that are ready (kubernetes `pkg/registry/core/service/ipallocator`).

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use ipnet::Ipv4Net;
use machinery::{
    ApiError, Resource, encoding, names, time,
    value::{list_at, str_at},
};
use rand::Rng;
use serde_json::{Value, json};
use store::{EventKind, Expect, Op, Txn, WatchItem};

use crate::{bootstrap, core::Core, registry};

/// Where IPAddresses lie.
pub const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";
const GROUP: &str = "/registry/networking.k8s.io/";
const DEFAULT_RANGE: &str = "/registry/networking.k8s.io/servicecidrs/kubernetes";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
/// Random tries before free ones are searched in order.
const TRIES: usize = 64;

pub fn key(address: &str) -> String {
    format!("{ADDRESSES}{address}")
}

/// The IPAddress of a Service, as it is stored.
pub fn object(address: &str, namespace: &str, service: &str) -> Bytes {
    encoding::encode_stored(&json!({
        "metadata": {"name": address, "uid": names::uid(), "creationTimestamp": time::now(),
            "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4", MANAGED_BY: MANAGER}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    }))
}

/// The addresses a Service holds.
pub fn held(service: &Value) -> impl Iterator<Item = &str> {
    Some(str_at(service, "spec.clusterIP")).filter(|address| !matches!(*address, "" | "None")).into_iter()
}

/// Usable addresses: `base + 1` to `base + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    base: u32,
    count: u32,
}

impl Range {
    fn new(net: Ipv4Net) -> Self {
        let base = u32::from(net.network());
        Range { base, count: (u32::from(net.broadcast()) - base).saturating_sub(1) }
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address).checked_sub(self.base).is_some_and(|offset| (1..=self.count).contains(&offset))
    }

    fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + offset)
    }

    /// The lower part is for addresses that people choose (KEP-3070).
    fn reserved(self) -> u32 {
        const LEAST: u32 = 16;
        if self.count <= LEAST { 0 } else { (self.count / 16).clamp(LEAST, 256) }
    }
}

fn row(plural: &str) -> Result<&'static Resource, ApiError> {
    registry::find("networking.k8s.io", "v1", plural)
        .ok_or_else(|| ApiError::internal(format!("{plural} are not served")))
}

/// What may be allocated from now.
async fn ranges(core: &Core) -> Result<Vec<Range>, ApiError> {
    let all = registry::read_all(core, row("servicecidrs")?, "").await?;
    let ready = all.iter().map(|stored| &stored.object).filter(|object| is_ready(object));
    Ok(ready
        .flat_map(|object| list_at(object, "spec.cidrs"))
        .filter_map(|cidr| cidr.as_str()?.parse().ok())
        .map(Range::new)
        .collect())
}

/// One that nobody has judged yet is taken for ready.
fn is_ready(range: &Value) -> bool {
    let condition = list_at(range, "status.conditions").iter().find(|c| str_at(c, "type") == "Ready");
    str_at(range, "metadata.deletionTimestamp").is_empty() && condition.is_none_or(|c| str_at(c, "status") == "True")
}

/// Why an address may not be chosen; `None` if it may.
pub async fn refused(core: &Core, address: &str) -> Result<Option<&'static str>, ApiError> {
    let ranges = ranges(core).await?;
    let inside = address.parse().is_ok_and(|address| ranges.iter().any(|range| range.contains(address)));
    Ok((!inside).then_some("the provided network does not match the current range"))
}

pub async fn free(core: &Core) -> Result<Ipv4Addr, ApiError> {
    for range in ranges(core).await? {
        if let Some(address) = free_in(core, range).await? {
            return Ok(address);
        }
    }
    Err(ApiError::internal("failed to allocate a serviceIP: range is full"))
}

async fn free_in(core: &Core, range: Range) -> Result<Option<Ipv4Addr>, ApiError> {
    let upper = range.reserved() + 1..=range.count;
    if !upper.is_empty() {
        for _ in 0..TRIES {
            let candidate = range.at(rand::rng().random_range(upper.clone()));
            if is_free(core, candidate).await? {
                return Ok(Some(candidate));
            }
        }
    }
    for offset in upper.chain(1..=range.reserved()) {
        if is_free(core, range.at(offset)).await? {
            return Ok(Some(range.at(offset)));
        }
    }
    Ok(None)
}

async fn is_free(core: &Core, address: Ipv4Addr) -> Result<bool, ApiError> {
    Ok(core.store.get(&key(&address.to_string())).await.map_err(registry::store_error)?.is_none())
}

/// Gives back what somebody deletes though it is needed: addresses of Services, and the range of the configuration.
pub fn start(core: &Arc<Core>) {
    let core = core.clone();
    tokio::spawn(async move {
        while !core.stopping.is_cancelled() {
            tokio::select! {
                () = core.stopping.cancelled() => return,
                ended = follow(&core) => if let Err(error) = ended {
                    tracing::warn!(error = format!("{error:#}"), "following the addresses of Services failed; beginning anew");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                },
            }
        }
    });
}

async fn follow(core: &Arc<Core>) -> anyhow::Result<()> {
    let mut items = core.store.watch(GROUP, core.store.revision()).await?;
    repair(core).await?;
    while let Some(item) = items.next().await {
        let WatchItem::Event(event) = item? else { continue };
        if event.kind != EventKind::Delete {
            continue;
        }
        if &*event.kv.key == DEFAULT_RANGE {
            bootstrap::restore_service_range(core).await?;
        } else if let Some(address) = event.kv.key.strip_prefix(ADDRESSES) {
            let object: Value = serde_json::from_slice(&event.kv.value)?;
            restore(core, address, &object).await?;
        }
    }
    Ok(())
}

/// Makes the address again that a Service still holds.
async fn restore(core: &Core, address: &str, object: &Value) -> anyhow::Result<()> {
    let parent = &object["spec"]["parentRef"];
    if str_at(parent, "resource") != "services" {
        return Ok(());
    }
    let (namespace, name) = (str_at(parent, "namespace"), str_at(parent, "name"));
    let Some(services) = registry::find("", "v1", "services") else { return Ok(()) };
    match registry::read(core, services, namespace, name).await {
        Ok(service) if held(&service.object).any(|it| it == address) => put(core, address, namespace, name).await,
        _ => Ok(()),
    }
}

/// Addresses that are missing are made, those of Services that are gone are deleted. The addresses are read first: what is
/// written meanwhile conflicts, and was right.
async fn repair(core: &Core) -> anyhow::Result<()> {
    let Some(services) = registry::find("", "v1", "services") else { return Ok(()) };
    let addresses = registry::read_all(core, row("ipaddresses")?, "").await?;
    let mut wanted = BTreeMap::new();
    for service in registry::read_all(core, services, "").await? {
        let text = |path: &str| str_at(&service.object, path).to_owned();
        let owner = (text("metadata.namespace"), text("metadata.name"));
        wanted.extend(held(&service.object).map(|address| (address.to_owned(), owner.clone())));
    }
    for stored in addresses {
        let name = str_at(&stored.object, "metadata.name");
        let ours = stored.object["metadata"]["labels"][MANAGED_BY] == MANAGER;
        if wanted.remove(name).is_none() && ours {
            write(core, Op::Delete { key: key(name), expect: Expect::Revision(stored.revision) }).await?;
        }
    }
    for (address, (namespace, name)) in wanted {
        put(core, &address, &namespace, &name).await?;
    }
    Ok(())
}

async fn put(core: &Core, address: &str, namespace: &str, service: &str) -> anyhow::Result<()> {
    write(core, Op::Put { key: key(address), value: object(address, namespace, service), expect: Expect::Absent }).await
}

async fn write(core: &Core, op: Op) -> anyhow::Result<()> {
    match core.store.txn(Txn { ops: vec![op] }).await {
        // somebody was faster
        Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_leave_out_their_ends() {
        let range = |text: &str| Range::new(text.parse().unwrap());
        let small = range("10.0.0.0/28");
        assert_eq!((small.count, small.reserved()), (14, 0));
        let inside = |text: &str| small.contains(text.parse().unwrap());
        assert!(inside("10.0.0.1") && inside("10.0.0.14"));
        assert!(!inside("10.0.0.0") && !inside("10.0.0.15") && !inside("9.255.255.255"));
        assert_eq!(range("10.96.0.0/16").reserved(), 256);
        assert_eq!(range("10.96.0.0/24").reserved(), 16);
        assert_eq!((range("10.0.0.4/31").count, range("10.0.0.4/32").count), (0, 0));
    }

    #[test]
    fn keys_are_the_registrys() {
        assert_eq!(key("10.0.0.1"), registry::key(row("ipaddresses").unwrap(), "", "10.0.0.1"));
        assert_eq!(DEFAULT_RANGE, registry::key(row("servicecidrs").unwrap(), "", "kubernetes"));
    }

    #[test]
    fn a_range_is_ready_unless_it_says_otherwise() {
        let with = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&json!({})) && is_ready(&with("True")) && !is_ready(&with("False")));
        assert!(!is_ready(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    }
}
