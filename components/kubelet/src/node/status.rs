//! From what the host and the runtime say to `node.status`: pure.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::host::{self, Disk, Host};
use crate::config::Config;
use crate::pods::quantity;
use crate::pods::resources::{self, PodLimits};

/// The release whose behaviour this kubelet has.
pub const KUBELET_VERSION: &str = "v1.37.0";
const MAX_IMAGES: usize = 50;
/// Upstream's default hard eviction threshold for memory.
const MEMORY_FLOOR: u64 = 100 << 20;
const DISK_FLOOR_PERCENT: u64 = 10;
const INODES_FLOOR_PERCENT: u64 = 5;
const PID_FLOOR_PERCENT: u64 = 3;

pub struct Facts {
    pub runtime: Result<cri::StatusResponse>,
    pub version: Option<cri::VersionResponse>,
    pub images: Vec<cri::Image>,
    pub disk: Option<Disk>,
    pub memory_available: Option<u64>,
    pub pids: Option<(u64, u64)>,
    pub lists: bool,
}

pub fn compute(config: &Config, host: &Host, facts: &Facts, previous: &NodeStatus) -> NodeStatus {
    let capacity = capacity(config, host, facts.disk);
    NodeStatus {
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".into(), address: config.node_ip.clone() },
            NodeAddress { type_: "Hostname".into(), address: config.node_name.clone() },
        ]),
        allocatable: Some(allocatable(config, &capacity)),
        capacity: Some(capacity.iter().map(|(k, v)| (k.clone(), shown(k, *v))).collect()),
        conditions: Some(conditions(facts, previous)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
        }),
        images: Some(images(&facts.images)),
        node_info: Some(node_info(host, facts, previous)),
        runtime_handlers: facts.runtime.as_ref().ok().map(handlers).filter(|h| !h.is_empty()),
        ..Default::default()
    }
}

/// What pods can have of this host, for downward API defaults.
pub fn allocatable_of(config: &Config, host: &Host) -> BTreeMap<String, Quantity> {
    allocatable(config, &capacity(config, host, host::disk(&config.root_dir)))
}

/// What all pods together may have. Upstream: `enforceNodeAllocatable: [pods]`.
pub fn limits_of_pods(config: &Config, host: &Host) -> PodLimits {
    let left = |name, whole: u64| i64::try_from(whole).unwrap_or(i64::MAX).saturating_sub(reserved(config, name));
    PodLimits {
        shares: resources::shares(left("cpu", host.cpus * 1000)),
        quota: None,
        memory: Some(left("memory", host.memory)).filter(|bytes| *bytes > 0),
    }
}

pub fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether the difference is worth a report; heartbeat times alone are not.
pub fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let core = |status: &NodeStatus| {
        let conditions: BTreeMap<String, (String, Option<String>, Option<String>)> = status
            .conditions
            .iter()
            .flatten()
            .filter(|c| OWN_CONDITIONS.contains(&c.type_.as_str()))
            .map(|c| (c.type_.clone(), (c.status.clone(), c.reason.clone(), c.message.clone())))
            .collect();
        (
            conditions,
            status.addresses.clone(),
            status.allocatable.clone(),
            status.capacity.clone(),
            status.images.clone(),
            status.node_info.clone(),
            status.daemon_endpoints.clone(),
        )
    };
    core(old) != core(new)
}

const OWN_CONDITIONS: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

/// A strategic merge patch; conditions of others are left alone.
pub fn patch(old: &NodeStatus, new: &NodeStatus) -> Result<serde_json::Value> {
    let mut status = serde_json::to_value(new)?;
    if old.addresses == new.addresses
        && let Some(fields) = status.as_object_mut()
    {
        fields.remove("addresses");
    } else if let Some(addresses) = status.get_mut("addresses").and_then(|a| a.as_array_mut()) {
        addresses.push(serde_json::json!({"$patch": "replace"}));
    }
    Ok(serde_json::json!({"status": status}))
}

fn capacity(config: &Config, host: &Host, disk: Option<Disk>) -> BTreeMap<String, i64> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut all = BTreeMap::from([
        ("cpu".to_string(), signed(host.cpus * 1000)),
        ("memory".to_string(), signed(host.memory)),
        ("pods".to_string(), i64::from(config.max_pods)),
        ("ephemeral-storage".to_string(), signed(disk.unwrap_or_default().capacity)),
    ]);
    for (size, total) in &host.hugepages {
        all.insert(format!("hugepages-{}", binary(*size)), signed(*total));
    }
    all
}

