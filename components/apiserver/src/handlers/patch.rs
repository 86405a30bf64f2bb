//! Patch: JSON patch, merge patch, strategic merge patch; retried until it is applied to what is stored.

use http::StatusCode;
use machinery::{ApiError, FieldError, Path, patch, schema, value::str_at};
use serde_json::Value;

use super::{
    Target, apply,
    decode::{self, FieldValidation, Findings},
    options, respond, update,
};
use crate::{
    http::{Request, Response, body, respond::add_warnings},
    pipeline::Call,
    registry::Stored,
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

/// The patch in a request's body, with what strict decoding says against it.
pub async fn read(request: Request) -> Result<(Kind, Value, Vec<String>), ApiError> {
    let kind = Kind::from_media_type(&decode::media_type(&request))
        .ok_or_else(|| ApiError::unsupported_media_type(ACCEPTED))?;
    let bytes = body::read(request.into_body()).await?;
    let (patch, duplicates) =
        schema::parse_json(&bytes).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if !matches!(kind, Kind::Json) && !patch.is_object() {
        return Err(ApiError::bad_request("the patch must be an object"));
    }
    let problems = match kind {
        Kind::Json if !duplicates.is_empty() || has_unknown_parts(&patch) => {
            decode::in_order(&bytes, is_unknown_part).into_iter().map(|text| format!("json patch {text}")).collect()
        }
        Kind::Json => Vec::new(),
        _ => duplicates.iter().map(|path| decode::duplicate_field(path)).collect(),
    };
    Ok((kind, patch, problems))
}

/// What an operation of a JSON patch consists of.
const PARTS: &[&str] = &["op", "path", "from", "value"];

fn has_unknown_parts(patch: &Value) -> bool {
    let operations = patch.as_array().into_iter().flatten().filter_map(Value::as_object);
    operations.flat_map(|operation| operation.keys()).any(|part| !PARTS.contains(&part.as_str()))
}

/// Of `[0].from`, whether nobody knows that part.
fn is_unknown_part(path: &str) -> bool {
    path.split_once("].").is_some_and(|(_, part)| !part.contains(['.', '[']) && !PARTS.contains(&part))
}

pub async fn patch(call: &Call, target: &Target, part: update::Part, request: Request) -> Result<Response, ApiError> {
    let resource = &*target.resource;
    let dry_run = options::check(call, "PatchOptions", false)?;
    let validation = FieldValidation::of(call)?;
    let (kind, patch, problems) = read(request).await?;
    if matches!(kind, Kind::Strategic) && resource.custom().is_some() {
        // nothing says how the lists of a custom resource merge
        let accepted: Vec<&str> = ACCEPTED.iter().copied().filter(|it| !it.contains("strategic")).collect();
        return Err(ApiError::unsupported_media_type(&accepted));
    }
    let warnings = parking_lot::Mutex::new(Vec::new());
    let encoded = update::change(call, target, part, dry_run, |current| {
        let mut object = current.object.clone();
        kind.apply(resource.definition, &mut object, &patch)?;
        decode::check_kind(&object, &resource.api_version(), resource.kind)?;
        let judged = decode::shape(resource, &mut object).and_then(|unknown| {
            let mut findings = Findings(problems.clone());
            findings.unknown(&unknown);
            findings.judge(validation)
        });
        *warnings.lock() = judged.map_err(|why| unfit(kind, resource.definition, current, &patch, why))?;
        check_same(target, &object)?;
        Ok(object)
    })
    .await?;
    let mut response = respond::object(call, resource, StatusCode::OK, &encoded)?;
    add_warnings(&mut response, &warnings.into_inner());
    Ok(response)
}

/// The refusal of a patch that makes an object that does not fit its kind. It shows the object; of a strategic merge patch, the patch.
fn unfit(kind: Kind, definition: &str, current: &Stored, patch: &Value, why: String) -> ApiError {
    let shown = match kind {
        Kind::Strategic => machinery::value::go_text(patch),
        _ => {
            let mut object = current.object.clone();
            // it was applied before
            kind.apply(definition, &mut object, patch).map_or_else(|e| e.message, |()| object.to_string())
        }
    };
    ApiError::invalid("", "", "", &[FieldError::invalid(&Path::new("patch"), shown, why)])
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
