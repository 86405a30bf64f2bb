//! Events, by both of their APIs.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{JSON, STRATEGIC};
use crate::context::{T, names, same};
use crate::nodes::micros;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("[sig-instrumentation] Events API should delete a collection of events", |t| {
            collection(t, Res::EVENT)
        }),
        Entry::new("[sig-instrumentation] Events should delete a collection of events", |t| {
            collection(t, Res::CORE_EVENT)
        }),
        Entry::new(
            "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed",
            |t| async move {
                let series = json!({"series": {"count": 2, "lastObservedTime": micros()}});
                life(&t, &Res::EVENT, &series, "/series/count").await?;
                source_selector(&t).await
            },
        ),
        Entry::new("[sig-instrumentation] Events should manage the lifecycle of an event", |t| async move {
            life(&t, &Res::CORE_EVENT, &json!({"message": "a new message"}), "/message").await
        }),
    ]
}

fn event(t: &T, res: &Res, name: &str) -> Value {
    let object = json!({"kind": "Pod", "namespace": t.ns, "name": "somebody"});
    let mut event = json!({
        "metadata": {"name": name, "labels": {"testevent-set": "true"}},
        "type": "Normal", "reason": "Test", "action": "Do", "eventTime": micros(),
    });
    if res.group().is_empty() {
        event["involvedObject"] = object;
        event["message"] = json!("a message");
        event["source"] = json!({"component": "conformance"});
        event["reportingComponent"] = json!("conformance.local/harness");
    } else {
        event["regarding"] = object;
        event["note"] = json!("a note");
        event["reportingController"] = json!("conformance.local/harness");
    }
    event["reportingInstance"] = json!("harness-1");
    event
}

async fn life(t: &T, res: &Res, patch: &Value, pointer: &str) -> Result<()> {
    let path = t.path(res, "event-1");
    t.make(res, event(t, res, "event-1")).await?;
    let everywhere =
        format!("{}?labelSelector=testevent-set%3Dtrue&fieldSelector=metadata.namespace%3D{}", res.everywhere(), t.ns);
    same("listed in all namespaces", &names(&t.api.get(&everywhere).await?), &vec!["event-1"])?;

    let patched = t.api.patch(&path, STRATEGIC, patch).await?;
    same("what the patch changed", &patched.pointer(pointer), &patch.pointer(pointer))?;
    let read = t.api.get(&path).await?;
    same("what the patch changed, read again", &read.pointer(pointer), &patch.pointer(pointer))?;
    t.update(&path, |event| event["series"] = json!({"count": 100, "lastObservedTime": "2030-01-01T00:00:00.000005Z"}))
        .await?;
    let read = t.api.get(&path).await?;
    same("the series after the update", &read["series"]["count"], &json!(100))?;
    same("microseconds after the update", &read["series"]["lastObservedTime"], &json!("2030-01-01T00:00:00.000005Z"))?;
    // both APIs show the same event
    let other = if res.group().is_empty() { Res::EVENT } else { Res::CORE_EVENT };
    let seen = t.read(&other, "event-1").await?;
    same("uid by the other API", &seen["metadata"]["uid"], &read["metadata"]["uid"])?;

    t.api.delete(&path, &Value::Null).await?;
    same("listed after the deletion", &names(&t.api.get(&everywhere).await?).len(), &0)
}

/// The field selectors of core events ask for the component by `source` and for the object by `involvedObject`.
async fn source_selector(t: &T) -> Result<()> {
    t.make(&Res::CORE_EVENT, event(t, &Res::CORE_EVENT, "event-2")).await?;
    let path = Res::CORE_EVENT.collection(&t.ns);
    for (selector, expected) in [
        ("source%3Dconformance", 1),
        ("source%3Danother", 0),
        ("involvedObject.kind%3DPod%2CinvolvedObject.name%3Dsomebody", 1),
        ("reason!%3DTest", 0),
    ] {
        let list = t.api.get(&format!("{path}?fieldSelector={selector}")).await?;
        same(&format!("listed by {selector}"), &names(&list).len(), &expected)?;
    }
    Ok(())
}

async fn collection(t: Arc<T>, res: Res) -> Result<()> {
    for name in ["event-1", "event-2", "event-3"] {
        t.make(&res, event(&t, &res, name)).await?;
    }
    let mut other = event(&t, &res, "other");
    other["metadata"]["labels"] = json!({});
    t.make(&res, other).await?;
    let selected = format!("{}?labelSelector=testevent-set%3Dtrue", res.collection(&t.ns));
    same("listed", &names(&t.api.get(&selected).await?).len(), &3)?;
    t.api.call("DELETE", &selected, JSON, &Value::Null).await?.ok()?;
    same("listed after the deletion", &names(&t.api.get(&selected).await?).len(), &0)?;
    t.read(&res, "other").await.map(drop)
}
