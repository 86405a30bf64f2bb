//! From watched objects to routes: a pure function.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressClass};
use kube::ResourceExt;
use rustls::sign::CertifiedKey;

use crate::paths::Pattern;
use crate::tls;
pub use crate::watched::Snapshot;

/// The value of `IngressClass.spec.controller` that is ours.
pub const CONTROLLER: &str = "kinstall.dev/ingress";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
/// From before `spec.ingressClassName`; still honoured, as upstream says.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `namespace/service:port`, for logs and messages.
    pub name: String,
    /// Ready endpoints; empty gives 503.
    pub endpoints: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    backend: Arc<Backend>,
}

#[derive(Debug, Default)]
pub struct Table {
    /// By lower-case host name; `*.example.com` is under `.example.com`, rules for every host are under ``.
    hosts: HashMap<String, Vec<Rule>>,
    default: Option<Arc<Backend>>,
    /// By host name as above.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Table {
    pub fn build(objects: &Snapshot, class: &str) -> Self {
        let mut table = Self::default();
        let index = Index::new(objects);
        let mut ingresses: Vec<&Arc<Ingress>> =
            objects.ingresses.iter().filter(|ingress| is_ours(ingress, &objects.classes, class)).collect();
        // The oldest Ingress wins where two claim the same host and path.
        ingresses.sort_by_key(|i| (i.creation_timestamp(), i.namespace(), i.name_any()));
        for ingress in ingresses {
            table.add(ingress, &index, objects);
        }
        for rules in table.hosts.values_mut() {
            // Stable: among equals the oldest stays first.
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.pattern.precedence()));
        }
        table
    }

    fn add(&mut self, ingress: &Ingress, index: &Index<'_>, objects: &Snapshot) {
        let (namespace, Some(spec)) = (ingress.namespace().unwrap_or_default(), &ingress.spec) else { return };
        if let (None, Some(backend)) = (&self.default, &spec.default_backend) {
            self.default = Some(Arc::new(index.backend(&namespace, backend)));
        }
        for rule in spec.rules.iter().flatten() {
            let host = host_key(rule.host.as_deref().unwrap_or_default());
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let backend = Arc::new(index.backend(&namespace, &path.backend));
                let pattern = Pattern::new(&path.path_type, path.path.as_deref());
                self.hosts.entry(host.clone()).or_default().push(Rule { pattern, backend });
            }
        }
        for tls in spec.tls.iter().flatten() {
            let Some(name) = &tls.secret_name else { continue };
            let secret =
                objects.secrets.iter().find(|s| s.name_any() == *name && s.namespace().as_deref() == Some(&*namespace));
            let certified = match secret.map(|secret| tls::certified_key(secret)) {
                Some(Ok(certified)) => Arc::new(certified),
                Some(Err(error)) => {
                    tracing::warn!(secret = %format!("{namespace}/{name}"), "unusable TLS secret: {error:#}");
                    continue;
                }
                None => {
                    tracing::warn!(secret = %format!("{namespace}/{name}"), ingress = %ingress.name_any(), "no such TLS secret");
                    continue;
                }
            };
            for host in tls.hosts.iter().flatten() {
                self.certificates.entry(host_key(host)).or_insert_with(|| certified.clone());
            }
        }
    }

    /// The backend for a request; `host` may carry a port.
    pub fn route(&self, host: &str, path: &str) -> Option<Arc<Backend>> {
        let host = without_port(host).to_ascii_lowercase();
        candidates(&host)
            .find_map(|key| self.hosts.get(key)?.iter().find(|rule| rule.pattern.matches(path)))
            .map(|rule| rule.backend.clone())
            .or_else(|| self.default.clone())
    }

    /// The certificate for a TLS server name.
    pub fn certificate(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
        let host = server_name.to_ascii_lowercase();
        candidates(&host).find_map(|key| self.certificates.get(key)).cloned()
    }

    pub fn len(&self) -> usize {
        self.hosts.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `*.example.com` → `.example.com`.
fn host_key(host: &str) -> String {
    host.strip_prefix('*').unwrap_or(host).to_ascii_lowercase()
}

/// The keys to look under, the most particular first. A wildcard stands for exactly one label.
fn candidates(host: &str) -> impl Iterator<Item = &str> {
    let wildcard = host.find('.').map(|dot| &host[dot..]);
    std::iter::once(host).chain(wildcard).chain(std::iter::once(""))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// By `spec.ingressClassName`, by the old annotation, or because the class is the default one and none is named.
pub fn is_ours(ingress: &Ingress, classes: &[Arc<IngressClass>], class: &str) -> bool {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    if let Some(name) = named {
        return classes.iter().any(|c| c.name_any() == name && is_controlled(c));
    }
    if let Some(name) = ingress.annotations().get(CLASS_ANNOTATION) {
        return name == class;
    }
    classes.iter().any(|c| is_controlled(c) && c.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true"))
}

fn is_controlled(class: &IngressClass) -> bool {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(CONTROLLER)
}

/// Services and slices by `namespace/name`.
struct Index<'a> {
    services: HashMap<String, &'a Service>,
    slices: HashMap<String, Vec<&'a EndpointSlice>>,
}

impl<'a> Index<'a> {
    fn new(objects: &'a Snapshot) -> Self {
        let key = |namespace: Option<String>, name: &str| format!("{}/{name}", namespace.unwrap_or_default());
        let services = objects.services.iter().map(|s| (key(s.namespace(), &s.name_any()), &**s)).collect();
        let mut slices: HashMap<String, Vec<&EndpointSlice>> = HashMap::new();
        for slice in &objects.slices {
            if let Some(service) = slice.labels().get("kubernetes.io/service-name") {
                slices.entry(key(slice.namespace(), service)).or_default().push(slice);
            }
        }
        Self { services, slices }
    }

    fn backend(&self, namespace: &str, backend: &IngressBackend) -> Backend {
        let Some(service) = &backend.service else {
            return Backend { name: format!("{namespace}/(no service)"), endpoints: Vec::new() };
        };
        let key = format!("{namespace}/{}", service.name);
        let port = service.port.as_ref();
        let shown = port.map_or_else(String::new, |p| {
            p.name.clone().unwrap_or_else(|| p.number.map_or_else(String::new, |number| number.to_string()))
        });
        let port_name = self.services.get(&key).and_then(|found| {
            let ports = found.spec.as_ref()?.ports.as_ref()?;
            let wanted = ports.iter().find(|candidate| {
                port.is_some_and(|p| match (&p.name, p.number) {
                    (Some(name), _) => candidate.name.as_ref() == Some(name),
                    (None, number) => Some(candidate.port) == number,
                })
            })?;
            // Slices name ports as the Service does; an unnamed one has the empty name.
            Some(wanted.name.clone().unwrap_or_default())
        });
        let endpoints = port_name.map(|port| self.endpoints(&key, &port)).unwrap_or_default();
        Backend { name: format!("{key}:{shown}"), endpoints }
    }

    /// The ready ones; where there are none, those that end but still serve (KEP-1669).
    fn endpoints(&self, service: &str, port_name: &str) -> Vec<SocketAddr> {
        let (mut found, mut ending) = (Vec::new(), Vec::new());
        for slice in self.slices.get(service).into_iter().flatten() {
            let ports = slice.ports.iter().flatten();
            let Some(port) = ports
                .filter(|port| port.name.as_deref().unwrap_or_default() == port_name)
                .find_map(|port| u16::try_from(port.port?).ok())
            else {
                continue;
            };
            for endpoint in slice.endpoints.iter().flatten() {
                let condition = |of: fn(&EndpointConditions) -> Option<bool>| endpoint.conditions.as_ref().and_then(of);
                let addresses = endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok());
                let addresses = addresses.map(|address| SocketAddr::new(address, port));
                // Unknown counts as ready (discovery.k8s.io/v1 EndpointConditions).
                if condition(|c| c.ready) != Some(false) {
                    found.extend(addresses);
                } else if condition(|c| c.serving) == Some(true) && condition(|c| c.terminating) == Some(true) {
                    ending.extend(addresses);
                }
            }
        }
        if found.is_empty() {
            found = ending;
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
