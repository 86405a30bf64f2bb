//! Every change of an existing object: read, change, check, compare and swap, again if somebody was faster.

use std::time::Duration;

use http::StatusCode;
use machinery::{
    ApiError, Resource, apply,
    field::FieldError,
    field::Path,
    numbers::same,
    resources,
    value::{int_at, list_at, str_at},
};
use rand::Rng;
use serde_json::Value;

use super::{Target, create, decode, devices, managed, options, respond, scale};
use crate::{
    admission::{self, Attempt, Operation, quota},
    http::{Request, Response, respond::add_warnings},
    pipeline::Call,
    registry::{self, Stored, Write, WriteError},
    services,
};

/// What of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but status.
    Main,
    Status,
    /// Approved and Denied conditions of a certificate request.
    Approval,
    /// `spec.finalizers` of a namespace.
    Finalize,
    EphemeralContainers,
    /// `resources` of a pod's containers.
    Resize,
    /// `spec.replicas`, through a Scale.
    Scale,
    /// What the server itself decided (binding); neither admitted nor validated as an update.
    Own,
}

impl Part {
    /// The subresource's name, for admission and field ownership.
    pub fn subresource(self) -> &'static str {
        match self {
            Part::Main => "",
            Part::Status => "status",
            Part::Approval => "approval",
            Part::Finalize => "finalize",
            Part::EphemeralContainers => "ephemeralcontainers",
            Part::Resize => "resize",
            Part::Scale => "scale",
            Part::Own => "binding",
        }
    }

    /// Whether the object's own content is written, so that its hooks act.
    fn is_content(self) -> bool {
        matches!(self, Part::Main | Part::Scale)
    }
}

pub async fn put(call: &Call, target: &Target, part: Part, request: Request) -> Result<Response, ApiError> {
    let resource = &*target.resource;
    let dry_run = options::check(call, "UpdateOptions", false)?;
    let (mut body, warnings) = decode::object(call, resource, request).await?;
    if !body["metadata"].is_object() {
        body["metadata"] = Value::Object(serde_json::Map::new());
    }
    let name = str_at(&body, "metadata.name");
    if name.is_empty() {
        return Err(ApiError::bad_request("the name of the object must be given in its metadata"));
    }
    if name != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    create::place(target, &mut body)?;
    let mut status = StatusCode::OK;
    let encoded = match change(call, target, part, dry_run, |_| Ok(body.clone())).await {
        Err(error)
            if error.code == 404
                && part == Part::Main
                && resource.strategy.create_on_update
                && str_at(&body, "metadata.resourceVersion").is_empty() =>
        {
            crate::authz::authorize(
                &call.core,
                &call.identity,
                &crate::authz::Attributes::of(&call.info, None).with_verb("create"),
            )
            .await?;
            status = StatusCode::CREATED;
            create::create_object(call, &mut target.clone(), body, dry_run).await?
        }
        result => result?,
    };
    let mut response = respond::object(call, resource, status, &encoded)?;
    add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Applies `make` to the stored object until the result is stored. A `resourceVersion` in the result is a precondition; one
/// that `make` leaves as it read it is none.
pub async fn change(
    call: &Call,
    target: &Target,
    part: Part,
    dry_run: bool,
    make: impl Fn(&Stored) -> Result<Value, ApiError>,
) -> Result<respond::Encoded, ApiError> {
    write(call, target, part, Mode { dry_run, applied: false }, make).await
}

/// As `change`, when `make` applies a configuration and so knows who owns what.
pub async fn change_applied(
    call: &Call,
    target: &Target,
    part: Part,
    dry_run: bool,
    make: impl Fn(&Stored) -> Result<Value, ApiError>,
) -> Result<respond::Encoded, ApiError> {
    write(call, target, part, Mode { dry_run, applied: true }, make).await
}

#[derive(Clone, Copy)]
struct Mode {
    dry_run: bool,
    /// `managedFields` of the result are right already.
    applied: bool,
}

async fn write(
    call: &Call,
    target: &Target,
    part: Part,
    mode: Mode,
    make: impl Fn(&Stored) -> Result<Value, ApiError>,
) -> Result<respond::Encoded, ApiError> {
    let mut lost = 0;
    loop {
        let current = registry::read(&call.core, &target.resource, &target.namespace, &target.name).await?;
        let new = make(&current)?;
        check_preconditions(target, part, &new, &current)?;
        match attempt(call, target, part, mode, new, current).await? {
            Some(encoded) => return Ok(encoded),
            None => {
                lost += 1;
                back_off(lost).await;
            }
        }
    }
}

/// Writers in lock step would lose every time.
pub async fn back_off(lost: u32) {
    if lost > 1 {
        let millis = rand::rng().random_range(0..=(1u64 << lost.min(6)));
        tokio::time::sleep(Duration::from_millis(millis)).await;
    } else {
        tokio::task::yield_now().await;
    }
}

fn check_preconditions(target: &Target, part: Part, new: &Value, current: &Stored) -> Result<(), ApiError> {
    let resource = &*target.resource;
    let (revision, uid) = (str_at(new, "metadata.resourceVersion"), str_at(new, "metadata.uid"));
    if revision.is_empty() || revision == "0" {
        if part == Part::Main && !resource.strategy.unconditional_update {
            let error = FieldError::invalid(
                &Path::new("metadata").child("resourceVersion"),
                0,
                "must be specified for an update",
            );
            return Err(ApiError::invalid(resource.group, resource.kind, &target.name, &[error]));
        }
    } else if revision.parse() != Ok(current.revision) {
        return Err(ApiError::modified(resource.group, resource.plural, &target.name));
    }
    let old_uid = str_at(&current.object, "metadata.uid");
    if !uid.is_empty() && uid != old_uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
        return Err(ApiError::conflict(resource.group, resource.plural, &target.name, &why));
    }
    Ok(())
}