/// Capacity less what is reserved, less the eviction thresholds, as upstream computes it.
fn allocatable(config: &Config, capacity: &BTreeMap<String, i64>) -> BTreeMap<String, Quantity> {
    let hugepages: i64 = capacity.iter().filter(|(k, _)| k.starts_with("hugepages-")).map(|(_, v)| *v).sum();
    capacity
        .iter()
        .map(|(name, total)| {
            let mut value = total - reserved(config, name);
            match name.as_str() {
                "memory" => value -= i64::try_from(MEMORY_FLOOR).unwrap_or(0) + hugepages,
                "ephemeral-storage" => value -= total / 10,
                _ => {}
            }
            (name.clone(), shown(name, value.max(0)))
        })
        .collect()
}

fn reserved(config: &Config, name: &str) -> i64 {
    let one = |map: &BTreeMap<String, String>| {
        let text = map.get(name).map(|text| Quantity(text.clone()));
        text.map_or(0, |q| if name == "cpu" { quantity::milli(&q) } else { quantity::value(&q) })
    };
    one(&config.kube_reserved) + one(&config.system_reserved)
}

/// CPU is counted in thousandths here; memory is shown in KiB as upstream does.
fn shown(name: &str, value: i64) -> Quantity {
    match name {
        "cpu" if value % 1000 == 0 => Quantity((value / 1000).to_string()),
        "cpu" => Quantity(format!("{value}m")),
        "memory" if value % 1024 == 0 => Quantity(format!("{}Ki", value / 1024)),
        _ => Quantity(value.to_string()),
    }
}

fn binary(size: u64) -> String {
    match size {
        s if s >= 1 << 30 => format!("{}Gi", s >> 30),
        s if s >= 1 << 20 => format!("{}Mi", s >> 20),
        s => format!("{}Ki", s >> 10),
    }
}

