//! Services and claims.

use serde_json::Value;

use crate::{Usage, one, whole};

/// `<class>.storageclass.storage.k8s.io/…`: what is counted of one storage class.
pub(crate) const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";

pub(crate) fn add_service(usage: &mut Usage, service: &Value) {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (balancers, node_ports) = match service.pointer("/spec/type").and_then(Value::as_str) {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") => {
            let allocates = service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
            let given = ports.iter().filter(|p| p["nodePort"].as_i64().is_some_and(|n| n != 0)).count();
            (1, if allocates { ports.len() } else { given })
        }
        _ => (0, 0),
    };
    usage.insert("services".into(), one());
    usage.insert("services.loadbalancers".into(), whole(balancers));
    usage.insert("services.nodeports".into(), whole(node_ports));
}

pub(crate) fn add_claim(usage: &mut Usage, claim: &Value) {
    const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let annotation = claim.pointer("/metadata/annotations").and_then(|a| a.get(OLD_CLASS)).and_then(Value::as_str);
    let class = annotation.or_else(|| claim.pointer("/spec/storageClassName").and_then(Value::as_str));
    let class = class.filter(|name| !name.is_empty());
    let mut both = |name: &str, amount| {
        usage.insert(name.to_owned(), amount);
        if let Some(class) = class {
            usage.insert(format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
    };
    both("persistentvolumeclaims", one());
    let asked = claim.pointer("/spec/resources/requests/storage");
    if let Some(size) = asked.and_then(|s| notation::quantity::from_json(s).ok()) {
        both("requests.storage", size);
    }
}
