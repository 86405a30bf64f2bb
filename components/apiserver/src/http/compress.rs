//! gzip for large answers (KEP-156: above 128 KiB, at the fastest level).

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use super::{Response, ResponseBody};

const THRESHOLD: usize = 128 * 1024;

/// Whether the client takes gzip.
pub fn wanted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| matches!(p, "q=0" | "q=0.0"))
    })
}

/// Compresses a whole body that is worth it; streams and small answers stay.
pub async fn large(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let bytes = match body {
        ResponseBody::Full(Some(bytes))
            if bytes.len() > THRESHOLD && !head.headers.contains_key(header::CONTENT_ENCODING) =>
        {
            bytes
        }
        other => return Response::from_parts(head, other),
    };
    let plain = bytes.clone();
    let compressed = tokio::task::spawn_blocking(move || gzip(&plain)).await.ok().flatten();
    let body = match compressed {
        Some(compressed) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            compressed.into()
        }
        None => ResponseBody::Full(Some(bytes)),
    };
    Response::from_parts(head, body)
}

/// Writing into memory does not fail; if it did, the answer would go out as it is.
pub fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}
