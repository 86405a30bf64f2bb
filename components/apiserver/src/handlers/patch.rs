//! Patch: JSON patch, merge patch, strategic merge patch; retried until it is applied to what is stored.

use http::StatusCode;
use machinery::{ApiError, patch, schema, value::str_at};
use serde_json::Value;

use super::{
    Target, apply,
    decode::{self, FieldValidation, Findings},
    options, respond, update,
};
use crate::{
    http::{Request, Response, body, respond::add_warnings},
    pipeline::Call,
};

#[derive(Clone, Copy)]
pub enum Kind {
    Json,
    Merge,
    Strategic,
}

const ACCEPTED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    apply::MEDIA_TYPE,
];

impl Kind {
    fn from_media_type(text: &str) -> Option<Self> {
        match text {
            "application/json-patch+json" => Some(Kind::Json),
            "application/merge-patch+json" => Some(Kind::Merge),
            "application/strategic-merge-patch+json" => Some(Kind::Strategic),
            _ => None,
        }
    }

    pub fn apply(self, definition: &str, object: &mut Value, patch: &Value) -> Result<(), ApiError> {
        match self {
            Kind::Json => patch::json_patch(object, patch)?,
            Kind::Merge => patch::merge_patch(object, patch),
            Kind::Strategic => patch::strategic_merge(definition, object, patch)?,
        }
        Ok(())
    }
}

/// The patch in a request's body, with the duplicate keys in it.
pub async fn read(request: Request) -> Result<(Kind, Value, Vec<String>), ApiError> {
    let kind = Kind::from_media_type(&decode::media_type(&request))
        .ok_or_else(|| ApiError::unsupported_media_type(ACCEPTED))?;
    let bytes = body::read(request.into_body()).await?;
    let (patch, duplicates) =
        schema::parse_json(&bytes).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if !matches!(kind, Kind::Json) && !patch.is_object() {
        return Err(ApiError::bad_request("the patch must be an object"));
    }
    Ok((kind, patch, duplicates))
}

pub async fn patch(call: &Call, target: &Target, part: update::Part, request: Request) -> Result<Response, ApiError> {
    let resource = &*target.resource;
    let dry_run = options::check(call, "PatchOptions", false)?;
    let validation = FieldValidation::of(call)?;
    let (kind, patch, duplicates) = read(request).await?;
    let warnings = parking_lot::Mutex::new(Vec::new());
    let encoded = update::change(call, target, part, dry_run, |current| {
        let mut object = current.object.clone();
        kind.apply(resource.definition, &mut object, &patch)?;
        decode::check_kind(&object, &resource.api_version(), resource.kind)?;
        let mut findings = Findings::default();
        findings.duplicates(duplicates.clone());
        findings.unknown(decode::check_shape(resource, &mut object)?);
        *warnings.lock() = findings.judge(validation)?;
        check_same(target, &object)?;
        Ok(object)
    })
    .await?;
    let mut response = respond::object(call, resource, StatusCode::OK, &encoded)?;
    add_warnings(&mut response, &warnings.into_inner());
    Ok(response)
}

/// A patch cannot rename or move.
pub fn check_same(target: &Target, object: &Value) -> Result<(), ApiError> {
    let name = str_at(object, "metadata.name");
    if name != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if target.resource.namespaced && str_at(object, "metadata.namespace") != target.namespace {
        return Err(ApiError::bad_request("the namespace of the object does not match the namespace on the URL"));
    }
    Ok(())
}
