//! What to do next for a pod, from its spec and what is observed: pure. Upstream: `computePodActions`.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::container;
use super::resources::is_sidecar;
use crate::cri::observe::{Container as Seen, Observed, Phase, Sandbox};

/// Answers only the worker knows.
pub trait Knowledge {
    /// The sidecar's startup probe has succeeded (or it has none).
    fn started(&self, id: &str, container: &Container) -> bool;
    /// Why a running container must be killed: a failed liveness or startup probe.
    fn condemned(&self, id: &str) -> Option<String>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Init,
    App,
    Ephemeral,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub role: Role,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Everything has ended for good: stop sidecars and sandbox.
    pub finished: bool,
    /// Sandboxes to be stopped with all that runs in them.
    pub stop_sandboxes: Vec<String>,
    /// Make a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    pub kill: Vec<Kill>,
    /// Containers left behind in state Created: removed before they are made again.
    pub remove: Vec<String>,
    pub start: Vec<Start>,
}

/// Whether an ended container runs again; `restartPolicyRules` is KEP-5307.
pub fn restarts(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        let matched = if codes.operator == "NotIn" { !listed } else { listed };
        if matched {
            return rule.action != "DoNotRestart";
        }
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// An init container that is not a sidecar: it runs again only when it failed and the pod may restart.
pub fn init_restarts(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    exit_code != 0 && restarts(spec, container, exit_code)
}

/// Whether all containers that decide about the pod's end have ended for good.
pub fn is_finished(spec: &PodSpec, observed: &Observed) -> bool {
    if init_failed(spec, observed) {
        return true;
    }
    !spec.containers.is_empty()
        && spec.containers.iter().all(|c| match observed.latest(&c.name) {
            Some(seen) => ended(seen) && !restarts(spec, c, seen.status.exit_code),
            None => false,
        })
}

fn init_failed(spec: &PodSpec, observed: &Observed) -> bool {
    spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c)).any(|c| match observed.latest(&c.name) {
        Some(seen) => ended(seen) && seen.status.exit_code != 0 && !init_restarts(spec, c, seen.status.exit_code),
        None => false,
    })
}

fn ended(seen: &Seen) -> bool {
    matches!(seen.phase, Phase::Exited | Phase::Unknown)
}

pub fn compute(pod: &Pod, observed: &Observed, knowledge: &impl Knowledge) -> Plan {
    let Some(spec) = &pod.spec else { return Plan::default() };
    let mut plan = Plan::default();
    if is_finished(spec, observed) {
        plan.finished = true;
        return plan;
    }
    let current = observed.sandbox().filter(|s| s.ready);
    let usable = current.map(|s| s.id.clone());
    // a dead sandbox may still hold an address: it is stopped before its successor is made
    let obsolete = |s: &&Sandbox| match &usable {
        Some(id) => s.id != *id && (s.ready || has_running(observed, &s.id)),
        None => true,
    };
    plan.stop_sandboxes = observed.sandboxes.iter().filter(obsolete).map(|s| s.id.clone()).collect();
    if usable.is_none() {
        plan.create_sandbox = Some(observed.sandbox().map_or(0, |s| s.attempt + 1));
        return plan;
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        kill_if_needed(&mut plan, observed, container, knowledge);
    }
    if initialize(&mut plan, spec, observed, knowledge) {
        for container in &spec.containers {
            start_if_needed(&mut plan, spec, observed, container, Role::App);
        }
    }
    for ephemeral in spec.ephemeral_containers.iter().flatten() {
        if observed.latest(&ephemeral.name).is_none() {
            plan.start.push(Start { role: Role::Ephemeral, name: ephemeral.name.clone() });
        }
    }
    let killed: HashSet<&str> = plan.kill.iter().map(|k| k.name.as_str()).collect();
    plan.start.retain(|start| !killed.contains(start.name.as_str()));
    plan
}

