//! `serviceaccounts/token` (authentication.k8s.io/v1 TokenRequest; upstream: pkg/registry/core/serviceaccount/storage/token.go).

use http::StatusCode;
use machinery::{
    ApiError, FieldError, Path, time,
    value::{get, int_at, list_at, str_at},
};
use serde_json::{Value, json};

use super::{Target, decode};
use crate::{
    admission::{self, Attempt, Operation},
    authn::service_account::{Bound, Grant, issue},
    http::{
        Request, Response,
        respond::{self, add_warnings},
    },
    pipeline::Call,
    registry,
};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What admission asks for; clients that ask for it may be too old to read their token again.
const PROJECTED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

pub async fn create(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    if call.info.verb != "create" {
        return Err(ApiError::method_not_allowed("", "serviceaccounts/token", call.info.verb));
    }
    let mut body = decode::any(request).await?.unwrap_or_else(|| json!({}));
    decode::check_kind(&body, "authentication.k8s.io/v1", "TokenRequest")?;
    check_identity(&body, target)?;
    let attempt = Attempt::new(call, target, Operation::Create, "token", None)
        .of_kind("authentication.k8s.io", "v1", "TokenRequest")
        .dry_run(call.query.dry_run()?);
    admission::admit(&attempt, &mut body).await?;
    admission::review(&attempt, &body).await?;
    let account = registry::read(&call.core, &target.resource, &target.namespace, &target.name).await?.object;
    let mut seconds = seconds(&body)?;
    let mut warnings = Vec::new();
    if let Some(most) = call.core.config.service_account_max_token_expiration_seconds.filter(|most| seconds > *most) {
        warnings.push(format!("requested expiration of {seconds} seconds shortened to {most} seconds"));
        seconds = most;
    }
    let mut audiences: Vec<String> =
        list_at(&body, "spec.audiences").iter().filter_map(Value::as_str).map(Into::into).collect();
    if audiences.is_empty() {
        audiences = call.core.config.audiences();
    }
    let reference = get(&body, "spec.boundObjectRef").filter(|r| r.is_object()).cloned();
    check_node(call, target, reference.as_ref()).await?;
    let bound = bound(call, target, reference.as_ref()).await?;
    let (holds, warn_after) = match extended(call, seconds, &audiences, bound.as_ref()) {
        Some(longer) => (longer, Some(seconds)),
        None => (seconds, None),
    };
    let grant = Grant {
        namespace: &target.namespace,
        name: &target.name,
        uid: str_at(&account, "metadata.uid"),
        audiences: &audiences,
        seconds: holds,
        warn_after,
        bound: bound.as_ref(),
    };
    let (token, id) = issue(&call.core, &grant).map_err(ApiError::internal)?;
    call.annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={id}"));
    let expires = ::time::OffsetDateTime::now_utc() + ::time::Duration::seconds(seconds);
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
    if let Some(reference) = reference {
        spec["boundObjectRef"] = reference;
    }
    let mut metadata = match body["metadata"].take() {
        metadata @ Value::Object(_) => metadata,
        _ => json!({}),
    };
    metadata["name"] = target.name.as_str().into();
    metadata["namespace"] = target.namespace.as_str().into();
    metadata["creationTimestamp"] = time::now().into();
    let answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata, "spec": spec,
        "status": {"token": token, "expirationTimestamp": time::rfc3339(expires)},
    });
    let mut response = respond::value(StatusCode::CREATED, call.accept.syntax, &answer);
    add_warnings(&mut response, &warnings);
    Ok(response)
}

fn invalid(name: &str, error: FieldError) -> ApiError {
    ApiError::invalid("authentication.k8s.io", "TokenRequest", name, &[error])
}

/// Name and namespace may be left out of the body, but not be somebody else's.
fn check_identity(body: &Value, target: &Target) -> Result<(), ApiError> {
    let metadata = Path::new("metadata");
    for (field, wanted) in [("name", &target.name), ("namespace", &target.namespace)] {
        let given = str_at(&body["metadata"], field);
        if !given.is_empty() && given != wanted {
            let why = format!("must match the service account {field} if specified");
            return Err(invalid(&target.name, FieldError::invalid(&metadata.child(field), given, why)));
        }
    }
    Ok(())
}

