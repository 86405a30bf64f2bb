//! Entity tags of documents that clients keep.

use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha512};

use crate::{
    http::{Response, ResponseBody},
    pipeline::Call,
};

/// The tag of a document, without quotes.
pub fn of(bytes: &[u8]) -> String {
    hex::encode_upper(Sha512::digest(bytes))
}

/// Sets the tag; the answer is 304 without a body if the client has just that.
pub fn apply(call: &Call, mut response: Response, tag: &str) -> Response {
    let quoted = format!("\"{tag}\"");
    let had = call.if_none_match.as_deref().unwrap_or_default();
    let known = had.split(',').map(|t| t.trim().trim_start_matches("W/")).any(|t| t == quoted || t == "*");
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(header::ETAG, value);
    }
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = ResponseBody::empty();
    }
    response
}
