//! What every cluster has, made or repaired at each start by ordinary requests of a `system:masters` identity.

mod aggregation;
mod authentication;
mod controllers;
pub mod services;

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use machinery::{
    Resource, resources, time,
    value::{list_at, str_at},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    aggregation as aggregator,
    core::Core,
    http::Request,
    identity::{Identity, MASTERS},
    pipeline,
    presence::Presence,
    registry,
};

const NAMESPACES: &str = include_str!("namespaces.yaml");
/// Roles, bindings and priority classes, as plain manifests.
const MANIFESTS: &[&str] = &[
    include_str!("priorities.yaml"),
    include_str!("roles.yaml"),
    include_str!("components.yaml"),
    include_str!("bindings.yaml"),
    include_str!("system.yaml"),
];
const FLOW_CONTROL: &str = include_str!("flowcontrol.yaml");
/// Requests at once: the store commits what waits together.
const AT_ONCE: usize = 64;
/// How often an object is looked at again that others write at the same time.
const ATTEMPTS: u32 = 8;
/// How long a refused object is left to another server that may be making it.
const REFUSED: std::time::Duration = std::time::Duration::from_millis(150);

/// `rbac.authorization.kubernetes.io/autoupdate: "false"` on a role keeps hands off it.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// `apf.kubernetes.io/autoupdate-spec: "true"` gives a priority level or flow schema its first spec back.
const AUTO_UPDATE_SPEC: &str = "apf.kubernetes.io/autoupdate-spec";

/// What has to be kept up from now on is returned.
pub async fn run(core: &Arc<Core>, port: u16) -> anyhow::Result<Presence> {
    // Services get their addresses from the range
    ensure_all(core, manifest(NAMESPACES)?.into_iter().chain([services::service_range(&core.config)]).collect())
        .await?;
    let mut objects = controllers::objects();
    for text in MANIFESTS {
        objects.extend(manifest(text)?);
    }
    aggregation::fill(&mut objects);
    objects.extend(manifest(FLOW_CONTROL)?.into_iter().map(with_its_level));
    objects.push(own_service(core, port));
    objects.extend(services::api_services());
    objects.push(authentication::config_map(&core.config)?);
    let (presence, ()) = tokio::try_join!(Presence::join(core, port), ensure_all(core, objects))?;
    remove_obsolete(core).await?;
    authentication::keep(core);
    Ok(presence)
}

