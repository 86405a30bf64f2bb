//! The cluster's ClusterTrustBundles, mirrored by one watch from the moment a pod first wants any of them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use client::mirror::{Key, Mirror};
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

/// How long a pod waits for the first list before it reports an error and retries.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// What is kept of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Empty for bundles of nobody.
    pub signer: String,
    pub labels: BTreeMap<String, String>,
    pub pem: String,
}

/// All bundles by (empty) namespace and name.
pub type Snapshot = Arc<BTreeMap<Key, Arc<Bundle>>>;

/// `None` until the first list is complete.
pub type Changes = watch::Receiver<Option<Snapshot>>;

#[derive(Clone)]
pub struct Bundles(Arc<Inner>);

struct Inner {
    client: kube::Client,
    changes: OnceLock<Changes>,
}

impl Bundles {
    pub fn new(client: kube::Client) -> Self {
        Bundles(Arc::new(Inner { client, changes: OnceLock::new() }))
    }

    /// Starts the watch or joins it; it goes on for the kubelet's life.
    pub fn changes(&self) -> Changes {
        let start = || {
            let (sender, receiver) = watch::channel(None);
            tokio::spawn(follow(self.0.client.clone(), sender));
            receiver
        };
        self.0.changes.get_or_init(start).clone()
    }

    /// The bundles as they are now; `None` if the API server has not told them within some seconds.
    pub async fn get(&self) -> Option<Snapshot> {
        let mut changes = self.changes();
        let listed = tokio::time::timeout(FIRST_LIST, changes.wait_for(Option::is_some)).await;
        listed.ok()?.ok()?.clone()
    }
}

async fn follow(client: kube::Client, sender: watch::Sender<Option<Snapshot>>) {
    let api: Api<ClusterTrustBundle> = Api::all(client);
    let mut mirror: Mirror<Arc<Bundle>> = Mirror::default();
    let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                mirror.apply(event, |bundle| Some(Arc::new(reduce(bundle))));
                if mirror.complete {
                    publish(&sender, &mirror.objects);
                }
            }
            Err(error) => tracing::debug!(%error, "watch of trust bundles interrupted"),
        }
    }
}

fn publish(sender: &watch::Sender<Option<Snapshot>>, objects: &BTreeMap<Key, Arc<Bundle>>) {
    sender.send_if_modified(|known| {
        let same = known.as_ref().is_some_and(|known| **known == *objects);
        if !same {
            *known = Some(Arc::new(objects.clone()));
        }
        !same
    });
}

fn reduce(bundle: &ClusterTrustBundle) -> Bundle {
    Bundle {
        signer: bundle.spec.signer_name.clone().unwrap_or_default(),
        labels: bundle.labels().clone(),
        pem: bundle.spec.trust_bundle.clone(),
    }
}
