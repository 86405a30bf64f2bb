//! Objects of addons that are wanted no more: an addon that was switched off, or whose kind is another one since.

use anyhow::Context as _;
use futures::future::try_join_all;
use hoststate::Action;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PropagationPolicy};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use super::apply::{MANAGED_BY, ObjectChange, describe};

const NAMESPACE: &str = "kube-system";
/// Names of all addons' objects begin so, but for kube-dns, which every cluster has. Somebody's copy of an object bears our
/// label too; its name is another one.
const NAMES: &str = "kinstall";

/// A kind of which addons have objects, or had in a version before.
struct Kind {
    group: &'static str,
    name: &'static str,
    namespaced: bool,
}

const fn kind(group: &'static str, name: &'static str, namespaced: bool) -> Kind {
    Kind { group, name, namespaced }
}

/// In the order in which they go: what works first, then what it was allowed to do.
const KINDS: [Kind; 9] = [
    kind("apps", "Deployment", true),
    kind("apps", "DaemonSet", true),
    kind("", "Service", true),
    kind("", "ConfigMap", true),
    kind("networking.k8s.io", "IngressClass", false),
    kind("storage.k8s.io", "StorageClass", false),
    kind("rbac.authorization.k8s.io", "ClusterRoleBinding", false),
    kind("rbac.authorization.k8s.io", "ClusterRole", false),
    kind("", "ServiceAccount", true),
];

impl Kind {
    fn api(&self, client: &Client) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(self.group, "v1", self.name));
        if self.namespaced {
            Api::namespaced_with(client.clone(), NAMESPACE, &resource)
        } else {
            Api::all_with(client.clone(), &resource)
        }
    }

    fn is_in(&self, documents: &[Value], name: &str) -> bool {
        documents.iter().any(|document| document["kind"] == self.name && document["metadata"]["name"] == name)
    }
}

/// Deletes those of our objects that `wanted`, the manifests of all addons, does not name. Gives what it deleted
/// (`Kind namespace/name`).
///
/// To be called when what is wanted works: an addon whose kind changed is served by the old one until then.
pub async fn addons(client: &Client, wanted: &[Value]) -> anyhow::Result<Vec<String>> {
    let mut gone = Vec::new();
    for (api, object) in superfluous(client, wanted).await? {
        delete(&api, &object).await.with_context(|| format!("cannot delete {}", describe(&object)))?;
        gone.push(describe(&object));
    }
    Ok(gone)
}

/// What [`addons`] would delete; changes nothing.
pub async fn plan(client: &Client, wanted: &[Value]) -> anyhow::Result<Vec<ObjectChange>> {
    let change = |(_, object): &(_, DynamicObject)| ObjectChange {
        object: describe(object),
        action: Action::Remove,
        fields: Vec::new(),
    };
    Ok(superfluous(client, wanted).await?.iter().map(change).collect())
}

async fn superfluous(client: &Client, wanted: &[Value]) -> anyhow::Result<Vec<(Api<DynamicObject>, DynamicObject)>> {
    let ours = &ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    // every `up` asks: all kinds in the time of one
    let asking = KINDS.iter().map(|kind| async move {
        let api = kind.api(client);
        let found = api.list(ours).await.with_context(|| format!("cannot ask for addons of kind {}", kind.name))?;
        anyhow::Ok((kind, api, found))
    });
    let mut superfluous = Vec::new();
    for (kind, api, found) in try_join_all(asking).await? {
        for mut object in found {
            let name = object.name_any();
            let is_going = object.metadata.deletion_timestamp.is_some();
            if !name.starts_with(NAMES) || kind.is_in(wanted, &name) || is_going {
                continue;
            }
            object.types.get_or_insert_default().kind = kind.name.to_owned();
            superfluous.push((api.clone(), object));
        }
    }
    Ok(superfluous)
}

/// Its pods go with it.
async fn delete(api: &Api<DynamicObject>, object: &DynamicObject) -> anyhow::Result<()> {
    let parameters =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    match api.delete(&object.name_any(), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::api::apply::documents;
    use crate::desired::render::{names, render};

    #[test]
    fn whatever_an_addon_has_can_be_removed() {
        let context = json!({"image": "i", "dns_ip": "10.96.0.10", "domain": "cluster.local", "default_class": true});
        for template in names("addons") {
            for object in documents(&render(template, &context).unwrap()).unwrap() {
                let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
                assert!(KINDS.iter().any(|known| known.name == kind), "{kind} of {template} is missing");
                assert!(name.starts_with(NAMES) || name == "kube-dns", "{name} of {template}");
            }
        }
    }

    #[test]
    fn only_what_has_the_same_kind_is_wanted() {
        let wanted = documents("kind: DaemonSet\nmetadata: {name: kinstall-dns}\n").unwrap();
        let is_wanted =
            |name: &str| KINDS.iter().find(|kind| kind.name == name).unwrap().is_in(&wanted, "kinstall-dns");
        assert!(is_wanted("DaemonSet"));
        assert!(!is_wanted("Deployment"));
    }
}
