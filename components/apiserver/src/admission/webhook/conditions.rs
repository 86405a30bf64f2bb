//! `matchConditions`: CEL expressions that spare a webhook the requests it does not want.

use machinery::{ApiError, FieldError, Resource};
use serde_json::Value;

use super::{hooks::Hook, subject::Subject};

pub async fn hold(_subject: &Subject<'_>, _hook: &Hook, _object: &Value) -> Result<bool, ApiError> {
    Ok(true)
}

pub fn validate(_resource: &Resource, _configuration: &Value) -> Vec<FieldError> {
    Vec::new()
}
