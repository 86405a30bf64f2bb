//! An event as `audit.k8s.io/v1` writes it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use machinery::{protobuf, request_info::RequestInfo, time::rfc3339_micro};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{Asked, policy::Level};
use crate::identity::Identity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    RequestReceived,
    /// Of requests that go on after their head was answered.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];

    pub fn name(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// What is known of a request from its head.
pub struct About {
    level: Level,
    id: String,
    uri: String,
    user: Option<Arc<Identity>>,
    sources: Vec<String>,
    agent: String,
    received: OffsetDateTime,
    info: RequestInfo,
}

impl About {
    pub fn new(user: Option<Arc<Identity>>, level: Level, asked: Asked<'_>) -> Self {
        About {
            level,
            id: asked.id.to_owned(),
            uri: asked.uri.path_and_query().map(|p| p.as_str()).unwrap_or_default().to_owned(),
            user,
            sources: sources(asked.headers, asked.peer),
            agent: text(asked.headers, header::USER_AGENT.as_str()).unwrap_or_default().to_owned(),
            received: asked.received,
            info: asked.info.clone(),
        }
    }

    pub fn is_resource(&self) -> bool {
        self.info.is_resource
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Where the request came from: what proxies say, then the connection's other end.
fn sources(headers: &HeaderMap, peer: Option<IpAddr>) -> Vec<String> {
    let forwarded = text(headers, "x-forwarded-for").unwrap_or_default().split(',');
    let real = text(headers, "x-real-ip").into_iter();
    let mut sources: Vec<String> =
        forwarded.chain(real).filter_map(|s| s.trim().parse::<IpAddr>().ok()).map(|ip| ip.to_string()).collect();
    sources.extend(peer.map(|ip| ip.to_string()));
    sources.dedup();
    sources
}

/// A body as it was sent, not read yet.
#[derive(Clone)]
pub struct Body {
    pub media: String,
    pub bytes: Bytes,
}

impl Body {
    fn object(&self, omit_managed_fields: bool) -> Option<Value> {
        let media = self.media.split(';').next().unwrap_or_default().trim();
        let mut object: Value = match media {
            "" | "application/yaml" | "application/apply-patch+yaml" => serde_yaml::from_slice(&self.bytes).ok()?,
            media if media.ends_with("json") => serde_json::from_slice(&self.bytes).ok()?,
            protobuf::MEDIA_TYPE => protobuf::decode(&self.bytes, ("", "")).ok()?,
            _ => return None,
        };
        if omit_managed_fields {
            drop_managed_fields(&mut object);
            for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                drop_managed_fields(item);
            }
        }
        Some(object)
    }
}

fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// How a request was answered.
#[derive(Clone)]
pub struct Outcome {
    code: StatusCode,
    /// The Status that explains a failure.
    pub error: Option<Body>,
}

impl Outcome {
    pub fn status(code: StatusCode) -> Self {
        Outcome { code, error: None }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({"metadata": {}, "code": self.code.as_u16()});
        if let Some(status) = self.error.as_ref().and_then(|e| e.object(false)).filter(|s| s["kind"] == "Status") {
            for key in ["status", "message", "reason", "details"] {
                if let Some(part) = status.get(key) {
                    value[key] = part.clone();
                }
            }
        }
        value
    }
}

pub struct Event {
    pub about: Arc<About>,
    pub stage: Stage,
    pub at: OffsetDateTime,
    pub impersonated: Option<Arc<Identity>>,
    /// The verb that allowed that, if it is a constrained one.
    pub constraint: &'static str,
    pub annotations: BTreeMap<String, String>,
    pub name: String,
    pub outcome: Option<Outcome>,
    pub omit_managed_fields: bool,
    pub request: Option<Body>,
    pub response: Option<Body>,
}

impl Event {
    /// Bytes it keeps from being freed, about.
    pub fn weight(&self) -> usize {
        let body = |b: &Option<Body>| b.as_ref().map_or(0, |b| b.bytes.len());
        1024 + body(&self.request) + body(&self.response)
    }

    pub fn to_value(&self) -> Value {
        let about = &*self.about;
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": about.level.name(), "auditID": about.id,
            "stage": self.stage.name(), "requestURI": about.uri, "verb": about.info.verb,
            "user": about.user.as_deref().map_or_else(|| json!({}), user),
        });
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                event[key] = value;
            }
        };
        set("impersonatedUser", self.impersonated.as_deref().map(user));
        let metadata = || json!({"impersonationConstraint": self.constraint});
        set("authenticationMetadata", (!self.constraint.is_empty()).then(metadata));
        set("sourceIPs", (!about.sources.is_empty()).then(|| json!(about.sources)));
        set("userAgent", (!about.agent.is_empty()).then(|| about.agent.as_str().into()));
        set("objectRef", about.info.is_resource.then(|| self.object_ref()));
        set("responseStatus", self.outcome.as_ref().map(Outcome::to_value));
        set("requestObject", self.request.as_ref().and_then(|b| b.object(self.omit_managed_fields)));
        set("responseObject", self.response.as_ref().and_then(|b| b.object(self.omit_managed_fields)));
        set("requestReceivedTimestamp", Some(rfc3339_micro(about.received).into()));
        set("stageTimestamp", Some(rfc3339_micro(self.at).into()));
        set("annotations", (!self.annotations.is_empty()).then(|| json!(self.annotations)));
        event
    }

    fn object_ref(&self) -> Value {
        let info = &self.about.info;
        let name = if info.name.is_empty() { &self.name } else { &info.name };
        let parts = [
            ("resource", &info.resource),
            ("namespace", &info.namespace),
            ("name", name),
            ("apiGroup", &info.group),
            ("apiVersion", &info.version),
            ("subresource", &info.subresource),
        ];
        let set = parts.into_iter().filter(|(_, text)| !text.is_empty());
        Value::Object(set.map(|(key, text)| (key.to_owned(), text.as_str().into())).collect::<Map<_, _>>())
    }
}

fn user(who: &Identity) -> Value {
    let mut user = json!({"username": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        user["uid"] = who.uid.as_str().into();
    }
    if !who.extra.is_empty() {
        user["extra"] = json!(who.extra);
    }
    user
}
