//! List: pages, revisions, selectors; typed lists are spliced from stored bytes without parsing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use machinery::{ApiError, encoding, protobuf, table};
use serde_json::{Value, json};
use store::{KeyValue, RangeRequest, Revision};

use super::{
    Target, options,
    respond::{include, with_version},
    selection::{Selection, not_newer_than_now},
};
use crate::{
    http::{Form, Response, Syntax, respond},
    pipeline::Call,
    registry,
};

/// Keys read at once while a selector is looking for matches.
const BATCH: usize = 500;

/// One page.
pub struct Page {
    pub items: Vec<KeyValue>,
    pub revision: Revision,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Where the next page begins; a revision of 0 is the newest.
struct Continue {
    revision: Revision,
    after: String,
}

impl Continue {
    fn encode(&self) -> String {
        let revision = i64::try_from(self.revision).ok().filter(|it| *it > 0).unwrap_or(-1);
        let text = json!({"v": TOKEN_VERSION, "rv": revision, "start": self.after}).to_string();
        URL_SAFE_NO_PAD.encode(text)
    }

    /// The token is the client's to send: its key must lie in the collection that is listed.
    fn decode(text: &str, prefix: &str) -> Result<Self, ApiError> {
        let bad = |why: &str| ApiError::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| bad(&format!(": {e}")))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&format!(": {e}")))?;
        let version = value["v"].as_str().unwrap_or_default();
        if version != TOKEN_VERSION {
            return Err(bad(&format!(": server does not recognize this encoded version {version}")));
        }
        let revision = match value["rv"].as_i64() {
            // wherever the list is now
            Some(-1) => 0,
            revision => revision
                .and_then(|it| Revision::try_from(it).ok())
                .filter(|it| *it > 0)
                .ok_or_else(|| bad(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"))?,
        };
        let start = value["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(bad(": encoded start key empty (version meta.k8s.io/v1)"));
        }
        if !start.starts_with(prefix) {
            return Err(bad(&format!(": {start}")));
        }
        Ok(Continue { revision, after: start.to_owned() })
    }
}

pub async fn list(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let page = page(call, target, &Selection::of(call, target)?).await?;
    match call.accept.form {
        Form::Object => answer_typed(call, target, &page),
        form => {
            let resource = &*target.resource;
            let items = page
                .items
                .iter()
                .map(|kv| registry::decode(resource, &kv.value, kv.mod_revision))
                .collect::<Result<Vec<_>, _>>()?;
            let metadata = list_metadata(&page);
            let value = match form {
                Form::Table => table::render(resource, &items, metadata, include(call)?, true),
                _ => {
                    let items: Vec<Value> =
                        items.iter().map(|i| with_version(table::partial_metadata(i), &call.accept)).collect();
                    json!({"kind": "PartialObjectMetadataList", "metadata": metadata, "items": items})
                }
            };
            Ok(respond::value(StatusCode::OK, call.accept.syntax, &with_version(value, &call.accept)))
        }
    }
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = &page.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(count) = page.remaining {
        metadata["remainingItemCount"] = count.into();
    }
    metadata
}

/// The typed list in the syntax the client wants.
pub fn answer_typed(call: &Call, target: &Target, page: &Page) -> Result<Response, ApiError> {
    let resource = &*target.resource;
    if call.accept.syntax == Syntax::Protobuf {
        let items = page.items.iter().map(|kv| registry::decode(resource, &kv.value, kv.mod_revision));
        let encoded = protobuf::encode_list(&resource.api_version(), resource.list_kind, &list_metadata(page), items);
        if let Some(encoded) = encoded {
            return Ok(respond::bytes(StatusCode::OK, protobuf::MEDIA_TYPE, encoded?));
        }
    }
    Ok(respond::encoded(StatusCode::OK, call.accept.syntax, typed(target, page)))
}

