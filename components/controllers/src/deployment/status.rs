//! A Deployment's status and conditions: pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::rules::{self, Sets};
use crate::core::meta;

/// Something that happened in this pass and becomes the reason of the Progressing condition.
pub enum Progress {
    Created(String),
    Found(String),
    Paused,
    Resumed,
}

pub fn compute(
    deployment: &Deployment,
    sets: &Sets,
    new: Option<&Arc<ReplicaSet>>,
    progress: Option<Progress>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let available = rules::sum(sets, rules::available);
    let unavailable = (rules::sum(sets, rules::size) - available).max(0);
    let terminating =
        sets.iter().map(|set| set.status.as_ref().and_then(|it| it.terminating_replicas).unwrap_or(0)).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(rules::sum(sets, rules::actual)),
        updated_replicas: Some(new.map_or(0, |set| rules::actual(set))),
        ready_replicas: Some(rules::sum(sets, rules::ready)),
        available_replicas: Some(available),
        unavailable_replicas: Some(unavailable),
        terminating_replicas: Some(terminating),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let mut conditions = status.conditions.take().unwrap_or_default();
    set_condition(&mut conditions, available_condition(deployment, available), now);
    progressing(deployment, &old, &status, new, progress, &mut conditions, now);
    match failure(sets, new) {
        Some(failure) => set_condition(&mut conditions, failure, now),
        None => conditions.retain(|it| it.type_.as_deref() != Some("ReplicaFailure")),
    }
    status.conditions = Some(conditions);
    if same(deployment.status.as_ref(), &status) { old } else { status }
}

/// Zero and absent are the same number.
fn same(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let numbers = |it: &DeploymentStatus| {
        [
            it.replicas,
            it.updated_replicas,
            it.ready_replicas,
            it.available_replicas,
            it.unavailable_replicas,
            it.terminating_replicas,
        ]
        .map(|number| number.unwrap_or(0))
    };
    old.is_some_and(|old| {
        numbers(old) == numbers(new)
            && old.observed_generation == new.observed_generation
            && old.conditions == new.conditions
            && old.collision_count == new.collision_count
    })
}

fn condition(kind: &str, status: bool, reason: &str, message: impl Into<String>) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(if status { "True" } else { "False" }.into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        ..Default::default()
    }
}

