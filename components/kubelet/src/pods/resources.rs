//! Requests and limits: QoS class, cgroup values, OOM score. Upstream: `pkg/kubelet/qos`, `pkg/kubelet/cm`.

use std::collections::{BTreeMap, HashMap};

use k8s_cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;

pub const CPU_PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MIN_QUOTA: i64 = 1000;
const SYSTEM_CRITICAL: i32 = 2_000_000_000;
const GUARANTEED_OOM: i64 = -997;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// The class the API server recorded, else the one upstream would compute.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => pod.spec.as_ref().map_or(Qos::BestEffort, compute_qos),
    }
}

fn compute_qos(spec: &PodSpec) -> Qos {
    let all: Vec<&ResourceRequirements> = match &spec.resources {
        Some(whole) => vec![whole],
        None => containers(spec).filter_map(|c| c.resources.as_ref()).collect(),
    };
    let count = if spec.resources.is_some() { 1 } else { containers(spec).count() };
    let mut any = false;
    let mut guaranteed = all.len() == count;
    for resources in all {
        for name in ["cpu", "memory"] {
            let limit = amount(resources.limits.as_ref(), name);
            let request = amount(resources.requests.as_ref(), name);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn amount(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i128> {
    map.and_then(|m| m.get(name)).and_then(|q| quantity::parse(&q.0)).filter(|n| *n > 0)
}

/// A container's CPU (thousandths) or memory (bytes); requests fall back on limits.
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<i64> {
    let number = |q: &Quantity| if name == "cpu" { quantity::milli(q) } else { quantity::value(q) };
    let resources = resources?;
    let requested = resources.requests.as_ref().and_then(|m| m.get(name)).map(number);
    requested.or_else(|| limit(Some(resources), name))
}

pub fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<i64> {
    let number = |q: &Quantity| if name == "cpu" { quantity::milli(q) } else { quantity::value(q) };
    resources?.limits.as_ref()?.get(name).map(number).filter(|n| *n > 0)
}

pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, 262_144)
}

pub fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * CPU_PERIOD / 1000).max(MIN_QUOTA) }
}

/// What the runtime is told about one container; `unified` are files of v2 that have no field of their own.
pub fn container(
    pod: &Pod,
    container: &Container,
    node_memory: u64,
    unified: HashMap<String, String>,
) -> LinuxContainerResources {
    let resources = container.resources.as_ref();
    let cpu_limit = limit(resources, "cpu").unwrap_or(0);
    LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: quota(cpu_limit),
        cpu_shares: shares(request(resources, "cpu").unwrap_or(0)),
        memory_limit_in_bytes: limit(resources, "memory").unwrap_or(0),
        oom_score_adj: oom_score(pod, container, node_memory),
        unified,
        ..Default::default()
    }
}

/// Upstream's `GetContainerOOMScoreAdjust`.
fn oom_score(pod: &Pod, container: &Container, node_memory: u64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= SYSTEM_CRITICAL);
    match qos(pod) {
        _ if critical => GUARANTEED_OOM,
        Qos::Guaranteed => GUARANTEED_OOM,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let capacity = i64::try_from(node_memory).unwrap_or(i64::MAX).max(1);
            let requested = request(container.resources.as_ref(), "memory").unwrap_or(0);
            let share = i128::from(requested) * 1000 / i128::from(capacity);
            let score = 1000 - i64::try_from(share).unwrap_or(1000);
            score.clamp(1000 + GUARANTEED_OOM, 999)
        }
    }
}

/// Values of the pod's own cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodLimits {
    pub shares: i64,
    pub quota: Option<i64>,
    pub memory: Option<i64>,
}

pub fn pod(pod: &Pod) -> PodLimits {
    let Some(spec) = &pod.spec else { return PodLimits { shares: MIN_SHARES, quota: None, memory: None } };
    let all_limited = |name: &str| {
        spec.resources.as_ref().is_some_and(|r| limit(Some(r), name).is_some())
            || containers(spec).all(|c| limit(c.resources.as_ref(), name).is_some())
    };
    PodLimits {
        shares: shares(requested_cpu(pod)),
        quota: all_limited("cpu").then(|| total(spec, "cpu", limit)).flatten().map(quota),
        memory: all_limited("memory").then(|| total(spec, "memory", limit)).flatten(),
    }
}

/// In thousandths of a processor.
pub fn requested_cpu(pod: &Pod) -> i64 {
    pod.spec.as_ref().and_then(|spec| total(spec, "cpu", request)).unwrap_or(0)
}

type Amount = fn(Option<&ResourceRequirements>, &str) -> Option<i64>;

/// Upstream's `PodRequests`/`PodLimits`: running containers and sidecars together, or the greatest init
/// container with the sidecars started before it, whichever is more; plus overhead.
fn total(spec: &PodSpec, name: &str, amount: Amount) -> Option<i64> {
    if let Some(whole) = amount(spec.resources.as_ref(), name) {
        return Some(whole);
    }
    let of = |c: &Container| amount(c.resources.as_ref(), name).unwrap_or(0);
    let mut together: i64 = spec.containers.iter().map(of).sum();
    let (mut sidecars, mut greatest) = (0, 0);
    for init in spec.init_containers.iter().flatten() {
        if is_sidecar(init) {
            sidecars += of(init);
            greatest = greatest.max(sidecars);
        } else {
            greatest = greatest.max(sidecars + of(init));
        }
    }
    together += sidecars;
    let overhead = spec.overhead.as_ref().and_then(|m| m.get(name));
    let overhead = overhead.map_or(0, |q| if name == "cpu" { quantity::milli(q) } else { quantity::value(q) });
    Some(together.max(greatest) + overhead).filter(|n| *n > 0)
}

/// KEP-753: an init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub fn pod_from(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"b": "2", "a": "1"}}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn classes() {
        let class = |resources: serde_json::Value| {
            qos(&pod_from(serde_json::json!({"containers": [{"name": "c", "resources": resources}]}))).as_str()
        };
        assert_eq!(class(serde_json::json!({})), "BestEffort");
        assert_eq!(class(serde_json::json!({"requests": {"cpu": "1"}})), "Burstable");
        let full = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(class(full), "Guaranteed");
        let lower = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        assert_eq!(class(lower), "Burstable");
    }

    #[test]
    fn cgroup_values() {
        let p = pod_from(serde_json::json!({"containers": [{"name": "c",
            "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "64Mi"}}}]}));
        let c = &p.spec.as_ref().unwrap().containers[0];
        let r = container(&p, c, 1 << 30, HashMap::from([("memory.oom.group".into(), "1".into())]));
        assert_eq!(r.unified["memory.oom.group"], "1");
        assert_eq!((r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes), (256, 50_000, 64 << 20));
        assert_eq!(r.oom_score_adj, 1000 - 62);
        assert_eq!(pod(&p), PodLimits { shares: 256, quota: Some(50_000), memory: Some(64 << 20) });
    }

    #[test]
    fn sidecars_count_beside_containers_and_inits() {
        let p = pod_from(serde_json::json!({
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "400m"}}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}));
        assert_eq!(pod(&p).shares, shares(500));
    }
}
