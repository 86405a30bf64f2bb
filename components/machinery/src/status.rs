//! `metav1.Status` errors with upstream's codes, reasons and texts (apimachinery `pkg/api/errors`).

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value, json};

use crate::{
    field::FieldError,
    value::{int_at, list_at, str_at},
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

/// An error as the API answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub code: u16,
    pub reason: Cow<'static, str>,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// `metadata.continue` of an `Expired` list.
    pub continue_token: Option<String>,
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// `pods`, `deployments.apps`.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl ApiError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        ApiError { code, reason: reason.into(), message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details_mut();
        details.group = group.to_owned();
        details.kind = kind.to_owned();
        details.name = name.to_owned();
        self
    }

    pub fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_with(Box::default)
    }

    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.details_mut().causes.push(Cause { reason: reason.into(), message: message.into(), field: field.into() });
        self
    }

    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details_mut().retry_after_seconds = seconds;
        self
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(resource, group)))
            .about(group, resource, name)
    }

    /// For a path that is no API.
    pub fn no_such_resource() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details_mut();
        error
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(resource, group)))
            .about(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(resource, group));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// The conflict of a write that carries an old `resourceVersion`.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422; `errors` must not be empty.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for error in errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = if texts.len() == 1 { texts.swap_remove(0) } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {list}", qualified(kind, group));
        let mut error = Self::new(422, "Invalid", message).about(group, kind, name);
        error.details_mut().causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.reason().to_owned(), message: e.body(), field: e.field.clone() })
            .collect();
        error
    }

    /// `why` as in `User "x" cannot list resource "pods" in API group "" in the namespace "default"`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{} is forbidden: {why}", qualified(resource, group)),
            _ => format!("{} \"{name}\" is forbidden: {why}", qualified(resource, group)),
        };
        Self::new(403, "Forbidden", what).about(group, resource, name)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 410 `Expired`, for a revision or continue token that history no longer reaches.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn method_not_allowed(group: &str, resource: &str, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind \"{}\"", qualified(resource, group));
        Self::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {list}"),
        )
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {}", accepted.join(", ")))
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    pub fn request_entity_too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 504: the answer did not come in time; retrying is harmless.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).with_retry_after(retry_after_seconds)
    }

    /// 504 for a `resourceVersion` of the future.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        Self::timeout(&format!("Too large resource version: {requested}, current: {current}"), 1).with_cause(
            "ResourceVersionTooLarge",
            "Too large resource version",
            "",
        )
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let text = error.to_string();
        Self::new(500, "InternalError", format!("Internal error occurred: {text}")).with_cause("", text, "")
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).with_retry_after(1)
    }

    /// A `metav1.Status` that somebody else (a webhook) wrote; what it does not say is empty or 0.
    pub fn from_value(status: &Value) -> Self {
        let mut error = Self::new(0, "", str_at(status, "message"));
        error.code = int_at(status, "code").and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
        error.reason = str_at(status, "reason").to_owned().into();
        if let Some(details) = status.get("details").filter(|d| d.is_object()) {
            let text = |field: &str| str_at(details, field).to_owned();
            let cause = |c: &Value| Cause {
                reason: str_at(c, "reason").to_owned(),
                message: str_at(c, "message").to_owned(),
                field: str_at(c, "field").to_owned(),
            };
            error.details = Some(Box::new(Details {
                name: text("name"),
                group: text("group"),
                kind: text("kind"),
                uid: text("uid"),
                causes: list_at(details, "causes").iter().map(cause).collect(),
                retry_after_seconds: int_at(details, "retryAfterSeconds").and_then(|s| s.try_into().ok()).unwrap_or(0),
            }));
        }
        error
    }

    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        // an error that upstream gives no reason
        if self.reason.is_empty()
            && let Some(map) = status.as_object_mut()
        {
            map.remove("reason");
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        Value::Object(out)
    }
}

/// The `Success` Status that a delete answers.
pub fn success(group: &str, resource: &str, name: &str, uid: &str) -> Value {
    let details = Details {
        name: name.into(),
        group: group.into(),
        kind: resource.into(),
        uid: uid.into(),
        ..Details::default()
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn texts_are_upstreams() {
        assert_eq!(ApiError::not_found("apps", "deployments", "x").message, "deployments.apps \"x\" not found");
        assert_eq!(
            ApiError::modified("", "pods", "x").message,
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again"
        );
        let image = FieldError::required(&Path::new("spec").child("containers").index(0).child("image"), "");
        let one = ApiError::invalid("", "Pod", "x", std::slice::from_ref(&image));
        assert_eq!(one.message, "Pod \"x\" is invalid: spec.containers[0].image: Required value");
        let policy = FieldError::not_supported(
            &Path::new("spec").child("restartPolicy"),
            "No",
            &["Always", "OnFailure", "Never"],
        );
        let two = ApiError::invalid("", "Pod", "x", &[image, policy]);
        assert_eq!(
            two.message,
            "Pod \"x\" is invalid: [spec.containers[0].image: Required value, spec.restartPolicy: Unsupported value: \"No\": supported values: \"Always\", \"OnFailure\", \"Never\"]"
        );
        let value = two.to_value();
        assert_eq!(value["details"]["causes"][1]["reason"], "FieldValueNotSupported");
        assert_eq!(value["code"], 422);
    }

    #[test]
    fn forbidden_with_and_without_name() {
        assert_eq!(ApiError::forbidden("", "pods", "", "why").message, "pods is forbidden: why");
        assert_eq!(
            ApiError::forbidden("apps", "deployments", "a", "why").message,
            "deployments.apps \"a\" is forbidden: why"
        );
    }
}
