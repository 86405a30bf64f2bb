//! Who did what: events of `audit.k8s.io/v1` for the requests a policy names, written off the requests' path.
//!
//! A [`Record`] accompanies a request and sends an [`Event`] at each stage. Turning events into JSON, and objects into their parts, is
//! the writer's work ([`log`]); requests only hand over what they hold anyway.

mod event;
pub mod log;
pub mod policy;
mod tee;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use machinery::request_info::RequestInfo;
use parking_lot::Mutex;
use time::OffsetDateTime;

pub use event::{Event, Stage};
pub use policy::{Level, Policy};

use crate::{
    config,
    http::{Request, Response, ResponseBody},
    identity::Identity,
    impersonation::Impersonated,
    metrics::text::Text,
};

const DROPPED: &str = "the audit log falls behind; events are lost (see apiserver_audit_error_total)";

pub struct Audit {
    policy: Policy,
    log: log::Writer,
    events: AtomicU64,
    errors: AtomicU64,
}

/// What the audit of one request has learned; shared by everything that handles it.
pub struct Record {
    audit: Arc<Audit>,
    decision: policy::Decision,
    about: Arc<event::About>,
    found: Mutex<Found>,
}

#[derive(Clone, Default)]
struct Found {
    impersonated: Option<Arc<Identity>>,
    constraint: &'static str,
    annotations: BTreeMap<String, String>,
    /// Set when the URL did not name the object.
    name: String,
    request: Option<event::Body>,
    response: Option<event::Body>,
}

impl Audit {
    pub fn from_config(config: &config::Audit) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Audit {
            policy: Policy::from_file(&config.policy_file)?,
            log: log::Writer::start(config)?,
            events: AtomicU64::default(),
            errors: AtomicU64::default(),
        }))
    }

    /// Begins the audit of a request; `None` if the policy does not care about it. `who` is `None` when nobody was recognised.
    pub fn begin(self: &Arc<Self>, who: Option<&Arc<Identity>>, asked: Asked<'_>) -> Option<Arc<Record>> {
        let decision = self.policy.decide(who.map(|w| &**w), asked.info);
        if decision.level == Level::None {
            return None;
        }
        let about = Arc::new(event::About::new(who.cloned(), decision.level, asked));
        let record = Record { audit: self.clone(), decision, about, found: Mutex::default() };
        record.send(Stage::RequestReceived, None);
        Some(Arc::new(record))
    }

    fn submit(&self, event: Event) {
        self.events.fetch_add(1, Ordering::Relaxed);
        if !self.log.submit(event) && self.errors.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000) {
            tracing::error!(DROPPED);
        }
    }

    /// Waits until what was submitted has been written.
    pub fn close(&self) {
        self.log.close();
    }

    pub fn render(&self, out: &mut Text) {
        let name = "apiserver_audit_event_total";
        let help = "Counter of audit events generated and sent to the audit backend.";
        let sent = self.events.load(Ordering::Relaxed);
        out.counter(name, help).sample(&[], sent);
        let name = "apiserver_audit_error_total";
        let lost = self.errors.load(Ordering::Relaxed) + self.log.failures();
        let help = "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.";
        out.counter(name, help).sample(&[("plugin", "log")], lost);
    }
}

/// A request as its audit sees it first.
pub struct Asked<'a> {
    pub id: &'a str,
    pub info: &'a RequestInfo,
    pub uri: &'a http::Uri,
    pub headers: &'a HeaderMap,
    pub peer: Option<std::net::IpAddr>,
    pub received: OffsetDateTime,
}

impl Record {
    fn send(&self, stage: Stage, status: Option<event::Outcome>) {
        if self.decision.omits(stage) {
            return;
        }
        let found = self.found.lock().clone();
        self.audit.submit(Event {
            about: self.about.clone(),
            stage,
            at: OffsetDateTime::now_utc(),
            impersonated: found.impersonated,
            constraint: found.constraint,
            annotations: found.annotations,
            name: found.name,
            outcome: status,
            omit_managed_fields: self.decision.omit_managed_fields,
            request: found.request,
            response: found.response,
        });
    }

    pub fn annotate(&self, key: &str, value: String) {
        self.found.lock().annotations.entry(key.to_owned()).or_insert(value);
    }

    pub fn impersonated(&self, how: &Impersonated) {
        let mut found = self.found.lock();
        (found.impersonated, found.constraint) = (Some(how.identity.clone()), how.constraint);
    }

    /// The name that a created object got.
    pub fn named(&self, name: &str) {
        self.found.lock().name = name.to_owned();
    }

    /// Keeps what the handler reads of the body, if the policy wants it.
    pub fn listen(self: &Arc<Self>, request: Request) -> Request {
        if self.decision.level < Level::Request || !self.about.is_resource() {
            return request;
        }
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (media, record) = (media.to_owned(), self.clone());
        request.map(|body| {
            tee::tee(body, move |bytes| {
                if !bytes.is_empty() {
                    record.found.lock().request = Some(event::Body { media, bytes });
                }
            })
        })
    }

    pub fn panicked(&self) {
        self.send(Stage::Panic, Some(event::Outcome::status(StatusCode::INTERNAL_SERVER_ERROR)));
    }

    /// Sends the last stage: now, or for a stream when it ends.
    pub fn answered(self: Arc<Self>, response: Response, long_running: bool) -> Response {
        let (parts, body) = response.into_parts();
        let mut outcome = event::Outcome::status(parts.status);
        let body = match body {
            ResponseBody::Full(bytes) => {
                self.keep_response(&parts, bytes.as_ref(), &mut outcome);
                if long_running {
                    self.send(Stage::ResponseStarted, Some(outcome.clone()));
                }
                self.send(Stage::ResponseComplete, Some(outcome));
                ResponseBody::Full(bytes)
            }
            ResponseBody::Stream(stream) => {
                self.send(Stage::ResponseStarted, Some(outcome.clone()));
                ResponseBody::Stream(tee::until_end(stream, move || self.send(Stage::ResponseComplete, Some(outcome))))
            }
        };
        Response::from_parts(parts, body)
    }

    fn keep_response(&self, parts: &http::response::Parts, bytes: Option<&Bytes>, outcome: &mut event::Outcome) {
        let Some(bytes) = bytes.filter(|b| !b.is_empty()) else { return };
        let media = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if parts.headers.contains_key(header::CONTENT_ENCODING) {
            return;
        }
        let body = || event::Body { media: media.to_owned(), bytes: bytes.clone() };
        if !parts.status.is_success() {
            outcome.error = Some(body());
        }
        if self.decision.level >= Level::RequestResponse && self.about.is_resource() {
            self.found.lock().response = Some(body());
        }
    }
}
