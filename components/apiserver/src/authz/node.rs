//! The Node authorizer: a kubelet may do what kubelets do, and reads only what the pods bound to its node refer to
//! (upstream: plugin/pkg/auth/authorizer/node, and `NodeRules` of the bootstrap policy).

use std::collections::{BTreeSet, HashMap};

use machinery::value::{list_at, str_at};
use serde_json::Value;

use super::Attributes;

type Key = (String, String);

const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a pod makes readable to its node.
#[derive(Debug, Default)]
struct Pod {
    node: String,
    service_account: String,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
    claims: BTreeSet<String>,
}

/// Pods by node, and the volume behind each claim.
#[derive(Default)]
pub struct Graph {
    pods: HashMap<Key, Pod>,
    by_node: HashMap<String, BTreeSet<Key>>,
    volumes: HashMap<Key, String>,
}

impl Graph {
    pub fn set_pod(&mut self, namespace: &str, name: &str, object: Option<&Value>) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.pods.remove(&key)
            && let Some(keys) = self.by_node.get_mut(&old.node)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_node.remove(&old.node);
            }
        }
        let Some(object) = object else { return };
        let pod = Pod::from_value(object);
        if !pod.node.is_empty() {
            self.by_node.entry(pod.node.clone()).or_default().insert(key.clone());
            self.pods.insert(key, pod);
        }
    }

    pub fn set_claim(&mut self, namespace: &str, name: &str, object: Option<&Value>) {
        let key = (namespace.to_owned(), name.to_owned());
        match object.map(|o| str_at(o, "spec.volumeName")).filter(|v| !v.is_empty()) {
            Some(volume) => self.volumes.insert(key, volume.to_owned()),
            None => self.volumes.remove(&key),
        };
    }

    fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = (&'a Key, &'a Pod)> {
        self.by_node.get(node).into_iter().flatten().filter_map(|key| Some((key, self.pods.get(key)?)))
    }

    fn refers(&self, node: &str, namespace: &str, to: impl Fn(&Pod) -> bool) -> bool {
        self.pods_on(node).any(|(key, pod)| key.0 == namespace && to(pod))
    }

    fn uses_volume(&self, node: &str, volume: &str) -> bool {
        self.pods_on(node).any(|(key, pod)| {
            pod.claims
                .iter()
                .any(|claim| self.volumes.get(&(key.0.clone(), claim.clone())).is_some_and(|v| v == volume))
        })
    }

    pub fn allows(&self, node: &str, what: &Attributes) -> bool {
        if !what.is_resource {
            return false;
        }
        let (verb, name) = (what.verb.as_str(), what.name.as_str());
        let one = !name.is_empty() && matches!(verb, "get" | "list" | "watch");
        match (what.group.as_str(), what.qualified_resource().as_str()) {
            ("", "secrets") => one && self.refers(node, &what.namespace, |p| p.secrets.contains(name)),
            ("", "configmaps") => one && self.refers(node, &what.namespace, |p| p.config_maps.contains(name)),
            ("", "persistentvolumeclaims") => one && self.refers(node, &what.namespace, |p| p.claims.contains(name)),
            ("", "persistentvolumes") => one && self.uses_volume(node, name),
            ("", "serviceaccounts/token") => {
                verb == "create" && self.refers(node, &what.namespace, |p| p.service_account == name)
            }
            ("", "serviceaccounts") => {
                verb == "get" && self.refers(node, &what.namespace, |p| p.service_account == name)
            }
            ("", "pods") => self.allows_pods(node, what),
            ("", "nodes") => {
                verb == "create" || (name == node && ["get", "list", "watch", "update", "patch"].contains(&verb))
            }
            ("coordination.k8s.io", "leases") => {
                what.namespace == "kube-node-lease"
                    && (verb == "create" || (name == node && ["get", "update", "patch", "delete"].contains(&verb)))
            }
            ("storage.k8s.io", "csinodes") => {
                verb == "create" || (name == node && ["get", "update", "patch", "delete"].contains(&verb))
            }
            (group, resource) => {
                FIXED.iter().any(|(g, r, verbs)| *g == group && *r == resource && verbs.contains(&verb))
            }
        }
    }

    fn allows_pods(&self, node: &str, what: &Attributes) -> bool {
        match what.verb.as_str() {
            "delete" => true,
            "get" => self.pods.get(&(what.namespace.clone(), what.name.clone())).is_some_and(|p| p.node == node),
            "list" | "watch" => what
                .field_selector
                .split(',')
                .any(|t| t.strip_prefix("spec.nodeName=").is_some_and(|n| n.trim_start_matches('=') == node)),
            _ => false,
        }
    }
}

