//! PodDisruptionBudget status: how many pods may go now (upstream: pkg/controller/disruption).

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PostParams;
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta, pods};

const NAME: &str = "disruption-controller";
/// A pod promised to an eviction that has not happened after this long counts again.
const PROMISE: i64 = 120;

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.budgets.on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let (to, budgets) = (queue.clone(), ctx.informers.budgets.clone());
    ctx.informers.pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            budgets
                .in_namespace(meta::namespace(&pod.metadata))
                .iter()
                .filter(|it| selects(it, pod))
                .for_each(|it| to.add(Key::of(it.as_ref())));
        }
    });
    // Expected counts come from the owners' sizes.
    let (to, budgets) = (queue.clone(), ctx.informers.budgets.clone());
    ctx.informers.replica_sets.on_change(move |old, new| {
        let size = |it: Option<&Arc<k8s_openapi::api::apps::v1::ReplicaSet>>| it.and_then(|it| it.spec.replicas);
        if let Some(set) = new.or(old).filter(|_| size(old) != size(new)) {
            budgets.in_namespace(meta::namespace(&set.metadata)).iter().for_each(|it| to.add(Key::of(it.as_ref())));
        }
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.budgets.wait_synced().await;
        informers.pods.wait_synced().await;
        informers.replica_sets.wait_synced().await;
        informers.deployments.wait_synced().await;
        informers.stateful_sets.wait_synced().await;
        informers.replication_controllers.wait_synced().await;
    };
    let (ctx, again) = (Arc::new(ctx.clone()), queue.clone());
    queue.work(tasks, NAME, 2, ready, move |key| {
        let (ctx, again) = (ctx.clone(), again.clone());
        async move { sync(&ctx, &again, &key).await }
    });
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).and_then(meta::selector);
    selector.is_some_and(|it| meta::selects(&it, &pod.metadata))
}

/// The size the pods' owners ask for; a pod without a scalable owner counts as one.
fn scale(ctx: &Ctx, matching: &[Arc<Pod>]) -> i32 {
    let mut sizes = std::collections::HashMap::new();
    let mut alone = 0;
    for pod in matching {
        match meta::controller_of(&pod.metadata)
            .and_then(|owner| owner_size(ctx, meta::namespace(&pod.metadata), owner))
        {
            Some((uid, size)) => drop(sizes.insert(uid, size)),
            None => alone += 1,
        }
    }
    sizes.values().sum::<i32>() + alone
}

fn owner_size(
    ctx: &Ctx,
    ns: &str,
    owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
) -> Option<(String, i32)> {
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let set =
                ctx.informers.replica_sets.get(ns, &owner.name).filter(|it| meta::uid(&it.metadata) == owner.uid)?;
            let above = meta::controller_of(&set.metadata).filter(|it| it.kind == "Deployment");
            match above.and_then(|it| ctx.informers.deployments.get(ns, &it.name)) {
                Some(deployment) => {
                    Some((meta::uid(&deployment.metadata).to_owned(), deployment.spec.replicas.unwrap_or(1)))
                }
                None => Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1))),
            }
        }
        "ReplicationController" => ctx
            .informers
            .replication_controllers
            .get(ns, &owner.name)
            .map(|it| (owner.uid.clone(), it.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))),
        "StatefulSet" => ctx
            .informers
            .stateful_sets
            .get(ns, &owner.name)
            .map(|it| (owner.uid.clone(), it.spec.replicas.unwrap_or(1))),
        _ => None,
    }
}

/// (expected, desired)
fn targets(budget: &PodDisruptionBudget, matching: i32, scale: impl FnOnce() -> i32) -> (i32, i32) {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let Some(spec) = &budget.spec else { return (matching, matching) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = scale();
            (expected, (expected - meta::scaled(most, expected, true)).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (matching, *least),
        (None, Some(least)) => {
            let expected = scale();
            (expected, meta::scaled(least, expected, true))
        }
        (None, None) => (matching, 0),
    }
}

fn status(
    budget: &PodDisruptionBudget,
    matching: &[Arc<Pod>],
    expected: i32,
    desired: i32,
    now: k8s_openapi::jiff::Timestamp,
) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let mut promised = old.disrupted_pods.unwrap_or_default();
    promised.retain(|name, at| {
        let still = matching.iter().any(|pod| meta::name(&pod.metadata) == name && !pods::is_terminating(pod));
        still && !meta::until(at.0, PROMISE, now).is_zero()
    });
    let counts = |pod: &&Arc<Pod>| {
        pods::is_ready(pod) && !pods::is_terminating(pod) && !promised.contains_key(meta::name(&pod.metadata))
    };
    let healthy = matching.iter().filter(counts).count() as i32;
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut conditions = old.conditions.unwrap_or_default();
    set_condition(&mut conditions, budget, allowed > 0, now);
    PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(promised).filter(|it| !it.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions),
    }
}

fn set_condition(
    conditions: &mut Vec<Condition>,
    budget: &PodDisruptionBudget,
    allowed: bool,
    now: k8s_openapi::jiff::Timestamp,
) {
    let (status, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let old = conditions.iter().position(|it| it.type_ == "DisruptionAllowed").map(|at| conditions.remove(at));
    let since = old.filter(|it| it.status == status).map(|it| it.last_transition_time);
    conditions.push(Condition {
        type_: "DisruptionAllowed".into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| meta::whole_second(now)),
    });
}

async fn sync(ctx: &Ctx, queue: &WorkQueue, key: &Key) -> anyhow::Result<()> {
    let Some(budget) = ctx.informers.budgets.get_key(key) else { return Ok(()) };
    let matching: Vec<_> = ctx
        .informers
        .pods
        .in_namespace(&key.ns)
        .into_iter()
        .filter(|pod| selects(&budget, pod) && !pods::is_terminal(pod))
        .collect();
    let (expected, desired) = targets(&budget, matching.len() as i32, || scale(ctx, &matching));
    let status = status(&budget, &matching, expected, desired, meta::now());
    if status.disrupted_pods.is_some() {
        queue.add_after(key.clone(), std::time::Duration::from_secs(PROMISE as u64));
    }
    if budget.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut changed = budget.as_ref().clone();
    changed.status = Some(status);
    match ctx.api::<PodDisruptionBudget>(&key.ns).replace_status(&key.name, &PostParams::default(), &changed).await {
        Err(error) if !meta::not_found(&error) => {
            Err(error).with_context(|| format!("cannot write the status of PodDisruptionBudget {key}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn budget(spec: serde_json::Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap()
    }

    #[test]
    fn counts_what_may_go() {
        let pods = [true, true, false].map(|ready| Arc::new(pods::testing::pod("a", None, "Running", ready)));
        let it = budget(json!({"minAvailable": 1}));
        let (expected, desired) = targets(&it, 3, || 9);
        assert_eq!(status(&it, &pods, expected, desired, meta::now()).disruptions_allowed, Some(1));
        let it = budget(json!({"maxUnavailable": "25%"}));
        assert_eq!(targets(&it, 3, || 10), (10, 7));
        let it = budget(json!({"minAvailable": "50%"}));
        assert_eq!(targets(&it, 3, || 3), (3, 2));
    }
}
