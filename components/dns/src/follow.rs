//! Keeps the zone as the API server shows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::RwLock;

use crate::health::Readiness;
use crate::zone::{Zone, key_of};

type Shared = Arc<RwLock<Zone>>;
type Key = (String, String);

/// Watches forever. The zone is ready once all three lists are complete.
pub async fn all(client: Client, zone: Shared, readiness: Readiness) {
    let namespaces = follow::<Namespace>(
        Api::all(client.clone()),
        Arc::clone(&zone),
        readiness.wait_for_one_more(),
        |zone, namespace| zone.set_namespace(&namespace.name_any()),
        |zone, namespace| zone.remove_namespace(&namespace.name_any()),
        |zone, kept| {
            let gone: Vec<String> =
                zone.namespaces().filter(|name| !kept.contains(&(String::new(), (*name).clone()))).cloned().collect();
            gone.iter().for_each(|name| zone.remove_namespace(name));
        },
    );
    let services = follow::<Service>(
        Api::all(client.clone()),
        Arc::clone(&zone),
        readiness.wait_for_one_more(),
        Zone::set_service,
        |zone, service| zone.remove_service(&key_of(service)),
        |zone, kept| {
            let gone: Vec<Key> = zone.services().filter(|key| !kept.contains(*key)).cloned().collect();
            gone.iter().for_each(|key| zone.remove_service(key));
        },
    );
    let slices = follow::<EndpointSlice>(
        Api::all(client),
        zone,
        readiness.wait_for_one_more(),
        Zone::set_slice,
        Zone::remove_slice,
        Zone::retain_slices,
    );
    tokio::join!(namespaces, services, slices);
}

/// Applies one resource's events. What a new list does not show is removed when the list is complete.
async fn follow<K>(
    api: Api<K>,
    zone: Shared,
    synced: impl FnOnce(),
    set: impl Fn(&mut Zone, &K),
    remove: impl Fn(&mut Zone, &K),
    retain: impl Fn(&mut Zone, &BTreeSet<Key>),
) where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut synced = Some(synced);
    let mut listed = BTreeSet::new();
    let mut events = watcher(api, Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(key_of(&object));
                set(&mut zone.write(), &object);
            }
            Ok(Event::InitDone) => {
                retain(&mut zone.write(), &listed);
                listed.clear();
                if let Some(synced) = synced.take() {
                    synced();
                }
            }
            Ok(Event::Apply(object)) => set(&mut zone.write(), &object),
            Ok(Event::Delete(object)) => remove(&mut zone.write(), &object),
            Err(error) => tracing::warn!(resource = %K::plural(&()), %error, "watch failed; trying again"),
        }
    }
}
