//! `pods/binding`: the scheduler puts a pod on a node.

use http::StatusCode;
use machinery::{
    ApiError, time,
    value::{list_at, str_at},
};
use serde_json::{Value, json};

use super::{Target, decode, update};
use crate::{
    admission::{self, Attempt, Operation},
    http::{Request, Response, respond},
    pipeline::Call,
    registry,
};

pub async fn bind(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    if call.info.verb != "create" {
        return Err(ApiError::method_not_allowed("", "pods/binding", call.info.verb));
    }
    let body = decode::any(request).await?.ok_or_else(|| ApiError::bad_request("the request has no body"))?;
    apply(call, target, body).await
}

/// The old way: a Binding that names its pod itself.
pub async fn create(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    let body = decode::any(request).await?.ok_or_else(|| ApiError::bad_request("the request has no body"))?;
    let pods = registry::find("", "v1", "pods").ok_or_else(ApiError::no_such_resource)?;
    let name = str_at(&body, "metadata.name").to_owned();
    if name.is_empty() {
        return Err(ApiError::bad_request("a binding's metadata must name the pod"));
    }
    let pod = Target { resource: pods.into(), namespace: target.namespace.clone(), name };
    apply(call, &pod, body).await
}

async fn apply(call: &Call, target: &Target, mut body: Value) -> Result<Response, ApiError> {
    decode::check_kind(&body, "v1", "Binding")?;
    if str_at(&body, "target.name").is_empty() || !matches!(str_at(&body, "target.kind"), "" | "Node") {
        return Err(ApiError::bad_request("a binding's target must be a Node with a name"));
    }
    let dry_run = call.query.dry_run()?;
    let attempt =
        Attempt::new(call, target, Operation::Create, "binding", None).of_kind("", "v1", "Binding").dry_run(dry_run);
    admission::admit(&attempt, &mut body).await?;
    admission::review(&attempt, &body).await?;
    let node = str_at(&body, "target.name");
    let conflict = |why: String| ApiError::conflict("", "pods/binding", &target.name, &why);
    update::change(call, target, update::Part::Own, dry_run, |current| {
        let mut pod = current.object.clone();
        let uid = str_at(&body, "metadata.uid");
        if !uid.is_empty() && uid != str_at(&pod, "metadata.uid") {
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                str_at(&pod, "metadata.uid")
            )));
        }
        if !str_at(&pod, "metadata.deletionTimestamp").is_empty() {
            return Err(conflict(format!("pod {} is being deleted, cannot be assigned to a host", target.name)));
        }
        let bound = str_at(&pod, "spec.nodeName");
        if !bound.is_empty() {
            return Err(conflict(format!("pod {} is already assigned to node \"{bound}\"", target.name)));
        }
        if !list_at(&pod, "spec.schedulingGates").is_empty() {
            return Err(conflict(format!("pod {} has non-empty .spec.schedulingGates", target.name)));
        }
        pod["spec"]["nodeName"] = node.into();
        for field in ["annotations", "labels"] {
            for (key, value) in body["metadata"][field].as_object().into_iter().flatten() {
                pod["metadata"][field][key] = value.clone();
            }
        }
        set_scheduled(&mut pod);
        Ok(pod)
    })
    .await?;
    Ok(respond::value(
        StatusCode::CREATED,
        call.accept.syntax,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// The PodScheduled condition becomes true.
fn set_scheduled(pod: &mut Value) {
    let mut conditions: Vec<Value> =
        list_at(pod, "status.conditions").iter().filter(|c| c["type"] != "PodScheduled").cloned().collect();
    conditions.push(
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time::now()}),
    );
    pod["status"]["conditions"] = conditions.into();
}
