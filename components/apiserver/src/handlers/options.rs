//! Options of writes in the query, checked as upstream checks them (apimachinery `meta/v1/validation`).

use machinery::{ApiError, FieldError, Path, apply::MAX_MANAGER};

use super::apply;
use crate::{http::Request, pipeline::Call};

const META: &str = "meta.k8s.io";

/// Checks the options of a create, update or patch (`kind` is their type); whether it is a dry run.
pub fn check(call: &Call, kind: &str, is_apply: bool) -> Result<bool, ApiError> {
    let query = &call.query;
    let mut errors = Vec::new();
    let manager = query.get("fieldManager").unwrap_or_default();
    let path = Path::new("fieldManager");
    if is_apply && manager.is_empty() {
        errors.push(FieldError::required(&path, "is required for apply patch"));
    }
    if !is_apply && query.has("force") {
        errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
    }
    if manager.len() > MAX_MANAGER {
        errors.push(FieldError::too_long(&path, MAX_MANAGER));
    }
    if manager.chars().any(char::is_control) {
        errors.push(FieldError::invalid(&path, manager, "should only contain printable characters"));
    }
    errors.extend(one_of(call, "dryRun", &["All"]));
    errors.extend(one_of(call, "fieldValidation", &["Ignore", "Warn", "Strict"]));
    if errors.is_empty() { query.dry_run() } else { Err(ApiError::invalid(META, kind, "", &errors)) }
}

fn one_of(call: &Call, key: &str, known: &[&str]) -> Option<FieldError> {
    let given = call.query.get(key).filter(|given| !known.contains(given))?;
    Some(FieldError::not_supported(&Path::new(key), given, known))
}

/// Whether a patch's body is an applied configuration.
pub fn is_apply(request: &Request) -> bool {
    super::decode::media_type(request) == apply::MEDIA_TYPE
}
