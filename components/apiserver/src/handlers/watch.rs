//! Watch: history from a revision, then live; each event is one line of JSON or one message, flushed at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use machinery::{ApiError, ResourceRef, encoding, protobuf, table};
use rand::Rng;
use serde_json::{Value, json};
use store::{Event, EventKind, KeyValue, RangeRequest, Revision, WatchItem};
use tokio::time::Instant;

use super::{
    Target, options,
    respond::{include, with_version},
    selection::{Selection, parse_revision},
};
use crate::{
    core::Core,
    http::{Accept, Form, Response, ResponseBody, Syntax, body::BoxError, respond},
    pipeline::Call,
    registry,
};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Without `timeoutSeconds` a watch lasts between this and twice this, so that clients do not all come back at once.
const MIN_TIMEOUT: u64 = 1800;
const MAX_TIMEOUT: u64 = 86400;
/// About how much of what is there already is written at once, in bytes.
const PIECE: usize = 64 * 1024;

/// One client's watch.
struct Watcher {
    core: Arc<Core>,
    resource: ResourceRef,
    selection: Selection,
    accept: Accept,
    include: table::Include,
    api_version: String,
    /// Tables name their columns once.
    columns_sent: bool,
}

pub async fn watch(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let watcher = Watcher {
        core: call.core.clone(),
        resource: target.resource.clone(),
        selection: Selection::of(call, target)?,
        accept: call.accept,
        include: include(call)?,
        api_version: target.resource.api_version(),
        columns_sent: false,
    };
    options::check_list(call, true)?;
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let initial_events = call.query.flag("sendInitialEvents");
    let wanted = call.query.get("resourceVersion").map_or(Ok(0), parse_revision)?;
    let (initial, from) = if initial_events || (wanted == 0 && !call.query.has("sendInitialEvents")) {
        registry::reached(&call.core, wanted).await?;
        let (items, revision) = watcher.present().await?;
        let end_mark = initial_events && bookmarks;
        (Some(Initial { items: items.into_iter(), end_mark }), revision)
    } else {
        (None, if wanted == 0 { call.core.store.revision() } else { wanted })
    };
    // As upstream's watch cache: from here on an error is an event of the stream, not an answer of its own. Clients that
    // get the answer 410 try the same revision again; those that get the event list anew.
    // A revision that is not there yet is waited for.
    let begin = from.min(call.core.store.revision());
    let events = registry::watch(&call.core, &watcher.resource, &watcher.selection.prefix, begin).await;
    let seconds = call
        .query
        .number("timeoutSeconds")?
        .and_then(|s| u64::try_from(s).ok())
        .filter(|s| *s > 0)
        .map(|s| s.min(MAX_TIMEOUT));
    let timeout =
        Duration::from_secs(seconds.unwrap_or_else(|| MIN_TIMEOUT + rand::rng().random_range(0..MIN_TIMEOUT)));
    let body = Run {
        watcher,
        events,
        initial,
        bookmarks,
        from,
        revision: from,
        deadline: Instant::now() + timeout,
        next_bookmark: next_bookmark(),
    };
    let content_type = match (call.accept.syntax, call.accept.form) {
        (Syntax::Protobuf, _) => "application/vnd.kubernetes.protobuf;stream=watch",
        (_, Form::Object) => "application/json",
        _ => "application/json;stream=watch",
    };
    Ok(respond::stream(content_type, ResponseBody::Stream(body.into_stream().boxed())))
}

fn next_bookmark() -> Instant {
    Instant::now() + BOOKMARK_EVERY.mul_f64(rand::rng().random_range(0.8..1.0))
}

impl Watcher {
    /// Everything that is there, and the revision that was read.
    async fn present(&self) -> Result<(Vec<KeyValue>, Revision), ApiError> {
        let request = RangeRequest { prefix: self.selection.prefix.clone(), ..Default::default() };
        let range = self.core.store.range(request).await.map_err(registry::store_error)?;
        Ok((registry::present(&self.resource, range.items).await?, range.revision))
    }

