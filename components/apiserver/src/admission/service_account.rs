//! ServiceAccount: every pod runs as an account that exists, and finds its token where clients look.

use machinery::{
    ApiError, names,
    value::{get, list_at, str_at},
};
use serde_json::{Value, json};

use super::{Attempt, Operation};
use crate::registry;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// An hour, and a little so that the kubelet refreshes before it is over.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";

pub async fn admit(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !attempt.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return match str_at(pod, "spec.serviceAccountName") {
            "" => Ok(()),
            _ => Err(attempt.target.forbidden("a mirror pod may not reference service accounts")),
        };
    }
    machinery::value::default_to(&mut pod["spec"], "serviceAccountName", "default");
    let name = str_at(pod, "spec.serviceAccountName").to_owned();
    pod["spec"]["serviceAccount"] = name.as_str().into();
    let accounts = registry::find("", "v1", "serviceaccounts").ok_or_else(ApiError::no_such_resource)?;
    let account = match registry::look(&attempt.call.core, accounts, &attempt.target.namespace, &name).await {
        Ok(account) => account,
        Err(error) if error.code == 404 => {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
                attempt.target.namespace
            );
            return Err(attempt.target.forbidden(&why));
        }
        Err(error) => return Err(error),
    };
    if wants_token(pod, &account) {
        mount_token(pod);
    }
    let secrets = list_at(&account, "imagePullSecrets");
    if list_at(pod, "spec.imagePullSecrets").is_empty() && !secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = secrets.into();
    }
    Ok(())
}

/// The pod's word counts before the account's.
fn wants_token(pod: &Value, account: &Value) -> bool {
    get(pod, "spec.automountServiceAccountToken")
        .and_then(Value::as_bool)
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = list_at(pod, "spec.volumes")
        .iter()
        .map(|v| str_at(v, "name"))
        .find(|n| n.starts_with(VOLUME))
        .map(str::to_owned);
    let is_new = existing.is_none();
    let name = existing.unwrap_or_else(|| format!("{VOLUME}{}", names::random_suffix(5)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mut mounts = list_at(container, "volumeMounts").to_vec();
            if mounts.iter().any(|m| str_at(m, "mountPath") == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            container["volumeMounts"] = mounts.into();
            mounted = true;
        }
    }
    if mounted && is_new {
        let mut volumes = list_at(pod, "spec.volumes").to_vec();
        volumes.push(volume(&name));
        pod["spec"]["volumes"] = volumes.into();
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
