//! What a SubjectAccessReview must and may say (upstream: pkg/apis/authorization/validation).

use machinery::{
    ApiError, FieldError, Path,
    value::{get, list_at, str_at},
};
use serde_json::Value;

use super::Review;
use crate::pipeline::Call;

/// All that is wrong with it, as 422.
pub fn validate(call: &Call, review: &Review, body: &Value) -> Result<(), ApiError> {
    let local = review.kind == "LocalSubjectAccessReview";
    let namespace = str_at(body, "metadata.namespace");
    if local && namespace != call.info.namespace {
        return Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            call.info.namespace
        )));
    }
    let mut errors = spec(body, review.kind != "SelfSubjectAccessReview");
    errors.extend(metadata(body, local));
    if local {
        let attributes = Path::new("spec").child("resourceAttributes");
        if let Some(resource) = present(body, "spec.resourceAttributes")
            && str_at(resource, "namespace") != namespace
        {
            let given = str_at(resource, "namespace");
            errors.push(FieldError::invalid(&attributes.child("namespace"), given, "must match metadata.namespace"));
        }
        if let Some(path) = present(body, "spec.nonResourceAttributes") {
            let field = Path::new("spec").child("nonResourceAttributes");
            errors.push(FieldError::invalid(&field, path.clone(), "disallowed on this kind of request"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(review.group, review.kind, "", &errors)) }
}

fn present<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    get(body, path).filter(|value| !value.is_null())
}

/// Nothing is stored, so there is nothing to name.
fn metadata(body: &Value, local: bool) -> Option<FieldError> {
    let metadata = present(body, "metadata")?.as_object()?;
    let says = |(key, value): (&String, &Value)| {
        let empty = value.is_null() || value.as_str() == Some("");
        !empty && key != "managedFields" && key != "creationTimestamp" && !(local && key == "namespace")
    };
    let wrong = metadata.iter().any(says);
    wrong.then(|| FieldError::invalid(&Path::new("metadata"), Value::Object(metadata.clone()), "must be empty"))
}

fn spec(body: &Value, names_user: bool) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let (resource, path) = (present(body, "spec.resourceAttributes"), present(body, "spec.nonResourceAttributes"));
    let mut errors = Vec::new();
    match (resource, path) {
        (Some(_), Some(path)) => errors.push(FieldError::invalid(
            &spec.child("nonResourceAttributes"),
            path.clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            &spec.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if names_user && str_at(body, "spec.user").is_empty() && list_at(body, "spec.groups").is_empty() {
        errors.push(FieldError::invalid(&spec.child("user"), "", "at least one of user or group must be specified"));
    }
    if let Some(resource) = resource {
        let attributes = spec.child("resourceAttributes");
        for selector in ["fieldSelector", "labelSelector"] {
            if let Some(value) = present(resource, selector) {
                errors.extend(check_selector(value, &attributes.child(selector)));
            }
        }
    }
    errors
}

fn check_selector(selector: &Value, path: &Path) -> Vec<FieldError> {
    let requirements = list_at(selector, "requirements");
    let raw = str_at(selector, "rawSelector");
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let why = "may not specified at the same time as requirements";
            return vec![FieldError::invalid(&path.child("rawSelector"), raw, why)];
        }
        (true, true) => {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            return vec![FieldError::required(&path.child("requirements"), &why)];
        }
        _ => {}
    }
    let each = requirements.iter().enumerate();
    each.flat_map(|(i, requirement)| check_requirement(requirement, &path.child("requirements").index(i))).collect()
}

fn check_requirement(requirement: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if str_at(requirement, "key").is_empty() {
        errors.push(FieldError::required(&path.child("key"), "must be specified"));
    }
    let values = list_at(requirement, "values");
    match str_at(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&path.child("values"), why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path.child("values"), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    errors
}

/// The field selector of resource attributes in the form of a query: what an authorizer cannot use is left out, which asks for more.
pub fn field_selector(attributes: &Value) -> String {
    let raw = str_at(attributes, "fieldSelector.rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = list_at(attributes, "fieldSelector.requirements").iter().filter_map(|requirement| {
        let key = str_at(requirement, "key");
        match (str_at(requirement, "operator"), list_at(requirement, "values")) {
            ("In", [one]) => Some(format!("{key}={}", one.as_str()?)),
            ("NotIn", [one]) => Some(format!("{key}!={}", one.as_str()?)),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spec_asks_one_thing_of_somebody() {
        let texts = |body: Value| spec(&body, true).iter().map(ToString::to_string).collect::<Vec<_>>();
        let good = json!({"spec": {"user": "joe", "nonResourceAttributes": {"verb": "get", "path": "/"}}});
        assert!(texts(good).is_empty());
        assert_eq!(
            texts(json!({"spec": {}}))[1],
            "spec.user: Invalid value: \"\": at least one of user or group must be specified"
        );
        let selector = json!({"spec": {"user": "joe", "resourceAttributes": {"verb": "list", "fieldSelector": {"requirements": [{"key": "a", "operator": "In"}]}}}});
        assert_eq!(
            texts(selector),
            [
                "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ]
        );
    }

    #[test]
    fn requirements_become_a_selector() {
        let attributes = json!({"fieldSelector": {"requirements": [
            {"key": "spec.nodeName", "operator": "In", "values": ["n1"]}, {"key": "x", "operator": "Exists"}]}});
        assert_eq!(field_selector(&attributes), "spec.nodeName=n1");
    }
}
