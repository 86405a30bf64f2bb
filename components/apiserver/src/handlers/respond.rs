//! Objects as answers: plain, as a table row, as metadata; JSON or YAML.

use bytes::Bytes;
use http::StatusCode;
use machinery::{ApiError, Resource, encoding, table};
use serde_json::{Value, json};
use store::Revision;

use super::Target;
use crate::{
    http::{Accept, Form, Response, respond},
    pipeline::Call,
    registry,
};

/// A read or written object as it lies in the store.
pub struct Encoded {
    pub value: Bytes,
    pub revision: Revision,
}

pub async fn get(call: &Call, target: &Target) -> Result<Response, ApiError> {
    if let Some(text) = call.query.get("resourceVersion") {
        super::selection::not_newer_than_now(call, text).await?;
    }
    let kv = registry::read_raw(&call.core, &target.resource, &target.namespace, &target.name).await?;
    object(call, &target.resource, StatusCode::OK, &Encoded { value: kv.value, revision: kv.mod_revision })
}

pub fn object(call: &Call, resource: &Resource, status: StatusCode, encoded: &Encoded) -> Result<Response, ApiError> {
    if call.accept.form == Form::Object {
        let mut out = Vec::with_capacity(encoded.value.len() + 128);
        encoding::write_object(&mut out, &resource.api_version(), resource.kind, encoded.revision, &encoded.value);
        return Ok(respond::encoded(status, call.accept.syntax, out));
    }
    let object = registry::decode(resource, &encoded.value, encoded.revision)?;
    let shaped = match call.accept.form {
        Form::Table => {
            let metadata = json!({"resourceVersion": encoded.revision.to_string()});
            with_version(table::render(resource, &[object], metadata, include(call)?, true), &call.accept)
        }
        _ => with_version(table::partial_metadata(&object), &call.accept),
    };
    Ok(respond::value(status, call.accept.syntax, &shaped))
}

pub fn include(call: &Call) -> Result<table::Include, ApiError> {
    let text = call.query.get("includeObject").unwrap_or_default();
    table::Include::parse(text)
        .ok_or_else(|| ApiError::bad_request(format!("unrecognized includeObject value: {text:?}")))
}

/// Old clients ask for `meta.k8s.io/v1beta1`, whose tables and metadata look the same.
pub fn with_version(mut value: Value, accept: &Accept) -> Value {
    value["apiVersion"] = format!("meta.k8s.io/{}", accept.meta_version).into();
    value
}

/// `metav1.Status` of success, as a delete gives.
pub fn deleted(target: &Target, uid: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": target.name, "group": target.resource.group, "kind": target.resource.plural, "uid": uid},
    })
}
