//! Namespaces: what they hold goes with them, in order.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::objects::{condition, config_map, pod};
use crate::client::{JSON, MERGE, STRATEGIC};
use crate::context::{T, random, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    let mut all: Vec<Entry> = vec![
        Entry::new("apply a finalizer to a Namespace [Serial]", finalizer),
        Entry::new("apply an update to a Namespace [Serial]", update),
        Entry::new("apply changes to a namespace status [Serial]", status),
        Entry::new("ensure that all pods are removed when a namespace is deleted [Serial]", pods),
        Entry::new("ensure that all services are removed when a namespace is deleted [Serial]", services),
        Entry::new("patch a Namespace [Serial]", patch),
    ]
    .into_iter()
    .map(|entry| entry.under("[sig-api-machinery] Namespaces should").serial())
    .collect();
    let ordered =
        Entry::new("[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first", ordered);
    all.push(ordered);
    all
}

/// A namespace beside the test's own, and its path.
async fn other(t: &T) -> Result<(String, String)> {
    let name = format!("{}-{}", t.ns, random(3));
    t.make(&Res::NAMESPACE, json!({"metadata": {"name": name}})).await?;
    t.until("its ServiceAccount", &Res::SERVICE_ACCOUNT.named(&name, "default"), |_| true).await?;
    let path = Res::NAMESPACE.named("", &name);
    Ok((name, path))
}

async fn finalizer(t: Arc<T>) -> Result<()> {
    let (_, path) = other(&t).await?;
    let fake = json!("e2e.example.com/fakeFinalizer");
    let finalize = format!("{path}/finalize");
    let mut namespace = t.api.get(&path).await?;
    same("finalizers at first", &namespace["spec"]["finalizers"], &json!(["kubernetes"]))?;
    namespace["spec"]["finalizers"] = json!(["kubernetes", fake]);
    let mut updated = t.api.put(&finalize, &namespace).await?;
    same("finalizers", &updated["spec"]["finalizers"], &json!(["kubernetes", fake]))?;
    // the namespace itself cannot change them
    let same_path = t.api.patch(&path, MERGE, &json!({"spec": {"finalizers": []}})).await?;
    same("finalizers after a main patch", &same_path["spec"]["finalizers"], &json!(["kubernetes", fake]))?;
    updated = t.api.get(&path).await?;
    updated["spec"]["finalizers"] = json!(["kubernetes"]);
    let last = t.api.put(&finalize, &updated).await?;
    same("finalizers at the end", &last["spec"]["finalizers"], &json!(["kubernetes"]))
}

async fn update(t: Arc<T>) -> Result<()> {
    let path = t.path_of_namespace();
    let updated = t.update(&path, |namespace| namespace["metadata"]["labels"]["updated"] = json!("yes")).await?;
    same("label", &updated["metadata"]["labels"]["updated"], &json!("yes"))?;
    same("label of the name", &updated["metadata"]["labels"]["kubernetes.io/metadata.name"], &json!(t.ns))
}

async fn patch(t: Arc<T>) -> Result<()> {
    let (_, path) = other(&t).await?;
    t.api.patch(&path, STRATEGIC, &json!({"metadata": {"labels": {"testLabel": "testValue"}}})).await?;
    let read = t.api.get(&path).await?;
    same("label", &read["metadata"]["labels"]["testLabel"], &json!("testValue"))
}

async fn status(t: Arc<T>) -> Result<()> {
    let (_, path) = other(&t).await?;
    let status = format!("{path}/status");
    same("phase", &t.api.get(&status).await?["status"]["phase"], &json!("Active"))?;
    let patch = json!({
        "metadata": {"annotations": {"e2e-patched-ns-status": t.ns}},
        "status": {"conditions": [condition("StatusPatch", "True")]},
    });
    let patched = t.api.patch(&status, MERGE, &patch).await?;
    same("annotation", &patched["metadata"]["annotations"]["e2e-patched-ns-status"], &json!(t.ns))?;
    same("patched condition", &patched["status"]["conditions"][0]["type"], &json!("StatusPatch"))?;
    let updated = t
        .update(&status, |namespace| {
            if let Some(all) = namespace["status"]["conditions"].as_array_mut() {
                all.push(condition("StatusUpdate", "True"));
            }
        })
        .await?;
    same("conditions", &updated["status"]["conditions"].as_array().map(Vec::len), &Some(2))?;
    same("updated condition", &updated["status"]["conditions"][1]["type"], &json!("StatusUpdate"))?;
    same("phase at the end", &updated["status"]["phase"], &json!("Active"))
}

