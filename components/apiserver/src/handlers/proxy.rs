//! `nodes|pods|services/NAME/proxy`: the request goes on to the kubelet, the pod, or a pod behind the Service
//! (upstream: `pkg/registry/core/{node,pod,service}`, `apimachinery/pkg/util/proxy`).
//!
//! NAME is `[scheme:]name[:port]`. Whatever follows `/proxy` is the path there; redirects of the backend come back as paths here.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use machinery::{
    ApiError, ResourceRef,
    value::{bool_at, get, int_at, list_at, str_at},
};
use rand::seq::SliceRandom;
use rustls_pki_types::ServerName;
use serde_json::Value;

use super::{Target, logs};
use crate::{
    backend::{Backend, check_proxyable, insecure},
    http::{Request, Response, ResponseBody},
    kubelet,
    pipeline::Call,
    registry,
};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

pub async fn forward(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    let (here, there) = split(request.uri().path());
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    if there.is_empty() && !upgrade {
        return redirect(&format!("{here}/{query}"));
    }
    let here = here.to_owned();
    let path = format!("{}{query}", if there.is_empty() { "/" } else { there });
    let (backend, is_kubelet) = backend(call, target).await?;
    let mut request = request;
    tell_way(request.headers_mut(), &here, &path);
    let answered = backend.forward(&path, request).await;
    let mut response = answered.map_err(|error| match is_kubelet {
        true => kubelet::unreachable(&backend, &error),
        false => ApiError::service_unavailable(format!("error trying to reach service: {error:#}")),
    })?;
    relocate(response.headers_mut(), &here, &backend.authority);
    Ok(response)
}

/// `/…/NAME/proxy` and what follows it, as the client wrote them.
fn split(path: &str) -> (&str, &str) {
    // the prefix is /api/v1/[namespaces/NS/]RESOURCE/NAME/proxy
    let segments = if path.trim_start_matches('/').split('/').nth(2) == Some("namespaces") { 7 } else { 5 };
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    path.split_at(end)
}

/// Relative links of the page at the root must stay below it.
fn redirect(to: &str) -> Result<Response, ApiError> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(to).map_err(ApiError::internal)?);
    Ok(response)
}

async fn backend(call: &Call, target: &Target) -> Result<(Backend, bool), ApiError> {
    let invalid = |what: &str| ApiError::bad_request(format!("invalid {what} request {:?}", target.name));
    match target.resource.plural {
        "nodes" => node(call, Place::parse(&target.name).ok_or_else(|| invalid("node"))?).await,
        "pods" => pod(call, target, Place::parse(&target.name).ok_or_else(|| invalid("pod"))?).await,
        _ => service(call, target, Place::parse(&target.name).ok_or_else(|| invalid("service"))?).await,
    }
}

/// `[scheme:]name[:port]`.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Place<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Place {
            https: scheme == "https",
            name,
            port,
        })
    }

    fn port(&self) -> Result<u16, ApiError> {
        match self.port {
            "" => Ok(if self.https { 443 } else { 80 }),
            port => port.parse().map_err(|_| ApiError::bad_request(format!("invalid port {port:?}"))),
        }
    }

    fn backend(&self, address: SocketAddr) -> Result<Backend, ApiError> {
        let tls = match self.https {
            true => Some((insecure::connector().map_err(ApiError::internal)?, ServerName::from(address.ip()))),
            false => None,
        };
        Ok(Backend { address, authority: address.to_string(), tls, headers: HeaderMap::new() })
    }
}

async fn node(call: &Call, place: Place<'_>) -> Result<(Backend, bool), ApiError> {
    let (address, kubelet_port) = logs::kubelet_address(call, place.name).await?;
    if place.port.is_empty() || place.port()? == kubelet_port {
        return Ok((logs::kubelets(call)?.at(address, kubelet_port), true));
    }
    check_proxyable(address)?;
    Ok((place.backend(SocketAddr::new(address, place.port()?))?, false))
}

async fn pod(call: &Call, target: &Target, place: Place<'_>) -> Result<(Backend, bool), ApiError> {
    let pod = registry::read(&call.core, &target.resource, &target.namespace, place.name).await?.object;
    let address: Option<IpAddr> = str_at(&pod, "status.podIP").parse().ok();
    let address = address.ok_or_else(|| ApiError::bad_request("address not allowed"))?;
    check_proxyable(address)?;
    let port = match place.port {
        "" => first_port(&pod).map_or_else(|| place.port(), Ok)?,
        _ => place.port()?,
    };
    Ok((place.backend(SocketAddr::new(address, port))?, false))
}

/// The first port that the first container with ports declares.
fn first_port(pod: &Value) -> Option<u16> {
    list_at(pod, "spec.containers")
        .iter()
        .find_map(|container| list_at(container, "ports").first())
        .and_then(|port| u16::try_from(int_at(port, "containerPort")?).ok())
}

