//! ResourceQuota: what is counted, when, and what is refused.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::objects::{config_map, pod, workload};
use crate::client::{JSON, MERGE};
use crate::context::{T, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("be able to update and delete ResourceQuota.", update_delete),
        Entry::new("apply changes to a resourcequota status", status),
        Entry::new("create a ResourceQuota and capture the life of a configMap.", |t| async move {
            life(&t, &Res::CONFIG_MAP, config_map("counted", &json!({})), "configmaps").await
        }),
        Entry::new("create a ResourceQuota and capture the life of a replica set.", |t| async move {
            let body = workload(&t, "counted", 0, true);
            life(&t, &Res::REPLICA_SET, body, "count/replicasets.apps").await
        }),
        Entry::new("create a ResourceQuota and capture the life of a replication controller.", |t| async move {
            let body = workload(&t, "counted", 0, false);
            life(&t, &Res::RC, body, "replicationcontrollers").await
        }),
        Entry::new("create a ResourceQuota and capture the life of a secret.", |t| async move {
            let body = json!({"metadata": {"name": "counted"}, "stringData": {"top-secret": "abcd"}});
            life(&t, &Res::SECRET, body, "secrets").await
        }),
        Entry::new("create a ResourceQuota and capture the life of a service.", services),
        Entry::new("create a ResourceQuota and capture the life of a pod.", pods),
        Entry::new("create a ResourceQuota and ensure its status is promptly calculated.", prompt),
    ]
    .into_iter()
    .map(|entry| entry.under("[sig-api-machinery] ResourceQuota should"))
    .collect()
}

pub async fn quota(t: &T, name: &str, hard: &Value, scopes: &[&str]) -> Result<Value> {
    let mut spec = json!({"hard": hard});
    if !scopes.is_empty() {
        spec["scopes"] = json!(scopes);
    }
    t.make(&Res::QUOTA, json!({"metadata": {"name": name}, "spec": spec})).await?;
    t.until("a calculated quota", &t.path(&Res::QUOTA, name), |quota| {
        quota["status"]["hard"] == *hard && quota["status"]["used"].is_object()
    })
    .await
}

/// Waits until this much is used; quantities are compared as the server writes them.
pub async fn used(t: &T, name: &str, expected: &Value) -> Result<()> {
    let what = format!("quota {name} with used {expected}");
    t.until(&what, &t.path(&Res::QUOTA, name), |quota| {
        expected.as_object().into_iter().flatten().all(|(key, value)| quota["status"]["used"][key] == *value)
    })
    .await
    .map(drop)
}

async fn prompt(t: Arc<T>) -> Result<()> {
    let hard = json!({"cpu": "1", "memory": "500Mi", "pods": "5", "services": "10", "services.nodeports": "1",
        "replicationcontrollers": "10", "resourcequotas": "1", "configmaps": "2", "secrets": "10",
        "persistentvolumeclaims": "10", "requests.storage": "10Gi", "count/replicasets.apps": "5",
        "services.loadbalancers": "1", "requests.ephemeral-storage": "50Gi"});
    quota(&t, "test-quota", &hard, &[]).await?;
    used(
        &t,
        "test-quota",
        &json!({"pods": "0", "cpu": "0", "memory": "0", "services": "0", "resourcequotas": "1",
        "requests.storage": "0", "count/replicasets.apps": "0", "configmaps": "1"}),
    )
    .await
}

/// One object more, then one less; one beyond the quota is refused.
async fn life(t: &T, res: &Res, body: Value, resource: &str) -> Result<()> {
    // namespaces are born with kube-root-ca.crt
    let base = if res.plural == Res::CONFIG_MAP.plural { 1 } else { 0 };
    let number = |count: i32| json!({resource: count.to_string()});
    quota(t, "test-quota", &number(base + 1), &[]).await?;
    used(t, "test-quota", &number(base)).await?;
    t.make(res, body.clone()).await?;
    used(t, "test-quota", &number(base + 1)).await?;
    let mut second = body;
    second["metadata"]["name"] = json!("too-much");
    let text = format!(
        "exceeded quota: test-quota, requested: {resource}=1, used: {resource}={0}, limited: {resource}={0}",
        base + 1
    );
    t.try_make(res, second).await?.refused(403, &text)?;
    t.remove(res, "counted").await?;
    used(t, "test-quota", &number(base)).await
}

async fn services(t: Arc<T>) -> Result<()> {
    let hard = json!({"services": "2", "services.nodeports": "1", "services.loadbalancers": "1"});
    quota(&t, "test-quota", &hard, &[]).await?;
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80, "targetPort": 80}]}});
    t.make(&Res::SERVICE, service("cluster", "ClusterIP")).await?;
    t.make(&Res::SERVICE, service("node", "NodePort")).await?;
    used(&t, "test-quota", &json!({"services": "2", "services.nodeports": "1", "services.loadbalancers": "0"})).await?;
    t.try_make(&Res::SERVICE, service("balancer", "LoadBalancer")).await?.refused(403, "exceeded quota: test-quota")?;
    let grow = json!({"spec": {"type": "NodePort"}});
    t.api.call("PATCH", &t.path(&Res::SERVICE, "cluster"), MERGE, &grow).await?.refused(403, "services.nodeports")?;
    t.remove(&Res::SERVICE, "cluster").await?;
    t.remove(&Res::SERVICE, "node").await?;
    used(&t, "test-quota", &json!({"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"})).await
}

