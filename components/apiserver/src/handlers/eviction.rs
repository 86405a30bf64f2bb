//! `pods/eviction` (policy/v1 Eviction): a delete that budgets may forbid.

use http::StatusCode;
use machinery::{
    ApiError,
    selector::LabelSelector,
    value::{get, int_at, list_at, str_at},
};
use serde_json::{Value, json};

use super::{
    Target, decode,
    delete::{DeleteOptions, check_preconditions, delete_object},
    update,
};
use crate::{
    admission::{self, Attempt, Operation},
    http::{Request, Response, respond},
    pipeline::Call,
    registry,
};

pub async fn evict(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    if call.info.verb != "create" {
        return Err(ApiError::method_not_allowed("", "pods/eviction", call.info.verb));
    }
    let mut body = decode::any(request).await?.unwrap_or_else(|| json!({}));
    if str_at(&body, "apiVersion") != "policy/v1beta1" {
        decode::check_kind(&body, "policy/v1", "Eviction")?;
    }
    let dry_run = call.query.dry_run()? || list_at(&body, "deleteOptions.dryRun").iter().any(|v| v == "All");
    let attempt = Attempt::new(call, target, Operation::Create, "eviction", None)
        .of_kind("policy", "v1", "Eviction")
        .dry_run(dry_run);
    admission::admit(&attempt, &mut body).await?;
    admission::review(&attempt, &body).await?;
    let options = get(&body, "deleteOptions").cloned().unwrap_or_default();
    let text = |key: &str| Some(str_at(&options, key)).filter(|t| !t.is_empty()).map(str::to_owned);
    let options = DeleteOptions {
        grace: int_at(&options, "gracePeriodSeconds"),
        uid: text("preconditions.uid"),
        revision: text("preconditions.resourceVersion"),
        propagation: text("propagationPolicy"),
        dry_run,
        admitted: true,
    };
    let pod = registry::read(&call.core, &target.resource, &target.namespace, &target.name).await?.object;
    // what will be refused anyway must not use up the budget
    check_preconditions(target, &options, &pod)?;
    if counts(&pod) {
        take_from_budget(call, target, &pod, options.dry_run).await?;
    }
    if str_at(&pod, "metadata.deletionTimestamp").is_empty() {
        tell_disruption(call, target, &options).await?;
    }
    // the condition was a write: from here on the pod is known by its uid
    let uid = Some(str_at(&pod, "metadata.uid").to_owned());
    let options = DeleteOptions { revision: None, uid, ..options };
    delete_object(call, target, &options).await?;
    Ok(respond::value(
        StatusCode::CREATED,
        call.accept.syntax,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Pods that do not run, or already go, are no loss.
fn counts(pod: &Value) -> bool {
    str_at(pod, "metadata.deletionTimestamp").is_empty()
        && !matches!(str_at(pod, "status.phase"), "Succeeded" | "Failed" | "Pending")
}

/// The condition that says why a pod goes (KEP-3329); who deletes it afterwards finds the pod that was judged.
async fn tell_disruption(call: &Call, target: &Target, options: &DeleteOptions) -> Result<(), ApiError> {
    update::change(call, target, update::Part::Own, options.dry_run, |current| {
        check_preconditions(target, options, &current.object)?;
        let mut pod = current.object.clone();
        let mut conditions: Vec<Value> =
            list_at(&pod, "status.conditions").iter().filter(|c| c["type"] != "DisruptionTarget").cloned().collect();
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": machinery::time::now(),
        }));
        if let (Some(generation), Some(last)) = (int_at(&pod, "metadata.generation"), conditions.last_mut()) {
            last["observedGeneration"] = generation.into();
        }
        pod["status"]["conditions"] = conditions.into();
        Ok(pod)
    })
    .await?;
    Ok(())
}

fn is_ready(pod: &Value) -> bool {
    list_at(pod, "status.conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a pod that does not serve anyway may go without asking the budget (`unhealthyPodEvictionPolicy`, KEP-3017).
fn goes_unasked(budget: &Value, pod: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    let number = |field: &str| int_at(budget, &format!("status.{field}")).unwrap_or(0);
    let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    str_at(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow" || healthy
}

async fn take_from_budget(call: &Call, target: &Target, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let Some(budgets) = registry::find("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let all = registry::read_all(&call.core, budgets, &target.namespace).await?;
    let mut matching = all
        .into_iter()
        .filter(|b| LabelSelector::from_object(get(&b.object, "spec.selector")).is_ok_and(|s| s.matches_object(pod)));
    let Some(budget) = matching.next() else { return Ok(()) };
    if matching.next().is_some() {
        return Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    if goes_unasked(&budget.object, pod) {
        return Ok(());
    }
    let name = str_at(&budget.object, "metadata.name").to_owned();
    let budget_target = Target { resource: budgets.into(), namespace: target.namespace.clone(), name: name.clone() };
    update::change(call, &budget_target, update::Part::Own, dry_run, |current| {
        let mut object = current.object.clone();
        let allowed = int_at(&object, "status.disruptionsAllowed").unwrap_or(0);
        let stale = int_at(&object, "status.observedGeneration").unwrap_or(0)
            < int_at(&object, "metadata.generation").unwrap_or(0);
        if stale || allowed < 1 {
            let healthy = int_at(&object, "status.currentHealthy").unwrap_or(0);
            let wanted = int_at(&object, "status.desiredHealthy").unwrap_or(0);
            return Err(ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                10,
            )
            .with_cause(
                "DisruptionBudget",
                format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"),
                "",
            ));
        }
        object["status"]["disruptionsAllowed"] = (allowed - 1).into();
        object["status"]["disruptedPods"][&target.name] = machinery::time::now().into();
        Ok(object)
    })
    .await?;
    Ok(())
}