/// The typed list, as JSON. Items of custom resources say what they are; upstream's lists of them are not typed.
fn typed(target: &Target, page: &Page) -> Vec<u8> {
    let resource = &*target.resource;
    let size: usize = page.items.iter().map(|kv| kv.value.len() + 48).sum();
    let mut out = Vec::with_capacity(size + 256);
    encoding::write_list_start(
        &mut out,
        &resource.api_version(),
        resource.list_kind,
        page.revision,
        page.continue_token.as_deref(),
        page.remaining,
    );
    for (index, kv) in page.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match resource.custom() {
            Some(_) => {
                let api_version = resource.api_version();
                encoding::write_object(&mut out, &api_version, resource.kind, kv.mod_revision, &kv.value);
            }
            None => encoding::write_list_item(&mut out, kv.mod_revision, &kv.value),
        }
    }
    encoding::write_list_end(&mut out);
    out
}

pub async fn page(call: &Call, target: &Target, selection: &Selection) -> Result<Page, ApiError> {
    options::check_list(call, false)?;
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0))
        .map_err(|_| ApiError::bad_request("limit must not be negative"))?;
    let (revision, after) = start(call, selection, limit).await?;
    let mut request = RangeRequest { prefix: selection.prefix.clone(), start_after: after, limit, revision };
    if selection.is_everything() {
        let range = call.core.store.range(request).await.map_err(|e| range_error(call, selection, e))?;
        let more = range.remaining > 0;
        let continue_token = range
            .items
            .last()
            .filter(|_| more)
            .map(|kv| Continue { revision: range.revision, after: kv.key.to_string() }.encode());
        return Ok(Page {
            items: registry::present(&target.resource, range.items).await?,
            revision: range.revision,
            continue_token,
            remaining: more.then_some(range.remaining),
        });
    }
    let mut found = Vec::new();
    request.limit = if limit == 0 { 0 } else { BATCH };
    loop {
        let range = call.core.store.range(request.clone()).await.map_err(|e| range_error(call, selection, e))?;
        let last = range.items.last().map(|kv| kv.key.to_string());
        let (count, mut used) = (range.items.len(), 0);
        for kv in registry::present(&target.resource, range.items).await? {
            used += 1;
            if selection.matches(&target.resource, &registry::decode(&target.resource, &kv.value, kv.mod_revision)?) {
                found.push(kv);
                if found.len() == limit {
                    break;
                }
            }
        }
        let full = limit > 0 && found.len() == limit;
        let more = range.remaining > 0 || used < count;
        if full || !more {
            let token = found
                .last()
                .filter(|_| full && more)
                .map(|kv| Continue { revision: range.revision, after: kv.key.to_string() }.encode());
            return Ok(Page { items: found, revision: range.revision, continue_token: token, remaining: None });
        }
        request.start_after = last;
        request.revision = Some(range.revision);
    }
}

/// The revision to read (`None`: the newest) and the key to begin after.
async fn start(
    call: &Call,
    selection: &Selection,
    limit: usize,
) -> Result<(Option<Revision>, Option<String>), ApiError> {
    let version = call.query.get("resourceVersion");
    let matching = call.query.get("resourceVersionMatch");
    if let Some(token) = call.query.get("continue") {
        if version.is_some_and(|v| v != "0") {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        // a prefix that a name narrows is still within the collection
        let token = Continue::decode(token, &selection.prefix)?;
        return Ok(((token.revision > 0).then_some(token.revision), Some(token.after)));
    }
    let Some(text) = version else { return Ok((None, None)) };
    let wanted = not_newer_than_now(call, text).await?;
    match matching {
        Some("Exact") => Ok((Some(wanted), None)),
        None if limit > 0 && wanted > 0 => Ok((Some(wanted), None)),
        _ => Ok((None, None)),
    }
}

/// A token whose revision is gone gets a fresh one that lists the rest as it is now.
fn range_error(call: &Call, selection: &Selection, error: store::Error) -> ApiError {
    let store::Error::Compacted { .. } = error else { return registry::store_error(error) };
    let token = call.query.get("continue").and_then(|t| Continue::decode(t, &selection.prefix).ok());
    let mut answer = ApiError::expired(match token {
        Some(_) => {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
        }
        None => "The resourceVersion for the provided list is too old.",
    });
    answer.continue_token = token.map(|t| Continue { revision: 0, after: t.after }.encode());
    answer
}
