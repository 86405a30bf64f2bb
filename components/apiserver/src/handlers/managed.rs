//! Field ownership of every write: who writes through what, and which fields that kind of request can set.

use std::borrow::Cow;

use machinery::{
    ApiError, Resource,
    apply::{self, Configuration, FieldSet, Rules, Shape, Versions, Writer},
    time,
    value::str_at,
};
use serde_json::Value;

use super::{Target, update::Part};
use crate::{core::Core, pipeline::Call, registry};

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

/// Other versions of the same objects.
struct Served<'a> {
    core: &'a Core,
    resource: &'a Resource,
}

impl Versions for Served<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Value, Shape)> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let other = registry::resolve(self.core, group, version, self.resource.plural)?;
        let mut object = object.clone();
        object["apiVersion"] = api_version.into();
        if let Some(view) = self.resource.view {
            (view.to_stored)(&mut object);
        }
        if let Some(view) = other.view {
            (view.from_stored)(&mut object);
        }
        Some((object, shape(&other)))
    }
}

/// Calls `f` with who writes and by which rules.
fn with_rules<T>(call: &Call, target: &Target, part: Part, f: impl FnOnce(&Writer, &Rules) -> T) -> T {
    let resource = &*target.resource;
    let (manager, api_version, now) = (manager(call), resource.api_version(), time::now());
    let writer = Writer { manager: &manager, api_version: &api_version, subresource: part.subresource(), time: &now };
    let (shape, reset) = (shape(resource), reset(resource, part));
    let versions = Served { core: &call.core, resource };
    f(&writer, &Rules { shape: &shape, reset: &reset, versions: &versions })
}

/// Sets `managedFields` of an object that is to be created (`live` is `None`) or written.
pub fn track(call: &Call, target: &Target, part: Part, live: Option<&Value>, new: &mut Value) {
    if part == Part::Own {
        // the server's own decisions belong to nobody
        if let Some(list) = live.and_then(|live| live["metadata"].get("managedFields")) {
            new["metadata"]["managedFields"] = list.clone();
        }
        return;
    }
    with_rules(call, target, part, |writer, rules| apply::update(live, new, writer, rules));
}

/// `live` (`None`: nothing is there yet) with a configuration applied, `managedFields` included.
pub fn applied(
    call: &Call,
    target: &Target,
    part: Part,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApiError> {
    let resource = &*target.resource;
    let uid = str_at(config, "metadata.uid");
    if live.is_none() && !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(ApiError::conflict(resource.group, resource.plural, &target.name, &why));
    }
    with_rules(call, target, part, |writer, rules| {
        let config = Configuration { object: config, force, api_version: writer.api_version, kind: resource.kind };
        Ok(apply::apply(live, &config, writer, rules)?)
    })
}
