//! Watchers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::context::{T, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new(
            "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch",
            restart,
        ),
        Entry::new(
            "[sig-api-machinery] Watchers should be able to start watching from a specific resource version",
            specific,
        ),
        Entry::new(
            "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps",
            observe,
        ),
        Entry::new(
            "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector",
            leave,
        ),
        Entry::new("[sig-api-machinery] Watchers should receive events on concurrent watches in same order", order),
    ]
}

fn labelled(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"watch-this": label}}})
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

async fn mutate(t: &T, name: &str, value: u32) -> Result<Value> {
    t.merge(&Res::CONFIG_MAP, name, &json!({"data": {"mutation": value.to_string()}})).await
}

async fn restart(t: Arc<T>) -> Result<()> {
    let path = format!("{}?labelSelector=watch-this%3Da", Res::CONFIG_MAP.collection(&t.ns));
    let mut first = t.api.watch(&path).await?;
    t.make(&Res::CONFIG_MAP, labelled("one", "a")).await?;
    mutate(&t, "one", 1).await?;
    first.expect("ADDED", "one").await?;
    let seen = first.expect("MODIFIED", "one").await?;
    drop(first);
    mutate(&t, "one", 2).await?;
    t.remove(&Res::CONFIG_MAP, "one").await?;
    let mut second = t.api.watch(&format!("{path}&resourceVersion={}", version(&seen))).await?;
    let modified = second.expect("MODIFIED", "one").await?;
    same("the change while nobody watched", &modified["data"]["mutation"], &json!("2"))?;
    second.expect("DELETED", "one").await.map(drop)
}

async fn specific(t: Arc<T>) -> Result<()> {
    t.make(&Res::CONFIG_MAP, labelled("one", "a")).await?;
    let first = mutate(&t, "one", 1).await?;
    mutate(&t, "one", 2).await?;
    t.remove(&Res::CONFIG_MAP, "one").await?;
    let path = format!("{}?labelSelector=watch-this%3Da", Res::CONFIG_MAP.collection(&t.ns));
    let mut watch = t.api.watch(&format!("{path}&resourceVersion={}", version(&first))).await?;
    let modified = watch.expect("MODIFIED", "one").await?;
    same("the change after the given version", &modified["data"]["mutation"], &json!("2"))?;
    let deleted = watch.expect("DELETED", "one").await?;
    let (before, after): (u64, u64) = (version(&modified).parse()?, version(&deleted).parse()?);
    ensure!(after > before, "the deletion carries resourceVersion {after}, the last change {before}");
    Ok(())
}

async fn observe(t: Arc<T>) -> Result<()> {
    let path = Res::CONFIG_MAP.collection(&t.ns);
    let mut a = t.api.watch(&format!("{path}?labelSelector=watch-this%3Da")).await?;
    let mut b = t.api.watch(&format!("{path}?labelSelector=watch-this%3Db")).await?;
    let mut both = t.api.watch(&format!("{path}?labelSelector=watch-this%20in%20(a%2Cb)")).await?;
    t.make(&Res::CONFIG_MAP, labelled("one", "a")).await?;
    for value in 1..3 {
        mutate(&t, "one", value).await?;
    }
    t.remove(&Res::CONFIG_MAP, "one").await?;
    for watch in [&mut a, &mut both] {
        watch.expect("ADDED", "one").await?;
        for value in 1..3 {
            let object = watch.expect("MODIFIED", "one").await?;
            same("the change", &object["data"]["mutation"], &json!(value.to_string()))?;
        }
        watch.expect("DELETED", "one").await?;
    }
    t.make(&Res::CONFIG_MAP, labelled("two", "b")).await?;
    t.remove(&Res::CONFIG_MAP, "two").await?;
    for watch in [&mut b, &mut both] {
        watch.expect("ADDED", "two").await?;
        watch.expect("DELETED", "two").await?;
    }
    a.silent(Duration::from_secs(1)).await
}

async fn leave(t: Arc<T>) -> Result<()> {
    let path = format!("{}?labelSelector=watch-this%3Da", Res::CONFIG_MAP.collection(&t.ns));
    let mut watch = t.api.watch(&path).await?;
    t.make(&Res::CONFIG_MAP, labelled("one", "a")).await?;
    mutate(&t, "one", 1).await?;
    let relabel = |label: &str| json!({"metadata": {"labels": {"watch-this": label}}});
    let left = t.merge(&Res::CONFIG_MAP, "one", &relabel("wrong")).await?;
    watch.expect("ADDED", "one").await?;
    watch.expect("MODIFIED", "one").await?;
    let deleted = watch.expect("DELETED", "one").await?;
    same("resourceVersion of the deletion", version(&deleted), version(&left))?;
    mutate(&t, "one", 2).await?;
    watch.silent(Duration::from_secs(1)).await?;
    t.merge(&Res::CONFIG_MAP, "one", &relabel("a")).await?;
    let back = watch.expect("ADDED", "one").await?;
    same("the change made meanwhile", &back["data"]["mutation"], &json!("2"))?;
    mutate(&t, "one", 3).await?;
    watch.expect("MODIFIED", "one").await?;
    t.remove(&Res::CONFIG_MAP, "one").await?;
    watch.expect("DELETED", "one").await.map(drop)
}

/// Each event of the first watch starts one more watch; all must tell the same story.
async fn order(t: Arc<T>) -> Result<()> {
    const WATCHES: usize = 40;
    let path = format!("{}?labelSelector=watch-this%3Dorder", Res::CONFIG_MAP.collection(&t.ns));
    let mut first = t.api.watch(&path).await?;
    let writer = {
        let t = t.clone();
        tokio::spawn(async move {
            for round in 0.. {
                let name = format!("object-{}", round % 5);
                t.make(&Res::CONFIG_MAP, labelled(&name, "order")).await?;
                mutate(&t, &name, round).await?;
                if round % 2 == 0 {
                    t.remove(&Res::CONFIG_MAP, &name).await?;
                } else {
                    mutate(&t, &name, round + 1).await?;
                    t.remove(&Res::CONFIG_MAP, &name).await?;
                }
            }
            anyhow::Ok(())
        })
    };
    let mut story: Vec<String> = Vec::new();
    let mut others = Vec::new();
    for _ in 0..WATCHES {
        let event = first.event().await?;
        let version = event.version().to_owned();
        others.push((story.len(), t.api.watch(&format!("{path}&resourceVersion={version}")).await?));
        story.push(version);
    }
    for _ in 0..20 {
        story.push(first.event().await?.version().to_owned());
    }
    ensure!(!writer.is_finished(), "the writer ended: {:?}", writer.await?);
    writer.abort();
    let versions: Vec<u64> =
        story.iter().map(|version| version.parse().context("not a number")).collect::<Result<_>>()?;
    ensure!(versions.is_sorted(), "resourceVersions of one watch go back: {versions:?}");
    for (from, mut watch) in others {
        for expected in &story[from + 1..] {
            same("event of a concurrent watch", watch.event().await?.version(), expected.as_str())?;
        }
    }
    Ok(())
}
