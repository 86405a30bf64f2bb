//! DefaultIngressClass: an Ingress that names no class gets the newest default one.

use machinery::{
    ApiError,
    value::{get, str_at},
};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::registry;

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// The old way to name a class.
const NAMED: &str = "kubernetes.io/ingress.class";

pub async fn default_class(attempt: &Attempt<'_>, ingress: &mut Value) -> Result<(), ApiError> {
    let unset = get(ingress, "spec.ingressClassName").is_none_or(Value::is_null)
        && get(ingress, "metadata.annotations").is_none_or(|a| a.get(NAMED).is_none());
    if !attempt.is(Operation::Create, "networking.k8s.io", "ingresses") || !unset {
        return Ok(());
    }
    let Some(classes) = registry::find("networking.k8s.io", "v1", "ingressclasses") else { return Ok(()) };
    let all = registry::read_all(&attempt.call.core, classes, "").await?;
    let newest =
        all.iter().map(|s| &s.object).filter(|c| c["metadata"]["annotations"][DEFAULT] == "true").max_by_key(|c| {
            (
                str_at(c, "metadata.creationTimestamp").to_owned(),
                std::cmp::Reverse(str_at(c, "metadata.name").to_owned()),
            )
        });
    if let Some(class) = newest {
        ingress["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}
