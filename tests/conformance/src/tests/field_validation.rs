//! `fieldValidation=Strict`: unknown and duplicate fields.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::crds::{self, Crd, anything, version};
use crate::client::{APPLY, Answer, JSON, shorten};
use crate::context::{T, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("create/apply a CR with unknown fields for CRD with no validation schema", unknown_accepted),
        Entry::new("create/apply a valid CR for CRD with validation schema", valid),
        Entry::new("create/apply an invalid CR with extra properties for CRD with validation schema", extra),
        Entry::new("detect duplicates in a CR when preserving unknown fields", duplicates),
        Entry::new("detect unknown and duplicate fields of a typed object", typed),
        Entry::new("detect unknown metadata fields in both the root and embedded object of a CR", metadata),
        Entry::new("detect unknown metadata fields of a typed object", typed_metadata),
    ]
    .into_iter()
    .map(|entry| entry.under("[sig-api-machinery] FieldValidation should"))
    .collect()
}

async fn post(t: &T, path: &str, text: &str) -> Result<Answer> {
    t.api.send("POST", &format!("{path}?fieldValidation=Strict"), &[("content-type", JSON)], text.to_owned()).await
}

async fn apply(t: &T, path: &str, text: &str) -> Result<Answer> {
    let path = format!("{path}?fieldValidation=Strict&fieldManager=conformance");
    t.api.send("PATCH", &path, &[("content-type", APPLY)], text.to_owned()).await
}

fn says(answer: &Answer, status: u16, texts: &[&str]) -> Result<()> {
    ensure!(
        answer.status == status,
        "{}: expected {status}, got {} {}",
        answer.request,
        answer.status,
        shorten(&answer.text())
    );
    let message = answer.json()?["message"].as_str().unwrap_or_default().to_owned();
    for text in texts {
        ensure!(message.contains(text), "{}: expected {text:?} in {message:?}", answer.request);
    }
    Ok(())
}

async fn unknown_accepted(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &Crd::simple(&t)).await?;
    let path = crd.objects(&t, "v1");
    let object = crd.object("v1", "one", &json!({"spec": {"knownField1": "v", "unknown": "x"}}));
    same("unknown field", &post(&t, &path, &object.to_string()).await?.ok()?["spec"]["unknown"], &json!("x"))?;
    let object = crd.object("v1", "two", &json!({"spec": {"unknown": "y"}}));
    let applied = apply(&t, &format!("{path}/two"), &object.to_string()).await?.ok()?;
    same("unknown field, applied", &applied["spec"]["unknown"], &json!("y"))
}

fn closed() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "foo": {"type": "string"}, "cronSpec": {"type": "string"},
            "ports": {"type": "array", "x-kubernetes-list-map-keys": ["containerPort", "protocol"], "x-kubernetes-list-type": "map",
                "items": {"type": "object", "required": ["containerPort", "protocol"], "properties": {
                    "containerPort": {"type": "integer", "format": "int32"}, "hostIP": {"type": "string"},
                    "protocol": {"type": "string"}}}},
        }},
    }})
}

fn good() -> Value {
    let port = json!({"containerPort": 80, "hostIP": "1.2.3.4", "protocol": "TCP"});
    json!({"spec": {"foo": "foo1", "cronSpec": "* * * * */5", "ports": [port]}})
}

async fn valid(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &Crd::new(&t, vec![version("v1", true, &closed())])).await?;
    let path = crd.objects(&t, "v1");
    post(&t, &path, &crd.object("v1", "one", &good()).to_string()).await?.ok()?;
    apply(&t, &format!("{path}/two"), &crd.object("v1", "two", &good()).to_string()).await?.ok().map(drop)
}

