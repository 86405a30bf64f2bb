//! The columns of pods (kubernetes `pkg/printers/internalversion/printers.go`, `printPod`).

use serde_json::Value;

use super::{
    super::{
        Cell, Column,
        cells::{condition, or_none},
        columns::{AGE, NAME, text},
    },
    is_sidecar,
};
use crate::{
    time,
    value::{bool_at, get, int_at, list_at, str_at},
};

pub(in crate::resources) const POD: &[Column] = &[
    NAME,
    text("Ready", 0, Cell::Of(ready)),
    text("Status", 0, Cell::Of(status)),
    text("Restarts", 0, Cell::Of(restarts)),
    AGE,
    text("IP", 1, Cell::Of(ip)),
    text("Node", 1, Cell::Of(|o| or_none(str_at(o, "spec.nodeName")))),
    text("Nominated Node", 1, Cell::Of(|o| or_none(str_at(o, "status.nominatedNodeName")))),
    text("Readiness Gates", 1, Cell::Of(readiness_gates)),
];

/// The statuses of init containers that are sidecars, or of those that are not.
fn init_statuses(pod: &Value, sidecars: bool) -> impl Iterator<Item = &Value> {
    list_at(pod, "status.initContainerStatuses").iter().filter(move |s| {
        let container = list_at(pod, "spec.initContainers").iter().find(|c| str_at(c, "name") == str_at(s, "name"));
        container.is_some_and(is_sidecar) == sidecars
    })
}

fn ready(pod: &Value) -> Value {
    let sidecars = list_at(pod, "spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
    let total = list_at(pod, "spec.containers").len() + sidecars;
    let ready_sidecars = init_statuses(pod, true).filter(|s| bool_at(s, "started") && bool_at(s, "ready")).count();
    let running = |s: &&Value| bool_at(s, "ready") && get(s, "state.running").is_some();
    let ready = list_at(pod, "status.containerStatuses").iter().filter(running).count();
    format!("{}/{total}", ready + ready_sidecars).into()
}

/// What a terminated container says of itself.
fn terminated_reason(terminated: &Value) -> String {
    let reason = str_at(terminated, "reason");
    match int_at(terminated, "signal").unwrap_or(0) {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", int_at(terminated, "exitCode").unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

/// The reason of the first init container that keeps the pod waiting.
fn init_reason(pod: &Value) -> Option<String> {
    let total = list_at(pod, "spec.initContainers").len();
    for (i, status) in list_at(pod, "status.initContainerStatuses").iter().enumerate() {
        let container =
            list_at(pod, "spec.initContainers").iter().find(|c| str_at(c, "name") == str_at(status, "name"));
        if let Some(terminated) = get(status, "state.terminated") {
            if int_at(terminated, "exitCode").unwrap_or(0) == 0 {
                continue;
            }
            return Some(format!("Init:{}", terminated_reason(terminated)));
        }
        if container.is_some_and(is_sidecar) && bool_at(status, "started") {
            continue;
        }
        let waiting = str_at(status, "state.waiting.reason");
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{i}/{total}"));
    }
    None
}

fn container_reason(pod: &Value, mut reason: String) -> String {
    let mut running = false;
    for status in list_at(pod, "status.containerStatuses").iter().rev() {
        let waiting = str_at(status, "state.waiting.reason");
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if let Some(terminated) = get(status, "state.terminated") {
            reason = terminated_reason(terminated);
        } else if bool_at(status, "ready") && get(status, "state.running").is_some() {
            running = true;
        }
    }
    if reason == "Completed" && running {
        let ready = condition(pod, "Ready").is_some_and(|c| str_at(c, "status") == "True");
        reason = if ready { "Running".into() } else { "NotReady".into() };
    }
    reason
}

fn status(pod: &Value) -> Value {
    let mut reason = str_at(pod, "status.phase").to_owned();
    if !str_at(pod, "status.reason").is_empty() {
        reason = str_at(pod, "status.reason").to_owned();
    }
    if condition(pod, "PodScheduled").is_some_and(|c| str_at(c, "reason") == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let initialized = condition(pod, "Initialized").is_some_and(|c| str_at(c, "status") == "True");
    reason = match init_reason(pod).filter(|_| !initialized) {
        Some(init) => init,
        None => container_reason(pod, reason),
    };
    if get(pod, "metadata.deletionTimestamp").is_some() {
        match str_at(pod, "status.phase") {
            _ if str_at(pod, "status.reason") == "NodeLost" => return "Unknown".into(),
            "Succeeded" | "Failed" => {}
            _ => return "Terminating".into(),
        }
    }
    reason.into()
}

fn restarts(pod: &Value) -> Value {
    let initializing = init_reason(pod).is_some();
    let mut count = 0;
    let mut last = None;
    let mut add = |s: &Value| {
        count += int_at(s, "restartCount").unwrap_or(0);
        last = last.max(time::parse(str_at(s, "lastState.terminated.finishedAt")));
    };
    init_statuses(pod, true).for_each(&mut add);
    if initializing {
        init_statuses(pod, false).for_each(&mut add);
    } else {
        list_at(pod, "status.containerStatuses").iter().for_each(&mut add);
    }
    match last {
        Some(at) if count > 0 => {
            let ago = (::time::OffsetDateTime::now_utc() - at).whole_seconds();
            format!("{count} ({} ago)", time::human_duration(ago)).into()
        }
        _ => count.to_string().into(),
    }
}

fn ip(pod: &Value) -> Value {
    let first = list_at(pod, "status.podIPs").first().map_or("", |i| str_at(i, "ip"));
    or_none(if first.is_empty() { str_at(pod, "status.podIP") } else { first })
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list_at(pod, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let passed = |g: &&Value| condition(pod, str_at(g, "conditionType")).is_some_and(|c| str_at(c, "status") == "True");
    format!("{}/{}", gates.iter().filter(passed).count(), gates.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pod_states() {
        let running = json!({"name": "a", "ready": true, "state": {"running": {}}});
        let pod = |status: Value| json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}, "status": status});
        assert_eq!(status(&pod(json!({"phase": "Running", "containerStatuses": [running]}))), "Running");
        assert_eq!(ready(&pod(json!({"containerStatuses": [running]}))), "1/1");
        let crash = json!({"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        assert_eq!(status(&pod(json!({"phase": "Running", "containerStatuses": [crash]}))), "CrashLoopBackOff");
        assert_eq!(restarts(&pod(json!({"containerStatuses": [crash]}))), "3");
        let init = json!({"name": "i", "state": {"running": {}}});
        assert_eq!(status(&pod(json!({"phase": "Pending", "initContainerStatuses": [init]}))), "Init:0/1");
        let mut gone = pod(json!({"phase": "Running", "containerStatuses": [running]}));
        gone["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(status(&gone), "Terminating");
    }
}
