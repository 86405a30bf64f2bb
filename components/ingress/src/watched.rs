//! Copies of the objects that routes are made from, kept by watches.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// Changes come in bursts (a rollout changes many endpoints); one new table serves the whole burst.
const BURST: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub struct Objects {
    ingresses: Store<Ingress>,
    classes: Store<IngressClass>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    secrets: Store<Secret>,
    nodes: Store<Node>,
    routes_changed: Arc<Notify>,
    statuses_changed: Arc<Notify>,
}

/// Everything at one moment.
#[derive(Default)]
pub struct Snapshot {
    pub ingresses: Vec<Arc<Ingress>>,
    pub classes: Vec<Arc<IngressClass>>,
    pub services: Vec<Arc<Service>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    pub secrets: Vec<Arc<Secret>>,
}

pub fn start(client: &Client) -> Objects {
    let (routes, statuses) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (all, tls) = (watcher::Config::default(), watcher::Config::default().fields("type=kubernetes.io/tls"));
    Objects {
        ingresses: follow(Api::all(client.clone()), all.clone(), [&routes, &statuses].map(Arc::clone).to_vec()),
        classes: follow(Api::all(client.clone()), all.clone(), [&routes, &statuses].map(Arc::clone).to_vec()),
        services: follow(Api::all(client.clone()), all.clone(), vec![routes.clone()]),
        slices: follow(Api::all(client.clone()), all.clone(), vec![routes.clone()]),
        secrets: follow(Api::all(client.clone()), tls, vec![routes.clone()]),
        nodes: follow(Api::all(client.clone()), all, vec![statuses.clone()]),
        routes_changed: routes,
        statuses_changed: statuses,
    }
}

fn follow<K>(api: Api<K>, config: watcher::Config, tell: Vec<Arc<Notify>>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store::<K>();
    let stream = reflector::reflector(
        writer,
        watcher(api, config).modify(|object| object.meta_mut().managed_fields = None).default_backoff(),
    );
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(_) => tell.iter().for_each(|notify| notify.notify_one()),
                Err(error) => tracing::warn!(resource = %K::plural(&()), %error, "watch failed; trying again"),
            }
        }
    });
    reader
}

impl Objects {
    /// Returns when every watch has delivered its first list.
    pub async fn synced(&self) -> anyhow::Result<()> {
        self.ingresses.wait_until_ready().await?;
        self.classes.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.nodes.wait_until_ready().await?;
        Ok(())
    }

    pub async fn changed(&self) {
        self.routes_changed.notified().await;
        tokio::time::sleep(BURST).await;
    }

    pub async fn statuses_changed(&self) {
        self.statuses_changed.notified().await;
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            ingresses: self.ingresses.state(),
            classes: self.classes.state(),
            services: self.services.state(),
            slices: self.slices.state(),
            secrets: self.secrets.state(),
        }
    }

    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.state()
    }
}
