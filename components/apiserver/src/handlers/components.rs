//! `componentstatuses`: an old question, answered from what this process knows of itself. Nothing is stored.

use http::StatusCode;
use machinery::{ApiError, table};
use serde_json::{Value, json};

use super::{
    Target,
    respond::{include, with_version},
};
use crate::{
    http::{Form, Response, respond},
    pipeline::Call,
};

/// The store is the only component whose state the API server itself can tell.
const STORE: &str = "etcd-0";

pub async fn answer(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let store = status(call).await;
    let value = match (call.info.verb, call.accept.form) {
        ("get", _) if target.name != STORE => return Err(target.not_found()),
        ("get", Form::Object) => store,
        ("get", Form::PartialMetadata) => with_version(table::partial_metadata(&store), &call.accept),
        (_, Form::Table) => {
            with_version(table::render(&target.resource, &[store], json!({}), include(call)?, true), &call.accept)
        }
        (_, Form::PartialMetadata) => with_version(
            json!({"kind": "PartialObjectMetadataList", "metadata": {}, "items": [table::partial_metadata(&store)]}),
            &call.accept,
        ),
        (_, Form::Object) => {
            json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [store]})
        }
    };
    Ok(respond::value(StatusCode::OK, call.accept.syntax, &value))
}

async fn status(call: &Call) -> Value {
    let read = call.core.store.get("/health").await;
    let condition = match read {
        Ok(_) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(error) => json!({"type": "Healthy", "status": "False", "error": error.to_string()}),
    };
    json!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": STORE, "creationTimestamp": null}, "conditions": [condition],
    })
}
