//! From spec and observation to `pod.status`: pure. Upstream: `generateAPIPodStatus`, `status/generate.go`.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::resources::is_sidecar;
use super::{container, plan, resources};
use crate::cri::observe::{Container as Seen, Observed, Phase};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What the worker knows besides the API object and the runtime.
pub struct View<'a> {
    pub pod: &'a Pod,
    pub observed: &'a Observed,
    pub previous: &'a PodStatus,
    pub waiting: &'a HashMap<String, Waiting>,
    /// Termination messages by container id.
    pub messages: &'a HashMap<String, String>,
    /// (started, ready) of a running container.
    pub health: &'a dyn Fn(&str, &Container) -> (bool, bool),
    pub host_ip: &'a str,
    pub runtime: &'a str,
    /// The kubelet itself gave the pod up: reason and message.
    pub failure: Option<(String, String)>,
    /// The pod is being taken down and all its containers have ended.
    pub ended: bool,
}

pub fn compute(view: &View<'_>) -> PodStatus {
    let spec = view.pod.spec.clone().unwrap_or_default();
    let inits: Vec<ContainerStatus> =
        spec.init_containers.iter().flatten().map(|c| container_status(view, &spec, c, true)).collect();
    let containers: Vec<ContainerStatus> =
        spec.containers.iter().map(|c| container_status(view, &spec, c, false)).collect();
    let ephemeral: Vec<ContainerStatus> = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|e| container_status(view, &spec, &container::from_ephemeral(e), false))
        .collect();
    let phase = phase(view, &spec);
    let ips = addresses(view, &spec);
    let host = view.host_ip.to_string();
    let mut status = PodStatus {
        container_statuses: Some(containers),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        host_ip: Some(host.clone()),
        host_ips: Some(vec![HostIP { ip: host }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: view.previous.start_time.clone().or_else(|| Some(Time(Timestamp::now()))),
        qos_class: Some(resources::qos(view.pod).as_str().into()),
        observed_generation: view.pod.metadata.generation,
        reason: view.failure.as_ref().map(|(reason, _)| reason.clone()).or_else(|| kept(view, |s| s.reason.clone())),
        message: view
            .failure
            .as_ref()
            .map(|(_, message)| message.clone())
            .or_else(|| kept(view, |s| s.message.clone())),
        phase: Some(phase.into()),
        ..Default::default()
    };
    status.conditions = Some(conditions(view, &spec, &status));
    status
}

/// Reason and message of a pod that has already ended stay.
fn kept(view: &View<'_>, field: impl Fn(&PodStatus) -> Option<String>) -> Option<String> {
    is_terminal(view.previous.phase.as_deref()).then(|| field(view.previous)).flatten()
}

pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn addresses(view: &View<'_>, spec: &PodSpec) -> Vec<String> {
    if spec.host_network == Some(true) {
        return vec![view.host_ip.to_string()];
    }
    let fresh = view.observed.sandbox().map(|s| s.ips.clone()).unwrap_or_default();
    if !fresh.is_empty() {
        return fresh;
    }
    view.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
}

fn time(nanoseconds: i64) -> Option<Time> {
    (nanoseconds > 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok().map(Time)).flatten()
}

fn container_status(view: &View<'_>, spec: &PodSpec, container: &Container, init: bool) -> ContainerStatus {
    let name = &container.name;
    let before = previous_status(view, name);
    let list = view.observed.containers.get(name);
    let latest = list.and_then(|l| l.first());
    let mut status = ContainerStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: before.map_or(0, |b| b.restart_count),
        started: Some(false),
        last_state: Some(ContainerState::default()),
        ..Default::default()
    };
    let Some(seen) = latest else {
        status.state = Some(never_ran(view, spec, container, before));
        status.last_state = before.and_then(|b| b.last_state.clone()).or(status.last_state);
        return status;
    };
    status.restart_count = status.restart_count.max(i32::try_from(seen.attempt()).unwrap_or(i32::MAX));
    status.container_id = Some(format!("{}://{}", view.runtime, seen.id()));
    status.image = image_name(seen, container);
    status.image_id = image_id(seen);
    status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
    status.resources = container.resources.clone().filter(|r| r.requests.is_some() || r.limits.is_some());
    if let Some(earlier) = list.and_then(|l| l.get(1)).filter(|e| e.phase == Phase::Exited) {
        status.last_state = Some(terminated(view, earlier));
    }
    match seen.phase {
        Phase::Running => {
            let (started, ready) = (view.health)(seen.id(), container);
            status.started = Some(started);
            status.ready = if init && !is_sidecar(container) { false } else { ready };
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: time(seen.status.started_at) }),
                ..Default::default()
            });
        }
        Phase::Created => status.state = Some(waiting(view, name, "ContainerCreating")),
        Phase::Exited | Phase::Unknown => match view.waiting.get(name).filter(|_| !view.ended) {
            Some(_) => {
                status.state = Some(waiting(view, name, "ContainerCreating"));
                status.last_state = Some(terminated(view, seen));
            }
            None => {
                status.state = Some(terminated(view, seen));
                status.ready = init && !is_sidecar(container) && seen.status.exit_code == 0;
            }
        },
    }
    status
}

