//! Field ownership of every write: who writes through what, and which fields that kind of request can set.

use std::borrow::Cow;

use machinery::{
    ApiError, Resource,
    apply::{self, Configuration, FieldSet, Rules, Shape, Writer},
    time,
    value::str_at,
};
use serde_json::Value;

use super::{
    Target,
    respond::Encoded,
    update::{self, Part},
    versions::{Conversions, Served, by_webhook},
};
use crate::{pipeline::Call, registry::Stored};

/// The manager a request writes as: what it says, its program, or the component that calls in process.
fn manager(call: &Call) -> Cow<'_, str> {
    if let Some(given) = call.query.get("fieldManager") {
        return given.into();
    }
    let program = apply::manager_from_user_agent(&call.user_agent);
    if !program.is_empty() {
        return program.into();
    }
    let component = call.identity.user.strip_prefix("system:").filter(|name| name.starts_with("kube-"));
    component.unwrap_or("unknown").into()
}

pub fn shape(resource: &Resource) -> Shape {
    resource.custom().map_or_else(|| apply::built_in(resource.definition), |custom| custom.shape())
}

/// Fields that a request of this kind cannot set (upstream: `GetResetFields` of the strategies).
fn reset(resource: &Resource, part: Part) -> FieldSet {
    let status: &[&[&str]] = &[&["status"]];
    match part {
        Part::Main | Part::Scale if resource.has_status() => FieldSet::of(status),
        Part::EphemeralContainers | Part::Resize => FieldSet::of(status),
        Part::Status | Part::Approval if resource.custom().is_some() => {
            FieldSet::of(&[&["spec"], &["metadata"], &["scale"]])
        }
        Part::Status | Part::Approval => FieldSet::of(&[&["spec"]]),
        Part::Main | Part::Scale | Part::Finalize | Part::Own => FieldSet::default(),
    }
}

/// Calls `f` with who writes and by which rules.
fn with_rules<T>(
    call: &Call,
    target: &Target,
    part: Part,
    conversions: &Conversions,
    f: impl FnOnce(&Writer, &Rules) -> T,
) -> T {
    let resource = &target.resource;
    let (manager, api_version, now) = (manager(call), resource.api_version(), time::now());
    let writer = Writer { manager: &manager, api_version: &api_version, subresource: part.subresource(), time: &now };
    let (shape, reset) = (shape(resource), reset(resource, part));
    let versions = Served { core: &call.core, resource, conversions };
    f(&writer, &Rules { shape: &shape, reset: &reset, versions: &versions })
}

/// Sets `managedFields` of an object that is to be created (`live` is `None`) or written. It never fails: ownership that cannot
/// be reckoned, because a webhook does not answer, is forgotten.
pub async fn track(call: &Call, target: &Target, part: Part, live: Option<&Value>, new: &mut Value) {
    if part == Part::Own {
        // the server's own decisions belong to nobody
        if let Some(list) = live.and_then(|live| live["metadata"].get("managedFields")) {
            new["metadata"]["managedFields"] = list.clone();
        }
        return;
    }
    let conversions = Conversions::default();
    let reckon = |new: &mut Value| {
        with_rules(call, target, part, &conversions, |writer, rules| apply::update(live, new, writer, rules));
    };
    if !by_webhook(&target.resource) {
        return reckon(new);
    }
    loop {
        let mut tried = new.clone();
        reckon(&mut tried);
        match conversions.fill().await {
            Ok(true) => {}
            Ok(false) => {
                *new = tried;
                return;
            }
            Err(error) => {
                tracing::error!(%error, "failed to update managedFields");
                machinery::value::remove(&mut new["metadata"], "managedFields");
                return;
            }
        }
    }
}

/// `live` (`None`: nothing is there yet) with a configuration applied, `managedFields` included. An error if `conversions`
/// lacks anything.
pub fn applied(
    call: &Call,
    target: &Target,
    part: Part,
    live: Option<&Value>,
    applied: (&Value, bool),
    conversions: &Conversions,
) -> Result<Value, ApiError> {
    let ((config, force), resource) = (applied, &*target.resource);
    let uid = str_at(config, "metadata.uid");
    if live.is_none() && !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(ApiError::conflict(resource.group, resource.plural, &target.name, &why));
    }
    let result = with_rules(call, target, part, conversions, |writer, rules| {
        let config = Configuration { object: config, force, api_version: writer.api_version, kind: resource.kind };
        apply::apply(live, &config, writer, rules)
    });
    if conversions.lack() {
        return Err(ApiError::internal("other versions of the object are not known yet"));
    }
    Ok(result?)
}

/// As [`applied`], of an object that does not exist yet.
pub async fn applied_first(call: &Call, target: &Target, config: &Value, force: bool) -> Result<Value, ApiError> {
    let conversions = Conversions::default();
    loop {
        let result = applied(call, target, Part::Main, None, (config, force), &conversions);
        if !conversions.fill().await? {
            return result;
        }
    }
}

/// Applies a configuration to what is there: `make` is given the state and what is known of other versions.
pub async fn change(
    call: &Call,
    target: &Target,
    part: Part,
    dry_run: bool,
    make: impl Fn(&Value, &Conversions) -> Result<Value, ApiError>,
) -> Result<Encoded, ApiError> {
    let conversions = Conversions::default();
    loop {
        let make = |current: &Stored| make(&current.object, &conversions);
        let result = update::change_applied(call, target, part, dry_run, make).await;
        if !conversions.fill().await? {
            return result;
        }
    }
}
