//! Request bodies: syntax by Content-Type, then the shape of the kind.

use std::collections::HashSet;

use bytes::Bytes;
use http::header;
use machinery::{
    ApiError, Resource, protobuf,
    schema::{self, Unknown},
};
use serde_json::Value;

use super::yaml;
use crate::{
    http::{Request, body},
    pipeline::Call,
};

const TEXTS: &[&str] = &["application/json", "application/yaml"];
const ACCEPTED: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// What to do about fields nobody knows (`fieldValidation`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        match call.query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Problems that do not stop a request under `Warn`.
#[derive(Default)]
pub struct Findings(pub Vec<String>);

/// More are not told.
const MAX_FINDINGS: usize = 100;

pub fn unknown_field(path: &str) -> String {
    format!("unknown field \"{path}\"")
}

pub fn duplicate_field(path: &str) -> String {
    format!("duplicate field \"{path}\"")
}

impl Findings {
    pub fn unknown(&mut self, paths: &[String]) {
        self.0.extend(paths.iter().map(|path| unknown_field(path)));
    }

    /// The warnings to send, or the refusal's text.
    pub fn judge(mut self, validation: FieldValidation) -> Result<Vec<String>, String> {
        self.0.truncate(MAX_FINDINGS);
        match validation {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(self.0.iter().flat_map(|text| each(text)).map(str::to_owned).collect()),
            FieldValidation::Strict if self.0.is_empty() => Ok(Vec::new()),
            FieldValidation::Strict => Err(format!("strict decoding error: {}", self.0.join(", "))),
        }
    }
}

/// What a strict typed decoder says about a JSON text, in its order. What is below an unknown field it does not see.
pub fn in_order(bytes: &[u8], is_unknown: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut skipped: Option<String> = None;
    for path in schema::json_keys(bytes) {
        let below =
            |parent: &String| path.strip_prefix(parent.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']));
        if skipped.as_ref().is_some_and(below) {
            continue;
        }
        skipped = None;
        let first = seen.insert(path.clone());
        if is_unknown(&path) {
            if first {
                found.push(unknown_field(&path));
            }
            skipped = Some(path);
        } else if !first {
            let text = duplicate_field(&path);
            if !found.contains(&text) {
                found.push(text);
            }
        }
        if found.len() == MAX_FINDINGS {
            break;
        }
    }
    found
}

/// One warning for each line of a YAML decoder's report.
fn each(text: &str) -> impl Iterator<Item = &str> {
    text.strip_prefix(yaml::REPORT).unwrap_or(text).split('\n').map(str::trim)
}

/// The media type without parameters, lower case; "" if there is none.
pub fn media_type(request: &Request) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The value, and what strict decoding says against the text: keys given twice.
pub fn parse(media: &str, bytes: &Bytes) -> Result<(Value, Vec<String>), ApiError> {
    match media {
        "" | "application/json" => {
            let (value, duplicates) = schema::parse_json(bytes)
                .map_err(|e| ApiError::bad_request(format!("the object provided is unrecognized: {e}")))?;
            Ok((value, duplicates.iter().map(|path| duplicate_field(path)).collect()))
        }
        "application/yaml" => {
            let value =
                yaml::parse(bytes).map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))?;
            Ok((value, yaml::duplicates(bytes).into_iter().collect()))
        }
        protobuf::MEDIA_TYPE => {
            let value = protobuf::decode(bytes, ("", ""))
                .map_err(|e| ApiError::bad_request(format!("the object provided is unrecognized: {e}")))?;
            Ok((value, Vec::new()))
        }
        _ => Err(ApiError::unsupported_media_type(ACCEPTED)),
    }
}

/// Reads the body in any syntax, without looking at its kind; `None` if it is empty.
pub async fn any(request: Request) -> Result<Option<Value>, ApiError> {
    let media = media_type(&request);
    let bytes = body::read(request.into_body()).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(&media, &bytes).map(|(value, _)| Some(value))
}

/// Reads an object of `resource`; also warnings about it.
pub async fn object(call: &Call, resource: &Resource, request: Request) -> Result<(Value, Vec<String>), ApiError> {
    let validation = FieldValidation::of(call)?;
    let media = media_type(&request);
    if media == protobuf::MEDIA_TYPE && resource.custom().is_some() {
        return Err(ApiError::unsupported_media_type(TEXTS));
    }
    let bytes = body::read(request.into_body()).await?;
    let (mut value, problems) = parse(&media, &bytes)?;
    check_kind(&value, &resource.api_version(), resource.kind)?;
    let unknown = check_shape(resource, &mut value)?;
    let mut findings = Findings(problems);
    let strange = !findings.0.is_empty() || !unknown.is_empty();
    if strange && media != "application/yaml" && resource.custom().is_none() {
        let unknown: HashSet<&str> = unknown.iter().map(String::as_str).collect();
        findings.0 = in_order(&bytes, |path| unknown.contains(path));
    } else {
        findings.unknown(&unknown);
    }
    let warnings = findings.judge(validation).map_err(|why| unfit(resource, &why))?;
    Ok((value, warnings))
}

fn unfit(resource: &Resource, why: &str) -> ApiError {
    let (kind, version) = (resource.kind, resource.version);
    ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// Types of fields; unknown ones are dropped and returned.
pub fn check_shape(resource: &Resource, value: &mut Value) -> Result<Vec<String>, ApiError> {
    shape(resource, value).map_err(|why| unfit(resource, &why))
}

/// As `check_shape`, with the bare reason.
pub fn shape(resource: &Resource, value: &mut Value) -> Result<Vec<String>, String> {
    match resource.custom() {
        Some(custom) => custom.decode(value),
        None => schema::check(resource.definition, value, Unknown::Prune).map_err(|error| error.to_string()),
    }
}

/// Brings an object that somebody changed as JSON into shape again: unknown fields go, defaults come.
pub fn settle(resource: &Resource, value: &mut Value) -> Result<(), ApiError> {
    check_shape(resource, value)?;
    resource.default(value);
    Ok(())
}

/// `kind` and `apiVersion` may be left out, but not be something else.
pub fn check_kind(value: &Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    if !value.is_object() {
        return Err(ApiError::bad_request("the body of the request is not an object"));
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (given_version, given_kind) = (text("apiVersion"), text("kind"));
    if !given_version.is_empty() && given_version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !given_kind.is_empty() && given_kind != kind {
        return Err(ApiError::bad_request(format!(
            "the object provided is of kind {given_kind}, but the request expects {kind}"
        )));
    }
    Ok(())
}
