//! What the store holds, and how long writes take (upstream: `apiserver/pkg/storage/etcd3/metrics`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use store::RangeRequest;

use super::{
    SECONDS,
    text::{Histogram, Text},
};
use crate::{core::Core, registry};

/// Operation, group, plural.
type Operation = (&'static str, &'static str, &'static str);

#[derive(Default)]
pub struct Storage {
    writes: RwLock<HashMap<Operation, Arc<Histogram>>>,
}

impl Storage {
    pub fn wrote(&self, operation: Operation, took: Duration) {
        let known = self.writes.read().get(&operation).cloned();
        let histogram = known.unwrap_or_else(|| {
            self.writes.write().entry(operation).or_insert_with(|| Arc::new(Histogram::new(SECONDS))).clone()
        });
        histogram.observe(took.as_secs_f64());
    }

    pub async fn render(&self, core: &Core, out: &mut Text) {
        let writes: BTreeMap<Operation, Arc<Histogram>> =
            self.writes.read().iter().map(|(operation, took)| (*operation, took.clone())).collect();
        let help = "Etcd request latency in seconds for each operation and object type.";
        let mut took = out.histogram("etcd_request_duration_seconds", help);
        for ((operation, group, resource), histogram) in &writes {
            took.distribution(&[("group", group), ("operation", operation), ("resource", resource)], histogram);
        }
        objects(core, out).await;
        if let Ok(size) = core.store.size().await {
            let help = "Size of the storage database file physically allocated in bytes.";
            out.gauge("apiserver_storage_size_bytes", help).sample(&[("storage_cluster_id", "0")], size);
        }
        let help = "The newest revision of the store.";
        out.counter("kinstall_store_revision", help).sample(&[], core.store.revision());
    }
}

async fn objects(core: &Core, out: &mut Text) {
    let mut counts = BTreeMap::new();
    for resource in registry::served(core) {
        let stored = resource.stored_as();
        if counts.contains_key(&stored) {
            continue;
        }
        let request = RangeRequest { prefix: registry::prefix(&resource, ""), limit: 1, ..Default::default() };
        if let Ok(page) = core.store.range(request).await {
            counts.insert(stored, page.items.len() + page.remaining);
        }
    }
    let help = "Number of stored objects at the time of last check split by kind.";
    let mut family = out.gauge("apiserver_resource_objects", help);
    for ((group, resource), count) in counts {
        family.sample(&[("group", group), ("resource", resource)], count);
    }
}