fn seconds(body: &Value) -> Result<i64, ApiError> {
    let seconds = int_at(body, "spec.expirationSeconds").unwrap_or(DEFAULT_SECONDS);
    let wrong = match seconds {
        s if s < MIN_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        s => return Ok(s),
    };
    Err(invalid("", FieldError::invalid(&Path::new("spec").child("expirationSeconds"), seconds, wrong)))
}

/// How long a pod's own token really holds, when that is longer than what was asked for.
fn extended(call: &Call, seconds: i64, audiences: &[String], bound: Option<&Bound>) -> Option<i64> {
    let config = &call.core.config;
    let own = config.audiences();
    let projected = seconds == PROJECTED_SECONDS
        && bound.is_some_and(|b| b.kind == "Pod")
        && audiences.iter().all(|a| own.contains(a));
    let longest = config.service_account_max_token_expiration_seconds.unwrap_or(EXTENDED_SECONDS);
    (projected && config.service_account_extend_token_expiration).then(|| longest.min(EXTENDED_SECONDS))
}

/// `apps/v1, Kind=Deployment`, as upstream prints it.
fn group_version_kind(reference: &Value) -> String {
    let api_version = str_at(reference, "apiVersion");
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={}", str_at(reference, "kind"))
}

async fn bound(call: &Call, target: &Target, reference: Option<&Value>) -> Result<Option<Bound>, ApiError> {
    let Some(reference) = reference else { return Ok(None) };
    let (kind, plural, namespace) = match (str_at(reference, "apiVersion"), str_at(reference, "kind")) {
        ("v1", "Pod") => ("Pod", "pods", target.namespace.as_str()),
        ("v1", "Secret") => ("Secret", "secrets", target.namespace.as_str()),
        ("v1", "Node") => ("Node", "nodes", ""),
        _ => {
            let what = group_version_kind(reference);
            return Err(ApiError::bad_request(format!("cannot bind token to object of type {what}")));
        }
    };
    let name = str_at(reference, "name");
    let object = read(call, plural, namespace, name).await?;
    if kind == "Pod" && str_at(&object, "spec.serviceAccountName") != target.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        )));
    }
    let (uid, wanted) = (str_at(&object, "metadata.uid"), str_at(reference, "uid"));
    if !wanted.is_empty() && wanted != uid {
        return Err(ApiError::conflict("", kind, name, &another(wanted)));
    }
    let node = match str_at(&object, "spec.nodeName") {
        "" => None,
        node => {
            let uid = read(call, "nodes", "", node).await.map(|n| str_at(&n, "metadata.uid").to_owned());
            Some((node.to_owned(), uid.unwrap_or_default()))
        }
    };
    Ok(Some(Bound { kind, name: name.to_owned(), uid: uid.to_owned(), node: node.filter(|_| kind == "Pod") }))
}

fn another(uid: &str) -> String {
    format!(
        "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
    )
}

async fn read(call: &Call, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let resource = registry::find("", "v1", plural).ok_or_else(ApiError::no_such_resource)?;
    Ok(registry::read(&call.core, resource, namespace, name).await?.object)
}

/// NodeRestriction: a kubelet gets tokens only for pods on its own node.
async fn check_node(call: &Call, target: &Target, reference: Option<&Value>) -> Result<(), ApiError> {
    let Some(node) = call.identity.node() else { return Ok(()) };
    let refuse = |why: &str| Err(target.forbidden(why));
    let reference = reference
        .filter(|r| str_at(r, "apiVersion") == "v1" && str_at(r, "kind") == "Pod" && !str_at(r, "name").is_empty());
    let Some(reference) = reference else { return refuse("node requested token not bound to a pod") };
    let uid = str_at(reference, "uid");
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let pod = read(call, "pods", &target.namespace, str_at(reference, "name")).await?;
    if str_at(&pod, "metadata.uid") != uid {
        return refuse(&another(uid));
    }
    if str_at(&pod, "spec.nodeName") != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}
