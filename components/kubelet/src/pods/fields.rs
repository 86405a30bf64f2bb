//! The downward API: what a pod may say about itself to its containers.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;

/// What the API object does not say yet when its containers start.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    pub host_ip: String,
    pub pod_ips: Vec<String>,
}

/// A field's value by its path.
pub fn field(pod: &Pod, addresses: &Addresses, path: &str) -> Result<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => bail!("field path {path} is not supported"),
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => addresses.host_ip.clone(),
        "status.podIP" => addresses.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => bail!("field path {path} is not supported"),
    })
}

/// `metadata.labels['key']` → (`metadata.labels`, `key`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// Sorted lines of `key="value"`, the value quoted as Go does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let Some(map) = map else { return String::new() };
    let all: Vec<String> = map.iter().map(|(k, v)| format!("{k}={}", quoted(v))).collect();
    all.join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A container's request or limit; an unset limit is what the node can give.
pub fn resource(
    pod: &Pod,
    default: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String> {
    let spec = pod.spec.as_ref();
    let named = selector.container_name.as_ref().filter(|n| !n.is_empty());
    let container = match named {
        Some(name) => {
            let all = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
            all.into_iter().find(|c| &c.name == name)
        }
        None => default,
    };
    let Some(container) = container else { bail!("container {:?} not found", selector.container_name) };
    let Some((which, name)) = selector.resource.split_once('.') else {
        bail!("unsupported container resource : {}", selector.resource)
    };
    let resources = container.resources.as_ref();
    let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|m| m.get(name)).cloned();
    let found = match which {
        "limits" => limit.or_else(|| allocatable.get(name).cloned()),
        "requests" => resources.and_then(|r| r.requests.as_ref()).and_then(|m| m.get(name)).cloned().or(limit),
        _ => bail!("unsupported container resource : {}", selector.resource),
    };
    let found = found.unwrap_or_else(|| Quantity("0".into()));
    Ok(quantity::divided(&found, selector.divisor.as_ref()).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::resources::tests::pod_from;
    use super::*;

    #[test]
    fn paths() {
        let pod = pod_from(serde_json::json!({"containers": [], "nodeName": "n1"}));
        let addresses = Addresses { host_ip: "10.0.0.1".into(), pod_ips: vec!["10.244.0.2".into(), "fd00::2".into()] };
        let get = |path: &str| field(&pod, &addresses, path).unwrap();
        assert_eq!(get("metadata.labels"), "a=\"1\"\nb=\"2\"");
        assert_eq!(get("metadata.labels['b']"), "2");
        assert_eq!(get("metadata.annotations['none']"), "");
        assert_eq!(get("status.podIPs"), "10.244.0.2,fd00::2");
        assert_eq!(get("spec.nodeName"), "n1");
        assert!(field(&pod, &addresses, "spec.nope").is_err());
    }

    #[test]
    fn unset_limits_are_the_nodes() {
        let pod =
            pod_from(serde_json::json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "1250m"}}}]}));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let node = BTreeMap::from([("memory".to_string(), Quantity("64Mi".into()))]);
        let get = |resource_name: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: Some(Quantity(divisor.into())),
                container_name: None,
            };
            resource(&pod, Some(container), &selector, &node).unwrap()
        };
        assert_eq!(get("limits.cpu", "0"), "2");
        assert_eq!(get("limits.cpu", "1m"), "1250");
        assert_eq!(get("limits.memory", "1Mi"), "64");
    }
}
