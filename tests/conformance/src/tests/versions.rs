//! Custom resources of several versions: conversion webhooks and selectable fields.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::crds::{self, Crd, anything, version};
use crate::client::{JSON, JSON_PATCH};
use crate::context::{T, names, same};
use crate::extension::{Extension, Outgoing, handler};
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new(
            "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs",
            mixed,
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2",
            convert,
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector",
            selectors,
        ),
    ]
}

/// v1 has `hostPort: "host:port"`, v2 has `host` and `port`.
fn convert_one(object: &Value, wanted: &str) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        if wanted.ends_with("/v2") {
            if let Some((host, port)) =
                fields.remove("hostPort").as_ref().and_then(Value::as_str).and_then(|both| both.split_once(':'))
            {
                fields.insert("host".into(), json!(host));
                fields.insert("port".into(), json!(port));
            }
        } else if let (Some(host), Some(port)) = (fields.remove("host"), fields.remove("port")) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            fields.insert("hostPort".into(), json!(format!("{}:{}", text(&host), text(&port))));
        }
        fields.insert("apiVersion".into(), json!(wanted));
    }
    object
}

async fn converter(t: &T) -> Result<Extension> {
    let answer = handler(|incoming| async move {
        let review = incoming.json();
        let request = &review["request"];
        let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
        let objects = request["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
        let converted: Vec<Value> = objects.iter().map(|object| convert_one(object, wanted)).collect();
        let response = json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted});
        Outgoing::json(
            200,
            &json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}),
        )
    });
    Extension::start(&t.env.surroundings.address, &[], answer).await
}