/// What every node may do; NodeRestriction narrows the writes to its own things.
const FIXED: &[(&str, &str, &[&str])] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
    ("", "services", &["get", "list", "watch"]),
    ("", "nodes/status", &["update", "patch"]),
    ("", "events", &["create", "update", "patch"]),
    ("events.k8s.io", "events", &["create", "update", "patch"]),
    ("", "pods/status", &["update", "patch"]),
    ("", "pods/eviction", &["create"]),
    ("", "endpoints", &["get"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["create", "get", "list", "watch"]),
    ("certificates.k8s.io", "certificatesigningrequests/selfnodeclient", &["create"]),
    ("storage.k8s.io", "volumeattachments", &["get"]),
    ("storage.k8s.io", "csidrivers", &["get", "list", "watch"]),
    ("node.k8s.io", "runtimeclasses", &["get", "list", "watch"]),
    ("networking.k8s.io", "servicecidrs", &["list", "watch"]),
];

impl Pod {
    fn from_value(object: &Value) -> Self {
        let spec = &object["spec"];
        let mut pod = Pod {
            node: str_at(spec, "nodeName").into(),
            service_account: str_at(spec, "serviceAccountName").into(),
            ..Pod::default()
        };
        for secret in list_at(spec, "imagePullSecrets") {
            add(&mut pod.secrets, str_at(secret, "name"));
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            list_at(spec, list).iter().for_each(|c| pod.add_container(c));
        }
        // whoever writes a mirror pod is a kubelet, and must not choose what it may read
        if object["metadata"]["annotations"].get(MIRROR).is_some() {
            return Pod { node: pod.node, ..Pod::default() };
        }
        let own_name = str_at(object, "metadata.name");
        list_at(spec, "volumes").iter().for_each(|v| pod.add_volume(v, own_name));
        pod
    }

    fn add_container(&mut self, container: &Value) {
        for source in list_at(container, "envFrom") {
            add(&mut self.secrets, str_at(source, "secretRef.name"));
            add(&mut self.config_maps, str_at(source, "configMapRef.name"));
        }
        for env in list_at(container, "env") {
            add(&mut self.secrets, str_at(env, "valueFrom.secretKeyRef.name"));
            add(&mut self.config_maps, str_at(env, "valueFrom.configMapKeyRef.name"));
        }
    }

    fn add_volume(&mut self, volume: &Value, pod_name: &str) {
        add(&mut self.secrets, str_at(volume, "secret.secretName"));
        add(&mut self.config_maps, str_at(volume, "configMap.name"));
        add(&mut self.claims, str_at(volume, "persistentVolumeClaim.claimName"));
        if volume.get("ephemeral").is_some() {
            add(&mut self.claims, &format!("{pod_name}-{}", str_at(volume, "name")));
        }
        for driver in
            ["csi.nodePublishSecretRef", "cephfs.secretRef", "iscsi.secretRef", "rbd.secretRef", "flexVolume.secretRef"]
        {
            add(&mut self.secrets, str_at(volume, &format!("{driver}.name")));
        }
        for source in list_at(volume, "projected.sources") {
            add(&mut self.secrets, str_at(source, "secret.name"));
            add(&mut self.config_maps, str_at(source, "configMap.name"));
        }
    }
}

fn add(set: &mut BTreeSet<String>, name: &str) {
    if !name.is_empty() {
        set.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asks(verb: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            is_resource: true,
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_node_reads_what_its_pods_refer_to() {
        let mut graph = Graph::default();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{"envFrom": [{"secretRef": {"name": "s1"}}]}],
            "volumes": [{"configMap": {"name": "c1"}}, {"persistentVolumeClaim": {"claimName": "data"}}]}});
        graph.set_pod("a", "p", Some(&pod));
        graph.set_claim("a", "data", Some(&json!({"spec": {"volumeName": "pv1"}})));
        assert!(graph.allows("n1", &asks("get", "secrets", "a", "s1")));
        assert!(graph.allows("n1", &asks("watch", "configmaps", "a", "c1")));
        assert!(graph.allows("n1", &asks("get", "persistentvolumes", "", "pv1")));
        assert!(graph.allows("n1", &asks("create", "serviceaccounts/token", "a", "sa")));
        for (node, what) in [
            ("n2", asks("get", "secrets", "a", "s1")),
            ("n1", asks("get", "secrets", "b", "s1")),
            ("n1", asks("list", "secrets", "a", "")),
            ("n1", asks("get", "persistentvolumes", "", "pv2")),
            ("n1", asks("update", "nodes", "", "n2")),
            ("n1", asks("list", "pods", "", "")),
        ] {
            assert!(!graph.allows(node, &what), "{node} {what:?}");
        }
        let mut mirror = pod;
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": ""});
        graph.set_pod("a", "p", Some(&mirror));
        for what in [
            asks("get", "secrets", "a", "s1"),
            asks("get", "configmaps", "a", "c1"),
            asks("get", "persistentvolumes", "", "pv1"),
            asks("create", "serviceaccounts/token", "a", "sa"),
        ] {
            assert!(!graph.allows("n1", &what), "{what:?}");
        }
        assert!(
            graph.allows("n1", &asks("get", "pods", "a", "p")) && !graph.allows("n1", &asks("create", "pods", "a", ""))
        );
        graph.set_pod("a", "p", None);
        assert!(!graph.allows("n1", &asks("get", "secrets", "a", "s1")));
    }
}
