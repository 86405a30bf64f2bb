//! `serviceaccounts/token` (authentication.k8s.io/v1 TokenRequest).

use http::StatusCode;
use machinery::{
    ApiError, time,
    value::{get, int_at, list_at, str_at},
};
use serde_json::{Value, json};

use super::{Target, decode};
use crate::{
    admission::{self, Attempt, Operation},
    authn::service_account::{Bound, Grant, issue},
    http::{Request, Response, respond},
    pipeline::Call,
    registry,
};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

pub async fn create(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    if call.info.verb != "create" {
        return Err(ApiError::method_not_allowed("", "serviceaccounts/token", call.info.verb));
    }
    let mut body = decode::any(request).await?.unwrap_or_else(|| json!({}));
    decode::check_kind(&body, "authentication.k8s.io/v1", "TokenRequest")?;
    let attempt = Attempt::new(call, target, Operation::Create, "token", None)
        .of_kind("authentication.k8s.io", "v1", "TokenRequest")
        .dry_run(call.query.dry_run()?);
    admission::admit(&attempt, &mut body).await?;
    admission::review(&attempt, &body).await?;
    let account = registry::read(&call.core, &target.resource, &target.namespace, &target.name).await?.object;
    let seconds = seconds(&body, target)?;
    let mut audiences: Vec<String> =
        list_at(&body, "spec.audiences").iter().filter_map(Value::as_str).map(Into::into).collect();
    if audiences.is_empty() {
        audiences = call.core.config.audiences();
    }
    let bound = bound(call, target, get(&body, "spec.boundObjectRef")).await?;
    check_node(call, target, bound.as_ref())?;
    let uid = str_at(&account, "metadata.uid");
    let grant = Grant {
        namespace: &target.namespace,
        name: &target.name,
        uid,
        audiences: &audiences,
        seconds,
        bound: bound.as_ref(),
    };
    let (token, expires) = issue(&call.core, &grant).map_err(ApiError::internal)?;
    let mut answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": target.name, "namespace": target.namespace, "creationTimestamp": time::now()},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": get(&body, "spec.boundObjectRef").cloned()},
        "status": {"token": token, "expirationTimestamp": time::rfc3339(expires)},
    });
    if answer["spec"]["boundObjectRef"].is_null() {
        machinery::value::remove(&mut answer["spec"], "boundObjectRef");
    }
    Ok(respond::value(StatusCode::CREATED, call.accept.syntax, &answer))
}

fn seconds(body: &Value, target: &Target) -> Result<i64, ApiError> {
    let seconds = int_at(body, "spec.expirationSeconds").unwrap_or(DEFAULT_SECONDS);
    let wrong = match seconds {
        s if s < MIN_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        s => return Ok(s),
    };
    let path = machinery::Path::new("spec").child("expirationSeconds");
    Err(ApiError::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        &target.name,
        &[machinery::FieldError::invalid(&path, seconds, wrong)],
    ))
}

async fn bound(call: &Call, target: &Target, reference: Option<&Value>) -> Result<Option<Bound>, ApiError> {
    let Some(reference) = reference.filter(|r| r.is_object()) else { return Ok(None) };
    let (kind, plural, namespace) = match (str_at(reference, "apiVersion"), str_at(reference, "kind")) {
        ("v1", "Pod") => ("Pod", "pods", target.namespace.as_str()),
        ("v1", "Secret") => ("Secret", "secrets", target.namespace.as_str()),
        ("v1", "Node") => ("Node", "nodes", ""),
        (version, kind) => {
            return Err(ApiError::bad_request(format!("cannot bind token to object of type {version}, Kind={kind}")));
        }
    };
    let resource = registry::find("", "v1", plural).ok_or_else(ApiError::no_such_resource)?;
    let name = str_at(reference, "name");
    let object = registry::read(&call.core, resource, namespace, name).await?.object;
    let (uid, wanted) = (str_at(&object, "metadata.uid"), str_at(reference, "uid"));
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", plural, name, &why));
    }
    if kind == "Pod" && str_at(&object, "spec.serviceAccountName") != target.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        )));
    }
    let node = match str_at(&object, "spec.nodeName") {
        "" => None,
        node => {
            let nodes = registry::find("", "v1", "nodes").ok_or_else(ApiError::no_such_resource)?;
            let uid = registry::read(&call.core, nodes, "", node)
                .await
                .map(|n| str_at(&n.object, "metadata.uid").to_owned())
                .unwrap_or_default();
            Some((node.to_owned(), uid))
        }
    };
    Ok(Some(Bound { kind, name: name.to_owned(), uid: uid.to_owned(), node: node.filter(|_| kind == "Pod") }))
}

/// NodeRestriction: a kubelet gets tokens only for pods on its own node.
fn check_node(call: &Call, target: &Target, bound: Option<&Bound>) -> Result<(), ApiError> {
    let Some(node) = call.identity.node() else { return Ok(()) };
    match bound {
        Some(Bound { kind: "Pod", node: Some((name, _)), .. }) if name == node => Ok(()),
        Some(Bound { kind: "Pod", .. }) => {
            Err(target.forbidden("node requested token bound to a pod scheduled on a different node"))
        }
        _ => Err(target.forbidden("node requested token not bound to a pod")),
    }
}