pub fn with_requests(t: &T, name: &str, requests: &Value) -> Value {
    let mut body = pod(t, name);
    // limits too: for extended resources they must be equal
    body["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": requests});
    body
}

async fn pods(t: Arc<T>) -> Result<()> {
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi", "requests.example.com/dongle": "3"});
    quota(&t, "test-quota", &hard, &[]).await?;
    let requests = json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    t.make(&Res::POD, with_requests(&t, "test-pod", &requests)).await?;
    let counted = json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "requests.ephemeral-storage": "30Gi",
        "requests.example.com/dongle": "2"});
    used(&t, "test-quota", &counted).await?;
    for too_much in [
        json!({"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi", "example.com/dongle": "0"}),
        json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "1Gi", "example.com/dongle": "2"}),
    ] {
        let answer = t.try_make(&Res::POD, with_requests(&t, "fail-pod", &too_much)).await?;
        answer.refused(403, "exceeded quota: test-quota")?;
    }
    let unsaid = t.try_make(&Res::POD, pod(&t, "fail-pod")).await?;
    unsaid.refused(403, "failed quota: test-quota: must specify cpu")?;
    let grow = json!({"spec": {"containers": [{"name": "main", "image": t.env.surroundings.image,
        "resources": {"requests": {"cpu": "100m"}}}]}});
    t.api.call("PATCH", &t.path(&Res::POD, "test-pod"), MERGE, &grow).await?.refused(422, "")?;
    used(&t, "test-quota", &counted).await?;
    let now = json!({"gracePeriodSeconds": 0});
    t.api.delete(&t.path(&Res::POD, "test-pod"), &now).await?;
    used(&t, "test-quota", &json!({"pods": "0", "cpu": "0", "memory": "0", "requests.example.com/dongle": "0"})).await
}

async fn update_delete(t: Arc<T>) -> Result<()> {
    let hard = json!({"cpu": "1", "memory": "500Mi"});
    quota(&t, "test-quota", &hard, &[]).await?;
    let path = t.path(&Res::QUOTA, "test-quota");
    let bigger = json!({"cpu": "2", "memory": "1Gi"});
    let updated = t.update(&path, |quota| quota["spec"]["hard"] = bigger.clone()).await?;
    same("hard", &updated["spec"]["hard"], &bigger)?;
    t.until("the new hard in the status", &path, |quota| quota["status"]["hard"] == bigger).await?;
    t.api.delete(&path, &Value::Null).await?;
    t.api.call("GET", &path, JSON, &Value::Null).await?.refused(404, "not found").map(drop)
}

async fn status(t: Arc<T>) -> Result<()> {
    let hard = json!({"cpu": "500m", "memory": "500Mi"});
    let created = quota(&t, "test-quota", &hard, &[]).await?;
    let path = t.path(&Res::QUOTA, "test-quota");
    let status = format!("{path}/status");
    let mut watch = t
        .api
        .watch(&format!(
            "{}?resourceVersion={}",
            Res::QUOTA.collection(&t.ns),
            created["metadata"]["resourceVersion"].as_str().unwrap_or_default()
        ))
        .await?;
    // the controller may put it right at once: the event shows that it was written
    let other = json!({"cpu": "700m", "memory": "700Mi"});
    t.update(&status, |quota| quota["status"]["hard"] = other.clone()).await?;
    watch.until("the updated status", |event| event.object["status"]["hard"] == other).await?;
    t.until("the status put right", &path, |quota| quota["status"]["hard"] == hard).await?;

    let grown = json!({"cpu": "1", "memory": "1Gi"});
    let patched = t.api.patch(&path, MERGE, &json!({"spec": {"hard": grown}})).await?;
    same("hard after the patch", &patched["spec"]["hard"], &grown)?;
    t.until("the grown status", &path, |quota| quota["status"]["hard"] == grown).await?;
    let both = json!({"spec": {"hard": {"cpu": "9"}}, "status": {"hard": {"cpu": "2", "memory": "2Gi"}}});
    let patched = t.api.patch(&status, MERGE, &both).await?;
    same("hard of the status after its patch", &patched["status"]["hard"], &json!({"cpu": "2", "memory": "2Gi"}))?;
    same("hard of the spec after the status' patch", &patched["spec"]["hard"], &grown)?;
    t.until("the status put right again", &path, |quota| quota["status"]["hard"] == grown).await?;
    same("by /status", &t.api.get(&status).await?["spec"]["hard"], &grown)
}
