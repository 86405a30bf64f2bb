//! Services and Ingresses that lead nowhere.

use serde_json::Value;

use super::{Found, Sure, found};
use crate::commands::doctor::seen::{Objects, Seen, list, name};

const SERVICE: &str = "kubernetes.io/service-name";

pub fn services(seen: &Seen<'_>) -> Vec<Found> {
    let Some(objects) = seen.objects() else { return Vec::new() };
    let selecting = objects.of("services").iter().filter(|service| {
        service["spec"]["type"] != "ExternalName"
            && service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty())
    });
    selecting.filter(|service| !has_endpoint(objects, service)).map(|service| without(objects, service)).collect()
}

fn has_endpoint(objects: &Objects, service: &Value) -> bool {
    let metadata = &service["metadata"];
    let slices = objects.of("endpointslices").iter().filter(|slice| {
        slice["metadata"]["namespace"] == metadata["namespace"]
            && slice["metadata"]["labels"][SERVICE] == metadata["name"]
    });
    // what says nothing of it is ready
    slices.flat_map(|slice| list(&slice["endpoints"])).any(|endpoint| endpoint["conditions"]["ready"] != false)
}

fn without(objects: &Objects, service: &Value) -> Found {
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
    let selector = service["spec"]["selector"].as_object();
    let chosen = objects.of("pods").iter().filter(|pod| {
        pod["metadata"]["namespace"] == namespace
            && selector
                .is_some_and(|selector| selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
    });
    let words: Vec<_> = selector
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let cure = format!("kubectl -n {namespace} get pods -l {} -o wide", words.join(","));
    let on = format!("service {}", name(service));
    match chosen.count() {
        // somebody may have scaled it to nothing
        0 => found(Sure::Possible, on, "it has no endpoints: no pod has the labels that it selects", cure),
        pods => found(Sure::Likely, on, format!("it has no endpoints: none of its {pods} pods is Ready"), cure),
    }
}

pub fn ingresses(seen: &Seen<'_>) -> Vec<Found> {
    let Some(objects) = seen.objects() else { return Vec::new() };
    objects.of("ingresses").iter().flat_map(|ingress| problems(objects, ingress)).collect()
}

fn problems(objects: &Objects, ingress: &Value) -> Vec<Found> {
    let namespace = &ingress["metadata"]["namespace"];
    let on = || format!("ingress {}", name(ingress));
    let edit = format!(
        "kubectl -n {} edit ingress {}",
        namespace.as_str().unwrap_or_default(),
        ingress["metadata"]["name"].as_str().unwrap_or_default()
    );
    let mut told: Vec<String> = Vec::new();
    let rules = list(&ingress["spec"]["rules"]).iter().flat_map(|rule| list(&rule["http"]["paths"]));
    let backends = rules.map(|path| &path["backend"]).chain([&ingress["spec"]["defaultBackend"]]);
    for backend in backends.map(|backend| &backend["service"]).filter(|service| service.is_object()) {
        let wanted = backend["name"].as_str().unwrap_or_default();
        let service = objects
            .of("services")
            .iter()
            .find(|service| service["metadata"]["namespace"] == *namespace && service["metadata"]["name"] == wanted);
        match service {
            None => told.push(format!("there is no Service {wanted:?} in its namespace")),
            Some(service) => {
                let port = &backend["port"];
                let has = |known: &Value| {
                    (port["number"].is_number() && known["port"] == port["number"])
                        || (port["name"].is_string() && known["name"] == port["name"])
                };
                if !list(&service["spec"]["ports"]).iter().any(has) {
                    let port = port["number"].as_i64().map(|port| port.to_string());
                    let port = port.or_else(|| backend["port"]["name"].as_str().map(str::to_owned)).unwrap_or_default();
                    told.push(format!("the Service {wanted:?} has no port {port}"));
                }
            }
        }
    }
    for secret in list(&ingress["spec"]["tls"]).iter().filter_map(|tls| tls["secretName"].as_str()) {
        let is_it = |known: &Value| known["metadata"]["namespace"] == *namespace && known["metadata"]["name"] == secret;
        if !objects.of("secrets").iter().any(is_it) {
            told.push(format!("there is no Secret {secret:?} with its certificate"));
        }
    }
    let class = ingress["spec"]["ingressClassName"].as_str();
    if let Some(class) =
        class.filter(|class| !objects.of("ingressclasses").iter().any(|known| known["metadata"]["name"] == *class))
    {
        told.push(format!("there is no IngressClass {class:?}, so nobody serves it"));
    }
    told.dedup();
    told.into_iter().map(|what| found(Sure::Certain, on(), what, edit.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{cluster, objects, one, well};
    use super::*;

    #[test]
    fn services_that_lead_nowhere_are_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        let service = |spec: Value| json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec});
        *objects(&mut seen, "services") = vec![
            service(json!({"type": "ExternalName", "selector": {"a": "b"}})),
            service(json!({"selector": {}})),
            service(json!({"clusterIP": "10.96.0.1"})),
        ];
        assert!(services(&seen).is_empty());
        *objects(&mut seen, "services") = vec![service(json!({"selector": {"app": "x"}}))];
        let nobody = one(services(&seen));
        assert_eq!((nobody.sure, nobody.cure.as_str()), (Sure::Possible, "kubectl -n n get pods -l app=x -o wide"));
        objects(&mut seen, "pods")
            .push(json!({"metadata": {"namespace": "n", "labels": {"app": "x"}}, "status": {"phase": "Succeeded"}}));
        assert_eq!(one(services(&seen)).sure, Sure::Likely);
        let slice = |ready: bool| json!({"metadata": {"namespace": "n", "labels": {(SERVICE): "s"}}, "endpoints": [{"conditions": {"ready": ready}}]});
        objects(&mut seen, "endpointslices").push(slice(false));
        assert_eq!(services(&seen).len(), 1);
        objects(&mut seen, "endpointslices").push(slice(true));
        assert!(services(&seen).is_empty());
    }

    #[test]
    fn ingresses_that_lead_nowhere_are_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        let path = |service: &str, port: Value| json!({"backend": {"service": {"name": service, "port": port}}});
        let ingress = |paths: Vec<Value>| json!({"metadata": {"namespace": "n", "name": "i"}, "spec": {"ingressClassName": "kinstall", "rules": [{"http": {"paths": paths}}], "tls": [{"secretName": "t"}]}});
        objects(&mut seen, "services").push(
            json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}]}}),
        );
        objects(&mut seen, "secrets").push(json!({"metadata": {"namespace": "n", "name": "t"}}));
        objects(&mut seen, "ingressclasses").push(json!({"metadata": {"name": "kinstall"}}));
        *objects(&mut seen, "ingresses") =
            vec![ingress(vec![path("s", json!({"number": 80})), path("s", json!({"name": "web"}))])];
        assert!(ingresses(&seen).is_empty());
        *objects(&mut seen, "ingresses") = vec![ingress(vec![path("gone", json!({"number": 80}))])];
        assert!(one(ingresses(&seen)).what.contains("no Service \"gone\""));
        *objects(&mut seen, "ingresses") = vec![ingress(vec![path("s", json!({"number": 81}))])];
        assert!(one(ingresses(&seen)).what.contains("no port 81"));
        *objects(&mut seen, "ingresses") = vec![ingress(vec![])];
        objects(&mut seen, "secrets").clear();
        assert!(one(ingresses(&seen)).what.contains("no Secret \"t\""));
        objects(&mut seen, "ingressclasses").clear();
        assert_eq!(ingresses(&seen).len(), 2);
    }
}
