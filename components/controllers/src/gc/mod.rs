//! The garbage collector: deletes what lost its owners, foreground or background, and sets free what is to be orphaned
//! (upstream: pkg/controller/garbagecollector). It watches only metadata, of everything discovery lists, so custom
//! resources are owners and dependents too.

mod graph;
mod orphans;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use self::graph::{FOREGROUND, Graph, ORPHAN, Vertex};
use crate::core::{Ctx, Key, WorkQueue, meta};
use crate::resources::{Catalogue, Resources, Served};

const NAME: &str = "garbage-collector";
/// Events neither own nor are owned; there are many.
const IGNORED: &[&str] = &["events.", "events.events.k8s.io"];
/// Changes of these change what discovery lists.
const DEFINITIONS: &[&str] = &["customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"];
/// A new definition is served a moment after it is stored.
const SETTLE: Duration = Duration::from_millis(100);

struct Collector {
    client: Client,
    queue: Arc<WorkQueue>,
    graph: Mutex<Graph>,
    catalogue: Mutex<Arc<Catalogue>>,
    resources: Arc<Resources>,
    rediscover: Notify,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, resources: Arc<Resources>) {
    let queue = WorkQueue::new();
    let collector = Arc::new(Collector {
        client: ctx.client.clone(),
        queue: queue.clone(),
        graph: Mutex::default(),
        catalogue: Mutex::default(),
        resources: resources.clone(),
        rediscover: Notify::new(),
    });
    let (synced, wait) = watch::channel(false);
    tasks.spawn(follow(collector.clone(), resources, synced));
    let mut wait = wait;
    let ready = async move {
        let _ = wait.wait_for(|synced| *synced).await;
    };
    queue.work(tasks, NAME, 10, ready, move |key| {
        let collector = collector.clone();
        async move { collector.process(&key.name).await }
    });
}

/// May own, and be owned.
fn collectable(served: &Served) -> bool {
    served.can("list") && served.can("watch") && served.can("delete") && !IGNORED.contains(&served.id().as_str())
}

