//! Server-side apply: `PATCH` with an applied configuration.

use http::StatusCode;
use machinery::ApiError;
use serde_json::Value;

use super::{
    Target, create,
    decode::{self, FieldValidation, Findings},
    managed, options, patch, respond, update, yaml,
};
use crate::{
    authz,
    http::{Request, Response, body, respond::add_warnings},
    pipeline::Call,
};

pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// What a client wants applied.
pub struct Applied {
    pub config: Value,
    pub force: bool,
    pub dry_run: bool,
    pub warnings: Vec<String>,
}

impl Applied {
    pub async fn read(call: &Call, request: Request) -> Result<Self, ApiError> {
        let dry_run = options::check(call, "PatchOptions", true)?;
        let bytes = body::read(request.into_body()).await?;
        let config = yaml::parse(&bytes).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
        if !config.is_object() {
            return Err(ApiError::bad_request("error decoding YAML: the applied configuration is not an object"));
        }
        let warnings = check_duplicates(FieldValidation::of(call)?, &bytes)?;
        Ok(Applied { config, force: call.query.flag("force"), dry_run, warnings })
    }
}

fn check_duplicates(validation: FieldValidation, bytes: &[u8]) -> Result<Vec<String>, ApiError> {
    let Some(problem) = (validation != FieldValidation::Ignore).then(|| yaml::duplicates(bytes)).flatten() else {
        return Ok(Vec::new());
    };
    if validation == FieldValidation::Strict {
        let message = format!("error strict decoding YAML: error converting YAML to JSON: {problem}");
        return Err(ApiError::bad_request(message));
    }
    Findings(vec![problem]).judge(validation).map_err(ApiError::bad_request)
}

pub async fn apply(call: &Call, target: &Target, part: update::Part, request: Request) -> Result<Response, ApiError> {
    let applied = Applied::read(call, request).await?;
    let (status, encoded) = write(call, target, part, &applied).await?;
    let mut response = respond::object(call, &target.resource, status, &encoded)?;
    add_warnings(&mut response, &applied.warnings);
    Ok(response)
}

/// Applies to what is there, or creates it; who loses a race of creations applies to the winner's object.
async fn write(
    call: &Call,
    target: &Target,
    part: update::Part,
    applied: &Applied,
) -> Result<(StatusCode, respond::Encoded), ApiError> {
    let mut lost = 0;
    loop {
        match merge(call, target, part, applied).await {
            Err(error) if error.reason == "NotFound" && part == update::Part::Main => {}
            result => return result.map(|encoded| (StatusCode::OK, encoded)),
        }
        match create(call, target, applied).await {
            Err(error) if error.reason == "AlreadyExists" => {
                lost += 1;
                update::back_off(lost).await;
            }
            result => return result.map(|encoded| (StatusCode::CREATED, encoded)),
        }
    }
}

async fn merge(
    call: &Call,
    target: &Target,
    part: update::Part,
    applied: &Applied,
) -> Result<respond::Encoded, ApiError> {
    let config = (&applied.config, applied.force);
    managed::change(call, target, part, applied.dry_run, |current, conversions| {
        let mut object = managed::applied(call, target, part, Some(current), config, conversions)?;
        decode::check_shape(&target.resource, &mut object)?;
        create::place(target, &mut object)?;
        patch::check_same(target, &object)?;
        Ok(object)
    })
    .await
}

async fn create(call: &Call, target: &Target, applied: &Applied) -> Result<respond::Encoded, ApiError> {
    let what = authz::Attributes::of(&call.info, None).with_verb("create");
    authz::authorize(&call.core, &call.identity, &what).await?;
    let mut object = managed::applied_first(call, target, &applied.config, applied.force).await?;
    decode::check_shape(&target.resource, &mut object)?;
    create::place(target, &mut object)?;
    patch::check_same(target, &object)?;
    create::create_applied(call, &mut target.clone(), object, applied.dry_run).await
}
