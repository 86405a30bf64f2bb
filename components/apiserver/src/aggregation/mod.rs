//! APIServices: which groups and versions extension servers answer for (upstream: `kube-aggregator`).
//!
//! One task follows the objects; a write of one waits until that task has seen it. Of each one that names a Service, a keeper
//! ([`availability`]) finds out whether the server behind it answers and what it serves ([`offered`]); requests go there
//! ([`proxy`]) as long as it is available. Groups that are served here have APIServices too ([`registration`]).

pub mod availability;
mod identity;
pub mod metrics;
pub mod offered;
pub mod proxy;
pub mod registration;
mod remote;
mod transport;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use machinery::{
    Resource,
    value::{int_at, list_at, str_at},
};
use parking_lot::RwLock;
use serde_json::Value;
use store::{EventKind, RangeRequest, Revision, Store, WatchItem};
use tokio::sync::watch;

use crate::{config::Config, core::Core, registry, tls::KeyPair};

pub use remote::Remote;
use transport::Transport;

pub const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
const CATCH_UP: Duration = Duration::from_secs(10);
/// Says that this server keeps an APIService: `onstart` or `true`.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

pub fn is_registration(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

fn row() -> Option<&'static Resource> {
    registry::find(GROUP, "v1", PLURAL)
}

/// Higher ones come first in discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    pub group: i64,
    pub version: i64,
}

/// An APIService, as far as this server acts by it.
pub struct Registration {
    pub name: String,
    pub group: String,
    pub version: String,
    pub priority: Priority,
    /// The value of the label [`MANAGED`].
    pub managed: String,
    pub spec: Value,
    /// Status and reason of the condition Available.
    pub available: Option<(String, String)>,
    /// `None`: this server answers itself.
    pub remote: Option<Arc<Remote>>,
}

impl Registration {
    fn new(name: &str, object: &Value, remote: Option<Arc<Remote>>) -> Self {
        let number = |path: &str| int_at(object, path).unwrap_or(0);
        Registration {
            name: name.to_owned(),
            group: str_at(object, "spec.group").to_owned(),
            version: str_at(object, "spec.version").to_owned(),
            priority: Priority { group: number("spec.groupPriorityMinimum"), version: number("spec.versionPriority") },
            managed: object["metadata"]["labels"][MANAGED].as_str().unwrap_or_default().to_owned(),
            spec: object["spec"].clone(),
            available: condition(object),
            remote,
        }
    }

    pub fn is_available(&self) -> bool {
        self.available.as_ref().is_some_and(|(status, _)| status == "True")
    }
}

/// Status and reason of the condition Available.
fn condition(object: &Value) -> Option<(String, String)> {
    let found = list_at(object, "status.conditions").iter().find(|c| str_at(c, "type") == "Available")?;
    Some((str_at(found, "status").to_owned(), str_at(found, "reason").to_owned()))
}

/// All APIServices there are.
pub struct Aggregator {
    registrations: RwLock<BTreeMap<String, Arc<Registration>>>,
    /// How many of them name a Service: mostly none, then requests need not look further.
    remotes: AtomicUsize,
    revision: watch::Sender<Revision>,
    transport: Transport,
    pub metrics: metrics::Metrics,
}

impl Aggregator {
    /// Knows every APIService of the store when it returns.
    pub async fn load(config: &Config, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let aggregator = Aggregator {
            registrations: RwLock::default(),
            remotes: AtomicUsize::new(0),
            revision: watch::channel(0).0,
            transport: Transport::from_config(config, store.clone())?,
            metrics: metrics::Metrics::default(),
        };
        aggregator.reload(&*store).await?;
        Ok(aggregator)
    }

    /// What this server shows extension servers.
    pub fn certificate(&self) -> Option<Arc<KeyPair>> {
        self.transport.certificate()
    }

    pub fn all(&self) -> Vec<Arc<Registration>> {
        self.registrations.read().values().cloned().collect()
    }

    /// Those that another server answers for.
    pub fn remotes(&self) -> Vec<Arc<Remote>> {
        if self.remotes.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        self.registrations.read().values().filter_map(|it| it.remote.clone()).collect()
    }

    /// The APIService by which another server answers requests for this (decoded) path.
    pub fn delegate(&self, path: &str) -> Option<Arc<Registration>> {
        if self.remotes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (name, document) = named(path)?;
        let found = self.registrations.read().get(&name).cloned()?;
        let remote = found.remote.as_ref()?;
        // documents are made here of servers that do not know the newer form
        let answers = !document || remote.offered().v3.is_some();
        answers.then_some(found)
    }

    /// Waits (bounded) until what was written at `revision` is known here.
    pub async fn caught_up(&self, revision: Revision) {
        let mut seen = self.revision.subscribe();
        let _ = tokio::time::timeout(CATCH_UP, seen.wait_for(|r| *r >= revision)).await;
    }