/// Keeps one watch for each resource that discovery lists.
async fn follow(collector: Arc<Collector>, resources: Arc<Resources>, synced: watch::Sender<bool>) {
    let mut watches: JoinSet<()> = JoinSet::new();
    let mut running: BTreeMap<String, AbortHandle> = BTreeMap::new();
    loop {
        let catalogue = match resources.fresh().await {
            Ok(catalogue) => catalogue,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "discovery failed; the garbage collector retries");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let wanted: BTreeMap<String, &Served> =
            catalogue.served.iter().filter(|it| collectable(it)).map(|it| (it.id(), it)).collect();
        let mut first_lists = Vec::new();
        for (id, served) in &wanted {
            if !running.contains_key(id) {
                let (listed, wait) = tokio::sync::oneshot::channel();
                running.insert(id.clone(), watches.spawn(watch_one(collector.clone(), (*served).clone(), listed)));
                first_lists.push(wait);
            }
        }
        // With some groups unknown a missing resource may only be unreachable: its objects stay in the graph.
        if catalogue.unknown.is_empty() {
            running.retain(|id, handle| {
                let keep = wanted.contains_key(id);
                if !keep {
                    handle.abort();
                    collector.drop_resource(id);
                }
                keep
            });
        }
        *collector.catalogue.lock() = catalogue.clone();
        if !*synced.borrow() {
            futures::future::join_all(first_lists).await;
            synced.send_replace(true);
        }
        if catalogue.unknown.is_empty() {
            collector.rediscover.notified().await;
        } else {
            let _ = tokio::time::timeout(Duration::from_secs(10), collector.rediscover.notified()).await;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn watch_one(collector: Arc<Collector>, served: Served, listed: tokio::sync::oneshot::Sender<()>) {
    let id = served.id();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(collector.client.clone(), &served.resource);
    let mut stream = watcher::watcher(api, watcher::Config::default()).boxed();
    let mut listed = Some(listed);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut pause = Duration::from_millis(100);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => seen.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                seen.insert(meta::uid(&object.metadata).to_owned());
                collector.observe(&id, &object);
            }
            Ok(watcher::Event::InitDone) => {
                collector.forget_unseen(&id, &seen);
                // the list may know more than the discovery before it
                collector.definition_changed(&id);
                listed.take().map(|it| it.send(()));
            }
            Ok(watcher::Event::Apply(object)) => {
                collector.observe(&id, &object);
                collector.definition_changed(&id);
            }
            Ok(watcher::Event::Delete(object)) => {
                collector.forget(meta::uid(&object.metadata));
                collector.definition_changed(&id);
            }
            Err(error) => {
                tracing::debug!(resource = %id, %error, "metadata watch interrupted; it is resumed");
                // A resource that cannot be listed must not hold up all the others.
                listed.take().map(|it| it.send(()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
                continue;
            }
        }
        pause = Duration::from_millis(100);
    }
}

/// An owner, as the API server says.
enum Owner {
    Solid,
    Gone,
    WaitsForDependents,
}

impl Collector {
    fn look_at(&self, uids: impl IntoIterator<Item = String>) {
        uids.into_iter().for_each(|uid| self.queue.add(Key::new("", uid)));
    }

    fn observe(&self, resource: &str, object: &PartialObjectMeta<DynamicObject>) {
        let look = self.graph.lock().observe(meta::uid(&object.metadata), Vertex::new(resource, &object.metadata));
        self.look_at(look);
    }

    fn forget(&self, uid: &str) {
        let look = self.graph.lock().forget(uid);
        self.look_at(look);
    }

    fn forget_unseen(&self, resource: &str, seen: &BTreeSet<String>) {
        let known = self.graph.lock().of_resource(resource);
        known.iter().filter(|uid| !seen.contains(*uid)).for_each(|uid| self.forget(uid));
    }

    fn drop_resource(&self, resource: &str) {
        self.forget_unseen(resource, &BTreeSet::new());
    }

    fn definition_changed(&self, resource: &str) {
        if DEFINITIONS.contains(&resource) {
            self.resources.outdate();
            self.rediscover.notify_one();
        }
    }

    fn served(&self, resource: &str) -> Option<Served> {
        self.catalogue.lock().served.iter().find(|it| it.id() == resource).cloned()
    }

    async fn process(&self, uid: &str) -> anyhow::Result<()> {
        let Some(vertex) = self.graph.lock().get(uid).cloned() else { return Ok(()) };
        if vertex.is_deleting() && !vertex.deletes_dependents() && !vertex.orphans_dependents() {
            return Ok(());
        }
        let Some(served) = self.served(&vertex.resource) else { return Ok(()) };
        let api = served.api(&self.client, &vertex.ns);
        let live = api
            .get_metadata_opt(&vertex.name)
            .await
            .with_context(|| format!("cannot read {} {}/{}", vertex.resource, vertex.ns, vertex.name))?;
        let Some(live) = live.filter(|it| meta::uid(&it.metadata) == uid) else {
            self.forget(uid);
            return Ok(());
        };
        let now = Vertex::new(&vertex.resource, &live.metadata);
        if now.orphans_dependents() {
            return self.orphan(uid, &api, &live).await;
        }
        if now.deletes_dependents() {
            return self.advance_foreground(uid, &api, &live).await;
        }
        if now.is_deleting() { Ok(()) } else { self.judge(uid, &vertex, &api, &live).await }
    }

    /// Is the object still wanted by any of its owners?
    async fn judge(
        &self,
        uid: &str,
        vertex: &Vertex,
        api: &Api<DynamicObject>,
        live: &PartialObjectMeta<DynamicObject>,
    ) -> anyhow::Result<()> {
        let owners = live.metadata.owner_references.clone().unwrap_or_default();
        if owners.is_empty() {
            return Ok(());
        }
        let (mut solid, mut waiting, mut to_drop) = (false, false, BTreeSet::new());
        for owner in &owners {
            match self.owner(owner, &vertex.ns).await? {
                Owner::Solid => solid = true,
                Owner::Gone => {
                    to_drop.insert(owner.uid.clone());
                }
                Owner::WaitsForDependents => {
                    waiting = true;
                    to_drop.insert(owner.uid.clone());
                }
            }
        }
        if solid {
            return if to_drop.is_empty() {
                Ok(())
            } else {
                self.drop_owners(api, live, |it| !to_drop.contains(&it.uid)).await
            };
        }
        let policy = if waiting && !self.graph.lock().dependents(uid).is_empty() {
            // In a circle nobody may wait for somebody who waits.
            let circular = {
                let graph = self.graph.lock();
                graph.dependents(uid).iter().any(|it| graph.get(it).is_some_and(Vertex::deletes_dependents))
            };
            if circular {
                self.unblock(api, live).await?;
            }
            DeleteParams::foreground()
        } else if meta::has_finalizer(&live.metadata, ORPHAN) {
            DeleteParams::orphan()
        } else if meta::has_finalizer(&live.metadata, FOREGROUND) {
            DeleteParams::foreground()
        } else {
            DeleteParams::background()
        };
        // Exactly what was judged: who was adopted or orphaned meanwhile is judged again.
        let policy = policy.preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: live.metadata.resource_version.clone(),
        });
        let name = meta::name(&live.metadata);
        tracing::debug!(resource = %vertex.resource, ns = %vertex.ns, name, "collected");
        match api.delete(name, &policy).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot collect {} {}/{name}", vertex.resource, vertex.ns))
            }
            _ => Ok(()),
        }
    }

    /// Only a 404, or another uid under the same name, on a read of that very object proves an owner gone.
    async fn owner(&self, owner: &OwnerReference, ns: &str) -> anyhow::Result<Owner> {
        let served = self.catalogue.lock().find(&owner.api_version, &owner.kind).cloned();
        let Some(served) = served else {
            tracing::debug!(kind = %owner.kind, api_version = %owner.api_version, "owner of an unknown kind; its dependents are left alone");
            return Ok(Owner::Solid);
        };
        // A cluster-scoped object cannot be owned by a namespaced one: such a reference resolves to nothing.
        if served.namespaced && ns.is_empty() {
            return Ok(Owner::Solid);
        }
        let live = served
            .api(&self.client, ns)
            .get_metadata_opt(&owner.name)
            .await
            .with_context(|| format!("cannot look up owner {} {}", owner.kind, owner.name))?;
        Ok(match live {
            Some(live) if meta::uid(&live.metadata) == owner.uid => {
                if Vertex::new("", &live.metadata).deletes_dependents() {
                    Owner::WaitsForDependents
                } else {
                    Owner::Solid
                }
            }
            _ => Owner::Gone,
        })
    }

    /// Lets go of an owner whose blocking dependents are gone, or looks at those that remain.
    async fn advance_foreground(
        &self,
        uid: &str,
        api: &Api<DynamicObject>,
        live: &PartialObjectMeta<DynamicObject>,
    ) -> anyhow::Result<()> {
        let (blocking, all) = {
            let graph = self.graph.lock();
            (graph.blocking(uid), graph.dependents(uid))
        };
        if blocking.is_empty() {
            return remove_finalizer(api, live, FOREGROUND).await;
        }
        self.look_at(all);
        Ok(())
    }

    async fn unblock(&self, api: &Api<DynamicObject>, live: &PartialObjectMeta<DynamicObject>) -> anyhow::Result<()> {
        let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
        owners.iter_mut().for_each(|it| it.block_owner_deletion = Some(false));
        patch_meta(api, live, json!({"ownerReferences": owners})).await
    }

    async fn drop_owners(
        &self,
        api: &Api<DynamicObject>,
        live: &PartialObjectMeta<DynamicObject>,
        keep: impl Fn(&OwnerReference) -> bool,
    ) -> anyhow::Result<()> {
        let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
        let before = owners.len();
        owners.retain(keep);
        if owners.len() == before { Ok(()) } else { patch_meta(api, live, json!({"ownerReferences": owners})).await }
    }
}

async fn remove_finalizer(
    api: &Api<DynamicObject>,
    live: &PartialObjectMeta<DynamicObject>,
    finalizer: &str,
) -> anyhow::Result<()> {
    let mut finalizers = live.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|it| it != finalizer);
    patch_meta(api, live, json!({"finalizers": finalizers})).await
}

async fn patch_meta(
    api: &Api<DynamicObject>,
    live: &PartialObjectMeta<DynamicObject>,
    mut change: serde_json::Value,
) -> anyhow::Result<()> {
    if let Some(map) = change.as_object_mut() {
        map.insert("uid".into(), json!(live.metadata.uid));
        map.insert("resourceVersion".into(), json!(live.metadata.resource_version));
    }
    let name = meta::name(&live.metadata);
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"metadata": change}))).await {
        Err(error) if !meta::not_found(&error) => {
            Err(error).with_context(|| format!("cannot update the metadata of {name}"))
        }
        _ => Ok(()),
    }
}
