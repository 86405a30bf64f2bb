//! A container's environment: `env`, `envFrom`, service variables and `$(NAME)` expansion.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::fields::{self, Addresses};
use crate::api::objects::{Kind, Payload};

/// Reads ConfigMaps and Secrets of the pod's namespace.
pub trait Lookup {
    fn payload(&self, kind: Kind, name: &str) -> impl Future<Output = Result<Option<Arc<Payload>>>> + Send;
}

pub struct Inputs<'a, L> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub addresses: &'a Addresses,
    pub services: &'a [Arc<Service>],
    pub allocatable: &'a BTreeMap<String, Quantity>,
    pub lookup: &'a L,
}

/// In the order upstream gives them: `envFrom`, then `env`, then services.
pub async fn build<L: Lookup>(inputs: &Inputs<'_, L>) -> Result<Vec<(String, String)>> {
    let links = inputs.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = service_variables(inputs.services, &inputs.pod.namespace().unwrap_or_default(), links);
    let mut result: Vec<(String, String)> = Vec::new();
    for source in inputs.container.env_from.iter().flatten() {
        for (name, value) in from_source(inputs, source).await? {
            set(&mut result, name, value);
        }
    }
    let mut known: HashMap<String, String> = result.iter().cloned().collect();
    for variable in inputs.container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match from(inputs, source).await? {
                Some(value) => value,
                None => continue,
            },
            (Some(text), None) => expand(text, |name| known.get(name).or_else(|| services.get(name)).cloned()),
            (None, None) => String::new(),
        };
        known.insert(variable.name.clone(), value.clone());
        set(&mut result, variable.name.clone(), value);
    }
    for (name, value) in services {
        if !known.contains_key(&name) {
            result.push((name, value));
        }
    }
    Ok(result)
}

fn set(result: &mut Vec<(String, String)>, name: String, value: String) {
    match result.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => result.push((name, value)),
    }
}

async fn from_source<L: Lookup>(
    inputs: &Inputs<'_, L>,
    source: &k8s_openapi::api::core::v1::EnvFromSource,
) -> Result<Vec<(String, String)>> {
    let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(map), _) => (Kind::ConfigMap, &map.name, map.optional),
        (None, Some(secret)) => (Kind::Secret, &secret.name, secret.optional),
        (None, None) => return Ok(Vec::new()),
    };
    let Some(payload) = inputs.lookup.payload(kind, name).await? else {
        if optional == Some(true) {
            return Ok(Vec::new());
        }
        bail!("{} {name:?} not found", label(kind));
    };
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    // upstream accepts any printable ASCII name without '=' (RelaxedEnvironmentVariableValidation)
    let valid = |name: &str| !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    let named = payload.data.iter().map(|(k, v)| (format!("{prefix}{k}"), text(v)));
    Ok(named.filter(|(name, _)| valid(name)).collect())
}

async fn from<L: Lookup>(inputs: &Inputs<'_, L>, source: &EnvVarSource) -> Result<Option<String>> {
    if let Some(reference) = &source.field_ref {
        return fields::field(inputs.pod, inputs.addresses, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return fields::resource(inputs.pod, Some(inputs.container), reference, inputs.allocatable).map(Some);
    }
    let (kind, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(r), _) => (Kind::ConfigMap, &r.name, &r.key, r.optional),
        (None, Some(r)) => (Kind::Secret, &r.name, &r.key, r.optional),
        (None, None) => bail!("an environment variable has an unknown source"),
    };
    let optional = optional == Some(true);
    let Some(payload) = inputs.lookup.payload(kind, name).await? else {
        if optional {
            return Ok(None);
        }
        bail!("{} {name:?} not found", label(kind));
    };
    match payload.data.get(key) {
        Some(bytes) => Ok(Some(String::from_utf8(bytes.clone()).context("the value is not text")?)),
        None if optional => Ok(None),
        None => {
            bail!("couldn't find key {key} in {} {}/{name}", label(kind), inputs.pod.namespace().unwrap_or_default())
        }
    }
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::ConfigMap => "configmap",
        Kind::Secret => "secret",
    }
}

