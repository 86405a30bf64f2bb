//! DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize.

use machinery::{
    ApiError, quantity,
    value::{bool_at, get, list_at, str_at},
};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::registry;

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// A claim that names no class gets the newest default one; `storageClassName: ""` asks for none.
pub async fn default_class(attempt: &Attempt<'_>, claim: &mut Value) -> Result<(), ApiError> {
    let unset = claim["spec"].get("storageClassName").is_none_or(Value::is_null)
        && claim["metadata"]["annotations"].get("volume.beta.kubernetes.io/storage-class").is_none();
    if !attempt.is(Operation::Create, "", "persistentvolumeclaims") || !unset {
        return Ok(());
    }
    let Some(classes) = registry::find("storage.k8s.io", "v1", "storageclasses") else { return Ok(()) };
    let all = registry::read_all(&attempt.call.core, classes, "").await?;
    let is_default = |c: &Value| c["metadata"]["annotations"][DEFAULT] == "true";
    let newest = all.iter().map(|s| &s.object).filter(|c| is_default(c)).max_by_key(|c| {
        (str_at(c, "metadata.creationTimestamp").to_owned(), std::cmp::Reverse(str_at(c, "metadata.name").to_owned()))
    });
    if let Some(class) = newest {
        claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}

/// Claims and volumes in use outlive their deletion until controllers take the finalizer away.
pub fn protect(attempt: &Attempt<'_>, object: &mut Value) {
    let finalizer = if attempt.is(Operation::Create, "", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if attempt.is(Operation::Create, "", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else {
        return;
    };
    let mut finalizers = list_at(object, "metadata.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.into());
    }
    object["metadata"]["finalizers"] = finalizers.into();
}

/// A claim grows only when it is bound and its class can grow volumes.
pub async fn resize(attempt: &Attempt<'_>, claim: &Value) -> Result<(), ApiError> {
    let Some(old) = attempt.old.filter(|_| attempt.is(Operation::Update, "", "persistentvolumeclaims")) else {
        return Ok(());
    };
    let size =
        |claim: &Value| get(claim, "spec.resources.requests").and_then(|r| quantity::from_json(r.get("storage")?).ok());
    if size(claim) <= size(old) {
        return Ok(());
    }
    if str_at(old, "status.phase") != "Bound" {
        return Err(attempt.target.forbidden("Only bound persistent volume claims can be expanded"));
    }
    if can_grow(attempt, claim, old).await? {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(attempt.target.forbidden(why))
}

async fn can_grow(attempt: &Attempt<'_>, claim: &Value, old: &Value) -> Result<bool, ApiError> {
    const OLD_NAME: &str = "volume.beta.kubernetes.io/storage-class";
    let class = |claim: &Value| match get(claim, "metadata.annotations").and_then(|a| a.get(OLD_NAME)) {
        Some(name) => name.as_str().unwrap_or_default().to_owned(),
        None => str_at(claim, "spec.storageClassName").to_owned(),
    };
    let name = class(claim);
    if name.is_empty() || name != class(old) {
        return Ok(false);
    }
    let Some(classes) = registry::find("storage.k8s.io", "v1", "storageclasses") else { return Ok(false) };
    match registry::read(&attempt.call.core, classes, "", &name).await {
        Ok(stored) => Ok(bool_at(&stored.object, "allowVolumeExpansion")),
        Err(error) if error.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}