/// One try; `None` when somebody else wrote meanwhile.
async fn attempt(
    call: &Call,
    target: &Target,
    part: Part,
    mode: Mode,
    new: Value,
    current: Stored,
) -> Result<Option<respond::Encoded>, ApiError> {
    let (core, resource, old) = (&call.core, &*target.resource, &current.object);
    let mut new = restrict(resource, part, new, old);
    keep_system_metadata(&mut new, old);
    services::carry_over(target, &mut new, old);
    resource.default(&mut new);
    if !mode.applied {
        managed::track(call, target, part, Some(old), &mut new).await;
    }
    if part.is_content() {
        (resource.strategy.prepare_update)(&mut new, old);
    }
    let old_scale = if part == Part::Scale { Some(scale::to_scale(target, old)?) } else { None };
    let attempt = match &old_scale {
        Some(old) => {
            Attempt::new(call, target, Operation::Update, "scale", Some(old)).of_kind("autoscaling", "v1", "Scale")
        }
        None => Attempt::new(call, target, Operation::Update, part.subresource(), Some(old)),
    };
    let attempt = attempt.dry_run(mode.dry_run);
    if part != Part::Own {
        admit(&attempt, part, &mut new, old).await?;
    }
    let mut errors = validate(target, part, &new, old);
    if part == Part::Status
        && let Some(error) = devices::granted_by_status(core, target, &new, old).await?
    {
        errors.insert(0, error);
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource.group, resource.kind, &target.name, &errors));
    }
    match part {
        Part::Own => {}
        Part::Scale => admission::review(&attempt, &scale::to_scale(target, &new)?).await?,
        _ => admission::review(&attempt, &new).await?,
    }
    if resource.strategy.generation && part != Part::Status && content_changed(resource, &new, old) {
        new["metadata"]["generation"] = (int_at(old, "metadata.generation").unwrap_or(0) + 1).into();
    }
    if matches!(part, Part::Main | Part::EphemeralContainers | Part::Resize) {
        (resource.strategy.warnings)(&new, Some(old)).into_iter().for_each(|text| call.notes.warn(text));
    }
    apply::keep_times(&mut new, old);
    let unchanged = || machinery::encoding::encode_stored(old);
    if same(&new, old) && !current.stale {
        return Ok(Some(respond::Encoded { value: unchanged(), revision: current.revision }));
    }
    let removed = is_finished(target, &new);
    let claims = if removed {
        services::release(core, target, old).await?
    } else {
        let mut claims = services::claim(core, target, &mut new, Some(old)).await?;
        claims.extend(quota::charge(core, target, part.subresource(), &new, Some(old)).await?);
        claims
    };
    if mode.dry_run {
        return Ok(Some(respond::Encoded {
            value: machinery::encoding::encode_stored(&new),
            revision: current.revision,
        }));
    }
    let write = Write { resource, namespace: &target.namespace, name: &target.name, claims };
    let written = if removed {
        write.delete(core, current.revision).await.map(|revision| (machinery::encoding::encode_stored(&new), revision))
    } else {
        write.put(core, &new, Some(current.revision)).await
    };
    match written {
        Ok((value, revision)) => Ok(Some(respond::Encoded { value, revision })),
        Err(WriteError::Lost | WriteError::Taken(_)) => Ok(None),
        Err(WriteError::Failed(error)) => Err(error),
    }
}