fn previous_status<'a>(view: &'a View<'_>, name: &str) -> Option<&'a ContainerStatus> {
    let p = view.previous;
    let all = p.init_container_statuses.iter().chain(&p.container_statuses).chain(&p.ephemeral_container_statuses);
    all.flatten().find(|s| s.name == name)
}

/// The runtime knows no such container: it waits, or it ended and was cleaned away.
fn never_ran(
    view: &View<'_>,
    spec: &PodSpec,
    container: &Container,
    before: Option<&ContainerStatus>,
) -> ContainerState {
    let ended_before = before.and_then(|b| b.state.clone()).filter(|s| s.terminated.is_some());
    if let Some(state) = ended_before {
        return state;
    }
    if view.ended && before.is_some_and(|b| b.state.as_ref().is_some_and(|s| s.running.is_some())) {
        return ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                ..Default::default()
            }),
            ..Default::default()
        };
    }
    let initializing = !initialized(view, spec) || spec.init_containers.as_ref().is_some_and(|l| !l.is_empty());
    let is_first = spec.init_containers.iter().flatten().next().is_some_and(|c| c.name == container.name);
    let reason = if initializing && !is_first { "PodInitializing" } else { "ContainerCreating" };
    waiting(view, &container.name, reason)
}

fn waiting(view: &View<'_>, name: &str, otherwise: &str) -> ContainerState {
    let known = view.waiting.get(name);
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(known.map_or_else(|| otherwise.to_string(), |w| w.reason.clone())),
            message: known.map(|w| w.message.clone()).filter(|m| !m.is_empty()),
        }),
        ..Default::default()
    }
}

