//! Deletion that leaves dependents alone: they lose their owner before it goes.

use anyhow::Context as _;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::ListParams;
use kube::core::{DynamicObject, PartialObjectMeta, Status};

use super::graph::ORPHAN;
use super::{Collector, collectable, remove_finalizer};
use crate::core::meta;
use crate::resources::Served;

/// Lists that are read at the same time.
const LISTS: usize = 8;
/// Objects in one answer.
const PAGE: u32 = 500;

type Metadata = PartialObjectMeta<DynamicObject>;

impl Collector {
    /// Sets free what the owner has, then lets the owner go.
    ///
    /// What it has is read from the API server. The graph will not do: a watch that lags behind the owner's leaves out dependents
    /// that were made just before, and whoever is left out is collected as soon as its owner is gone.
    pub(super) async fn orphan(&self, uid: &str, api: &Api<DynamicObject>, live: &Metadata) -> anyhow::Result<()> {
        let ns = meta::namespace(&live.metadata);
        let catalogue = self.catalogue.lock().clone();
        // only what is cluster-scoped can own what is cluster-scoped
        let may_be_owned = |it: &&Served| collectable(it) && (it.namespaced || ns.is_empty());
        let resources: Vec<_> = catalogue.served.iter().filter(may_be_owned).cloned().collect();
        futures::stream::iter(resources)
            .map(|served| async move { self.set_free(&served, ns, uid).await })
            .buffer_unordered(LISTS)
            .try_collect::<()>()
            .await?;
        remove_finalizer(api, live, ORPHAN).await
    }

    /// Takes the owner from its dependents of one resource.
    async fn set_free(&self, served: &Served, ns: &str, owner: &str) -> anyhow::Result<()> {
        let of = served.api(&self.client, ns);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = match of.list_metadata(&page).await {
                Ok(list) => list,
                Err(kube::Error::Api(error)) if is_unserved(served, &error) => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("cannot list {} to orphan", served.id())),
            };
            for dependent in list.items.iter().filter(|it| is_owned_by(it, owner)) {
                let at = served.api(&self.client, meta::namespace(&dependent.metadata));
                self.drop_owners(&at, dependent, |it| it.uid != owner).await?;
            }
            match list.metadata.continue_.filter(|it| !it.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(()),
            }
        }
    }
}

fn is_owned_by(object: &Metadata, owner: &str) -> bool {
    object.metadata.owner_references.iter().flatten().any(|it| it.uid == owner)
}

/// Its definition is gone, or the extension server behind it is: nobody can be asked, and nothing waits for that.
fn is_unserved(served: &Served, error: &Status) -> bool {
    let group = &served.resource.group;
    let extension = group.contains('.') && !group.ends_with(".k8s.io");
    error.code == 404 || error.code == 405 || (error.code == 503 && extension)
}