/// Kubernetes' expansion: `$(NAME)` becomes the value if there is one, `$$` becomes `$`.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `<NAME>_SERVICE_HOST` and the Docker-style variables, for Services with an address.
fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<String, &Service> = BTreeMap::new();
    for service in services {
        let (name, home) = (service.name_any(), service.namespace().unwrap_or_default());
        let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        if home == namespace && links {
            chosen.insert(name, service);
        } else if home == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut all = BTreeMap::new();
    for (name, service) in chosen {
        one_service(&mut all, &name, service);
    }
    all
}

fn one_service(all: &mut BTreeMap<String, String>, name: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.clone().unwrap_or_default();
    let prefix = name.to_uppercase().replace('-', "_");
    all.insert(format!("{prefix}_SERVICE_HOST"), ip.clone());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = port.port;
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if index == 0 {
            all.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
            all.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(port_name) = port.name.as_ref().filter(|n| !n.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            all.insert(format!("{prefix}_SERVICE_PORT_{port_name}"), number.to_string());
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        all.insert(format!("{link}_PROTO"), protocol.to_lowercase());
        all.insert(format!("{link}_PORT"), number.to_string());
        all.insert(format!("{link}_ADDR"), ip.clone());
        all.insert(link, url);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::resources::tests::pod_from;
    use super::*;

    struct Fixed;
    impl Lookup for Fixed {
        async fn payload(&self, kind: Kind, name: &str) -> Result<Option<Arc<Payload>>> {
            let known = (kind == Kind::ConfigMap && name == "cm").then(|| {
                let data = BTreeMap::from([("A".to_string(), b"from-cm".to_vec()), ("bad=x".to_string(), vec![])]);
                Arc::new(Payload { data, ..Default::default() })
            });
            Ok(known)
        }
    }

    async fn env(container: serde_json::Value, services: &[Arc<Service>]) -> Result<Vec<(String, String)>> {
        let pod = pod_from(serde_json::json!({"containers": [container]}));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let (addresses, allocatable) = (Addresses::default(), BTreeMap::new());
        let inputs =
            Inputs { pod: &pod, container, addresses: &addresses, services, allocatable: &allocatable, lookup: &Fixed };
        build(&inputs).await
    }

    #[test]
    fn expansion() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_string());
        assert_eq!(expand("$(A)-$(B)-$$(A)-$A-$", lookup), "x-$(B)-$(A)-$A-$");
        assert_eq!(expand("$(A", lookup), "$(A");
        assert_eq!(expand("$$$(A)", lookup), "$x");
    }

    #[tokio::test]
    async fn sources_and_order() {
        let result = env(
            serde_json::json!({"name": "c",
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "none", "optional": true}}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "M", "value": "$(N)/$(P_A)/$(LATER)"}, {"name": "LATER", "value": "z"}]}),
            &[],
        );
        let result = result.await.unwrap();
        let expected = [("P_A", "from-cm"), ("N", "p"), ("M", "p/from-cm/$(LATER)"), ("LATER", "z")];
        assert_eq!(result, expected.map(|(k, v)| (k.to_string(), v.to_string())));
    }

    #[tokio::test]
    async fn a_missing_required_source_is_an_error() {
        let result = env(serde_json::json!({"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]}), &[]).await;
        assert!(result.unwrap_err().to_string().contains("secret \"none\" not found"));
    }

    #[tokio::test]
    async fn services_become_variables() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "my-db", "namespace": "ns"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 3306, "protocol": "TCP"}]}}))
        .unwrap();
        let result = env(serde_json::json!({"name": "c"}), &[Arc::new(service)]).await.unwrap();
        let get = |name: &str| result.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        assert_eq!(get("MY_DB_SERVICE_HOST"), Some("10.96.0.9"));
        assert_eq!(get("MY_DB_SERVICE_PORT_SQL"), Some("3306"));
        assert_eq!(get("MY_DB_PORT_3306_TCP"), Some("tcp://10.96.0.9:3306"));
    }
}
