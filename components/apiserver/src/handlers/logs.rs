//! `pods/log`, `exec`, `attach`, `portforward`: the kubelet of the pod's node answers.

use std::net::IpAddr;

use machinery::{
    ApiError,
    value::{int_at, list_at, str_at},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Target, streams};
use crate::{
    http::{Query, Request, Response},
    kubelet::{self, KubeletClient},
    pipeline::Call,
    registry,
};

const KUBELET_PORT: u16 = 10250;

/// The kubelet's own names for the query of exec and attach.
const STREAMS: &[(&str, &str)] = &[("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
const LOG_OPTIONS: &[&str] =
    &["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"];

pub async fn forward(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    let kubelets = kubelets(call)?;
    let pod = registry::read(&call.core, &target.resource, &target.namespace, &target.name).await?.object;
    let node = str_at(&pod, "spec.nodeName");
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let path = kubelet_path(target, &call.info.subresource, &call.query, &pod)?;
    let (address, port) = kubelet_address(call, node).await?;
    let backend = kubelets.at(address, port);
    match streams::translation(&call.info.subresource, request.headers()) {
        Some(translation) => streams::translate(&backend, &path, translation, request).await,
        None => backend.forward(&path, request).await.map_err(|error| kubelet::unreachable(&backend, &error)),
    }
}

pub(super) fn kubelets(call: &Call) -> Result<&KubeletClient, ApiError> {
    let missing = || ApiError::service_unavailable("the API server has no client certificate for kubelets");
    call.core.kubelets.as_ref().ok_or_else(missing)
}

/// A node's address and the port of its kubelet.
pub(super) async fn kubelet_address(call: &Call, name: &str) -> Result<(IpAddr, u16), ApiError> {
    let nodes = registry::find("", "v1", "nodes").ok_or_else(ApiError::no_such_resource)?;
    let node = registry::read(&call.core, nodes, "", name).await?.object;
    let address = list_at(&node, "status.addresses")
        .iter()
        .find(|a| a["type"] == "InternalIP")
        .and_then(|a| a["address"].as_str()?.parse().ok());
    let address = address.ok_or_else(|| ApiError::service_unavailable(format!("node {name} has no InternalIP yet")))?;
    let port = int_at(&node, "status.daemonEndpoints.kubeletEndpoint.Port")
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0);
    Ok((address, port.unwrap_or(KUBELET_PORT)))
}

fn kubelet_path(target: &Target, subresource: &str, query: &Query, pod: &Value) -> Result<String, ApiError> {
    let place = format!("{}/{}", target.namespace, target.name);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let path = match subresource {
        "portforward" => {
            pairs.extend(query.pairs().filter(|(k, _)| *k == "ports").map(|(_, v)| ("port", v)));
            format!("/portForward/{place}")
        }
        "log" => {
            pairs.extend(query.pairs().filter(|(k, _)| LOG_OPTIONS.contains(k)));
            format!("/containerLogs/{place}/{}", container(target, query, pod)?)
        }
        verb => {
            for (ours, theirs) in STREAMS {
                if query.flag(ours) {
                    pairs.push((theirs, "1"));
                }
            }
            pairs.extend(query.pairs().filter(|(k, _)| *k == "command"));
            format!("/{verb}/{place}/{}", container(target, query, pod)?)
        }
    };
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let text: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
    Ok(if text.is_empty() { path } else { format!("{path}?{}", text.join("&")) })
}

/// The named container, which must be one of the pod's; without a name, the only one or the annotated default.
fn container(target: &Target, query: &Query, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| list_at(pod, list).iter().map(|c| str_at(c, "name").to_owned()).collect::<Vec<_>>();
    let (main, init, ephemeral) =
        (names("spec.containers"), names("spec.initContainers"), names("spec.ephemeralContainers"));
    if let Some(wanted) = query.get("container") {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|n| n == wanted);
        return if known {
            Ok(wanted.to_owned())
        } else {
            Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {}", target.name)))
        };
    }
    let default =
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str().unwrap_or_default();
    if main.iter().any(|n| n == default) {
        return Ok(default.to_owned());
    }
    match main.as_slice() {
        [only] => Ok(only.clone()),
        several => {
            let mut text = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                target.name,
                several.join(" ")
            );
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(text))
        }
    }
}
