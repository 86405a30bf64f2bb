//! The kinds that several components use, compiled here once for all of them.
//!
//! What kube and serde make of a kind (reading its JSON, watching it, dropping it) is generic code, of which every crate that uses
//! the kind would hold a copy of its own. A crate above takes what a crate below holds already (rustc's share-generics, at
//! opt-levels below 2), so one use of each kind here takes megabytes off the executable and minutes off its build.

use std::fmt::Debug;
use std::pin::{Pin, pin};

use futures::StreamExt;
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
        ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::{Serialize, de::DeserializeOwned};

type Uses = Pin<Box<dyn Future<Output = kube::Result<()>> + Send>>;

/// Everything that components ask of a kind. Nobody runs it.
fn uses<K>(client: &Client) -> Uses
where
    K: Resource<DynamicType = ()> + Clone + Debug + Default + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    Box::pin(async move {
        api.list(&ListParams::default()).await?;
        let mut object = api.get("").await?;
        object = api.create(&PostParams::default(), &object).await?;
        object = api.replace("", &PostParams::default(), &object).await?;
        object = api.replace_status("", &PostParams::default(), &object).await?;
        api.patch("", &PatchParams::default(), &Patch::Merge(serde_json::Value::Null)).await?;
        api.patch_status("", &PatchParams::default(), &Patch::Merge(&object)).await?;
        api.delete("", &DeleteParams::default()).await?;
        let mut plain = pin!(watcher(api.clone(), watcher::Config::default()));
        while plain.next().await.is_some() {}
        let mut patient = pin!(watcher(api, watcher::Config::default()).default_backoff());
        while patient.next().await.is_some() {}
        Ok(())
    })
}

/// A use of each kind: what makes the compiler write the code down in this crate.
pub fn shared(client: &Client) -> Vec<Uses> {
    vec![
        uses::<CertificateSigningRequest>(client),
        uses::<ConfigMap>(client),
        uses::<EndpointSlice>(client),
        uses::<Event>(client),
        uses::<Lease>(client),
        uses::<Namespace>(client),
        uses::<Node>(client),
        uses::<PersistentVolume>(client),
        uses::<PersistentVolumeClaim>(client),
        uses::<Pod>(client),
        uses::<PodDisruptionBudget>(client),
        uses::<Secret>(client),
        uses::<Service>(client),
        uses::<ServiceAccount>(client),
        uses::<StorageClass>(client),
    ]
}
