//! `/stats/summary`, `/metrics` and `/metrics/resource`, from the runtime's statistics and /proc.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use k8s_cri::v1 as cri;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cri::{Cri, LABEL_CONTAINER, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};
use crate::node::host;

async fn containers(cri: &Cri) -> Result<Vec<cri::ContainerStats>> {
    let request = cri::ListContainerStatsRequest { filter: None };
    let answer = cri.runtime.clone().list_container_stats(request).await;
    Ok(answer.context("the runtime gave no statistics")?.into_inner().stats)
}

fn label<'a>(stats: &'a cri::ContainerStats, name: &str) -> &'a str {
    stats.attributes.as_ref().and_then(|a| a.labels.get(name)).map_or("", String::as_str)
}

fn number(value: Option<&cri::UInt64Value>) -> u64 {
    value.map_or(0, |v| v.value)
}

fn cpu(stats: &cri::ContainerStats) -> u64 {
    stats.cpu.as_ref().map_or(0, |c| number(c.usage_core_nano_seconds.as_ref()))
}

fn memory(stats: &cri::ContainerStats) -> u64 {
    stats.memory.as_ref().map_or(0, |m| number(m.working_set_bytes.as_ref()))
}

/// Seconds the CPUs have been busy since boot.
fn node_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let idle = fields.get(3).unwrap_or(&0) + fields.get(4).unwrap_or(&0);
    let busy: u64 = fields.iter().take(8).sum::<u64>() - idle;
    // USER_HZ is 100 on every architecture Kubernetes runs on
    #[allow(clippy::cast_precision_loss)]
    let seconds = busy as f64 / 100.0;
    seconds
}

pub async fn summary(cri: &Cri, node: &str, node_memory: u64, root: &std::path::Path) -> Result<Value> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pods: BTreeMap<String, Vec<cri::ContainerStats>> = BTreeMap::new();
    for stats in containers(cri).await? {
        pods.entry(label(&stats, LABEL_POD_UID).to_string()).or_default().push(stats);
    }
    let pods: Vec<Value> = pods.into_values().filter_map(|list| pod(&list, &now)).collect();
    let available = host::memory_available().unwrap_or(0);
    let disk = host::disk(root).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let busy = (node_cpu_seconds() * 1e9) as u64;
    Ok(json!({
        "node": {
            "nodeName": node, "startTime": now,
            "cpu": {"time": now, "usageCoreNanoSeconds": busy},
            "memory": {"time": now, "availableBytes": available, "usageBytes": node_memory.saturating_sub(available),
                       "workingSetBytes": node_memory.saturating_sub(available)},
            "fs": {"time": now, "availableBytes": disk.available, "capacityBytes": disk.capacity,
                   "usedBytes": disk.capacity.saturating_sub(disk.available),
                   "inodes": disk.inodes, "inodesFree": disk.inodes_free},
        },
        "pods": pods,
    }))
}

fn pod(list: &[cri::ContainerStats], now: &str) -> Option<Value> {
    let first = list.first()?;
    let containers: Vec<Value> = list
        .iter()
        .map(|stats| {
            let (all, rss) = stats
                .memory
                .as_ref()
                .map_or((0, 0), |m| (number(m.usage_bytes.as_ref()), number(m.rss_bytes.as_ref())));
            let used = stats.writable_layer.as_ref().map_or(0, |f| number(f.used_bytes.as_ref()));
            json!({
                "name": label(stats, LABEL_CONTAINER), "startTime": now,
                "cpu": {"time": now, "usageCoreNanoSeconds": cpu(stats),
                        "usageNanoCores": stats.cpu.as_ref().map_or(0, |c| number(c.usage_nano_cores.as_ref()))},
                "memory": {"time": now, "workingSetBytes": memory(stats), "usageBytes": all, "rssBytes": rss},
                "rootfs": {"time": now, "usedBytes": used},
            })
        })
        .collect();
    Some(json!({
        "podRef": {"name": label(first, LABEL_POD_NAME), "namespace": label(first, LABEL_POD_NAMESPACE),
                   "uid": label(first, LABEL_POD_UID)},
        "startTime": now,
        "containers": containers,
        "cpu": {"time": now, "usageCoreNanoSeconds": list.iter().map(cpu).sum::<u64>()},
        "memory": {"time": now, "workingSetBytes": list.iter().map(memory).sum::<u64>()},
    }))
}

pub async fn resource_metrics(cri: &Cri, node_memory: u64) -> Result<String> {
    let stats = containers(cri).await?;
    let mut text = String::new();
    let used = node_memory.saturating_sub(host::memory_available().unwrap_or(0));
    writeln!(text, "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {}", node_cpu_seconds())?;
    writeln!(text, "# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {used}")?;
    writeln!(text, "# TYPE container_cpu_usage_seconds_total counter")?;
    for one in &stats {
        #[allow(clippy::cast_precision_loss)]
        let seconds = cpu(one) as f64 / 1e9;
        writeln!(text, "container_cpu_usage_seconds_total{{{}}} {seconds}", labels(one))?;
    }
    writeln!(text, "# TYPE container_memory_working_set_bytes gauge")?;
    for one in &stats {
        writeln!(text, "container_memory_working_set_bytes{{{}}} {}", labels(one), memory(one))?;
    }
    Ok(text)
}

fn labels(stats: &cri::ContainerStats) -> String {
    format!(
        "container={:?},namespace={:?},pod={:?}",
        label(stats, LABEL_CONTAINER),
        label(stats, LABEL_POD_NAMESPACE),
        label(stats, LABEL_POD_NAME)
    )
}

/// The kubelet about itself.
pub async fn own_metrics(cri: &Cri, node: &str, pods: usize) -> Result<String> {
    let running = |state: i32| state == cri::ContainerState::ContainerRunning as i32;
    let containers = cri.containers(None).await?;
    let count = containers.iter().filter(|c| running(c.state)).count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    let mut text = String::new();
    writeln!(text, "# TYPE kubelet_node_name gauge\nkubelet_node_name{{node={node:?}}} 1")?;
    writeln!(text, "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {pods}")?;
    writeln!(text, "# TYPE kubelet_running_containers gauge")?;
    writeln!(text, "kubelet_running_containers{{container_state=\"running\"}} {count}")?;
    writeln!(text, "kubelet_running_containers{{container_state=\"exited\"}} {}", containers.len() - count)?;
    writeln!(
        text,
        "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}",
        rss.unwrap_or(0) * 1024
    )?;
    Ok(text)
}
