//! What the cluster serves: discovery, shared by the garbage collector and the namespace controller, so that both also act
//! on custom resources.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Api;
use kube::Client;
use kube::core::{ApiResource, DynamicObject};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Several callers within this time share one discovery.
const FRESH: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub struct Served {
    pub resource: ApiResource,
    pub namespaced: bool,
    pub verbs: BTreeSet<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.contains(verb)
    }

    pub fn api(&self, client: &Client, ns: &str) -> Api<DynamicObject> {
        if self.namespaced && !ns.is_empty() {
            Api::namespaced_with(client.clone(), ns, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    /// Group and plural identify a resource whatever its version.
    pub fn id(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

#[derive(Default, Clone)]
pub struct Catalogue {
    pub served: Vec<Served>,
    /// Group versions that could not be read: what they serve is unknown, not absent.
    pub unknown: Vec<String>,
}

impl Catalogue {
    /// By kind; an owner reference names a version that need not be the preferred one.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<&Served> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.served.iter().find(|it| it.resource.group == group && it.resource.kind == kind)
    }
}

pub struct Resources {
    client: Client,
    cached: Mutex<Option<(Instant, Arc<Catalogue>)>>,
    /// What is served has changed since the last discovery began.
    outdated: AtomicBool,
}

impl Resources {
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client, cached: Mutex::new(None), outdated: AtomicBool::new(false) })
    }

    /// Says that something else is served now.
    pub fn outdate(&self) {
        self.outdated.store(true, Ordering::Relaxed);
    }

    /// The catalogue, at most half a second old, and never older than the last change that was told.
    pub async fn fresh(&self) -> anyhow::Result<Arc<Catalogue>> {
        let mut cached = self.cached.lock().await;
        // before discovery: a change that comes meanwhile asks for another one
        let outdated = self.outdated.swap(false, Ordering::Relaxed);
        if let Some((at, catalogue)) = cached.as_ref()
            && !outdated
            && at.elapsed() < FRESH
        {
            return Ok(catalogue.clone());
        }
        let catalogue = Arc::new(discover(&self.client).await.inspect_err(|_| self.outdate())?);
        *cached = Some((Instant::now(), catalogue.clone()));
        Ok(catalogue)
    }
}

async fn discover(client: &Client) -> anyhow::Result<Catalogue> {
    let core = client.list_core_api_resources("v1").await.context("cannot discover the core API")?;
    let groups = client.list_api_groups().await.context("cannot discover the API groups")?;
    let mut catalogue = Catalogue::default();
    take(&mut catalogue, "v1", core);
    for group in groups.groups {
        let preferred = group.preferred_version.map(|it| it.group_version);
        let others = group.versions.into_iter().map(|it| it.group_version).filter(|it| Some(it) != preferred.as_ref());
        for version in preferred.clone().into_iter().chain(others) {
            match client.list_api_group_resources(&version).await {
                Ok(list) => take(&mut catalogue, &version, list),
                Err(error) => {
                    tracing::debug!(%version, %error, "cannot discover an API group version");
                    catalogue.unknown.push(version);
                }
            }
        }
    }
    Ok(catalogue)
}

fn take(catalogue: &mut Catalogue, group_version: &str, list: APIResourceList) {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    for it in list.resources.into_iter().filter(|it| !it.name.contains('/')) {
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: group_version.into(),
            kind: it.kind,
            plural: it.name,
        };
        let served = Served { resource, namespaced: it.namespaced, verbs: it.verbs.into_iter().collect() };
        // The first version that serves a resource is the preferred one.
        if !catalogue.served.iter().any(|known| known.id() == served.id()) {
            catalogue.served.push(served);
        }
    }
}