/// APIServices of groups that an older version served.
async fn remove_obsolete(core: &Arc<Core>) -> anyhow::Result<()> {
    let Some(row) = resources::find(aggregator::GROUP, "v1", "apiservices") else { return Ok(()) };
    for stored in registry::read_all(core, row, "").await? {
        if services::is_obsolete(&stored.object) {
            let path = format!("{}/{}", path(row, ""), str_at(&stored.object, "metadata.name"));
            match send(core, Method::DELETE, &path, &Value::Null).await {
                Err(error) if refusal(&error) != Some(StatusCode::NOT_FOUND) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes the ServiceCIDR of the configuration again.
pub(crate) async fn restore_service_range(core: &Arc<Core>) -> anyhow::Result<()> {
    ensure(core, services::service_range(&core.config)).await
}

fn manifest(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents = serde_yaml::Deserializer::from_str(text).map(Value::deserialize);
    let objects = documents.collect::<Result<Vec<Value>, _>>().context("a built-in manifest cannot be read")?;
    Ok(objects.into_iter().filter(Value::is_object).collect())
}

/// A flow schema says whether the level it names is there.
fn with_its_level(mut object: Value) -> Value {
    let level = str_at(&object, "spec.priorityLevelConfiguration.name").to_owned();
    if !level.is_empty() {
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists");
        let found = json!({"type": "Dangling", "status": "False", "reason": "Found", "message": message, "lastTransitionTime": time::now()});
        object["status"] = json!({"conditions": [found]});
    }
    object
}

/// In no particular order.
async fn ensure_all(core: &Arc<Core>, objects: Vec<Value>) -> anyhow::Result<()> {
    let all = objects.into_iter().map(|object| ensure(core, object));
    futures::stream::iter(all).buffer_unordered(AT_ONCE).try_collect().await
}

/// Creates the object, or brings what is there up to date. Another server may be about to do the same: whoever comes second
/// looks again. A Service's address is taken before the Service is there, so what is refused may be made right now. Whether a write was
/// done nobody may know: etcd's leader went meanwhile, as it may while its members begin, or it took longer than a request may.
pub(crate) async fn ensure(core: &Arc<Core>, object: Value) -> anyhow::Result<()> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match ensure_once(core, &object).await {
            Err(error) if attempts > 0 => match refusal(&error) {
                Some(StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {}
                Some(StatusCode::UNPROCESSABLE_ENTITY) => tokio::time::sleep(REFUSED).await,
                _ => return Err(error),
            },
            result => return result,
        }
    }
}

async fn ensure_once(core: &Arc<Core>, object: &Value) -> anyhow::Result<()> {
    let resource = row(object)?;
    let (namespace, name) = (str_at(object, "metadata.namespace"), str_at(object, "metadata.name"));
    let collection = path(resource, namespace);
    match registry::read(core, resource, namespace, name).await {
        Err(error) if error.code == 404 => {
            send(core, Method::POST, &collection, object).await?;
            set_status(core, resource, object).await
        }
        Err(error) => bail!("cannot read {collection}/{name}: {error}"),
        Ok(stored) => match repaired(resource, &stored.object, object) {
            Some(new) => send(core, Method::PUT, &format!("{collection}/{}", name.replace('/', "%2F")), &new).await,
            None => Ok(()),
        },
    }
}

/// The first status of an object that was just made.
async fn set_status(core: &Arc<Core>, resource: &Resource, object: &Value) -> anyhow::Result<()> {
    let Some(status) = object.get("status") else { return Ok(()) };
    let (namespace, name) = (str_at(object, "metadata.namespace"), str_at(object, "metadata.name"));
    let mut made = registry::read(core, resource, namespace, name).await?.object;
    made["status"] = status.clone();
    send(core, Method::PUT, &format!("{}/{name}/status", path(resource, namespace)), &made).await
}

fn row(object: &Value) -> anyhow::Result<&'static Resource> {
    let (group, version) = str_at(object, "apiVersion").split_once('/').unwrap_or(("", str_at(object, "apiVersion")));
    let kind = str_at(object, "kind");
    resources::find_kind(group, version, kind)
        .with_context(|| format!("a built-in manifest is of unknown kind {kind:?} in {group:?}"))
}

fn path(resource: &Resource, namespace: &str) -> String {
    let prefix = if resource.group.is_empty() { "/api" } else { "/apis" };
    let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    format!("{prefix}/{}{place}/{}", resource.api_version(), resource.plural)
}

/// What is there with what has to be there; `None` if nothing is missing. Additions of the cluster's owner stay.
fn repaired(resource: &Resource, there: &Value, wanted: &Value) -> Option<Value> {
    let list = match resource.plural {
        "clusterroles" | "roles" => "rules",
        "clusterrolebindings" | "rolebindings" => "subjects",
        "apiservices" => return replaced(there, wanted, &["spec"]).filter(|_| services::is_kept(there)),
        "configmaps" => return replaced(there, wanted, &["data"]),
        "endpoints" => return replaced(there, wanted, &["subsets"]),
        "endpointslices" => return replaced(there, wanted, &["endpoints", "ports"]),
        "flowschemas" | "prioritylevelconfigurations" => {
            let mut wanted = wanted.clone();
            resource.default(&mut wanted);
            let ours = there["metadata"]["annotations"][AUTO_UPDATE_SPEC] == "true";
            return replaced(there, &wanted, &["spec"]).filter(|_| ours);
        }
        _ => return None,
    };
    if there["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return None;
    }
    let mut present = list_at(there, list).to_vec();
    let missing: Vec<Value> = list_at(wanted, list).iter().filter(|w| !present.contains(w)).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    present.extend(missing);
    let mut new = there.clone();
    new[list] = present.into();
    Some(new)
}

fn replaced(there: &Value, wanted: &Value, fields: &[&str]) -> Option<Value> {
    let mut new = there.clone();
    for field in fields {
        new[*field] = wanted[*field].clone();
    }
    (new != *there).then_some(new)
}

/// An ordinary request of this server's own identity; anything but success is an error.
pub(crate) async fn send(core: &Arc<Core>, method: Method, path: &str, object: &Value) -> anyhow::Result<()> {
    let body = Full::new(Bytes::from(object.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut request: Request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)?;
    request.extensions_mut().insert(Identity::new("system:apiserver", [MASTERS]));
    let response = pipeline::serve(core.clone(), None, request).await;
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status();
    let text = response
        .into_body()
        .collect()
        .await
        .map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned())
        .unwrap_or_default();
    let path = format!("{path} {}", str_at(object, "metadata.name"));
    Err(Refused { path, status, text }.into())
}

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {status}: {text}")]
struct Refused {
    path: String,
    status: StatusCode,
    text: String,
}

/// The status of an answer to [`send`] that is no success.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<StatusCode> {
    error.downcast_ref::<Refused>().map(|refused| refused.status)
}

/// `default/kubernetes`: how pods find the servers.
fn own_service(core: &Core, port: u16) -> Value {
    let address = core.config.service_cluster_ip_range.hosts().next().map(|a| a.to_string()).unwrap_or_default();
    let metadata = json!({"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
        "type": "ClusterIP", "clusterIP": address, "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]}})
}
