//! What authorization needs to know at every request, kept decoded: RBAC objects and what runs on which node.
//!
//! One task follows the store. A decision that would be "no" waits until that task has seen every write made before the
//! request, so a client that just wrote a binding, or a kubelet that was just given a pod, is never refused by a race.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use machinery::{Resource, encoding};
use parking_lot::RwLock;
use store::{EventKind, RangeRequest, Revision, Store, WatchItem};
use tokio::sync::watch;

use crate::{
    authz::{graph::Graph, rbac::Index},
    flowcontrol::{self, FlowControl},
    registry,
};

/// (group, plural) of what is followed.
const FOLLOWED: &[(&str, &str)] = &[
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
    (flowcontrol::GROUP, "flowschemas"),
    (flowcontrol::GROUP, "prioritylevelconfigurations"),
];
const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct State {
    pub rbac: Index,
    pub graph: Graph,
}

pub struct Observed {
    pub state: RwLock<State>,
    flow: Arc<FlowControl>,
    revision: watch::Sender<Revision>,
}

impl Observed {
    /// Reads the present state and follows it from there.
    pub async fn start(store: Arc<dyn Store>, flow: Arc<FlowControl>) -> anyhow::Result<Arc<Self>> {
        let observed = Arc::new(Observed { state: RwLock::default(), flow, revision: watch::channel(0).0 });
        let revision = observed.load(&*store).await?;
        let follower = observed.clone();
        tokio::spawn(async move { follower.follow(store, revision).await });
        Ok(observed)
    }

    /// Waits (bounded) until everything written before `revision` is known here.
    pub async fn caught_up(&self, revision: Revision) {
        let mut seen = self.revision.subscribe();
        let _ = tokio::time::timeout(CATCH_UP, seen.wait_for(|r| *r >= revision)).await;
    }

    pub fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    async fn load(&self, store: &dyn Store) -> anyhow::Result<Revision> {
        let revision = store.revision();
        let mut state = State::default();
        self.flow.clear();
        for (group, plural) in FOLLOWED {
            let Some(resource) = row(group, plural) else { continue };
            let request =
                RangeRequest { prefix: registry::prefix(resource, ""), revision: Some(revision), ..Default::default() };
            for kv in store.range(request).await?.items {
                self.apply(&mut state, resource, &kv.key, Some(&kv.value), kv.mod_revision);
            }
        }
        *self.state.write() = state;
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// Ends only with the process; a watch that fell behind is begun anew from a full read.
    async fn follow(&self, store: Arc<dyn Store>, mut from: Revision) {
        loop {
            if let Err(error) = self.follow_once(&*store, from).await {
                tracing::warn!(%error, "following the store failed; reading everything again");
            }
            match self.load(&*store).await {
                Ok(revision) => from = revision,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn follow_once(&self, store: &dyn Store, from: Revision) -> store::Result<()> {
        let mut items = store.watch(registry::ROOT, from).await?;
        while let Some(item) = items.next().await {
            let revision = match item? {
                WatchItem::Progress(revision) => revision,
                WatchItem::Event(event) => {
                    if let Some(resource) = followed_row(&event.kv.key) {
                        let value = (event.kind == EventKind::Put).then_some(&event.kv.value);
                        self.apply(
                            &mut self.state.write(),
                            resource,
                            &event.kv.key,
                            value.map(|v| &**v),
                            event.kv.mod_revision,
                        );
                    }
                    event.kv.mod_revision
                }
            };
            self.revision.send_replace(revision);
        }
        Ok(())
    }
}

fn row(group: &str, plural: &str) -> Option<&'static Resource> {
    registry::find(group, "v1", plural)
}

fn followed_row(key: &str) -> Option<&'static Resource> {
    let mut parts = key.strip_prefix(registry::ROOT)?.splitn(3, '/');
    let (group, plural) = (parts.next()?, parts.next()?);
    let group = if group == "core" { "" } else { group };
    FOLLOWED.contains(&(group, plural)).then(|| row(group, plural)).flatten()
}

/// Whether a stored pod may be bound: without this key it is not.
fn names_a_node(pod: &[u8]) -> bool {
    const KEY: &[u8] = b"\"nodeName\"";
    pod.windows(KEY.len()).any(|window| window == KEY)
}

impl Observed {
    fn apply(&self, state: &mut State, resource: &Resource, key: &str, value: Option<&[u8]>, revision: Revision) {
        // most pods are written before a node has them, and mean nothing here
        let value = value.filter(|value| resource.plural != "pods" || names_a_node(value));
        let decoded =
            value.and_then(|v| encoding::decode_stored(v, &resource.api_version(), resource.kind, revision).ok());
        let rest = key.strip_prefix(&registry::prefix(resource, "")).unwrap_or_default();
        let (namespace, name) = if resource.namespaced { rest.split_once('/').unwrap_or_default() } else { ("", rest) };
        match resource.plural {
            "pods" => state.graph.set_pod(namespace, name, decoded.as_ref()),
            "persistentvolumes" => state.graph.set_volume(name, decoded.as_ref()),
            "volumeattachments" => state.graph.set_attachment(name, decoded.as_ref()),
            "resourceslices" => state.graph.set_slice(name, decoded.as_ref()),
            "flowschemas" | "prioritylevelconfigurations" => self.flow.set(resource.plural, name, decoded.as_ref()),
            _ => state.rbac.set(resource.plural, namespace, name, decoded.as_ref()),
        }
    }
}
