//! What leads from an object to a node: pods with all they refer to, volumes behind their claims, attachments, device slices.

use std::collections::{BTreeSet, HashMap};

use machinery::value::{get, list_at, str_at};
use serde_json::Value;

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
    resource_claims: BTreeSet<String>,
}

/// A bound volume, and the Secrets a kubelet needs to mount it.
#[derive(Debug, Default)]
struct Volume {
    claim: Key,
    secrets: BTreeSet<Key>,
}

#[derive(Default)]
pub struct Graph {
    pods: HashMap<Key, Pod>,
    by_node: HashMap<String, BTreeSet<Key>>,
    volumes: HashMap<String, Volume>,
    /// Node of each attachment and each slice.
    attachments: HashMap<String, String>,
    slices: HashMap<String, String>,
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

    /// The claim that counts is the one the volume names: what a claim names, its owner may have made up.
    pub fn set_volume(&mut self, name: &str, object: Option<&Value>) {
        let volume = object.map(Volume::from_value).filter(|v| !v.claim.1.is_empty());
        match volume {
            Some(volume) => drop(self.volumes.insert(name.to_owned(), volume)),
            None => drop(self.volumes.remove(name)),
        }
    }

    pub fn set_attachment(&mut self, name: &str, object: Option<&Value>) {
        set_node(&mut self.attachments, name, object);
    }

    pub fn set_slice(&mut self, name: &str, object: Option<&Value>) {
        set_node(&mut self.slices, name, object);
    }

    fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = (&'a Key, &'a Pod)> {
        self.by_node.get(node).into_iter().flatten().filter_map(|key| Some((key, self.pods.get(key)?)))
    }

    fn refers(&self, node: &str, namespace: &str, to: impl Fn(&Pod) -> bool) -> bool {
        self.pods_on(node).any(|(key, pod)| key.0 == namespace && to(pod))
    }

    fn claims(&self, node: &str, claim: &Key) -> bool {
        self.refers(node, &claim.0, |pod| pod.claims.contains(&claim.1))
    }

    pub fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.pods.get(&(namespace.to_owned(), name.to_owned())).is_some_and(|pod| pod.node == node)
    }

    pub fn runs_as(&self, node: &str, namespace: &str, account: &str) -> bool {
        self.refers(node, namespace, |pod| pod.service_account == account)
    }

    pub fn needs_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        if self.refers(node, namespace, |pod| pod.secrets.contains(name)) {
            return true;
        }
        let key = (namespace.to_owned(), name.to_owned());
        self.volumes.values().any(|volume| volume.secrets.contains(&key) && self.claims(node, &volume.claim))
    }

    pub fn needs_config_map(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.refers(node, namespace, |pod| pod.config_maps.contains(name))
    }

    pub fn needs_claim(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.refers(node, namespace, |pod| pod.claims.contains(name))
    }

    pub fn needs_volume(&self, node: &str, name: &str) -> bool {
        self.volumes.get(name).is_some_and(|volume| self.claims(node, &volume.claim))
    }

    pub fn needs_resource_claim(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.refers(node, namespace, |pod| pod.resource_claims.contains(name))
    }

    pub fn is_attached(&self, node: &str, attachment: &str) -> bool {
        self.attachments.get(attachment).is_some_and(|n| n == node)
    }

    pub fn owns_slice(&self, node: &str, slice: &str) -> bool {
        self.slices.get(slice).is_some_and(|n| n == node)
    }
}

fn set_node(of: &mut HashMap<String, String>, name: &str, object: Option<&Value>) {
    match object.map(|o| str_at(o, "spec.nodeName")).filter(|n| !n.is_empty()) {
        Some(node) => drop(of.insert(name.to_owned(), node.to_owned())),
        None => drop(of.remove(name)),
    }
}

impl Volume {
    fn from_value(object: &Value) -> Self {
        let spec = &object["spec"];
        let claim = (str_at(spec, "claimRef.namespace").to_owned(), str_at(spec, "claimRef.name").to_owned());
        let mut secrets = BTreeSet::new();
        // where a reference has no namespace it is the claim's
        for source in [
            "csi.nodePublishSecretRef",
            "csi.nodeStageSecretRef",
            "csi.nodeExpandSecretRef",
            "cephfs.secretRef",
            "iscsi.secretRef",
            "rbd.secretRef",
            "scaleIO.secretRef",
            "storageos.secretRef",
            "flexVolume.secretRef",
        ] {
            let Some(reference) = get(spec, source) else { continue };
            let namespace = match str_at(reference, "namespace") {
                "" => &claim.0,
                namespace => namespace,
            };
            let name = str_at(reference, "name");
            if !name.is_empty() {
                secrets.insert((namespace.to_owned(), name.to_owned()));
            }
        }
        let azure = str_at(spec, "azureFile.secretName");
        if !azure.is_empty() {
            let namespace = match str_at(spec, "azureFile.secretNamespace") {
                "" => &claim.0,
                namespace => namespace,
            };
            secrets.insert((namespace.to_owned(), azure.to_owned()));
        }
        Volume { claim, secrets }
    }
}

impl Pod {
    fn from_value(object: &Value) -> Self {
        let spec = &object["spec"];
        let node = str_at(spec, "nodeName").to_owned();
        // whoever writes a mirror pod is a kubelet, and must not choose what it may read
        if object["metadata"]["annotations"].get(MIRROR).is_some() {
            return Pod { node, ..Pod::default() };
        }
        let mut pod = Pod { node, service_account: str_at(spec, "serviceAccountName").into(), ..Pod::default() };
        for secret in list_at(spec, "imagePullSecrets") {
            add(&mut pod.secrets, str_at(secret, "name"));
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            list_at(spec, list).iter().for_each(|c| pod.add_container(c));
        }
        let own_name = str_at(object, "metadata.name");
        list_at(spec, "volumes").iter().for_each(|v| pod.add_volume(v, own_name));
        for claim in list_at(spec, "resourceClaims") {
            add(&mut pod.resource_claims, str_at(claim, "resourceClaimName"));
        }
        for made in list_at(object, "status.resourceClaimStatuses") {
            add(&mut pod.resource_claims, str_at(made, "resourceClaimName"));
        }
        add(&mut pod.resource_claims, str_at(object, "status.extendedResourceClaimStatus.resourceClaimName"));
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
        for driver in [
            "csi.nodePublishSecretRef",
            "cephfs.secretRef",
            "iscsi.secretRef",
            "rbd.secretRef",
            "flexVolume.secretRef",
            "scaleIO.secretRef",
            "storageos.secretRef",
        ] {
            add(&mut self.secrets, str_at(volume, &format!("{driver}.name")));
        }
        add(&mut self.secrets, str_at(volume, "azureFile.secretName"));
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
