//! Create.

use http::StatusCode;
use machinery::{ApiError, names, resources, time, value::str_at};
use serde_json::{Map, Value};

use super::{
    Target, decode, devices, managed, options, respond,
    update::{Part, back_off},
};
use crate::{
    admission::{self, Attempt, Operation, quota},
    http::{Request, Response, respond::add_warnings},
    pipeline::Call,
    registry::{self, Write, WriteError},
    services,
};

/// How often another generated name, or another free address, is tried.
const ATTEMPTS: usize = 8;

pub async fn create(call: &Call, mut target: Target, request: Request) -> Result<Response, ApiError> {
    if !target.name.is_empty() {
        return Err(ApiError::method_not_allowed(target.resource.group, target.resource.plural, "create"));
    }
    let dry_run = options::check(call, "CreateOptions", false)?;
    let (object, warnings) = decode::object(call, &target.resource, request).await?;
    let encoded = create_object(call, &mut target, object, dry_run).await?;
    call.named(&target.name);
    let mut response = respond::object(call, &target.resource, StatusCode::CREATED, &encoded)?;
    add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Stores a decoded object; `target.name` is set to the name it got.
pub async fn create_object(
    call: &Call,
    target: &mut Target,
    object: Value,
    dry_run: bool,
) -> Result<respond::Encoded, ApiError> {
    create_with(call, target, object, Mode { dry_run, applied: false }).await
}

/// As `create_object`, for what an applied configuration makes: who owns what is known.
pub async fn create_applied(
    call: &Call,
    target: &mut Target,
    object: Value,
    dry_run: bool,
) -> Result<respond::Encoded, ApiError> {
    create_with(call, target, object, Mode { dry_run, applied: true }).await
}

#[derive(Clone, Copy)]
struct Mode {
    dry_run: bool,
    /// `managedFields` are right already.
    applied: bool,
}

async fn create_with(
    call: &Call,
    target: &mut Target,
    object: Value,
    mode: Mode,
) -> Result<respond::Encoded, ApiError> {
    let generates = str_at(&object, "metadata.name").is_empty() && !str_at(&object, "metadata.generateName").is_empty();
    let mut left = ATTEMPTS;
    if !generates {
        return attempt(call, target, object, mode).await;
    }
    loop {
        match attempt(call, target, object.clone(), mode).await {
            Err(error) if error.reason == "AlreadyExists" && left > 0 => left -= 1,
            result => return result,
        }
    }
}

async fn attempt(
    call: &Call,
    target: &mut Target,
    mut object: Value,
    mode: Mode,
) -> Result<respond::Encoded, ApiError> {
    let resource = &*target.resource.clone();
    prepare_metadata(target, &mut object)?;
    if resource.strategy.generation {
        object["metadata"]["generation"] = 1.into();
    }
    resource.default(&mut object);
    if !mode.applied {
        managed::track(call, target, Part::Main, None, &mut object).await;
    }
    let attempt = Attempt::new(call, target, Operation::Create, "", None).dry_run(mode.dry_run);
    admission::admit(&attempt, &mut object).await?;
    resource.default(&mut object);
    (resource.strategy.prepare_create)(&mut object);

    let mut errors: Vec<_> = devices::asked_by_new(&call.core, target, &object).await?.into_iter().collect();
    errors.extend(resources::validate_metadata(resource, &object));
    errors.extend(resource.validate_create(&object));
    if !errors.is_empty() {
        return Err(ApiError::invalid(resource.group, resource.kind, &target.name, &errors));
    }
    admission::review(&attempt, &object).await?;
    (resource.strategy.warnings)(&object, None).into_iter().for_each(|text| call.notes.warn(text));
    store(call, target, object, mode.dry_run).await
}

async fn store(call: &Call, target: &Target, mut object: Value, dry_run: bool) -> Result<respond::Encoded, ApiError> {
    let (core, resource) = (&call.core, &*target.resource);
    let (mut left, mut lost) = (ATTEMPTS, 0);
    loop {
        // what is taken meanwhile is chosen anew, for the object as it came
        let mut chosen = services::allocates_for(target).then(|| object.clone());
        let object = chosen.as_mut().unwrap_or(&mut object);
        let mut claims = services::claim(core, target, object, None).await?;
        claims.extend(quota::charge(core, target, "", object, None).await?);
        if dry_run {
            if core
                .store
                .get(&registry::key(resource, &target.namespace, &target.name))
                .await
                .map_err(registry::store_error)?
                .is_some()
            {
                return Err(ApiError::already_exists(resource.group, resource.plural, &target.name));
            }
            return Ok(respond::Encoded {
                value: machinery::encoding::encode_stored(object),
                revision: core.store.revision(),
            });
        }
        let write = Write { resource, namespace: &target.namespace, name: &target.name, claims };
        match write.put(core, object, None).await {
            Ok((value, revision)) => return Ok(respond::Encoded { value, revision }),
            Err(WriteError::Lost) => {
                return Err(ApiError::already_exists(resource.group, resource.plural, &target.name));
            }
            // another write was charged meanwhile: see what is left now
            Err(WriteError::Taken(key)) if quota::is_charge(&key) => {
                lost += 1;
                back_off(lost).await;
            }
            // somebody took the address that was chosen: choose again
            Err(WriteError::Taken(_)) if left > 0 => left -= 1,
            Err(error) => return Err(error.into_api(resource, &target.name)),
        }
    }
}

/// Namespace and name from the URL and the body; what only the server may set.
fn prepare_metadata(target: &mut Target, object: &mut Value) -> Result<(), ApiError> {
    let resource = &*target.resource.clone();
    set_identity(object, resource)?;
    place(target, object)?;
    let metadata = &mut object["metadata"];
    let mut name = str_at(metadata, "name").to_owned();
    if name.is_empty() && !str_at(metadata, "generateName").is_empty() {
        name = names::generate(str_at(metadata, "generateName"));
        metadata["name"] = name.clone().into();
    }
    target.name = name;
    metadata["uid"] = names::uid().into();
    metadata["creationTimestamp"] = time::now().into();
    if let Some(map) = metadata.as_object_mut() {
        for server_owned in
            ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "resourceVersion"]
        {
            map.remove(server_owned);
        }
    }
    Ok(())
}

fn set_identity(object: &mut Value, resource: &machinery::Resource) -> Result<(), ApiError> {
    let map =
        object.as_object_mut().ok_or_else(|| ApiError::bad_request("the body of the request is not an object"))?;
    map.insert("apiVersion".into(), resource.api_version().into());
    map.insert("kind".into(), resource.kind.into());
    let metadata = map.entry("metadata").or_insert(Value::Null);
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    if !matches!(str_at(metadata, "resourceVersion"), "" | "0") {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    Ok(())
}

/// The namespace of the URL holds; a body that names another is refused.
pub fn place(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let metadata = &mut object["metadata"];
    let given = str_at(metadata, "namespace");
    if !target.resource.namespaced {
        if !given.is_empty() {
            return Err(ApiError::bad_request("namespace should not be specified on cluster-scoped objects"));
        }
        if let Some(map) = metadata.as_object_mut() {
            map.remove("namespace");
        }
        return Ok(());
    }
    if !given.is_empty() && given != target.namespace {
        return Err(ApiError::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({given} / {})",
            target.namespace
        )));
    }
    metadata["namespace"] = target.namespace.as_str().into();
    Ok(())
}