async fn extra(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &Crd::new(&t, vec![version("v1", true, &closed())])).await?;
    let path = crd.objects(&t, "v1");
    let mut bad = crd.object("v1", "one", &good());
    bad["spec"]["extraProperty"] = json!("arbitrary-value");
    bad["spec"]["ports"][0]["odd"] = json!(1);
    let answer = post(&t, &path, &bad.to_string()).await?;
    says(
        &answer,
        400,
        &["strict decoding error", r#"unknown field "spec.extraProperty""#, r#"unknown field "spec.ports[0].odd""#],
    )?;
    let mut bad = crd.object("v1", "one", &good());
    bad["spec"]["extraProperty"] = json!("arbitrary-value");
    let answer = apply(&t, &format!("{path}/one"), &bad.to_string()).await?;
    ensure!(
        answer.text().contains("extraProperty") && answer.status >= 400,
        "an apply with an undeclared field: {} {}",
        answer.status,
        shorten(&answer.text())
    );
    // without a wish the server only warns
    let answer = t.api.call("POST", &path, JSON, &bad).await?;
    answer.ok()?;
    ensure!(
        answer.header("warning").contains(r#"unknown field \"spec.extraProperty\""#),
        "warning: {:?}",
        answer.header("warning")
    );
    Ok(())
}

async fn duplicates(t: Arc<T>) -> Result<()> {
    let crd = crds::make(&t, &Crd::new(&t, vec![version("v1", true, &anything())])).await?;
    let path = crd.objects(&t, "v1");
    let text = format!(
        r#"{{"apiVersion": "{}/v1", "kind": "Foo", "metadata": {{"name": "one"}}, "spec": {{"unknown": "uk1", "unknown": "uk2", "knownField1": "a"}}}}"#,
        crd.group
    );
    says(&post(&t, &path, &text).await?, 400, &[r#"duplicate field "spec.unknown""#])?;
    let yaml = format!(
        "apiVersion: {}/v1\nkind: Foo\nmetadata:\n  name: one\nspec:\n  unknown: uk1\n  unknown: uk2\n  knownField1: a\n",
        crd.group
    );
    says(&apply(&t, &format!("{path}/one"), &yaml).await?, 400, &["line 7", r#"key "unknown" already set in map"#])
}

async fn typed(t: Arc<T>) -> Result<()> {
    let path = Res::DEPLOYMENT.collection(&t.ns);
    let text = |name: &str, more: &str| {
        format!(
            r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}", "labels": {{"app": "x"}}}},
            "spec": {{{more} "replicas": 0, "selector": {{"matchLabels": {{"app": "x"}}}},
            "template": {{"metadata": {{"labels": {{"app": "x"}}}}, "spec": {{"containers": [{{"name": "c", "image": "i"}}]}}}}}}}}"#
        )
    };
    let bad = text("one", r#""unknownField": "foo", "replicas": 1, "paused": true, "paused": false,"#);
    let wanted = [
        "strict decoding error",
        r#"unknown field "spec.unknownField""#,
        r#"duplicate field "spec.paused""#,
        r#"duplicate field "spec.replicas""#,
    ];
    says(&post(&t, &path, &bad).await?, 400, &wanted)?;
    ensure!(t.api.find(&format!("{path}/one")).await?.is_none(), "a refused object was stored");
    post(&t, &path, &text("two", "")).await?.ok()?;
    let merge = r#"{"spec": {"unknownField": 1, "paused": true, "paused": false}}"#;
    let patch_path = format!("{path}/two?fieldValidation=Strict");
    let headers = [("content-type", crate::client::MERGE)];
    let answer = t.api.send("PATCH", &patch_path, &headers, merge).await?;
    ensure!(
        answer.status == 400 || answer.status == 422,
        "a strict patch: {} {}",
        answer.status,
        shorten(&answer.text())
    );
    ensure!(answer.text().contains("spec.unknownField"), "a strict patch: {}", shorten(&answer.text()));
    let warned = t.api.send("POST", &path, &[("content-type", JSON)], bad).await?;
    warned.ok()?;
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok()).collect();
    same("number of warnings", &warnings.len(), &3)?;
    ensure!(warnings.iter().all(|warning| warning.starts_with("299 - ")), "{warnings:?}");
    Ok(())
}

async fn metadata(t: Arc<T>) -> Result<()> {
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {"foo": {"type": "string"}}}}});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"template": template}}}});
    let crd = crds::make(&t, &Crd::new(&t, vec![version("v1", true, &schema)])).await?;
    let path = crd.objects(&t, "v1");
    let embedded = json!({"apiVersion": "foo/v1", "kind": "Sub", "metadata": {"unknownSubMeta": "x", "name": "subobject",
        "namespace": t.ns}, "spec": {"foo": "bar"}});
    let mut object = crd.object("v1", "one", &json!({"spec": {"template": embedded}}));
    object["metadata"]["unknownMeta"] = json!("foo");
    let wanted =
        [r#"unknown field "metadata.unknownMeta""#, r#"unknown field "spec.template.metadata.unknownSubMeta""#];
    says(&post(&t, &path, &object.to_string()).await?, 400, &wanted)?;
    let answer = apply(&t, &format!("{path}/one"), &object.to_string()).await?;
    ensure!(answer.status == 400 || answer.status == 500, "an apply: {} {}", answer.status, shorten(&answer.text()));
    ensure!(answer.text().contains("unknownMeta"), "an apply: {}", shorten(&answer.text()));
    Ok(())
}

async fn typed_metadata(t: Arc<T>) -> Result<()> {
    let path = Res::DEPLOYMENT.collection(&t.ns);
    let mut deployment = super::objects::workload(&t, "one", 0, true);
    deployment["apiVersion"] = json!("apps/v1");
    deployment["kind"] = json!("Deployment");
    deployment["metadata"]["unknownMeta"] = json!("foo");
    deployment["spec"]["template"]["metadata"]["unknownSubMeta"] = json!(1);
    let wanted =
        [r#"unknown field "metadata.unknownMeta""#, r#"unknown field "spec.template.metadata.unknownSubMeta""#];
    says(&post(&t, &path, &deployment.to_string()).await?, 400, &wanted)
}
