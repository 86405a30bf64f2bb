//! Admission webhooks for custom resources.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::crds::{self, Crd, anything, version};
use super::objects::rule;
use super::webhooks::{WHAT, denied, hook, register};
use crate::admission::{Verdict, admission, set_data};
use crate::client::{JSON, JSON_PATCH, MERGE};
use crate::context::{T, same};
use crate::extension::Extension;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("should be able to deny custom resource creation, update and deletion", deny),
        Entry::new("should mutate custom resource", mutate),
        Entry::new("should mutate custom resource with different stored version", stored_version),
        Entry::new("should mutate custom resource with pruning", pruning),
    ]
    .into_iter()
    .map(|entry| entry.under(WHAT))
    .collect()
}

async fn server(t: &T, rule: impl Fn(&str, &Value) -> Verdict + Send + Sync + 'static) -> Result<Extension> {
    admission(&t.env.surroundings.address, move |path, request| match path {
        "/always-deny" => Verdict::Deny("this webhook denies all requests".into()),
        _ => rule(path, request),
    })
    .await
}

/// Two steps, the second of which wants to see the first.
fn stages(path: &str, request: &Value) -> Verdict {
    let data = &request["object"]["data"];
    match path {
        "/stage-1" if data["mutation-start"] == "yes" => Verdict::Patch(set_data("mutation-stage-1", "yes")),
        "/stage-2" if data["mutation-stage-1"] == "yes" => Verdict::Patch(set_data("mutation-stage-2", "yes")),
        _ => Verdict::Allow,
    }
}

fn rules(crd: &Crd, operations: &[&str]) -> Value {
    json!([rule(&crd.group, "*", &crd.plural, operations)])
}

async fn deny(t: Arc<T>) -> Result<()> {
    let server = server(&t, |_, request| {
        let deleting = request["operation"] == "DELETE";
        let object = if deleting { &request["oldObject"] } else { &request["object"] };
        match object["data"]["webhook-e2e-test"].as_str() {
            Some("webhook-disallow") if !deleting => Verdict::Deny("the custom resource contains unwanted data".into()),
            Some("webhook-nondeletable") if deleting => {
                Verdict::Deny("the custom resource cannot be deleted because it contains unwanted key and value".into())
            }
            _ => Verdict::Allow,
        }
    })
    .await?;
    let crd = crds::make(&t, &Crd::simple(&t)).await?;
    let deny = hook(&t, &server, "/cr", &rules(&crd, &["CREATE", "UPDATE", "DELETE"]));
    register(&t, &Res::VALIDATING, &server, vec![deny.clone()]).await?;
    let path = crd.objects(&t, "v1");
    let data = |value: &str| json!({"data": {"webhook-e2e-test": value}});
    let unwanted = denied(&deny, "the custom resource contains unwanted data");
    let bad = crd.object("v1", "cr-instance-1", &data("webhook-disallow"));
    t.api.call("POST", &path, JSON, &bad).await?.refused(400, &unwanted)?;

    t.api.post(&path, &crd.object("v1", "cr-instance-2", &data("webhook-nondeletable"))).await?;
    let one = format!("{path}/cr-instance-2");
    t.api.call("PATCH", &one, MERGE, &data("webhook-disallow")).await?.refused(400, &unwanted)?;
    let kept = denied(&deny, "the custom resource cannot be deleted");
    t.api.call("DELETE", &one, JSON, &Value::Null).await?.refused(400, &kept)?;
    // each object of a collection is asked for too
    t.api.call("DELETE", &path, JSON, &Value::Null).await?.refused(400, &kept)?;
    t.api.patch(&one, MERGE, &json!({"data": null})).await?;
    t.api.delete(&one, &Value::Null).await?;
    ensure!(t.api.find(&one).await?.is_none(), "the object is still there");
    Ok(())
}

async fn mutating(t: &T, server: &Extension, crd: &Crd) -> Result<String> {
    let hooks = ["/stage-1", "/stage-2"].map(|path| hook(t, server, path, &rules(crd, &["CREATE", "UPDATE"])));
    register(t, &Res::MUTATING, server, hooks.to_vec()).await
}

async fn mutate(t: Arc<T>) -> Result<()> {
    let server = server(&t, stages).await?;
    let crd = crds::make(&t, &Crd::simple(&t)).await?;
    mutating(&t, &server, &crd).await?;
    let object = crd.object("v1", "cr-instance-1", &json!({"data": {"mutation-start": "yes"}}));
    let made = t.api.post(&crd.objects(&t, "v1"), &object).await?;
    let expected = json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"});
    same("data", &made["data"], &expected)
}

async fn pruning(t: Arc<T>) -> Result<()> {
    let server = server(&t, stages).await?;
    let string = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"data": {"type": "object", "properties": {
        "mutation-start": string, "mutation-stage-1": string}}}});
    let crd = crds::make(&t, &Crd::new(&t, vec![version("v1", true, &schema)])).await?;
    mutating(&t, &server, &crd).await?;
    let object = crd.object("v1", "cr-instance-1", &json!({"data": {"mutation-start": "yes"}}));
    let made = t.api.post(&crd.objects(&t, "v1"), &object).await?;
    same("data", &made["data"], &json!({"mutation-start": "yes", "mutation-stage-1": "yes"}))
}

/// Stored as v1, then v2 becomes the stored version; a patch by v1 passes the webhook and is stored as v2.
async fn stored_version(t: Arc<T>) -> Result<()> {
    let server = server(&t, stages).await?;
    let versions = vec![version("v1", true, &anything()), version("v2", false, &anything())];
    let crd = crds::make(&t, &Crd::new(&t, versions)).await?;
    let mut mutating = hook(&t, &server, "/stage-1", &rules(&crd, &["CREATE", "UPDATE"]));
    mutating["matchPolicy"] = json!("Equivalent");
    register(&t, &Res::MUTATING, &server, vec![mutating]).await?;
    let path = crd.objects(&t, "v1");
    let made =
        t.api.post(&path, &crd.object("v1", "cr-instance-1", &json!({"data": {"mutation-start": "yes"}}))).await?;
    same("data of the create", &made["data"]["mutation-stage-1"], &json!("yes"))?;
    let swap = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    t.api.patch(&crd.path(), JSON_PATCH, &swap).await?;
    t.until("v2 among the stored versions", &crd.path(), |crd| {
        crd["status"]["storedVersions"].as_array().is_some_and(|all| all.contains(&json!("v2")))
    })
    .await?;
    let patch = json!({"data": {"mutation-start": "yes", "other": "value"}});
    let patched = t.api.patch(&format!("{path}/cr-instance-1"), MERGE, &patch).await?;
    let expected = json!({"mutation-start": "yes", "mutation-stage-1": "yes", "other": "value"});
    same("data of the patch", &patched["data"], &expected)?;
    let read = t.api.get(&format!("{}/cr-instance-1", crd.objects(&t, "v2"))).await?;
    same("data as v2", &read["data"], &expected)?;
    same("apiVersion as v2", &read["apiVersion"], &json!(format!("{}/v2", crd.group)))
}
