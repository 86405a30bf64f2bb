//! What custom resources put into the published OpenAPI, and what kubectl makes of it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::crds::{self, Crd, anything, version};
use super::kubectl::Cli;
use crate::client::JSON_PATCH;
use crate::context::T;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    const WHAT: &str = "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin]";
    let all: Vec<Entry> = vec![
        Entry::new("removes definition from spec when one version gets changed to not be served", unserved),
        Entry::new("updates the published spec when one version gets renamed", renamed),
        Entry::new("works for CRD preserving unknown fields at the schema root", |t| async move {
            let mut schema = validating();
            schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
            // the root keeps what it does not know; what it knows has a schema of its own
            lenient(&t, &schema, &json!({"a": {"b": [{"c": "d"}]}}), &[]).await
        }),
        Entry::new("works for CRD preserving unknown fields in an embedded object", |t| async move {
            let any =
                json!({"type": "object", "description": "Any of Waldo", "x-kubernetes-preserve-unknown-fields": true});
            let schema = json!({"type": "object", "description": "preserve-unknown-properties in nested field for Testing",
                "properties": {"spec": any, "status": any}});
            lenient(
                &t,
                &schema,
                &odd(),
                &["preserve-unknown-properties in nested field for Testing", "spec", "Any of Waldo"],
            )
            .await
        }),
        Entry::new("works for CRD with validation schema", strict),
        Entry::new("works for CRD without validation schema", |t| async move {
            lenient(&t, &anything(), &odd(), &["DESCRIPTION"]).await
        }),
        Entry::new("works for multiple CRDs of different groups", |t| async move {
            let mut other = Crd::simple(&t);
            other.group = format!("other-{}", other.group);
            several(&t, &[Crd::simple(&t), other]).await
        }),
        Entry::new("works for multiple CRDs of same group and version but different kinds", |t| async move {
            several(&t, &[Crd::simple(&t), Crd::simple(&t).named("bars", "Bar")]).await
        }),
        Entry::new("works for multiple CRDs of same group but different versions", |t| async move {
            several(&t, &[Crd::new(&t, vec![version("v2", true, &validating()), version("v3", false, &validating())])])
                .await
        }),
    ];
    all.into_iter().map(|entry| entry.under(WHAT)).collect()
}

/// The schema kubectl's validation is tried with.
fn validating() -> Value {
    let bar = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "description": "Name of Bar."},
        "age": {"type": "string", "description": "Age of Bar."},
        "feeling": {"type": "string", "description": "Whether Bar is feeling great.", "enum": ["Great", "Down"]},
        "bazs": {"type": "array", "description": "List of Bazs.", "items": {"type": "string"}},
    }});
    json!({"type": "object", "description": "Foo CRD for Testing", "properties": {
        "spec": {"type": "object", "description": "Specification of Foo", "properties": {
            "bars": {"type": "array", "description": "List of Bars and their specs.", "items": bar}}},
        "status": {"type": "object", "description": "Status of Foo"},
    }})
}

/// `com.example.<label>.v1.Foo`.
fn definition(crd: &Crd, version: &str) -> String {
    let reversed: Vec<&str> = crd.group.rsplit('.').collect();
    format!("{}.{version}.{}", reversed.join("."), crd.kind)
}

/// Arguments of `kubectl explain`: other tests have kinds of the same plural, so the group is named.
fn explain(crd: &Crd, field: &str) -> [String; 2] {
    [format!("{}{field}", crd.plural), format!("--api-version={}/v1", crd.group)]
}

/// The definition in OpenAPI v2 and the document of its group in v3 hold the kind, or do not.
async fn published(t: &T, crd: &Crd, version: &str, wanted: bool) -> Result<Value> {
    let (name, group) = (definition(crd, version), format!("apis/{}/{version}", crd.group));
    t.eventually(&format!("{name} {} the published OpenAPI", if wanted { "in" } else { "out of" }), || async {
        let v2 = t.api.get("/openapi/v2").await?;
        let found = v2["definitions"].get(&name);
        ensure!(found.is_some() == wanted, "OpenAPI v2 has {name}: {}", found.is_some());
        let index = t.api.get("/openapi/v3").await?;
        let url = index["paths"][&group]["serverRelativeURL"].as_str();
        let in_v3 = match url {
            Some(url) => t.api.get(url).await?["components"]["schemas"].get(&name).is_some(),
            None => false,
        };
        ensure!(in_v3 == wanted, "OpenAPI v3 has {name}: {in_v3}");
        Ok(found.cloned().unwrap_or(Value::Null))
    })
    .await
}

