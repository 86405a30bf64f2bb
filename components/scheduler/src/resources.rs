//! What a pod asks for and what a node has, in integers.
//!
//! The arithmetic of init and sidecar containers is KEP-753's, of pod-level resources KEP-2837's, of running resizes KEP-1287's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::{milli_value, value};

type Quantities = BTreeMap<String, Quantity>;

/// Amounts of resources: cpu in millicores, the rest in bytes or pieces. `pods` is kept by counting, not here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages.
    pub other: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a `requests`, `limits` or `allocatable` map.
    pub fn from_quantities(quantities: Option<&Quantities>) -> Self {
        let mut result = Self::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            match name.as_str() {
                "cpu" => result.cpu = milli_value(quantity),
                "memory" => result.memory = value(quantity),
                "ephemeral-storage" => result.ephemeral_storage = value(quantity),
                "pods" => {}
                _ => {
                    result.other.insert(name.clone(), value(quantity));
                }
            }
        }
        result
    }

    /// Adds `other`, saturating.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes `other` away again.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, combine: impl Fn(i64, i64) -> i64) {
        self.cpu = combine(self.cpu, other.cpu);
        self.memory = combine(self.memory, other.memory);
        self.ephemeral_storage = combine(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.other {
            let mine = self.other.entry(name.clone()).or_default();
            *mine = combine(*mine, *amount);
        }
    }

    /// Replaces the amounts that `quantities` names.
    fn replace_by(&mut self, quantities: &Quantities) {
        let given = Self::from_quantities(Some(quantities));
        if quantities.contains_key("cpu") {
            self.cpu = given.cpu;
        }
        if quantities.contains_key("memory") {
            self.memory = given.memory;
        }
        self.other.extend(given.other);
    }
}

/// A node's allocatable resources.
pub fn allocatable(node: &Node) -> Resources {
    Resources::from_quantities(allocatable_map(node))
}

/// How many pods a node takes.
pub fn allocatable_pods(node: &Node) -> i64 {
    allocatable_map(node).and_then(|map| map.get("pods")).map_or(0, value)
}

fn allocatable_map(node: &Node) -> Option<&Quantities> {
    node.status.as_ref()?.allocatable.as_ref()
}

/// The amount of each resource that a node must have free for this pod.
pub fn requests(pod: &Pod) -> Resources {
    sum(pod, |container| {
        let spec = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let mut wanted = Resources::from_quantities(spec);
        if let Some(allocated) = allocated_to(pod, &container.name) {
            wanted.raise_to(&Resources::from_quantities(Some(allocated)));
        }
        wanted
    })
}

/// As [`requests`], but a container without a request counts as 100m and 200 MB, so that scores do not see such pods as free.
pub fn requests_for_scoring(pod: &Pod) -> Resources {
    sum(pod, |container| {
        let spec = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let mut wanted = Resources::from_quantities(spec);
        if !spec.is_some_and(|map| map.contains_key("cpu")) {
            wanted.cpu = 100;
        }
        if !spec.is_some_and(|map| map.contains_key("memory")) {
            wanted.memory = 200 * 1024 * 1024;
        }
        wanted
    })
}

fn allocated_to<'a>(pod: &'a Pod, container: &str) -> Option<&'a Quantities> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == container)?.allocated_resources.as_ref()
}

fn sum(pod: &Pod, of: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut step = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&step);
            step = sidecars.clone();
        } else {
            step.add(&sidecars);
        }
        peak.raise_to(&step);
    }
    total.add(&sidecars);
    total.raise_to(&peak);
    if let Some(of_pod) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        total.replace_by(of_pod);
    }
    total.add(&Resources::from_quantities(spec.overhead.as_ref()));
    total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::json;

    fn container(name: &str, cpu: &str, restart: Option<&str>) -> serde_json::Value {
        json!({"name": name, "restartPolicy": restart, "resources": {"requests": {"cpu": cpu}}})
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn init_steps_and_sidecars() {
        let spec = json!({
            "initContainers": [
                container("first", "3", None),
                container("side", "1", Some("Always")),
                container("second", "4", None),
            ],
            "containers": [container("app", "2", None)],
            "overhead": {"cpu": "100m"},
        });
        // second (4) runs beside the sidecar (1); app + sidecar are only 3.
        assert_eq!(requests(&pod(spec)).cpu, 5100);
    }

    #[test]
    fn pod_level_resources_replace_the_sum() {
        let spec = json!({
            "containers": [container("app", "2", None), container("b", "2", None)],
            "resources": {"requests": {"cpu": "3"}},
        });
        assert_eq!(requests(&pod(spec)).cpu, 3000);
    }

    #[test]
    fn extended_resources_and_allocated_ones() {
        let mut pod = pod(json!({"containers": [
            {"name": "a", "resources": {"requests": {"example.com/gpu": "2", "memory": "1Gi", "ephemeral-storage": "1k"}}}]}));
        pod.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0, "allocatedResources": {"memory": "2Gi"}}]}))
        .unwrap();
        let wanted = requests(&pod);
        assert_eq!(wanted.other["example.com/gpu"], 2);
        assert_eq!(wanted.memory, 2 << 30);
        assert_eq!(wanted.ephemeral_storage, 1000);
        assert_eq!(requests_for_scoring(&pod).cpu, 100);
    }
}