fn conditions(facts: &Facts, previous: &NodeStatus) -> Vec<NodeCondition> {
    let disk = facts.disk.unwrap_or_default();
    let memory = facts.memory_available.is_some_and(|free| free < MEMORY_FLOOR);
    let full = disk.capacity > 0
        && (disk.available * 100 / disk.capacity < DISK_FLOOR_PERCENT
            || (disk.inodes > 0 && disk.inodes_free * 100 / disk.inodes < INODES_FLOOR_PERCENT));
    let pids = facts
        .pids
        .is_some_and(|(existing, most)| most.saturating_sub(existing) * 100 / most.max(1) < PID_FLOOR_PERCENT);
    let problem = not_ready(facts);
    let mut all = vec![
        pressure(
            "MemoryPressure",
            memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "memory available",
        ),
        pressure("DiskPressure", full, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk pressure"),
        pressure("PIDPressure", pids, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID available"),
        NodeCondition {
            type_: "Ready".into(),
            status: if problem.is_none() { "True" } else { "False" }.into(),
            reason: Some(if problem.is_none() { "KubeletReady" } else { "KubeletNotReady" }.into()),
            message: Some(problem.unwrap_or_else(|| "kubelet is posting ready status".into())),
            ..Default::default()
        },
    ];
    let now = Time(Timestamp::now());
    for condition in &mut all {
        let old = previous.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
        let same = old.filter(|old| old.status == condition.status);
        condition.last_transition_time =
            Some(same.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(|| now.clone()));
        condition.last_heartbeat_time = Some(now.clone());
    }
    all
}

fn pressure(type_: &str, present: bool, bad: &str, good: &str, what: &str) -> NodeCondition {
    let message = match (type_, present) {
        ("DiskPressure", true) => "kubelet has disk pressure".to_string(),
        ("DiskPressure", false) => "kubelet has no disk pressure".to_string(),
        (_, true) => format!("kubelet has insufficient {what}"),
        (_, false) => format!("kubelet has sufficient {what}"),
    };
    NodeCondition {
        type_: type_.into(),
        status: if present { "True" } else { "False" }.into(),
        reason: Some(if present { bad } else { good }.into()),
        message: Some(message),
        ..Default::default()
    }
}

fn not_ready(facts: &Facts) -> Option<String> {
    let status = match &facts.runtime {
        Ok(status) => status.status.clone().unwrap_or_default(),
        Err(error) => return Some(format!("container runtime is down: {error:#}")),
    };
    for (condition, what) in [("RuntimeReady", "container runtime"), ("NetworkReady", "container runtime network")] {
        match status.conditions.iter().find(|c| c.r#type == condition) {
            Some(c) if c.status => {}
            Some(c) => {
                return Some(format!("{what} not ready: {condition}=false reason:{} message:{}", c.reason, c.message));
            }
            None => return Some(format!("{what} status check may not have completed yet")),
        }
    }
    (!facts.lists).then(|| "PLEG is not healthy: pleg has yet to be successful".to_string())
}

fn node_info(host: &Host, facts: &Facts, previous: &NodeStatus) -> NodeSystemInfo {
    let runtime = match &facts.version {
        Some(version) => format!("{}://{}", version.runtime_name, version.runtime_version),
        None => previous.node_info.as_ref().map(|i| i.container_runtime_version.clone()).unwrap_or_default(),
    };
    NodeSystemInfo {
        architecture: host::arch().into(),
        boot_id: host.boot_id.clone(),
        container_runtime_version: runtime,
        kernel_version: host.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.into(),
        machine_id: host.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: host.os_image.clone(),
        system_uuid: host.system_uuid.clone(),
        ..Default::default()
    }
}

fn images(images: &[cri::Image]) -> Vec<ContainerImage> {
    let mut all: Vec<ContainerImage> = images
        .iter()
        .map(|image| {
            let names: Vec<String> = image.repo_digests.iter().chain(&image.repo_tags).take(5).cloned().collect();
            ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
        })
        .collect();
    all.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    all.truncate(MAX_IMAGES);
    all
}

fn handlers(status: &cri::StatusResponse) -> Vec<NodeRuntimeHandler> {
    let handlers = status.runtime_handlers.iter();
    handlers.map(|h| NodeRuntimeHandler { name: Some(h.name.clone()), features: None }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(network: bool) -> Facts {
        let condition = |name: &str, ok| cri::RuntimeCondition {
            r#type: name.into(),
            status: ok,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
        Facts {
            runtime: Ok(cri::StatusResponse { status: Some(cri::RuntimeStatus { conditions }), ..Default::default() }),
            version: None,
            images: vec![],
            disk: Some(Disk { capacity: 1000, available: 500, inodes: 10, inodes_free: 9 }),
            memory_available: Some(1 << 30),
            pids: Some((10, 1000)),
            lists: true,
        }
    }

    #[test]
    fn ready_follows_the_network() {
        let config = Config { node_name: "n".into(), node_ip: "10.0.0.1".into(), ..Default::default() };
        let host = Host { cpus: 2, memory: 4 << 30, ..Default::default() };
        let down = compute(&config, &host, &facts(false), &NodeStatus::default());
        assert!(!is_ready(&down));
        let message = down.conditions.as_ref().unwrap()[3].message.clone().unwrap();
        assert!(message.contains("NetworkReady=false reason:NetworkPluginNotReady"), "{message}");
        let up = compute(&config, &host, &facts(true), &down);
        assert!(is_ready(&up) && differs(&down, &up));
        assert!(!differs(&up, &compute(&config, &host, &facts(true), &up)));
        assert_eq!(up.capacity.unwrap()["cpu"].0, "2");
        assert_eq!(up.allocatable.unwrap()["memory"].0, "4091904Ki");
    }

    #[test]
    fn pods_may_have_what_is_not_reserved() {
        let reserved =
            |amount: [(&str, &str); 2]| amount.map(|(name, text)| (name.to_string(), text.to_string())).into();
        let config = Config {
            kube_reserved: reserved([("cpu", "500m"), ("memory", "1Gi")]),
            system_reserved: reserved([("cpu", "500m"), ("memory", "1Gi")]),
            ..Default::default()
        };
        let host = Host { cpus: 2, memory: 4 << 30, ..Default::default() };
        let expected = PodLimits { shares: 1024, quota: None, memory: Some(2 << 30) };
        assert_eq!(limits_of_pods(&config, &host), expected);
    }

    #[test]
    fn little_disk_is_pressure() {
        let mut facts = facts(true);
        facts.disk = Some(Disk { capacity: 1000, available: 50, inodes: 10, inodes_free: 9 });
        let all = conditions(&facts, &NodeStatus::default());
        assert_eq!(all.iter().find(|c| c.type_ == "DiskPressure").unwrap().status, "True");
    }
}
