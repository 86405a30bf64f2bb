//! DefaultStorageClass and StorageObjectInUseProtection.

use machinery::{
    ApiError,
    value::{list_at, str_at},
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