fn set_condition(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, now: Timestamp) {
    let at = meta::whole_second(now);
    new.last_update_time = Some(at.clone());
    new.last_transition_time = Some(at);
    match conditions.iter_mut().find(|it| it.type_ == new.type_) {
        Some(old) if old.status == new.status && old.reason == new.reason => {}
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

fn available_condition(deployment: &Deployment, available: i32) -> DeploymentCondition {
    if available >= rules::replicas(deployment) - rules::max_unavailable(deployment) {
        condition("Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        condition("Available", false, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    }
}

fn deadline(deployment: &Deployment) -> Option<i64> {
    let seconds = deployment.spec.progress_deadline_seconds.unwrap_or(600);
    // The API's way of saying "none".
    (seconds != i32::MAX).then_some(i64::from(seconds))
}

fn current(conditions: &[DeploymentCondition]) -> Option<&DeploymentCondition> {
    conditions.iter().find(|it| it.type_.as_deref() == Some("Progressing"))
}

pub fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = rules::replicas(deployment);
    [status.updated_replicas, status.replicas, status.available_replicas].iter().all(|it| it.unwrap_or(0) == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

fn advanced(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let number = |it: Option<i32>| it.unwrap_or(0);
    let outdated = |it: &DeploymentStatus| number(it.replicas) - number(it.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn progressing(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &DeploymentStatus,
    new: Option<&Arc<ReplicaSet>>,
    progress: Option<Progress>,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) {
    let Some(deadline) = deadline(deployment) else {
        conditions.retain(|it| it.type_.as_deref() != Some("Progressing"));
        return;
    };
    let timed_out_already =
        current(conditions).is_some_and(|it| it.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    match progress {
        Some(Progress::Created(name)) => set_condition(
            conditions,
            condition("Progressing", true, "NewReplicaSetCreated", format!("Created new replica set \"{name}\"")),
            now,
        ),
        Some(Progress::Found(name)) => set_condition(
            conditions,
            condition("Progressing", true, "FoundNewReplicaSet", format!("Found new replica set \"{name}\"")),
            now,
        ),
        Some(Progress::Paused) if !timed_out_already => {
            set_condition(
                conditions,
                DeploymentCondition {
                    status: Some("Unknown".into()),
                    ..condition("Progressing", true, "DeploymentPaused", "Deployment is paused")
                },
                now,
            );
        }
        Some(Progress::Resumed) if !timed_out_already => {
            set_condition(
                conditions,
                DeploymentCondition {
                    status: Some("Unknown".into()),
                    ..condition("Progressing", true, "DeploymentResumed", "Deployment is resumed")
                },
                now,
            );
        }
        _ => {}
    }
    if rules::is_paused(deployment) {
        return;
    }
    let finished = status.replicas == status.updated_replicas
        && current(conditions).is_some_and(|it| it.reason.as_deref() == Some("NewReplicaSetAvailable"));
    if finished {
        return;
    }
    let subject = new.map_or_else(
        || format!("Deployment \"{}\"", meta::name(&deployment.metadata)),
        |set| format!("ReplicaSet \"{}\"", meta::name(&set.metadata)),
    );
    if complete(deployment, status) {
        set_condition(
            conditions,
            condition("Progressing", true, "NewReplicaSetAvailable", format!("{subject} has successfully progressed.")),
            now,
        );
    } else if advanced(old, status) {
        let mut moving = condition("Progressing", true, "ReplicaSetUpdated", format!("{subject} is progressing."));
        let since = current(conditions)
            .filter(|it| it.status.as_deref() == Some("True"))
            .and_then(|it| it.last_transition_time.clone());
        let at = meta::whole_second(now);
        moving.last_update_time = Some(at.clone());
        moving.last_transition_time = since.or(Some(at));
        conditions.retain(|it| it.type_.as_deref() != Some("Progressing"));
        conditions.push(moving);
    } else if timed_out(current(conditions), deadline, now) {
        set_condition(
            conditions,
            condition(
                "Progressing",
                false,
                "ProgressDeadlineExceeded",
                format!("{subject} has timed out progressing."),
            ),
            now,
        );
    }
}

fn timed_out(condition: Option<&DeploymentCondition>, deadline: i64, now: Timestamp) -> bool {
    let Some(condition) = condition else { return false };
    match condition.reason.as_deref() {
        Some("NewReplicaSetAvailable" | "DeploymentPaused") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => condition.last_update_time.as_ref().is_some_and(|at| meta::until(at.0, deadline, now).is_zero()),
    }
}

/// When the progress deadline has to be looked at again.
pub fn recheck(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deadline(deployment)?;
    let condition = current(status.conditions.as_deref()?)?;
    if rules::is_paused(deployment)
        || complete(deployment, status)
        || matches!(condition.reason.as_deref(), Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded"))
    {
        return None;
    }
    Some(meta::until(condition.last_update_time.as_ref()?.0, deadline + 1, now))
}

/// Whether pausing or resuming has to be written down.
pub fn pause_change(deployment: &Deployment) -> Option<Progress> {
    deadline(deployment)?;
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let reason = current(conditions).and_then(|it| it.reason.as_deref());
    match (rules::is_paused(deployment), reason) {
        (_, Some("ProgressDeadlineExceeded")) => None,
        (true, reason) if reason != Some("DeploymentPaused") => Some(Progress::Paused),
        (false, Some("DeploymentPaused")) => Some(Progress::Resumed),
        _ => None,
    }
}

fn failure(sets: &Sets, new: Option<&Arc<ReplicaSet>>) -> Option<DeploymentCondition> {
    let of = |set: &Arc<ReplicaSet>| {
        set.status
            .as_ref()?
            .conditions
            .as_ref()?
            .iter()
            .find(|it| it.type_.as_deref() == Some("ReplicaFailure"))
            .cloned()
    };
    let found = new.and_then(of).or_else(|| sets.iter().find_map(of))?;
    Some(condition(
        "ReplicaFailure",
        found.status.as_deref() == Some("True"),
        found.reason.as_deref().unwrap_or_default(),
        found.message.unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn deployment() -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 1}, "spec": {"replicas": 2, "progressDeadlineSeconds": 60, "selector": {}, "template": {}}})).unwrap()
    }

    fn set(available: i32) -> Arc<ReplicaSet> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "d-1"}, "spec": {"replicas": 2, "selector": {}}, "status": {"replicas": 2, "readyReplicas": available, "availableReplicas": available}})).unwrap())
    }

    fn reason(status: &DeploymentStatus, kind: &str) -> String {
        status
            .conditions
            .iter()
            .flatten()
            .find(|it| it.type_.as_deref() == Some(kind))
            .and_then(|it| it.reason.clone())
            .unwrap_or_default()
    }

    #[test]
    fn goes_from_created_over_progressing_to_available() {
        let mut d = deployment();
        let status = compute(&d, &[set(0)], Some(&set(0)), Some(Progress::Created("d-1".into())), at(0));
        assert_eq!(reason(&status, "Available"), "MinimumReplicasUnavailable");
        d.status = Some(status);
        let status = compute(&d, &[set(1)], Some(&set(1)), None, at(5));
        assert_eq!(reason(&status, "Progressing"), "ReplicaSetUpdated");
        d.status = Some(status);
        let status = compute(&d, &[set(2)], Some(&set(2)), None, at(9));
        assert_eq!(reason(&status, "Progressing"), "NewReplicaSetAvailable");
        assert_eq!(reason(&status, "Available"), "MinimumReplicasAvailable");
        d.status = Some(status.clone());
        assert_eq!(compute(&d, &[set(2)], Some(&set(2)), None, at(99)), status);
    }

    #[test]
    fn times_out_and_keeps_foreign_conditions() {
        let mut d = deployment();
        let mut status = compute(&d, &[set(0)], Some(&set(0)), None, at(0));
        status.conditions.as_mut().unwrap().push(DeploymentCondition {
            type_: Some("Mine".into()),
            status: Some("True".into()),
            ..Default::default()
        });
        d.status = Some(status.clone());
        assert_eq!(recheck(&d, &status, at(0)), Some(Duration::from_secs(61)));
        let status = compute(&d, &[set(0)], Some(&set(0)), None, at(61));
        assert_eq!(reason(&status, "Progressing"), "ProgressDeadlineExceeded");
        assert!(status.conditions.iter().flatten().any(|it| it.type_.as_deref() == Some("Mine")));
    }
}