/// v1 is stored, v2 served too, and the server's converter stands between them.
async fn two_versions(t: &T, server: &Extension, v1: Value, v2: Value) -> Result<Crd> {
    let mut crd = Crd::new(t, vec![v1, v2]);
    crd.extra = json!({"conversion": {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": server.client_config("/convert")}}});
    crds::make(t, &crd).await
}

async fn plain_versions(t: &T, server: &Extension) -> Result<Crd> {
    two_versions(t, server, version("v1", true, &anything()), version("v2", false, &anything())).await
}

async fn read_converted(t: &T, crd: &Crd, name: &str) -> Result<Value> {
    let path = format!("{}/{name}", crd.objects(t, "v2"));
    t.eventually("the object as v2", || t.api.get(&path)).await
}

fn is_v2(crd: &Crd, object: &Value) -> Result<()> {
    same("apiVersion", &object["apiVersion"], &json!(format!("{}/v2", crd.group)))?;
    same("host", &object["host"], &json!("localhost"))?;
    same("port", &object["port"], &json!("8080"))?;
    ensure!(object.get("hostPort").is_none(), "hostPort is still there: {object}");
    Ok(())
}

async fn convert(t: Arc<T>) -> Result<()> {
    let server = converter(&t).await?;
    let crd = plain_versions(&t, &server).await?;
    t.api.post(&crd.objects(&t, "v1"), &crd.object("v1", "one", &json!({"hostPort": "localhost:8080"}))).await?;
    is_v2(&crd, &read_converted(&t, &crd, "one").await?)?;
    // written as v2, read as v1
    let v2 = json!({"host": "other", "port": "1"});
    t.api.post(&crd.objects(&t, "v2"), &crd.object("v2", "two", &v2)).await?;
    let two = t.api.get(&format!("{}/two", crd.objects(&t, "v1"))).await?;
    same("hostPort of what was written as v2", &two["hostPort"], &json!("other:1"))
}

async fn mixed(t: Arc<T>) -> Result<()> {
    let server = converter(&t).await?;
    let crd = plain_versions(&t, &server).await?;
    let fields = json!({"hostPort": "localhost:8080"});
    t.api.post(&crd.objects(&t, "v1"), &crd.object("v1", "one", &fields)).await?;
    let swap = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    let changed = t.api.patch(&crd.path(), JSON_PATCH, &swap).await?;
    ensure!(changed["spec"]["versions"][1]["storage"] == true, "v2 is not the stored version: {changed}");
    t.until("v2 among the stored versions", &crd.path(), |crd| {
        crd["status"]["storedVersions"].as_array().is_some_and(|all| all.contains(&json!("v2")))
    })
    .await?;
    t.api.post(&crd.objects(&t, "v1"), &crd.object("v1", "two", &fields)).await?;
    for (version, check) in [("v2", true), ("v1", false)] {
        let list = t.api.get(&crd.objects(&t, version)).await?;
        same("names", &names(&list), &vec!["one", "two"])?;
        for item in list["items"].as_array().context("no items")? {
            if check {
                is_v2(&crd, item)?;
            } else {
                same("hostPort", &item["hostPort"], &json!("localhost:8080"))?;
            }
        }
    }
    Ok(())
}

async fn selectors(t: Arc<T>) -> Result<()> {
    let server = converter(&t).await?;
    let string = json!({"type": "string"});
    let v1 = json!({"type": "object", "properties": {"hostPort": string}});
    let v2 = json!({"type": "object", "properties": {"host": string, "port": string}});
    let (mut v1, mut v2) = (version("v1", true, &v1), version("v2", false, &v2));
    v1["selectableFields"] = json!([{"jsonPath": ".hostPort"}]);
    v2["selectableFields"] = json!([{"jsonPath": ".host"}, {"jsonPath": ".port"}]);
    let crd = two_versions(&t, &server, v1, v2).await?;
    let (first, second) = (crd.objects(&t, "v1"), crd.objects(&t, "v2"));
    let hosts = |host: &str| format!("{second}?fieldSelector=host%3D{host}");
    let host1 = hosts("host1");
    let mut by_host = t.eventually("a watch by host", || t.api.watch(&host1)).await?;
    let mut by_both = t.api.watch(&format!("{first}?fieldSelector=hostPort%3Dhost1%3A80")).await?;

    for (name, both) in [("a", "host1:80"), ("b", "host1:8080"), ("c", "host2:80")] {
        t.api.post(&first, &crd.object("v1", name, &json!({"hostPort": both}))).await?;
    }
    same("listed by host", &names(&t.api.get(&hosts("host1")).await?), &vec!["a", "b"])?;
    let both = format!("{second}?fieldSelector=host%3Dhost1%2Cport%3D80");
    same("listed by host and port", &names(&t.api.get(&both).await?), &vec!["a"])?;
    let not = format!("{second}?fieldSelector=host%21%3Dhost1");
    same("listed by another host", &names(&t.api.get(&not).await?), &vec!["c"])?;
    let v1_selected = format!("{first}?fieldSelector=hostPort%3Dhost1%3A80");
    same("listed as v1", &names(&t.api.get(&v1_selected).await?), &vec!["a"])?;
    let unknown = format!("{second}?fieldSelector=another%3Dx");
    t.api.call("GET", &unknown, JSON, &Value::Null).await?.refused(400, "field label not supported")?;

    by_host.expect("ADDED", "a").await?;
    let b = by_host.expect("ADDED", "b").await?;
    same("version in the watch", &b["apiVersion"], &json!(format!("{}/v2", crd.group)))?;
    by_both.expect("ADDED", "a").await?;
    t.update(&format!("{second}/b"), |object| object["host"] = json!("host2")).await?;
    by_host.expect("DELETED", "b").await?;
    same("listed after the change", &names(&t.api.get(&hosts("host2")).await?), &vec!["b", "c"])?;

    t.api.call("DELETE", &hosts("host2"), JSON, &Value::Null).await?.ok()?;
    same("left after deleting by host", &names(&t.api.get(&second).await?), &vec!["a"])?;
    t.api.delete(&format!("{second}/a"), &Value::Null).await?;
    by_host.expect("DELETED", "a").await?;
    by_both.expect("DELETED", "a").await.map(drop)
}