    fn write_added(&mut self, out: &mut Vec<u8>, kv: &KeyValue) -> Result<(), ApiError> {
        if self.selection.is_everything() && self.accept.form == Form::Object {
            self.write_stored(out, "ADDED", kv.mod_revision, &kv.value);
            return Ok(());
        }
        let object = registry::decode(&self.resource, &kv.value, kv.mod_revision)?;
        if self.selection.matches(&self.resource, &object) {
            self.write_value(out, "ADDED", kv.mod_revision, &kv.value, &object);
        }
        Ok(())
    }

    fn write_stored(&self, out: &mut Vec<u8>, kind: &str, revision: Revision, stored: &[u8]) {
        if self.accept.syntax == Syntax::Protobuf {
            match registry::decode(&self.resource, stored, revision) {
                Ok(object) => self.frame(out, kind, &object),
                Err(error) => self.frame(out, "ERROR", &error.to_value()),
            }
            return;
        }
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        encoding::write_object(out, &self.api_version, self.resource.kind, revision, stored);
        out.extend_from_slice(b"}\n");
    }

    fn write_value(&mut self, out: &mut Vec<u8>, kind: &str, revision: Revision, stored: &[u8], object: &Value) {
        let shaped = match self.accept.form {
            Form::Object => return self.write_stored(out, kind, revision, stored),
            Form::Table => {
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                table::render(
                    &self.resource,
                    &[object],
                    json!({"resourceVersion": revision.to_string()}),
                    self.include,
                    columns,
                )
            }
            Form::PartialMetadata => {
                let mut partial = table::partial_metadata(object);
                partial["metadata"]["resourceVersion"] = revision.to_string().into();
                partial
            }
        };
        self.frame(out, kind, &with_version(shaped, &self.accept));
    }

    /// One event as the client reads it: a line of JSON, or a length and a message.
    fn frame(&self, out: &mut Vec<u8>, kind: &str, object: &Value) {
        let encoded = if self.accept.syntax == Syntax::Protobuf { protobuf::encode(object) } else { None };
        match encoded {
            Some(encoded) => protobuf::watch_frame(out, kind, &encoded),
            None => write_line(out, kind, object),
        }
    }

    fn write_bookmark(&self, out: &mut Vec<u8>, revision: Revision, initial_end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.accept.form {
            Form::Object => json!({"kind": self.resource.kind, "apiVersion": self.api_version, "metadata": metadata}),
            Form::Table => with_version(
                json!({"kind": "Table", "metadata": {"resourceVersion": revision.to_string()}, "columnDefinitions": [], "rows": []}),
                &self.accept,
            ),
            Form::PartialMetadata => {
                with_version(json!({"kind": "PartialObjectMetadata", "metadata": metadata}), &self.accept)
            }
        };
        self.frame(out, "BOOKMARK", &object);
    }

    /// What this watcher is told about a change: an object that leaves the selection is deleted for it, one that enters is added.
    fn write_event(&mut self, out: &mut Vec<u8>, event: &Event) -> Result<(), ApiError> {
        let revision = event.kv.mod_revision;
        let created = event.previous.is_none();
        if self.selection.is_everything() && self.accept.form == Form::Object {
            let kind = match event.kind {
                EventKind::Delete => "DELETED",
                EventKind::Put if created => "ADDED",
                EventKind::Put => "MODIFIED",
            };
            self.write_stored(out, kind, revision, &event.kv.value);
            return Ok(());
        }
        let (resource, memo) = (&*self.resource.clone(), &self.core.clone().memo);
        // what several rows share is remembered for each of them
        let form = resource.view.map_or(resource.version, |_| resource.definition);
        let now = memo.get_or_decode(&event.kv.key, revision, form, false, || {
            registry::decode(resource, &event.kv.value, revision)
        })?;
        let before = match &event.previous {
            Some(bytes) if event.kind == EventKind::Put => {
                Some(memo.get_or_decode(&event.kv.key, revision, form, true, || {
                    registry::decode(resource, bytes, revision)
                })?)
            }
            _ => None,
        };
        let matches_now = self.selection.matches(resource, &now);
        if event.kind == EventKind::Delete {
            if matches_now {
                self.write_value(out, "DELETED", revision, &event.kv.value, &now);
            }
            return Ok(());
        }
        let matched = before.as_ref().is_some_and(|b| self.selection.matches(resource, b));
        match (matched, matches_now) {
            (false, true) => self.write_value(out, "ADDED", revision, &event.kv.value, &now),
            (true, true) => self.write_value(out, "MODIFIED", revision, &event.kv.value, &now),
            (true, false) => {
                if let (Some(previous), Some(before)) = (&event.previous, &before) {
                    self.write_value(out, "DELETED", revision, previous, before);
                }
            }
            (false, false) => {}
        }
        Ok(())
    }
}

