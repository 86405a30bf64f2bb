//! The garbage collector: background, foreground, orphan.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::objects::{pod, workload};
use crate::client::MERGE;
use crate::context::{T, names, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("delete RS created by deployment when not orphaning", |t| deployment(t, "Background")),
        Entry::new("delete pods created by rc when not orphaning", |t| rc(t, "Background")),
        Entry::new("keep the rc around until all its pods are deleted if the deleteOptions says so [Serial]", |t| rc(t, "Foreground")).serial(),
        Entry::new("not be blocked by dependency circle", circle),
        Entry::new(
            "not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial]",
            two_owners,
        )
        .serial(),
        Entry::new("orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan", |t| deployment(t, "Orphan")),
        Entry::new("orphan pods created by rc if delete options say so [Serial]", |t| rc(t, "Orphan")).serial(),
    ]
    .into_iter()
    .map(|entry| entry.under("[sig-api-machinery] Garbage collector should"))
    .collect()
}

const PODS: u32 = 10;

/// How long nothing must happen to what was orphaned; the collector acts in less than a second.
const PROOF: Duration = Duration::from_secs(5);

async fn delete(t: &T, res: &Res, owner: &Value, policy: &str) -> Result<()> {
    let name = owner["metadata"]["name"].as_str().context("no name")?;
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy,
        "preconditions": {"uid": owner["metadata"]["uid"]}});
    t.api.delete(&t.path(res, name), &options).await.map(drop)
}

async fn owned(t: &T, res: &Res, label: &str, count: usize) -> Result<Vec<Value>> {
    let path = format!("{}?labelSelector=app%3D{label}", res.collection(&t.ns));
    t.until_list(&format!("{count} {}", res.plural), &path, |items| items.len() == count).await
}

fn without_owner(item: &Value) -> bool {
    item["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
}

/// What was orphaned stays, without its owner.
async fn stays(t: &T, res: &Res, label: &str, count: usize) -> Result<()> {
    let path = format!("{}?labelSelector=app%3D{label}", res.collection(&t.ns));
    let set_free = |items: &[Value]| items.len() == count && items.iter().all(without_owner);
    t.until_list("all dependents without owner", &path, set_free).await?;
    tokio::time::sleep(PROOF).await;
    let list = t.api.get(&path).await?;
    same("left", &names(&list).len(), &count)?;
    let doomed = list["items"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["metadata"]["deletionTimestamp"].is_string()));
    ensure!(!doomed, "an orphan is being deleted: {list}");
    Ok(())
}

async fn rc(t: Arc<T>, policy: &str) -> Result<()> {
    let name = "simpletest.rc";
    let replicas = if policy == "Background" { 2 } else { PODS };
    let rc = t.make(&Res::RC, workload(&t, name, replicas, false)).await?;
    let path = t.path(&Res::RC, name);
    let pods = owned(&t, &Res::POD, name, replicas as usize).await?;
    let reference = &pods[0]["metadata"]["ownerReferences"][0];
    same("owner of the pods", &reference["uid"], &rc["metadata"]["uid"])?;
    t.until("its status", &path, |rc| rc["status"]["replicas"] == replicas).await?;
    if policy == "Foreground" {
        // a pod that cannot go yet shows that its owner waits for it
        let held = t.path(&Res::POD, pods[0]["metadata"]["name"].as_str().context("no name")?);
        t.api.patch(&held, MERGE, &json!({"metadata": {"finalizers": ["conformance.local/hold"]}})).await?;
        delete(&t, &Res::RC, &rc, policy).await?;
        let waiting = t.api.get(&path).await?;
        same("finalizers of the owner", &waiting["metadata"]["finalizers"], &json!(["foregroundDeletion"]))?;
        owned(&t, &Res::POD, name, 1).await?;
        let waiting = t.api.get(&path).await?;
        ensure!(waiting["metadata"]["deletionTimestamp"].is_string(), "the owner is not being deleted: {waiting}");
        t.api.patch(&held, MERGE, &json!({"metadata": {"finalizers": null}})).await?;
        return t.gone(&path).await;
    }
    delete(&t, &Res::RC, &rc, policy).await?;
    t.gone(&path).await?;
    if policy == "Orphan" {
        stays(&t, &Res::POD, name, replicas as usize).await
    } else {
        owned(&t, &Res::POD, name, 0).await.map(drop)
    }
}

async fn deployment(t: Arc<T>, policy: &str) -> Result<()> {
    let name = "simpletest.deployment";
    let deployment = t.make(&Res::DEPLOYMENT, workload(&t, name, 2, true)).await?;
    owned(&t, &Res::REPLICA_SET, name, 1).await?;
    owned(&t, &Res::POD, name, 2).await?;
    delete(&t, &Res::DEPLOYMENT, &deployment, policy).await?;
    t.gone(&t.path(&Res::DEPLOYMENT, name)).await?;
    if policy == "Orphan" {
        stays(&t, &Res::REPLICA_SET, name, 1).await?;
        owned(&t, &Res::POD, name, 2).await.map(drop)
    } else {
        owned(&t, &Res::REPLICA_SET, name, 0).await?;
        owned(&t, &Res::POD, name, 0).await.map(drop)
    }
}

/// pod1 belongs to pod3, pod2 to pod1, pod3 to pod2.
async fn circle(t: Arc<T>) -> Result<()> {
    let mut pods = Vec::new();
    for number in 1..=3 {
        pods.push(t.make(&Res::POD, pod(&t, &format!("pod{number}"))).await?);
    }
    for (number, owner) in [(1, 2), (2, 0), (3, 1)] {
        let owner = &pods[owner]["metadata"];
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": owner["name"], "uid": owner["uid"],
            "controller": true, "blockOwnerDeletion": true});
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        t.merge(&Res::POD, &format!("pod{number}"), &patch).await?;
    }
    delete(&t, &Res::POD, &pods[0], "Foreground").await?;
    t.until_list("end of all pods", &Res::POD.collection(&t.ns), <[Value]>::is_empty).await.map(drop)
}

async fn two_owners(t: Arc<T>) -> Result<()> {
    let (first, second) = ("simpletest-rc-to-be-deleted", "simpletest-rc-to-stay");
    let doomed = t.make(&Res::RC, workload(&t, first, PODS, false)).await?;
    let valid = t.make(&Res::RC, workload(&t, second, 0, false)).await?;
    let pods = owned(&t, &Res::POD, first, PODS as usize).await?;
    let half = &pods[..pods.len() / 2];
    let reference =
        json!({"apiVersion": "v1", "kind": "ReplicationController", "name": second, "uid": valid["metadata"]["uid"]});
    for pod in half {
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        // strategic: the list is merged by uid
        t.api.patch(&t.path(&Res::POD, name), crate::client::STRATEGIC, &patch).await?;
    }
    let both = t.read(&Res::POD, half[0]["metadata"]["name"].as_str().context("no name")?).await?;
    same("owners of a pod", &both["metadata"]["ownerReferences"].as_array().map(Vec::len), &Some(2))?;
    delete(&t, &Res::RC, &doomed, "Foreground").await?;
    t.gone(&t.path(&Res::RC, first)).await?;
    let left = owned(&t, &Res::POD, first, half.len()).await?;
    for pod in left {
        ensure!(pod["metadata"]["deletionTimestamp"].is_null(), "a pod with a valid owner is being deleted: {pod}");
        let owners = pod["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        same("owners left", &owners.len(), &1)?;
        same("the owner left", &owners[0]["uid"], &valid["metadata"]["uid"])?;
    }
    Ok(())
}
