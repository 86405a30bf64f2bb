//! Parameters of policies: the objects a binding names.

use machinery::{ApiError, ResourceRef, selector::LabelSelector, value::str_at};
use serde_json::Value;

use super::current::{Binding, Definition};
use crate::{admission::Attempt, core::Core, registry};

/// Why there are no parameters.
pub enum Wrong {
    /// With the policy itself.
    Policy(String),
    Binding(String),
}

/// The served resource of a kind.
fn resource(core: &Core, api_version: &str, kind: &str) -> Option<ResourceRef> {
    registry::served(core).into_iter().find(|r| r.kind == kind && r.api_version() == api_version)
}

/// Each parameter the policy is to be evaluated with; one `None` where there are no parameters.
pub async fn collect(
    attempt: &Attempt<'_>,
    definition: &Definition,
    binding: &Binding,
) -> Result<Vec<Option<Value>>, Wrong> {
    let Some((api_version, kind)) = &definition.param_kind else { return Ok(vec![None]) };
    let core = &attempt.call.core;
    let Some(resource) = resource(core, api_version, kind) else {
        return Err(Wrong::Policy(format!(
            "failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"
        )));
    };
    let Some(reference) = &binding.params else { return Ok(vec![None]) };
    let wrong = |why: &str| Wrong::Binding(why.to_owned());
    let given = str_at(reference, "namespace");
    let namespace = match (resource.namespaced, given, attempt.target.namespace.as_str()) {
        (false, "", _) => "",
        (false, _, _) => {
            return Err(wrong("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"));
        }
        (true, "", "") => {
            return Err(wrong(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources",
            ));
        }
        (true, "", own) => own,
        (true, given, _) => given,
    };
    let found = find(core, &resource, namespace, reference).await.map_err(|e| Wrong::Binding(e.message))?;
    if found.is_empty() && str_at(reference, "parameterNotFoundAction") == "Deny" {
        return Err(wrong("no params found for policy binding with `Deny` parameterNotFoundAction"));
    }
    Ok(found.into_iter().map(Some).collect())
}

async fn find(core: &Core, resource: &ResourceRef, namespace: &str, reference: &Value) -> Result<Vec<Value>, ApiError> {
    let name = str_at(reference, "name");
    if !name.is_empty() {
        return match registry::read(core, resource, namespace, name).await {
            Ok(stored) => Ok(vec![stored.object]),
            Err(error) if error.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        };
    }
    let selector =
        LabelSelector::from_object(reference.get("selector")).map_err(|error| ApiError::bad_request(error.0))?;
    let all = registry::read_all(core, resource, namespace).await?;
    Ok(all.into_iter().map(|stored| stored.object).filter(|object| selector.matches_object(object)).collect())
}
