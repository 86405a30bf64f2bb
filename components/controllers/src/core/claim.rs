//! Which objects belong to a controller: those it controls and still selects, plus matching orphans, which it adopts. Those
//! it controls but no longer selects are released. (client-go: ControllerRefManager.)

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams};
use kube::core::Selector;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::informer::Object;
use super::meta;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// The rule, without side effects.
pub fn judge(candidate: &ObjectMeta, owner: &ObjectMeta, selector: &Selector) -> Verdict {
    let matches = meta::selects(selector, candidate);
    let owner_going = owner.deletion_timestamp.is_some();
    match meta::controller_of(candidate) {
        Some(controller) if controller.uid != meta::uid(owner) => Verdict::Ignore,
        Some(_) if matches => Verdict::Keep,
        Some(_) if owner_going => Verdict::Ignore,
        Some(_) => Verdict::Release,
        None if matches && !owner_going && candidate.deletion_timestamp.is_none() => Verdict::Adopt,
        None => Verdict::Ignore,
    }
}

/// Applies the rule to all candidates and returns what belongs to the owner now. `finalizer` is added on adoption and
/// removed on release.
pub async fn claim<O, K>(
    client: &Client,
    owner: &O,
    selector: &Selector,
    candidates: Vec<Arc<K>>,
    finalizer: Option<&str>,
) -> anyhow::Result<Vec<Arc<K>>>
where
    O: Object + Resource<Scope = NamespaceResourceScope>,
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let ns = meta::namespace(owner.meta());
    let (mut mine, mut owner_checked) = (Vec::new(), false);
    for candidate in candidates {
        match judge(candidate.meta(), owner.meta(), selector) {
            Verdict::Keep => mine.push(candidate),
            Verdict::Ignore => {}
            Verdict::Release => release(client, ns, candidate.as_ref(), meta::uid(owner.meta()), finalizer).await?,
            Verdict::Adopt => {
                if !owner_checked {
                    let name = meta::name(owner.meta());
                    live_owner(client, owner).await.with_context(|| format!("cannot adopt for {name}"))?;
                    owner_checked = true;
                }
                let adopted = adopt(client, ns, candidate.as_ref(), meta::controller_ref(owner), finalizer).await?;
                mine.extend(adopted.map(Arc::new));
            }
        }
    }
    Ok(mine)
}

/// What the API server says of an owner. The cache may lag: nothing is given to one that is gone, replaced or going.
pub async fn live_owner<O>(client: &Client, owner: &O) -> anyhow::Result<ObjectMeta>
where
    O: Object + Resource<Scope = NamespaceResourceScope>,
{
    let (kind, name) = (O::kind(&()), meta::name(owner.meta()));
    let api = Api::<O>::namespaced(client.clone(), meta::namespace(owner.meta()));
    let live = api.get_metadata(name).await.with_context(|| format!("cannot read {kind} {name}"))?.metadata;
    let same = live.uid == owner.meta().uid && live.deletion_timestamp.is_none();
    anyhow::ensure!(same, "{kind} {name} was deleted meanwhile");
    Ok(live)
}

async fn adopt<K>(
    client: &Client,
    ns: &str,
    object: &K,
    owner: OwnerReference,
    finalizer: Option<&str>,
) -> anyhow::Result<Option<K>>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|it| it.uid != owner.uid);
    owners.push(owner);
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.extend(finalizer.filter(|it| !meta::has_finalizer(object.meta(), it)).map(str::to_owned));
    patch_owners(client, ns, object, owners, finalizers).await
}

async fn release<K>(
    client: &Client,
    ns: &str,
    object: &K,
    owner_uid: &str,
    finalizer: Option<&str>,
) -> anyhow::Result<()>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|it| it.uid != owner_uid);
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.retain(|it| Some(it.as_str()) != finalizer);
    patch_owners(client, ns, object, owners, finalizers).await.map(drop)
}

async fn patch_owners<K>(
    client: &Client,
    ns: &str,
    object: &K,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
) -> anyhow::Result<Option<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let name = meta::name(object.meta());
    let patch = json!({"metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "ownerReferences": owners,
        "finalizers": finalizers,
    }});
    let api = Api::<K>::namespaced(client.clone(), ns);
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if meta::not_found(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot change the owner of {} {ns}/{name}", K::kind(&()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn metadata(uid: &str, owner: Option<&str>, label: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            labels: Some([("app".to_owned(), label.to_owned())].into()),
            owner_references: owner
                .map(|uid| vec![OwnerReference { uid: uid.into(), controller: Some(true), ..Default::default() }]),
            ..Default::default()
        }
    }

    #[test]
    fn keeps_adopts_releases() {
        let selector: Selector = [("app", "x")].into_iter().collect();
        let owner = metadata("o", None, "");
        assert_eq!(judge(&metadata("p", Some("o"), "x"), &owner, &selector), Verdict::Keep);
        assert_eq!(judge(&metadata("p", Some("o"), "y"), &owner, &selector), Verdict::Release);
        assert_eq!(judge(&metadata("p", None, "x"), &owner, &selector), Verdict::Adopt);
        assert_eq!(judge(&metadata("p", None, "y"), &owner, &selector), Verdict::Ignore);
        assert_eq!(judge(&metadata("p", Some("other"), "x"), &owner, &selector), Verdict::Ignore);
        let mut going = owner.clone();
        going.deletion_timestamp = Some(meta::now_time());
        assert_eq!(judge(&metadata("p", None, "x"), &going, &selector), Verdict::Ignore);
    }
}