async fn service(call: &Call, target: &Target, place: Place<'_>) -> Result<(Backend, bool), ApiError> {
    let service = registry::read(&call.core, &target.resource, &target.namespace, place.name).await?.object;
    let port_name = port_name(&service, &place)?;
    let row = |group, plural| registry::find(group, "v1", plural).ok_or_else(ApiError::no_such_resource);
    let (slices, pods): (ResourceRef, ResourceRef) =
        (row("discovery.k8s.io", "endpointslices")?.into(), row("", "pods")?.into());
    let mut candidates = Vec::new();
    for slice in registry::read_all(&call.core, &slices, &target.namespace).await? {
        if slice.object["metadata"]["labels"][SERVICE_LABEL] == place.name {
            candidates.extend(endpoints(&slice.object, &port_name));
        }
    }
    candidates.shuffle(&mut rand::rng());
    for candidate in candidates {
        // an address that is no pod's might be anything: the endpoints are not the server's own word
        let pod = registry::read(&call.core, &pods, &target.namespace, &candidate.pod).await;
        let own = pod.is_ok_and(|pod| {
            list_at(&pod.object, "status.podIPs")
                .iter()
                .any(|ip| str_at(ip, "ip") == candidate.address.ip().to_string())
                || str_at(&pod.object, "status.podIP") == candidate.address.ip().to_string()
        });
        if own && check_proxyable(candidate.address.ip()).is_ok() {
            return Ok((place.backend(candidate.address)?, false));
        }
    }
    Err(ApiError::service_unavailable(format!("no endpoints available for service {:?}", place.name)))
}

/// The name of the Service's port that is meant: by name, by number, or the only one.
fn port_name(service: &Value, place: &Place<'_>) -> Result<String, ApiError> {
    let ports = list_at(service, "spec.ports");
    let found = match (place.port, ports) {
        ("", [only]) => Some(only),
        ("", _) => ports.iter().find(|p| str_at(p, "name").is_empty()),
        (wanted, _) => ports
            .iter()
            .find(|p| str_at(p, "name") == wanted)
            .or_else(|| ports.iter().find(|p| int_at(p, "port").is_some_and(|n| n.to_string() == wanted))),
    };
    found.map(|p| str_at(p, "name").to_owned()).ok_or_else(|| {
        ApiError::service_unavailable(format!("no service port {:?} found for service {:?}", place.port, place.name))
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    address: SocketAddr,
    pod: String,
}

/// Ready endpoints of a slice that are pods, at the named port.
fn endpoints(slice: &Value, port_name: &str) -> Vec<Candidate> {
    let port = list_at(slice, "ports")
        .iter()
        .find(|p| str_at(p, "name") == port_name)
        .and_then(|p| u16::try_from(int_at(p, "port")?).ok());
    let Some(port) = port else { return Vec::new() };
    list_at(slice, "endpoints")
        .iter()
        .filter(|e| get(e, "conditions.ready").is_none() || bool_at(e, "conditions.ready"))
        .filter(|e| str_at(e, "targetRef.kind") == "Pod")
        .flat_map(|e| list_at(e, "addresses").iter().map(move |a| (a, str_at(e, "targetRef.name"))))
        .filter_map(|(address, pod)| {
            let address = SocketAddr::new(address.as_str()?.parse().ok()?, port);
            Some(Candidate { address, pod: pod.to_owned() })
        })
        .collect()
}

/// What the backend may build its own links from.
fn tell_way(headers: &mut HeaderMap, here: &str, path: &str) {
    let host = headers.get(header::HOST).cloned();
    let way = HeaderValue::from_str(&format!("{here}{}", path.split('?').next().unwrap_or_default()));
    if let Ok(way) = way {
        headers.insert("x-forwarded-uri", way);
    }
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
}

/// A redirect of the backend to itself becomes one to here; one to elsewhere stays.
fn relocate(headers: &mut HeaderMap, here: &str, authority: &str) {
    let Some(location) = headers.get(header::LOCATION).and_then(|v| v.to_str().ok()) else { return };
    let Ok(uri) = location.parse::<Uri>() else { return };
    if uri.authority().is_some_and(|a| a.as_str() != authority) || !uri.path().starts_with('/') {
        return;
    }
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    if let Ok(value) = HeaderValue::from_str(&format!("{here}{path}")) {
        headers.insert(header::LOCATION, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_path_is_kept_as_it_was_written() {
        assert_eq!(split("/api/v1/nodes/n:10/proxy/a%2Fb/"), ("/api/v1/nodes/n:10/proxy", "/a%2Fb/"));
        assert_eq!(split("/api/v1/namespaces/x/pods/p/proxy"), ("/api/v1/namespaces/x/pods/p/proxy", ""));
        assert_eq!(split("/api/v1/namespaces/x/services/s/proxy/"), ("/api/v1/namespaces/x/services/s/proxy", "/"));
    }

    #[test]
    fn names() {
        let place = |id| Place::parse(id).map(|p| (p.https, p.name.to_owned(), p.port.to_owned()));
        assert_eq!(place("p"), Some((false, "p".into(), String::new())));
        assert_eq!(place("p:80"), Some((false, "p".into(), "80".into())));
        assert_eq!(place("https:p:"), Some((true, "p".into(), String::new())));
        assert_eq!((place("ftp:p:1"), place(""), place("a:b:c:d")), (None, None, None));
    }

    #[test]
    fn ports_of_services() {
        let service = json!({"spec": {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}});
        let name = |port| port_name(&service, &Place { https: false, name: "s", port }).map_err(|e| e.message);
        assert_eq!(name("b"), Ok("b".into()));
        assert_eq!(name("1"), Ok("a".into()));
        assert_eq!(name("x"), Err("no service port \"x\" found for service \"s\"".into()));
        assert!(name("").is_err());
    }

    #[test]
    fn redirects_stay_below_the_proxy() {
        let moved = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_str(location).unwrap());
            relocate(&mut headers, "/here", "10.0.0.1:80");
            headers[header::LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(moved("/login?x=1"), "/here/login?x=1");
        assert_eq!(moved("http://10.0.0.1:80/a"), "/here/a");
        assert_eq!(moved("https://example.test/a"), "https://example.test/a");
    }
}