async fn strict(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &Crd::new(&t, vec![version("v1", true, &validating())])).await?;
    let schema = published(&t, &crd, "v1", true).await?;
    let gvk = json!([{"group": crd.group, "kind": crd.kind, "version": "v1"}]);
    crate::context::same("x-kubernetes-group-version-kind", &schema["x-kubernetes-group-version-kind"], &gvk)?;
    let cli = Cli::new(&t)?;
    let bar = |fields: Value| json!({"spec": {"bars": [fields]}});
    let text = |fields: Value| crd.object("v1", "test-cr", &fields).to_string();

    let good = text(bar(json!({"name": "test-bar"})));
    cli.input(&["create", "-f", "-"], &good).await?.ok()?;
    cli.run(&["delete", &crd.name(), "test-cr"]).await?.ok()?;
    cli.input(&["apply", "-f", "-"], &good).await?.ok()?;
    cli.run(&["delete", &crd.name(), "test-cr"]).await?.ok()?;
    for (fields, complaint) in [
        (bar(json!({"name": "test-bar", "unknown": "x"})), "unknown"),
        (bar(json!({"age": "10"})), "name"),
        (bar(json!({"name": "test-bar", "feeling": "NonExistentValue"})), "feeling"),
    ] {
        cli.input(&["create", "-f", "-"], &text(fields.clone())).await?.fails(complaint)?;
        cli.input(&["apply", "-f", "-"], &text(fields)).await?.fails(complaint)?;
    }

    let explained = ["DESCRIPTION", "Foo CRD for Testing", "spec", "status"];
    cli.explain(&explain(&crd, ""), &explained).await?;
    cli.explain(&explain(&crd, ".metadata"), &["DESCRIPTION", "Standard object's metadata"]).await?;
    cli.explain(&explain(&crd, ".spec"), &["Specification of Foo", "bars", "List of Bars and their specs"]).await?;
    cli.explain(&explain(&crd, ".spec.bars"), &["List of Bars and their specs", "age", "name", "feeling", "bazs"])
        .await?;
    let missing = explain(&crd, ".spec.bars2");
    cli.run(&["explain", &missing[0], &missing[1]]).await?.fails("bars2")
}

/// Fields no schema names, where schemas usually are.
fn odd() -> Value {
    json!({"spec": {"dog": "spot"}, "status": {"a": [{"b": 1}]}})
}

/// kubectl accepts any fields, and explains what there is to explain.
async fn lenient(t: &T, schema: &Value, odd: &Value, explained: &[&str]) -> Result<()> {
    let crd = crds::make(t, &Crd::new(t, vec![version("v1", true, schema)])).await?;
    published(t, &crd, "v1", true).await?;
    let cli = Cli::new(t)?;
    let text = crd.object("v1", "test-cr", odd).to_string();
    cli.input(&["create", "-f", "-"], &text).await?.ok()?;
    let stored = t.api.get(&format!("{}/test-cr", crd.objects(t, "v1"))).await?;
    for (field, value) in odd.as_object().into_iter().flatten() {
        crate::context::same("what was stored", &stored[field], value)?;
    }
    cli.run(&["delete", &crd.name(), "test-cr"]).await?.ok()?;
    cli.input(&["apply", "-f", "-"], &text).await?.ok()?;
    cli.run(&["delete", &crd.name(), "test-cr"]).await?.ok()?;
    let mut wanted = vec!["KIND", crd.kind.as_str()];
    wanted.extend_from_slice(explained);
    cli.explain(&explain(&crd, ""), &wanted).await
}

async fn several(t: &T, definitions: &[Crd]) -> Result<()> {
    for crd in definitions {
        crds::make(t, crd).await?;
    }
    for crd in definitions {
        for version in &crd.versions {
            published(t, crd, version["name"].as_str().context("no name")?, true).await?;
        }
    }
    Ok(())
}

fn two(t: &T) -> Crd {
    Crd::new(t, vec![version("v2", true, &validating()), version("v3", false, &validating())])
}

async fn renamed(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &two(&t)).await?;
    published(&t, &crd, "v3", true).await?;
    let rename = json!([{"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]);
    t.api.patch(&crd.path(), JSON_PATCH, &rename).await?;
    published(&t, &crd, "v4", true).await?;
    published(&t, &crd, "v3", false).await?;
    published(&t, &crd, "v2", true).await.map(drop)
}

async fn unserved(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &two(&t)).await?;
    published(&t, &crd, "v3", true).await?;
    t.update(&crd.path(), |crd| crd["spec"]["versions"][1]["served"] = json!(false)).await?;
    published(&t, &crd, "v3", false).await?;
    published(&t, &crd, "v2", true).await.map(drop)
}