fn has_running(observed: &Observed, sandbox: &str) -> bool {
    observed.running().any(|c| c.sandbox == sandbox)
}

fn kill_if_needed(plan: &mut Plan, observed: &Observed, container: &Container, knowledge: &impl Knowledge) {
    let Some(seen) = observed.current(&container.name).filter(|c| c.running()) else { return };
    let changed =
        seen.status.annotations.get(container::ANNOTATION_HASH).is_some_and(|h| *h != container::hash(container));
    let message = if changed {
        Some(format!("Container {} definition changed", container.name))
    } else {
        knowledge.condemned(seen.id())
    };
    if let Some(message) = message {
        plan.kill.push(Kill { id: seen.id().to_string(), name: container.name.clone(), message });
    }
}

/// Starts the next init container that is due; true once ordinary containers may run.
fn initialize(plan: &mut Plan, spec: &PodSpec, observed: &Observed, knowledge: &impl Knowledge) -> bool {
    let begun = spec.containers.iter().any(|c| observed.current(&c.name).is_some());
    for container in spec.init_containers.iter().flatten() {
        let seen = observed.current(&container.name);
        if is_sidecar(container) {
            let up = seen.is_some_and(|s| s.running() && knowledge.started(s.id(), container));
            if !seen.is_some_and(Seen::running) {
                start_if_needed(plan, spec, observed, container, Role::Init);
            }
            if !up && !begun {
                return false;
            }
            continue;
        }
        if begun {
            continue;
        }
        match seen {
            Some(seen) if ended(seen) && seen.status.exit_code == 0 && seen.phase == Phase::Exited => {}
            Some(seen) if seen.running() => return false,
            _ => {
                start_if_needed(plan, spec, observed, container, Role::Init);
                return false;
            }
        }
    }
    true
}