/// Lets plugins change the object, within what the request may change.
async fn admit(attempt: &Attempt<'_>, part: Part, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    if part == Part::Scale {
        let mut scale = scale::to_scale(attempt.target, new)?;
        admission::admit(attempt, &mut scale).await?;
        scale::set_replicas(attempt.target, new, scale["spec"]["replicas"].clone());
        return Ok(());
    }
    if admission::admit(attempt, new).await? {
        *new = restrict(&attempt.target.resource, part, std::mem::take(new), old);
        keep_system_metadata(new, old);
        attempt.target.resource.default(new);
        if part == Part::Main {
            (attempt.target.resource.strategy.prepare_update)(new, old);
        }
    }
    Ok(())
}

/// Takes from `new` only what the request may change.
fn restrict(resource: &Resource, part: Part, new: Value, old: &Value) -> Value {
    let mut result = old.clone();
    let mut take = |path: &[&str]| {
        let Some((last, parents)) = path.split_last() else { return };
        let found = path.iter().try_fold(&new, |v, key| v.get(key)).cloned();
        let place = parents.iter().fold(&mut result, |v, key| &mut v[*key]);
        match (found, place.as_object_mut()) {
            (Some(found), Some(map)) => drop(map.insert((*last).to_owned(), found)),
            (None, Some(map)) => drop(map.remove(*last)),
            (Some(found), None) => place[*last] = found,
            (None, None) => {}
        }
    };
    match part {
        Part::Main | Part::Scale | Part::Own => return new,
        Part::Resize => {
            let mut new = new;
            (resource.strategy.prepare_subresource)(part.subresource(), &mut new, old);
            return new;
        }
        Part::Status => {
            take(&["status"]);
            if resource.status_writes_metadata() {
                take(&["metadata", "labels"]);
                take(&["metadata", "annotations"]);
                take(&["metadata", "finalizers"]);
            }
        }
        Part::Approval => {
            take(&["status", "conditions"]);
            take(&["metadata", "labels"]);
            take(&["metadata", "annotations"]);
        }
        Part::Finalize => take(&["spec", "finalizers"]),
        Part::EphemeralContainers => take(&["spec", "ephemeralContainers"]),
    }
    take(&["metadata", "managedFields"]);
    if part == Part::Status {
        (resource.strategy.prepare_status)(&mut result, old);
    }
    result
}

/// What only the server sets stays as it was.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    for key in ["apiVersion", "kind"] {
        new[key] = old[key].clone();
    }
    if !new["metadata"].is_object() {
        new["metadata"] = Value::Object(serde_json::Map::new());
    }
    let Some(map) = new["metadata"].as_object_mut() else { return };
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
    ] {
        match old["metadata"].get(key) {
            Some(value) => map.insert(key.into(), value.clone()),
            None => map.remove(key),
        };
    }
    map.remove("selfLink");
}

fn validate(target: &Target, part: Part, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = resources::validate_metadata_update(new, old);
    errors.extend(no_new_finalizers(new, old));
    match part {
        Part::Main | Part::Scale => errors.extend(target.resource.validate_update(new, old)),
        Part::Status | Part::Approval => errors.extend(target.resource.validate_status_update(new, old)),
        Part::Resize | Part::EphemeralContainers | Part::Finalize => {
            errors.extend((target.resource.strategy.validate_subresource)(part.subresource(), new, old));
        }
        Part::Own => {}
    }
    errors
}

/// An object that is being deleted may lose finalizers but not get any.
fn no_new_finalizers(new: &Value, old: &Value) -> Option<FieldError> {
    if str_at(old, "metadata.deletionTimestamp").is_empty() {
        return None;
    }
    let had = list_at(old, "metadata.finalizers");
    let added: Vec<&str> =
        list_at(new, "metadata.finalizers").iter().filter(|f| !had.contains(f)).filter_map(Value::as_str).collect();
    let detail =
        format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
    (!added.is_empty()).then(|| FieldError::forbidden(&Path::new("metadata").child("finalizers"), detail))
}

/// Whether anything but metadata and a status of its own differs.
fn content_changed(resource: &Resource, new: &Value, old: &Value) -> bool {
    let counts = |key: &str| key != "metadata" && !(key == "status" && resource.has_status());
    let content = |value: &'_ Value| value.as_object().map_or(0, |map| map.keys().filter(|key| counts(key)).count());
    let differs = |(key, new): (&String, &Value)| counts(key) && !old.get(key).is_some_and(|old| same(new, old));
    content(new) != content(old) || new.as_object().is_some_and(|map| map.iter().any(differs))
}

/// A write that takes away what kept a deleted object is its end.
pub fn is_finished(target: &Target, object: &Value) -> bool {
    let deleted = !str_at(object, "metadata.deletionTimestamp").is_empty();
    let held = |list: &str| !list_at(object, list).is_empty();
    let kept = held("metadata.finalizers") || (target.resource.plural == "namespaces" && held("spec.finalizers"));
    let has_grace = int_at(object, "metadata.deletionGracePeriodSeconds").unwrap_or(0) > 0;
    deleted && !kept && !has_grace
}