    /// Changes after every change of an APIService, and now and then.
    fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// The remotes that are new, for somebody to keep.
    async fn reload(&self, store: &dyn Store) -> anyhow::Result<(Revision, Vec<Arc<Remote>>)> {
        let Some(row) = row() else { return Ok((0, Vec::new())) };
        let revision = store.revision();
        let request =
            RangeRequest { prefix: registry::prefix(row, ""), revision: Some(revision), ..Default::default() };
        let there: BTreeMap<String, Value> = store
            .range(request)
            .await?
            .items
            .iter()
            .filter_map(|kv| registry::decode(row, &kv.value, kv.mod_revision).ok())
            .map(|object| (str_at(&object, "metadata.name").to_owned(), object))
            .collect();
        let gone: Vec<String> =
            self.registrations.read().keys().filter(|it| !there.contains_key(*it)).cloned().collect();
        gone.iter().for_each(|name| drop(self.set(name, None)));
        let new = there.iter().filter_map(|(name, object)| self.set(name, Some(object))).collect();
        self.revision.send_replace(revision);
        Ok((revision, new))
    }

    /// Takes over an APIService as it is now, or that it is gone. A remote that nobody keeps yet is returned.
    fn set(&self, name: &str, object: Option<&Value>) -> Option<Arc<Remote>> {
        let mut held = self.registrations.write();
        let before = held.remove(name).and_then(|it| it.remote.clone());
        let mut fresh = None;
        if let Some(object) = object {
            let remote = match &before {
                Some(before) if before.is_of(object) => Some(before.clone()),
                _ => {
                    fresh = Remote::new(name, object, &self.transport).map(Arc::new);
                    fresh.clone()
                }
            };
            let registration = Registration::new(name, object, remote);
            if let Some(remote) = &registration.remote {
                remote.told(registration.available.as_ref());
            }
            held.insert(name.to_owned(), Arc::new(registration));
        }
        self.remotes.store(held.values().filter(|it| it.remote.is_some()).count(), Ordering::Relaxed);
        let kept = held.get(name).and_then(|it| it.remote.clone());
        if let Some(before) = before.filter(|before| !kept.is_some_and(|kept| Arc::ptr_eq(before, &kept))) {
            before.ended.cancel();
        }
        fresh
    }
}

/// The name of the APIService that a path would belong to, and whether the path is that of an OpenAPI document.
fn named(path: &str) -> Option<(String, bool)> {
    let (path, document) = match path.strip_prefix("/openapi/v3") {
        Some(rest) => (rest, true),
        None => (path, false),
    };
    let mut parts = path.strip_prefix('/')?.split('/');
    let (name, rest) = match parts.next()? {
        "api" => ("v1.".to_owned(), parts.next().and_then(|_| parts.next())),
        "apis" => {
            let group = parts.next().filter(|it| !it.is_empty() && *it != GROUP)?;
            let version = parts.next().filter(|it| !it.is_empty())?;
            (format!("{version}.{group}"), parts.next())
        }
        _ => return None,
    };
    (!document || rest.is_none()).then_some((name, document))
}

/// Follows the APIServices until the server stops, and keeps those of extension servers.
pub fn start(core: &Arc<Core>) {
    let core = core.clone();
    tokio::spawn(async move {
        keep(&core, core.aggregation.remotes());
        let mut from = *core.aggregation.revision.borrow();
        loop {
            tokio::select! {
                () = core.stopping.cancelled() => return,
                ended = follow(&core, from) => if let Err(error) = ended {
                    tracing::warn!(%error, "following APIServices failed; reading all of them again");
                },
            }
            match core.aggregation.reload(&*core.store).await {
                Ok((revision, new)) => {
                    keep(&core, new);
                    from = revision;
                }
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
}

fn keep(core: &Arc<Core>, remotes: impl IntoIterator<Item = Arc<Remote>>) {
    for remote in remotes {
        tokio::spawn(availability::keep(core.clone(), remote));
    }
}

async fn follow(core: &Arc<Core>, from: Revision) -> store::Result<()> {
    let Some(row) = row() else { return Ok(()) };
    let prefix = registry::prefix(row, "");
    let mut items = core.store.watch(&prefix, from).await?;
    while let Some(item) = items.next().await {
        let revision = match item? {
            WatchItem::Progress(revision) => revision,
            WatchItem::Event(event) => {
                let name = event.kv.key.strip_prefix(&prefix).unwrap_or_default();
                let object = (event.kind == EventKind::Put)
                    .then(|| registry::decode(row, &event.kv.value, event.kv.mod_revision).ok())
                    .flatten();
                keep(core, core.aggregation.set(name, object.as_ref()));
                event.kv.mod_revision
            }
        };
        core.aggregation.revision.send_replace(revision);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_group_and_version() {
        let name = named;
        let of = |name: &str, document| Some((name.to_owned(), document));
        assert_eq!(name("/apis/w.io/v1/x/y"), of("v1.w.io", false));
        assert_eq!(name("/apis/w.io/v1"), of("v1.w.io", false));
        assert_eq!(name("/apis/w.io/v1/"), of("v1.w.io", false));
        assert_eq!(name("/openapi/v3/apis/w.io/v1"), of("v1.w.io", true));
        assert_eq!((name("/api"), name("/api/v1/pods")), (of("v1.", false), of("v1.", false)));
        for path in ["/apis", "/apis/w.io", "/apis/w.io/", "/healthz", "/", "", "/openapi/v3", "/openapi/v2"] {
            assert_eq!(name(path), None, "{path}");
        }
        assert_eq!(name("/apis/apiregistration.k8s.io/v1/apiservices"), None, "or nobody could take it back");
        assert_eq!(name("/openapi/v3/apis/w.io/v1/x"), None);
    }
}
