//! Access to devices that others use: only for claims in namespaces that are labelled for it (kubernetes
//! `pkg/registry/resource`, `AuthorizedForAdmin`).

use machinery::{
    ApiError,
    field::{FieldError, Path},
    value::{bool_at, get, list_at},
};
use serde_json::Value;

use super::Target;
use crate::{core::Core, registry};

const GROUP: &str = "resource.k8s.io";
const LABEL: &str = "resource.kubernetes.io/admin-access";

/// What is wrong with a new claim, or template of claims, that asks for such access. Errors: the namespace cannot be read.
pub async fn asked_by_new(core: &Core, target: &Target, object: &Value) -> Result<Option<FieldError>, ApiError> {
    if target.resource.group != GROUP {
        return Ok(None);
    }
    // the path is that of a claim for both
    let requests = match target.resource.plural {
        "resourceclaims" => list_at(object, "spec.devices.requests"),
        "resourceclaimtemplates" => list_at(object, "spec.spec.devices.requests"),
        _ => return Ok(None),
    };
    let Some(first) = requests.iter().position(|request| bool_at(request, "exactly.adminAccess")) else {
        return Ok(None);
    };
    let path = Path::new("spec").child("devices").child("requests").index(first);
    forbidden(core, target, &path.child("adminAccess")).await
}

/// The same of a status that grants it.
pub async fn granted_by_status(
    core: &Core,
    target: &Target,
    new: &Value,
    old: &Value,
) -> Result<Option<FieldError>, ApiError> {
    let granted = |claim: &Value| {
        let mut results = list_at(claim, "status.allocation.devices.results").iter();
        results.position(|result| bool_at(result, "adminAccess"))
    };
    let concerns = target.resource.group == GROUP && target.resource.plural == "resourceclaims";
    match granted(new) {
        Some(first) if concerns && granted(old).is_none() => {
            let path = Path::new("status").child("allocation").child("devices").child("results").index(first);
            forbidden(core, target, &path.child("adminAccess")).await
        }
        _ => Ok(None),
    }
}

async fn forbidden(core: &Core, target: &Target, path: &Path) -> Result<Option<FieldError>, ApiError> {
    let namespaces = registry::find("", "v1", "namespaces").ok_or_else(ApiError::no_such_resource)?;
    let namespace = registry::look(core, namespaces, "", &target.namespace).await?;
    let labels = get(&namespace, "metadata.labels").unwrap_or(&Value::Null);
    let allowed = labels.get(LABEL).and_then(Value::as_str) == Some("true");
    let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    Ok((!allowed).then(|| FieldError::forbidden(path, detail)))
}
