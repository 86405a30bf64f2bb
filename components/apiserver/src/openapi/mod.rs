//! The published schemas: OpenAPI v2 and v3, as JSON and as protobuf (old clients insist on that of v2).
//!
//! Nothing of it is held before a client asks: descriptions lie compressed in the executable, documents are built on first demand
//! and kept compressed. Custom resources come in by their rows.

mod documents;
pub(crate) mod etag;
pub mod foreign;
mod paths;
mod proto;
mod proto3;
pub(crate) mod protobuf;
mod schema;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use machinery::{ApiError, ResourceRef};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{
    core::Core,
    http::{Response, ResponseBody, respond},
    pipeline::Call,
};
use documents::{Document, fingerprint, path_of};

/// What clients ask for, and its later spelling, which alone is a valid media type and so is what is answered.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3: &str = "/openapi/v3";

/// Documents that were asked for; each with the fingerprint of the custom resources it is about.
#[derive(Default)]
pub struct Published {
    built_in: OnceLock<BTreeMap<String, Document>>,
    custom: Mutex<BTreeMap<String, (String, Document)>>,
    foreign: Mutex<BTreeMap<String, (String, Document)>>,
    v2: Mutex<Option<(String, V2)>>,
}

#[derive(Clone)]
struct V2 {
    json: Document,
    protobuf: Document,
}

impl Published {
    /// All v3 documents by path (`apis/apps/v1`).
    fn v3(&self, core: &Core) -> BTreeMap<String, Document> {
        let mut all = self.built_in.get_or_init(documents::built_in).clone();
        let mut rows: BTreeMap<String, Vec<ResourceRef>> = BTreeMap::new();
        for row in core.custom.all() {
            rows.entry(path_of(row.group, row.version)).or_default().push(row);
        }
        let mut kept = self.custom.lock();
        kept.retain(|path, _| rows.contains_key(path));
        for (path, rows) in rows {
            let print = fingerprint(&rows);
            let known = kept.get(&path).filter(|(had, _)| *had == print).map(|(_, document)| document.clone());
            let document = known.unwrap_or_else(|| {
                let document = documents::custom(&rows);
                kept.insert(path.clone(), (print, document.clone()));
                document
            });
            all.entry(path).or_insert(document);
        }
        all.extend(self.converted(core));
        all
    }

    /// Of extension servers that know no v3.
    fn converted(&self, core: &Core) -> BTreeMap<String, Document> {
        let mut kept = self.foreign.lock();
        let mut all = BTreeMap::new();
        for remote in core.aggregation.remotes() {
            let offered = remote.offered();
            let Some(foreign) = offered.v2.as_ref().filter(|_| offered.v3.is_none()) else { continue };
            let path = path_of(&remote.group, &remote.version);
            let known = kept.remove(&path).filter(|(had, _)| *had == foreign.tag);
            all.insert(path, known.unwrap_or_else(|| (foreign.tag.clone(), foreign.v3())));
        }
        *kept = all.clone();
        all.into_iter().map(|(path, (_, document))| (path, document)).collect()
    }

    fn v2(&self, core: &Core) -> V2 {
        let rows = core.custom.all();
        let foreign: Vec<_> = core.aggregation.remotes().iter().filter_map(|it| it.offered().v2.clone()).collect();
        let print = foreign.iter().fold(fingerprint(&rows), |print, it| print + &it.tag);
        let mut kept = self.v2.lock();
        if let Some((had, document)) = &*kept
            && *had == print
        {
            return document.clone();
        }
        let (json, protobuf) = documents::v2(&rows, &foreign);
        let document = V2 { json, protobuf };
        *kept = Some((print, document.clone()));
        document
    }
}

/// Building takes long enough to be kept off the threads that serve.
async fn built<T: Send + 'static>(core: &Arc<Core>, build: fn(&Core) -> T) -> Result<T, ApiError> {
    let core = core.clone();
    tokio::task::spawn_blocking(move || build(&core)).await.map_err(|_| {
        tracing::error!("an OpenAPI document could not be built");
        ApiError::internal("the document could not be built; see the API server's log")
    })
}

pub async fn answer(call: &Call) -> Result<Option<Response>, ApiError> {
    let path = call.info.path.trim_end_matches('/');
    if path == "/openapi/v2" {
        return v2(call).await.map(Some);
    }
    let Some(rest) = path.strip_prefix(V3) else { return Ok(None) };
    let documents = built(&call.core, |core| core.published.v3(core)).await?;
    if rest.is_empty() {
        return Ok(Some(index(call, &documents)));
    }
    let Some((path, document)) = rest.strip_prefix('/').and_then(|path| documents.get_key_value(path)) else {
        return Ok(None);
    };
    v3(call, path, document).await.map(Some)
}

fn index(call: &Call, documents: &BTreeMap<String, Document>) -> Response {
    let mut paths = Map::new();
    for (path, document) in documents {
        paths.insert(path.clone(), json!({"serverRelativeURL": url(path, document)}));
    }
    for remote in call.core.aggregation.remotes() {
        if let Some(url) = &remote.offered().v3 {
            paths.insert(path_of(&remote.group, &remote.version), json!({"serverRelativeURL": url}));
        }
    }
    let text = json!({"paths": Value::Object(paths)}).to_string().into_bytes();
    let tag = etag::of(&text);
    etag::apply(call, respond::bytes(StatusCode::OK, "application/json", text), &tag)
}

fn url(path: &str, document: &Document) -> String {
    format!("{V3}/{path}?hash={}", document.tag)
}

/// With the right hash in the URL the answer is good for ever; with an old one the client is sent to the right one.
async fn v3(call: &Call, path: &str, document: &Document) -> Result<Response, ApiError> {
    let given = call.query.get("hash");
    if given.is_some_and(|hash| hash != document.tag) {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(location) = HeaderValue::from_str(&url(path, document)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        return Ok(response);
    }
    let mut response = match call.wants.iter().any(|w| w == V3_PROTOBUF_ASKED || w == V3_PROTOBUF) {
        true => v3_protobuf(call, document).await?,
        false => send(call, document, "application/json"),
    };
    if given.is_some() {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

/// Made anew each time: hardly anybody asks for it.
async fn v3_protobuf(call: &Call, document: &Document) -> Result<Response, ApiError> {
    let source = document.clone();
    let made = tokio::task::spawn_blocking(move || proto3::document(&source.plain())).await.ok().flatten();
    let bytes = made.ok_or_else(|| ApiError::internal("the document could not be written as protobuf"))?;
    let mut response = respond::bytes(StatusCode::OK, V3_PROTOBUF, bytes);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    Ok(etag::apply(call, response, &document.tag))
}

async fn v2(call: &Call) -> Result<Response, ApiError> {
    let document = built(&call.core, |core| core.published.v2(core)).await?;
    let protobuf = call.wants.iter().any(|w| w == V2_PROTOBUF_ASKED || w == V2_PROTOBUF);
    Ok(match protobuf {
        true => send(call, &document.protobuf, V2_PROTOBUF),
        false => send(call, &document.json, "application/json"),
    })
}

/// As it is kept for clients that take gzip, unpacked for others.
fn send(call: &Call, document: &Document, content_type: &'static str) -> Response {
    let mut response = respond::bytes(StatusCode::OK, content_type, Vec::new());
    if call.gzip {
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *response.body_mut() = ResponseBody::Full(Some(document.gzipped.clone()));
    } else {
        *response.body_mut() = document.plain().into();
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    etag::apply(call, response, &document.tag)
}
