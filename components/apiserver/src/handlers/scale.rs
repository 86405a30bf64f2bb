//! The `scale` subresource (autoscaling/v1 Scale) of workloads.

use http::{Method, StatusCode};
use machinery::{
    ApiError,
    apply::{built_in, fits},
    resources::ScalePaths,
    schema,
    selector::LabelSelector,
    value::{get, int_at, map_at, set, str_at},
};
use serde_json::{Value, json};

use super::{Target, apply::Applied, decode, managed, options, patch, respond::Encoded, update};
use crate::{
    http::{Request, Response, respond},
    pipeline::Call,
    registry::{self, Stored},
};

const DEFINITION: &str = "io.k8s.api.autoscaling.v1.Scale";

pub async fn answer(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    let method = request.method().clone();
    let scale = match method {
        Method::GET | Method::HEAD => {
            let stored = registry::read(&call.core, &target.resource, &target.namespace, &target.name).await?;
            to_scale(target, &stored.object)?
        }
        Method::PUT => {
            let body = decode::any(request).await?.ok_or_else(|| ApiError::bad_request("the request has no body"))?;
            decode::check_kind(&body, "autoscaling/v1", "Scale")?;
            write(call, target, |_| Ok(body.clone())).await?
        }
        Method::PATCH if options::is_apply(&request) => apply_scale(call, target, request).await?,
        Method::PATCH => {
            let (kind, changes, _) = patch::read(request).await?;
            write(call, target, |current| {
                let mut scale = to_scale(target, &current.object)?;
                kind.apply(DEFINITION, &mut scale, &changes)?;
                if get(&scale, "spec.replicas").is_none_or(Value::is_null) {
                    return Err(ApiError::bad_request("the patch takes spec.replicas away"));
                }
                Ok(scale)
            })
            .await?
        }
        _ => return Err(ApiError::method_not_allowed(target.resource.group, target.resource.plural, call.info.verb)),
    };
    Ok(respond::value(StatusCode::OK, call.accept.syntax, &scale))
}

/// What a Scale asks for. Go's clients leave out a zero, but never the spec; a zero must not come from anything else.
fn replicas(scale: &mut Value) -> Result<i64, ApiError> {
    if !scale["spec"].is_object() {
        return Err(ApiError::bad_request("spec.replicas of the Scale is missing"));
    }
    schema::check(DEFINITION, scale, schema::Unknown::Prune).map_err(|error| {
        ApiError::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {error}"))
    })?;
    Ok(int_at(scale, "spec.replicas").unwrap_or(0))
}

async fn write(
    call: &Call,
    target: &Target,
    make: impl Fn(&Stored) -> Result<Value, ApiError>,
) -> Result<Value, ApiError> {
    let dry_run = call.query.dry_run()?;
    let Encoded { value, revision } = update::change(call, target, update::Part::Scale, dry_run, |current| {
        let mut scale = make(current)?;
        let replicas = replicas(&mut scale)?;
        let name = str_at(&scale, "metadata.name");
        if !name.is_empty() && name != target.name {
            return Err(ApiError::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({})", target.name)));
        }
        if !(0..=i64::from(i32::MAX)).contains(&replicas) {
            return Err(ApiError::new(422, "Invalid", format!("Scale.autoscaling \"{}\" is invalid: spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0", target.name)));
        }
        let mut object = current.object.clone();
        set_replicas(target, &mut object, replicas.into());
        for precondition in ["resourceVersion", "uid"] {
            let wanted = str_at(&scale["metadata"], precondition);
            if !wanted.is_empty() {
                object["metadata"][precondition] = wanted.into();
            }
        }
        Ok(object)
    })
    .await?;
    to_scale(target, &registry::decode(&target.resource, &value, revision)?)
}

/// An applied Scale is a configuration of the object with nothing but `spec.replicas`.
async fn apply_scale(call: &Call, target: &Target, request: Request) -> Result<Value, ApiError> {
    let applied = Applied::read(call, request).await?;
    let resource = &*target.resource;
    decode::check_kind(&applied.config, "autoscaling/v1", "Scale")?;
    fits(&applied.config, &built_in(DEFINITION)).map_err(|problem| {
        let text = |path: &str| str_at(&applied.config, path);
        let (namespace, name) = (text("metadata.namespace"), text("metadata.name"));
        let what = format!("failed to create typed patch object ({namespace}/{name}; autoscaling/v1, Kind=Scale)");
        ApiError::new(500, "", format!("{what}: {problem}"))
    })?;
    let mut config = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
    if let Some(wanted) = int_at(&applied.config, "spec.replicas") {
        set_replicas(target, &mut config, wanted.into());
    }
    let part = update::Part::Scale;
    let Encoded { value, revision } = managed::change(call, target, part, applied.dry_run, |current, conversions| {
        managed::applied(call, target, part, Some(current), (&config, applied.force), conversions)
    })
    .await?;
    to_scale(target, &registry::decode(resource, &value, revision)?)
}

/// Where the number lies that a Scale asks for.
fn spec_replicas(target: &Target) -> &str {
    let paths = target.resource.custom().and_then(|custom| custom.scale());
    paths.map_or("spec.replicas", |paths| paths.spec_replicas.as_str())
}

/// Puts the number there.
pub fn set_replicas(target: &Target, object: &mut Value, replicas: Value) {
    set(object, spec_replicas(target), replicas);
}

/// A custom resource says itself where its numbers and its selector are.
fn custom_scale(object: &Value, paths: &ScalePaths) -> Result<Value, ApiError> {
    let replicas = int_at(object, &paths.spec_replicas).ok_or_else(|| {
        ApiError::internal(format!("the spec replicas field \".{}\" does not exist", paths.spec_replicas))
    })?;
    let selector = paths.selector.as_deref().map(|path| str_at(object, path)).unwrap_or_default();
    Ok(scale(object, replicas, int_at(object, &paths.status_replicas).unwrap_or(0), selector))
}

pub fn to_scale(target: &Target, object: &Value) -> Result<Value, ApiError> {
    if let Some(paths) = target.resource.custom().and_then(|custom| custom.scale()) {
        return custom_scale(object, paths);
    }
    let selector = match (str_at(object, "kind"), map_at(object, "spec.selector")) {
        // its selector is a map of labels, as in the days before expressions
        ("ReplicationController", Some(labels)) => {
            let pairs = labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            pairs.collect::<Vec<_>>().join(",")
        }
        _ => LabelSelector::from_object(get(object, "spec.selector")).map(|s| selector_text(&s)).unwrap_or_default(),
    };
    let number = |path: &str| int_at(object, path).unwrap_or(0);
    Ok(scale(object, number("spec.replicas"), number("status.replicas"), &selector))
}

fn scale(object: &Value, wanted: i64, there: i64, selector: &str) -> Value {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": wanted}, "status": {"replicas": there},
    });
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// The selector in its string form.
fn selector_text(selector: &LabelSelector) -> String {
    use machinery::selector::Operator;
    let one = |r: &machinery::selector::Requirement| match r.operator {
        Operator::In if r.values.len() == 1 => format!("{}={}", r.key, r.values[0]),
        Operator::Equals => format!("{}={}", r.key, r.values.join(",")),
        Operator::In => format!("{} in ({})", r.key, r.values.join(",")),
        Operator::NotIn => format!("{} notin ({})", r.key, r.values.join(",")),
        Operator::Exists => r.key.clone(),
        Operator::DoesNotExist => format!("!{}", r.key),
        _ => String::new(),
    };
    selector.requirements.iter().map(one).filter(|t| !t.is_empty()).collect::<Vec<_>>().join(",")
}
