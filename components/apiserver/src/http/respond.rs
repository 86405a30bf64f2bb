//! Answers: values, encoded bytes, errors.

use http::{HeaderValue, StatusCode, header};
use machinery::{ApiError, protobuf};
use serde_json::Value;

use super::{Response, ResponseBody, Syntax};

pub fn bytes(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    bytes(status, "text/plain; charset=utf-8", text.into().into_bytes())
}

pub fn json(status: StatusCode, value: &Value) -> Response {
    bytes(status, "application/json", value.to_string().into_bytes())
}

/// JSON bytes as they are, or turned into another syntax.
pub fn encoded(status: StatusCode, syntax: Syntax, json: Vec<u8>) -> Response {
    match syntax {
        Syntax::Json => bytes(status, "application/json", json),
        Syntax::Protobuf => match serde_json::from_slice(&json) {
            Ok(object) => value(status, syntax, &object),
            Err(_) => error(&ApiError::internal("the answer could not be written as protobuf")),
        },
        Syntax::Yaml => {
            let yaml = serde_json::from_slice::<Value>(&json).ok().and_then(|v| serde_yaml::to_string(&v).ok());
            match yaml {
                Some(yaml) => bytes(status, "application/yaml", yaml.into_bytes()),
                None => error(&ApiError::internal("the answer could not be written as YAML")),
            }
        }
    }
}

pub fn value(status: StatusCode, syntax: Syntax, value: &Value) -> Response {
    if syntax != Syntax::Protobuf {
        return encoded(status, syntax, value.to_string().into_bytes());
    }
    match protobuf::encode(value) {
        Some(encoded) => bytes(status, protobuf::MEDIA_TYPE, encoded),
        // what has no protobuf form is JSON
        None => json(status, value),
    }
}

/// A `metav1.Status` as JSON.
pub fn error(error: &ApiError) -> Response {
    error_as(Syntax::Json, error)
}

/// A `metav1.Status`; `Retry-After` as its details say.
pub fn error_as(syntax: Syntax, error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(status, syntax, &error.to_value());
    let seconds = error.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// One `Warning` header for each text (KEP-1693), as far as clients' limits for headers allow.
pub fn add_warnings(response: &mut Response, warnings: &[String]) {
    const LIMIT: usize = 4096;
    let mut written = 0;
    for (index, warning) in warnings.iter().enumerate().filter(|(index, text)| !warnings[..*index].contains(text)) {
        written += warning.len();
        if written > LIMIT && index > 0 {
            break;
        }
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

pub fn stream(content_type: &'static str, body: ResponseBody) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
