//! TCP to a host, or to what the Service that a host name `<name>.<namespace>.svc` means stands for: one of its ready endpoints,
//! or its external name.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use machinery::value::{bool_at, get, int_at, list_at, str_at};
use rand::seq::IndexedRandom;
use serde_json::Value;
use store::{RangeRequest, Store};
use tokio::net::TcpStream;

use crate::{http::body::BoxError, registry};

pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const HTTPS: u16 = 443;
/// As upstream's dialer.
const CONNECT: Duration = Duration::from_secs(30);

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A Service that stands for nothing now: no attempt to connect was made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(String);

#[derive(Clone)]
pub struct Dialer {
    pub store: Arc<dyn Store>,
    pub service: bool,
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(HTTPS);
            let place = if dialer.service {
                let mut parts = host.split('.');
                let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                resolve(&*dialer.store, namespace, name, port).await.map_err(Unresolved)?
            } else {
                Place { host, port }
            };
            let connecting = TcpStream::connect((place.host.as_str(), place.port));
            let stream = tokio::time::timeout(CONNECT, connecting)
                .await
                .map_err(|_| format!("dial tcp {place}: i/o timeout"))?
                .map_err(|e| unreachable(&place, &e))?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// As Go's dialer says it.
fn unreachable(address: &Place, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        _ => format!("dial tcp {address}: {error}"),
    }
}

/// What a port of a Service stands for at this moment; a random one of several endpoints.
pub async fn resolve(store: &dyn Store, namespace: &str, name: &str, port: u16) -> Result<Place, String> {
    let (services, slices) = (row("", "services")?, row("discovery.k8s.io", "endpointslices")?);
    let found = store.get(&registry::key(&services, namespace, name)).await.map_err(|e| e.to_string())?;
    let missing = || format!("service {name:?} not found");
    let service =
        found.and_then(|kv| registry::decode(&services, &kv.value, kv.mod_revision).ok()).ok_or_else(missing)?;
    if str_at(&service, "spec.type") == "ExternalName" {
        return Ok(Place { host: str_at(&service, "spec.externalName").to_owned(), port });
    }
    let port_name =
        port_name(&service, port).ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let request = RangeRequest { prefix: registry::prefix(&slices, namespace), ..Default::default() };
    let range = store.range(request).await.map_err(|e| e.to_string())?;
    let ready: Vec<SocketAddr> = range
        .items
        .iter()
        .filter_map(|kv| registry::decode(&slices, &kv.value, kv.mod_revision).ok())
        .filter(|slice| slice["metadata"]["labels"][SERVICE_LABEL] == name)
        .flat_map(|slice| addresses(&slice, &port_name))
        .collect();
    let chosen =
        ready.choose(&mut rand::rng()).ok_or_else(|| format!("no endpoints available for service {name:?}"))?;
    Ok(Place { host: chosen.ip().to_string(), port: chosen.port() })
}

fn row(group: &str, plural: &str) -> Result<impl std::ops::Deref<Target = machinery::Resource>, String> {
    registry::find(group, "v1", plural).ok_or_else(|| format!("{plural} are not served"))
}

fn port_name(service: &Value, number: u16) -> Option<String> {
    let port = list_at(service, "spec.ports").iter().find(|p| int_at(p, "port") == Some(number.into()))?;
    Some(str_at(port, "name").to_owned())
}

/// Addresses of a slice that take connections for the named port.
fn addresses(slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    let port = list_at(slice, "ports")
        .iter()
        .find(|p| str_at(p, "name") == port_name)
        .and_then(|p| u16::try_from(int_at(p, "port")?).ok());
    let Some(port) = port else { return Vec::new() };
    list_at(slice, "endpoints")
        .iter()
        .filter(|e| get(e, "conditions.ready").is_none() || bool_at(e, "conditions.ready"))
        .flat_map(|e| list_at(e, "addresses"))
        .filter_map(|a| a.as_str()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_addresses_of_the_port() {
        let slice = json!({"ports": [{"name": "a", "port": 1}, {"name": "", "port": 2}], "endpoints": [
            {"addresses": ["127.0.0.1"]}, {"addresses": ["127.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["127.0.0.3"], "conditions": {"ready": true}}]});
        let texts: Vec<String> = addresses(&slice, "").iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1:2", "127.0.0.3:2"]);
        assert!(addresses(&slice, "b").is_empty());
        let service = json!({"spec": {"ports": [{"port": 443}, {"port": 80, "name": "http"}]}});
        assert_eq!((port_name(&service, 80).as_deref(), port_name(&service, 1)), (Some("http"), None));
    }
}
