//! NamespaceLifecycle: nothing is made in a namespace that is not there or goes away; the system's namespaces stay.

use machinery::{ApiError, value::str_at};

use super::{Attempt, Operation};
use crate::registry;

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub async fn lifecycle(attempt: &Attempt<'_>) -> Result<(), ApiError> {
    let target = attempt.target;
    if attempt.is(Operation::Delete, "", "namespaces") && IMMORTAL.contains(&target.name.as_str()) {
        return Err(target.forbidden("this namespace may not be deleted"));
    }
    if attempt.operation != Operation::Create || !target.resource.namespaced {
        return Ok(());
    }
    let namespaces = registry::find("", "v1", "namespaces").ok_or_else(ApiError::no_such_resource)?;
    let namespace = registry::look(&attempt.call.core, namespaces, "", &target.namespace).await?;
    if str_at(&namespace, "metadata.deletionTimestamp").is_empty() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", target.namespace);
    Err(target.forbidden(&why).with_cause(
        "NamespaceTerminating",
        format!("namespace {} is being terminated", target.namespace),
        "metadata.namespace",
    ))
}
