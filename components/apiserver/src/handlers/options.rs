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
    errors.extend(one_of(call, "fieldValidation", &["", "Ignore", "Strict", "Warn"]));
    if errors.is_empty() { query.dry_run() } else { Err(ApiError::invalid(META, kind, "", &errors)) }
}

/// Checks the options of a list or watch (apimachinery `internalversion/validation`).
pub fn check_list(call: &Call, watching: bool) -> Result<(), ApiError> {
    const MATCH: &str = "resourceVersionMatch";
    let query = &call.query;
    let path = Path::new(MATCH);
    let forbidden = |detail: &str| FieldError::forbidden(&path, detail);
    let (matching, initial) = (query.get(MATCH), query.get("sendInitialEvents").is_some());
    let mut errors = Vec::new();
    if watching && initial && matching != Some("NotOlderThan") {
        errors.push(forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if let Some(matching) = matching {
        let known: &[&str] = if watching { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
        if watching && !initial {
            errors.push(forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if !watching && query.get("resourceVersion").is_none() {
            errors.push(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if !known.contains(&matching) {
            errors.push(FieldError::not_supported(&path, matching, known));
        }
        if query.get("continue").is_some() {
            errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
        }
        if !watching && matching == "Exact" && query.get("resourceVersion") == Some("0") {
            errors.push(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if !watching && initial {
        let path = Path::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(META, "ListOptions", "", &errors)) }
}

/// Refuses options with what is wrong with them.
pub fn refuse(kind: &str, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(META, kind, "", errors)
}

fn one_of(call: &Call, key: &str, known: &[&str]) -> Option<FieldError> {
    let given = call.query.get(key).filter(|given| !known.contains(given))?;
    Some(FieldError::not_supported(&Path::new(key), given, known))
}

/// Whether a patch's body is an applied configuration.
pub fn is_apply(request: &Request) -> bool {
    super::decode::media_type(request) == apply::MEDIA_TYPE
}