fn write_line(out: &mut Vec<u8>, kind: &str, object: &Value) {
    out.extend_from_slice(json!({"type": kind, "object": object}).to_string().as_bytes());
    out.push(b'\n');
}

/// What is there already and has not been told yet.
struct Initial {
    items: std::vec::IntoIter<KeyValue>,
    /// A bookmark says where it ends.
    end_mark: bool,
}

/// A watch under way.
struct Run {
    watcher: Watcher,
    events: BoxStream<'static, Result<WatchItem, ApiError>>,
    initial: Option<Initial>,
    bookmarks: bool,
    /// The client knows everything up to here.
    from: Revision,
    /// Everything up to here has been told.
    revision: Revision,
    deadline: Instant,
    next_bookmark: Instant,
}

impl Run {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
        futures::stream::unfold(Some(self), |run| async {
            let mut run = run?;
            match run.next().await {
                Next::Piece(bytes) => Some((Ok(bytes.into()), Some(run))),
                Next::Last(bytes) => Some((Ok(bytes.into()), None)),
                Next::End => None,
            }
        })
    }

    async fn next(&mut self) -> Next {
        if let Some(piece) = self.next_initial() {
            return piece;
        }
        loop {
            let stopping = self.watcher.core.stopping.clone();
            let mut out = Vec::new();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Next::End,
                () = tokio::time::sleep_until(self.deadline) => return Next::End,
                item = self.events.next() => match item {
                    None => return Next::End,
                    Some(Err(error)) => {
                        self.watcher.frame(&mut out, "ERROR", &error.to_value());
                        return Next::Last(out);
                    }
                    Some(Ok(item)) => if let Err(error) = self.take(item, &mut out) {
                        self.watcher.frame(&mut out, "ERROR", &error.to_value());
                        return Next::Last(out);
                    },
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = next_bookmark();
                    self.watcher.write_bookmark(&mut out, self.revision, false);
                }
            }
            if !out.is_empty() {
                return Next::Piece(out);
            }
        }
    }

    /// The next piece of what is there already: a large collection is not held in memory twice.
    fn next_initial(&mut self) -> Option<Next> {
        let mut initial = self.initial.take()?;
        let mut out = Vec::new();
        for kv in initial.items.by_ref() {
            if let Err(error) = self.watcher.write_added(&mut out, &kv) {
                write_line(&mut out, "ERROR", &error.to_value());
                return Some(Next::Last(out));
            }
            if out.len() >= PIECE {
                self.initial = Some(initial);
                return Some(Next::Piece(out));
            }
        }
        if initial.end_mark {
            self.watcher.write_bookmark(&mut out, self.revision, true);
        }
        (!out.is_empty()).then_some(Next::Piece(out))
    }

    fn take(&mut self, item: WatchItem, out: &mut Vec<u8>) -> Result<(), ApiError> {
        match item {
            WatchItem::Progress(revision) => self.revision = self.revision.max(revision),
            // the client asked for what comes later
            WatchItem::Event(event) if event.kv.mod_revision <= self.from => {}
            WatchItem::Event(event) => {
                self.watcher.write_event(out, &event)?;
                self.revision = event.kv.mod_revision;
            }
        }
        Ok(())
    }
}

enum Next {
    Piece(Vec<u8>),
    Last(Vec<u8>),
    End,
}