fn start_if_needed(plan: &mut Plan, spec: &PodSpec, observed: &Observed, container: &Container, role: Role) {
    let start = Start { role, name: container.name.clone() };
    match observed.current(&container.name) {
        None => {
            // a container of an earlier sandbox that ended well enough is not run again
            let before = observed.latest(&container.name);
            let done = role == Role::App
                && before.is_some_and(|s| s.phase == Phase::Exited && !restarts(spec, container, s.status.exit_code));
            if !done {
                plan.start.push(start);
            }
        }
        Some(seen) if seen.running() => {}
        Some(seen) if seen.phase == Phase::Created => {
            plan.remove.push(seen.id().to_string());
            plan.start.push(start);
        }
        Some(seen) => {
            let again = match role {
                Role::Init if !is_sidecar(container) => {
                    seen.phase == Phase::Unknown || init_restarts(spec, container, seen.status.exit_code)
                }
                _ => restarts(spec, container, seen.status.exit_code),
            };
            if again {
                plan.start.push(start);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::resources::tests::pod_from;
    use super::*;
    use k8s_cri::v1 as cri;

    pub struct Calm;
    impl Knowledge for Calm {
        fn started(&self, _: &str, _: &Container) -> bool {
            true
        }
        fn condemned(&self, _: &str) -> Option<String> {
            None
        }
    }

    pub fn seen(name: &str, phase: Phase, exit_code: i32) -> Seen {
        Seen {
            sandbox: "s1".into(),
            phase,
            status: cri::ContainerStatus {
                id: format!("{name}-id"),
                metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
                created_at: 1,
                started_at: 2,
                finished_at: if phase == Phase::Exited { 3 } else { 0 },
                exit_code,
                ..Default::default()
            },
        }
    }

    pub fn observed(containers: Vec<Seen>) -> Observed {
        let sandbox =
            Sandbox { id: "s1".into(), ready: true, attempt: 0, ips: vec!["10.244.0.5".into()], created_at: 1 };
        let mut all = Observed { sandboxes: vec![sandbox], ..Default::default() };
        for c in containers {
            all.containers.entry(c.status.metadata.clone().unwrap().name).or_default().push(c);
        }
        all
    }

    fn starts(plan: &Plan) -> Vec<&str> {
        plan.start.iter().map(|s| s.name.as_str()).collect()
    }

    fn pod(policy: &str) -> Pod {
        pod_from(serde_json::json!({"restartPolicy": policy,
            "initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}, {"name": "i2"}],
            "containers": [{"name": "a"}, {"name": "b"}]}))
    }

    #[test]
    fn first_a_sandbox_then_inits_in_order_then_all() {
        let pod = pod("Always");
        let none = compute(&pod, &Observed::default(), &Calm);
        assert_eq!(none.create_sandbox, Some(0));
        assert_eq!(starts(&compute(&pod, &observed(vec![]), &Calm)), ["i1"]);
        let running = observed(vec![seen("i1", Phase::Running, 0)]);
        assert!(compute(&pod, &running, &Calm).start.is_empty());
        let mut so_far = vec![seen("i1", Phase::Exited, 0)];
        assert_eq!(starts(&compute(&pod, &observed(so_far.clone()), &Calm)), ["side"]);
        so_far.push(seen("side", Phase::Running, 0));
        assert_eq!(starts(&compute(&pod, &observed(so_far.clone()), &Calm)), ["i2"]);
        so_far.push(seen("i2", Phase::Exited, 0));
        assert_eq!(starts(&compute(&pod, &observed(so_far.clone()), &Calm)), ["a", "b"]);
        so_far[1] = seen("side", Phase::Exited, 1);
        so_far.push(seen("a", Phase::Running, 0));
        so_far.push(seen("b", Phase::Running, 0));
        assert_eq!(starts(&compute(&pod, &observed(so_far), &Calm)), ["side"]);
    }

    #[test]
    fn a_failed_init_ends_a_pod_that_never_restarts() {
        let failed = observed(vec![seen("i1", Phase::Exited, 1)]);
        assert!(compute(&pod("Never"), &failed, &Calm).finished);
        assert_eq!(starts(&compute(&pod("OnFailure"), &failed, &Calm)), ["i1"]);
    }

    #[test]
    fn restart_policies() {
        let only = |policy: &str, code: i32| {
            let pod = pod_from(serde_json::json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
            compute(&pod, &observed(vec![seen("a", Phase::Exited, code)]), &Calm)
        };
        assert_eq!(starts(&only("Always", 0)), ["a"]);
        assert_eq!(starts(&only("OnFailure", 1)), ["a"]);
        assert!(only("OnFailure", 0).finished && only("Never", 1).finished);
    }

    #[test]
    fn a_lost_sandbox_is_replaced() {
        let pod = pod_from(serde_json::json!({"containers": [{"name": "a"}]}));
        let mut lost = observed(vec![seen("a", Phase::Exited, 137)]);
        lost.sandboxes[0].ready = false;
        let plan = compute(&pod, &lost, &Calm);
        assert_eq!((plan.create_sandbox, plan.stop_sandboxes), (Some(1), vec!["s1".to_string()]));
        lost.sandboxes.insert(0, Sandbox { id: "s2".into(), ready: true, attempt: 1, ips: vec![], created_at: 9 });
        assert_eq!(starts(&compute(&pod, &lost, &Calm)), ["a"]);
    }

    #[test]
    fn condemned_containers_are_killed_not_started() {
        struct Judge;
        impl Knowledge for Judge {
            fn started(&self, _: &str, _: &Container) -> bool {
                true
            }
            fn condemned(&self, id: &str) -> Option<String> {
                (id == "a-id").then(|| "failed liveness probe".into())
            }
        }
        let pod = pod_from(serde_json::json!({"containers": [{"name": "a"}]}));
        let plan = compute(&pod, &observed(vec![seen("a", Phase::Running, 0)]), &Judge);
        assert_eq!(plan.kill.len(), 1);
        assert!(plan.start.is_empty());
    }
}