async fn delete(t: &T, name: &str, path: &str) -> Result<()> {
    t.api.delete(path, &Value::Null).await?;
    if let Some(going) = t.api.find(path).await? {
        same("phase", &going["status"]["phase"], &json!("Terminating"))?;
        ensure!(going["metadata"]["deletionTimestamp"].is_string(), "no deletionTimestamp: {going}");
        let answer =
            t.api.call("POST", &Res::CONFIG_MAP.collection(name), JSON, &config_map("late", &json!({}))).await?;
        // it may be gone by now
        if answer.status != 404 {
            let refused = answer.refused(403, "because it is being terminated")?;
            same("cause", &refused["details"]["causes"][0]["reason"], &json!("NamespaceTerminating"))?;
        }
    }
    t.gone(path).await
}

async fn pods(t: Arc<T>) -> Result<()> {
    let (name, path) = other(&t).await?;
    let place = Res::POD.collection(&name);
    t.api.post(&place, &pod(&t, "test-pod")).await?;
    t.until("a running pod", &Res::POD.named(&name, "test-pod"), |pod| pod["status"]["phase"] == "Running").await?;
    delete(&t, &name, &path).await?;
    t.api.post(&Res::NAMESPACE.everywhere(), &json!({"metadata": {"name": name}})).await?;
    same("pods in a new namespace of the same name", &t.api.get(&place).await?["items"], &json!([]))
}

async fn services(t: Arc<T>) -> Result<()> {
    let (name, path) = other(&t).await?;
    let place = Res::SERVICE.collection(&name);
    let service =
        json!({"metadata": {"name": "test-service"}, "spec": {"selector": {"foo": "bar"}, "ports": [{"port": 80}]}});
    t.api.post(&place, &service).await?;
    delete(&t, &name, &path).await?;
    t.api.post(&Res::NAMESPACE.everywhere(), &json!({"metadata": {"name": name}})).await?;
    same("services in a new namespace of the same name", &t.api.get(&place).await?["items"], &json!([]))
}

/// While a pod cannot go, nothing else does.
async fn ordered(t: Arc<T>) -> Result<()> {
    let (name, path) = other(&t).await?;
    let held = Res::POD.named(&name, "held");
    let mut body = pod(&t, "held");
    body["metadata"]["finalizers"] = json!(["conformance.local/hold"]);
    t.api.post(&Res::POD.collection(&name), &body).await?;
    t.api.post(&Res::CONFIG_MAP.collection(&name), &config_map("later", &json!({}))).await?;
    t.api.delete(&path, &Value::Null).await?;
    t.until("a pod being deleted", &held, |pod| pod["metadata"]["deletionTimestamp"].is_string()).await?;
    let going = t
        .until("word of the content that remains", &path, |namespace| {
            let conditions = namespace["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            conditions
                .iter()
                .any(|c| c["type"] == "NamespaceDeletionContentFailure" || c["type"] == "NamespaceContentRemaining")
        })
        .await?;
    let conditions = going["status"]["conditions"].as_array().context("no conditions")?;
    let remaining =
        conditions.iter().find(|c| c["type"] == "NamespaceContentRemaining").context("no NamespaceContentRemaining")?;
    same("content remains", &remaining["status"], &json!("True"))?;
    let map = t.api.get(&Res::CONFIG_MAP.named(&name, "later")).await?;
    ensure!(map["metadata"]["deletionTimestamp"].is_null(), "the ConfigMap goes before the pod: {map}");
    t.api.patch(&held, MERGE, &json!({"metadata": {"finalizers": null}})).await?;
    t.gone(&path).await
}
