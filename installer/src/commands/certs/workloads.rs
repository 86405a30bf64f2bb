//! Restarting workloads as `kubectl rollout restart` does: pod by pod, as each says it can bear.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::apply::MANAGED_BY;
use crate::validate;

const KINDS: [&str; 3] = ["Deployment", "DaemonSet", "StatefulSet"];

/// Those that have a service account's credentials: kinstall's own, or `all`. Waits until they are available again; gives their
/// names.
pub async fn restart(client: &Client, all: bool, timeout: Duration) -> anyhow::Result<Vec<String>> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339)?;
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let mut restarted: Vec<Value> = Vec::new();
    for kind in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let list = Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await;
        for object in list.with_context(|| format!("cannot list every {kind}"))?.items {
            let namespace = object.namespace().unwrap_or_default();
            let ours = namespace == "kube-system"
                && object.labels().get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1);
            if !(all || ours) || !has_credentials(&object) {
                continue;
            }
            let name = object.name_any();
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.with_context(|| format!("cannot restart {kind} {namespace}/{name}"))?;
            restarted.push(json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}}));
        }
    }
    validate::workloads_available(client, &restarted, timeout).await?;
    let name = |object: &Value| {
        let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", part("namespace"), part("name"))
    };
    Ok(restarted.iter().map(name).collect())
}

/// What says that it wants no token speaks to no API server. One that has no replicas is not waited for.
fn has_credentials(object: &DynamicObject) -> bool {
    let none = object.data.pointer("/spec/replicas") == Some(&json!(0))
        || object.data.pointer("/status/desiredNumberScheduled") == Some(&json!(0));
    let refused = object.data.pointer("/spec/template/spec/automountServiceAccountToken") == Some(&json!(false));
    !none && !refused
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_takes_no_token_or_does_not_run_is_left_alone() {
        let of = |spec: Value| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap()
        };
        assert!(has_credentials(&of(json!({"replicas": 2, "template": {"spec": {}}}))));
        assert!(!has_credentials(&of(json!({"replicas": 0}))));
        assert!(!has_credentials(&of(json!({"template": {"spec": {"automountServiceAccountToken": false}}}))));
    }
}