fn terminated(view: &View<'_>, seen: &Seen) -> ContainerState {
    let status = &seen.status;
    let reason = match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let message = view.messages.get(seen.id()).cloned().filter(|m| !m.is_empty());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{}://{}", view.runtime, seen.id())),
            exit_code: status.exit_code,
            reason: Some(reason.into()),
            message: message.or_else(|| Some(status.message.clone()).filter(|m| !m.is_empty())),
            started_at: time(status.started_at),
            finished_at: time(status.finished_at),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn image_name(seen: &Seen, container: &Container) -> String {
    let reported = seen.status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default();
    // some runtimes report the id they were given
    if reported.is_empty() || reported.starts_with("sha256:") {
        return container.image.clone().unwrap_or_default();
    }
    reported
}

fn image_id(seen: &Seen) -> String {
    let status = &seen.status;
    if status.image_ref.is_empty() { status.image_id.clone() } else { status.image_ref.clone() }
}

fn initialized(view: &View<'_>, spec: &PodSpec) -> bool {
    incomplete_inits(view, spec).is_empty()
}

fn incomplete_inits(view: &View<'_>, spec: &PodSpec) -> Vec<String> {
    let begun = spec.containers.iter().any(|c| view.observed.latest(&c.name).is_some());
    let done = |c: &Container| match view.observed.latest(&c.name) {
        Some(seen) if is_sidecar(c) => seen.running() && (view.health)(seen.id(), c).0,
        Some(seen) => seen.phase == Phase::Exited && seen.status.exit_code == 0,
        None => previous_status(view, &c.name)
            .and_then(|s| s.state.as_ref()?.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0),
    };
    let all = spec.init_containers.iter().flatten();
    all.filter(|c| !(done(c) || begun && !init_running_again(view, c))).map(|c| c.name.clone()).collect()
}

/// After a new sandbox the init containers run once more although app containers are known.
fn init_running_again(view: &View<'_>, container: &Container) -> bool {
    !is_sidecar(container) && view.observed.current(&container.name).is_some_and(|s| s.running())
}

fn phase(view: &View<'_>, spec: &PodSpec) -> &'static str {
    match view.previous.phase.as_deref() {
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        _ => {}
    }
    if view.failure.is_some() {
        return "Failed";
    }
    let latest: Vec<Option<&Seen>> = spec.containers.iter().map(|c| view.observed.latest(&c.name)).collect();
    let succeeded = latest.iter().all(|s| s.is_some_and(|s| s.phase == Phase::Exited && s.status.exit_code == 0));
    if view.ended {
        // a pod taken down before it had begun has nothing to show for it
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    if plan::is_finished(spec, view.observed) {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        let still = sidecars.into_iter().any(|c| view.observed.latest(&c.name).is_some_and(Seen::running));
        return match (still, succeeded) {
            (true, _) => "Running",
            (false, true) => "Succeeded",
            (false, false) => "Failed",
        };
    }
    let ran = |seen: &Option<&Seen>| seen.is_some_and(|s| s.phase != Phase::Created);
    if !initialized(view, spec) || !latest.iter().all(ran) { "Pending" } else { "Running" }
}

fn conditions(view: &View<'_>, spec: &PodSpec, status: &PodStatus) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let terminal = is_terminal(Some(phase));
    let has_network =
        view.observed.sandbox().is_some_and(|s| s.ready && (!s.ips.is_empty() || spec.host_network == Some(true)));
    let inits = incomplete_inits(view, spec);
    let initialized = phase == "Succeeded" || inits.is_empty();
    let unready: Vec<&str> =
        status.container_statuses.iter().flatten().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    let containers_ready = unready.is_empty() && initialized && !terminal && !view.ended;
    let gate = containers_ready.then(|| closed_gate(view, spec)).flatten();
    let why = |unready: &[&str]| match phase {
        "Succeeded" => ("PodCompleted", String::new()),
        "Failed" => ("PodFailed", String::new()),
        _ => ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
    };
    let mut all = vec![
        condition("PodReadyToStartContainers", has_network && !view.ended, None),
        condition(
            "Initialized",
            initialized,
            Some(if phase == "Succeeded" {
                ("PodCompleted", String::new())
            } else {
                ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", inits.join(" ")))
            })
            .filter(|_| !initialized || phase == "Succeeded"),
        ),
        condition(
            "Ready",
            containers_ready && gate.is_none(),
            match (&gate, containers_ready) {
                (Some(message), true) => Some(("ReadinessGatesNotReady", message.clone())),
                (None, true) => None,
                _ => Some(why(&unready)),
            },
        ),
        condition("ContainersReady", containers_ready, (!containers_ready).then(|| why(&unready))),
    ];
    let reported = view.pod.status.iter().chain([view.previous]).flat_map(|s| s.conditions.iter().flatten());
    if !reported.into_iter().any(|c| c.type_ == "PodScheduled") {
        all.push(condition("PodScheduled", true, None));
    }
    let now = Time(Timestamp::now());
    for condition in &mut all {
        let old = view.previous.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
        let same = old.filter(|old| old.status == condition.status);
        condition.last_transition_time =
            Some(same.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(|| now.clone()));
        condition.observed_generation = view.pod.metadata.generation;
    }
    all
}

fn condition(type_: &str, status: bool, why: Option<(&str, String)>) -> PodCondition {
    let (reason, message) = why.map_or((None, None), |(r, m)| (Some(r.to_string()), Some(m).filter(|m| !m.is_empty())));
    PodCondition {
        type_: type_.into(),
        status: if status { "True" } else { "False" }.into(),
        reason,
        message,
        ..Default::default()
    }
}

/// KEP-580: conditions others must set before the pod counts as ready.
fn closed_gate(view: &View<'_>, spec: &PodSpec) -> Option<String> {
    let api = view.pod.status.as_ref();
    let found = |type_: &str| api.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == type_));
    let messages: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| match found(&gate.condition_type) {
            None => {
                Some(format!("corresponding condition of pod readiness gate {:?} does not exist.", gate.condition_type))
            }
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => None,
        })
        .collect();
    (!messages.is_empty()).then(|| messages.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::plan::tests::{observed, seen};
    use super::super::resources::tests::pod_from;
    use super::*;

    fn status(pod: &Pod, observed: &Observed, ended: bool) -> PodStatus {
        let (waiting, messages, previous) = (HashMap::new(), HashMap::new(), PodStatus::default());
        compute(&View {
            pod,
            observed,
            previous: &previous,
            waiting: &waiting,
            messages: &messages,
            health: &|_, _| (true, true),
            host_ip: "10.99.0.2",
            runtime: "containerd",
            failure: None,
            ended,
        })
    }

    fn conditions_of(status: &PodStatus) -> HashMap<String, (String, Option<String>, Option<String>)> {
        let all = status.conditions.iter().flatten();
        all.map(|c| (c.type_.clone(), (c.status.clone(), c.reason.clone(), c.message.clone()))).collect()
    }

    #[test]
    fn a_running_pod_is_ready() {
        let pod = pod_from(serde_json::json!({"containers": [{"name": "a", "image": "x"}]}));
        let status = status(&pod, &observed(vec![seen("a", Phase::Running, 0)]), false);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(status.pod_ip.as_deref(), Some("10.244.0.5"));
        assert_eq!(conditions_of(&status).len(), 5);
        assert!(conditions_of(&status).values().all(|(s, _, _)| s == "True"));
        assert_eq!(status.container_statuses.unwrap()[0].container_id.as_deref(), Some("containerd://a-id"));
    }

    #[test]
    fn inits_hold_the_others_back() {
        let pod = pod_from(serde_json::json!({"restartPolicy": "Never",
            "initContainers": [{"name": "i1"}, {"name": "i2"}], "containers": [{"name": "a"}]}));
        let pending = status(&pod, &observed(vec![seen("i1", Phase::Running, 0)]), false);
        assert_eq!(pending.phase.as_deref(), Some("Pending"));
        let waiting = pending.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().waiting.as_ref().unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
        let (state, reason, message) = conditions_of(&pending)["Initialized"].clone();
        assert_eq!((state.as_str(), reason.as_deref()), ("False", Some("ContainersNotInitialized")));
        assert_eq!(message.as_deref(), Some("containers with incomplete status: [i1 i2]"));
        let failed = status(&pod, &observed(vec![seen("i1", Phase::Exited, 1)]), false);
        assert_eq!(failed.phase.as_deref(), Some("Failed"));
    }

    #[test]
    fn ends() {
        let of = |policy: &str, code: i32, ended| {
            let pod = pod_from(serde_json::json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
            status(&pod, &observed(vec![seen("a", Phase::Exited, code)]), ended).phase.unwrap()
        };
        assert_eq!(of("Never", 0, false), "Succeeded");
        assert_eq!(of("Never", 3, false), "Failed");
        assert_eq!(of("Always", 3, false), "Running");
        assert_eq!(of("Always", 0, true), "Succeeded");
        let pod = pod_from(serde_json::json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
        let done = status(&pod, &observed(vec![seen("a", Phase::Exited, 0)]), false);
        assert_eq!(conditions_of(&done)["Ready"].1.as_deref(), Some("PodCompleted"));
        let state = done.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
        assert_eq!(state.reason.as_deref(), Some("Completed"));
    }
}
