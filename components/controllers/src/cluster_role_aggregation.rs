//! ClusterRoles with an `aggregationRule`: their rules are those of all ClusterRoles that the rule selects
//! (upstream: pkg/controller/clusterroleaggregation).

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let (to, informers) = (queue.clone(), ctx.informers.clone());
    // any role may be a part of any aggregated one: there are few of these
    ctx.informers.cluster_roles.on_change(move |_, _| {
        let roles = informers.cluster_roles.list();
        roles.iter().filter(|role| role.aggregation_rule.is_some()).for_each(|role| to.add(Key::of(role.as_ref())));
    });
    let informers = ctx.informers.clone();
    let ready = async move { informers.cluster_roles.wait_synced().await };
    let ctx = Arc::new(ctx.clone());
    queue.work(tasks, "clusterrole-aggregation", 1, ready, move |key| {
        let ctx = ctx.clone();
        async move { sync(&ctx, &key).await }
    });
}

async fn sync(ctx: &Ctx, key: &Key) -> anyhow::Result<()> {
    let Some(role) = ctx.informers.cluster_roles.get_key(key) else { return Ok(()) };
    let Some(selectors) = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref()) else {
        return Ok(());
    };
    let rules = aggregated(&key.name, selectors, ctx.informers.cluster_roles.list());
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(());
    }
    // only the rules, and only those of the role that was looked at
    let patch = json!({"metadata": {"uid": meta::uid(&role.metadata)}, "rules": rules});
    let written =
        ctx.cluster_api::<ClusterRole>().patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    match written {
        Ok(_) => Ok(()),
        Err(error) if meta::not_found(&error) || meta::conflict(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot aggregate ClusterRole {}", key.name)),
    }
}

/// The rules of all other roles that a selector takes, by name, each rule once.
fn aggregated(own: &str, selectors: &[LabelSelector], mut roles: Vec<Arc<ClusterRole>>) -> Vec<PolicyRule> {
    roles.sort_by(|a, b| meta::name(&a.metadata).cmp(meta::name(&b.metadata)));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.iter().filter_map(meta::selector) {
        for role in &roles {
            if meta::name(&role.metadata) == own || !meta::selects(&selector, &role.metadata) {
                continue;
            }
            for rule in role.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_come_from_all_that_is_selected_and_come_once() {
        let role = |name: &str, label: &str, resource: &str| {
            let role = json!({"metadata": {"name": name, "labels": {label: "true"}},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
            Arc::new(serde_json::from_value::<ClusterRole>(role).unwrap())
        };
        let roles = vec![
            role("b", "x", "pods"),
            role("a", "x", "secrets"),
            role("c", "y", "nodes"),
            role("d", "x", "pods"),
            role("sum", "x", "all"),
        ];
        let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"x": "true"}})).unwrap();
        let rules = aggregated("sum", &[selector], roles);
        let resources: Vec<_> = rules.iter().map(|r| r.resources.as_ref().unwrap()[0].as_str()).collect();
        assert_eq!(resources, ["secrets", "pods"]);
    }
}
