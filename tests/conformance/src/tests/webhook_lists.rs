//! Webhook configurations as objects: lists, updates, match conditions.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::objects::config_map;
use super::webhooks::{WHAT, config_maps, hook};
use crate::admission::{Verdict, admission, set_data};
use crate::client::{JSON, JSON_PATCH};
use crate::context::{T, names, same};
use crate::extension::Extension;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("listing mutating webhooks should work", |t| listing(t, Res::MUTATING)),
        Entry::new("listing validating webhooks should work", |t| listing(t, Res::VALIDATING)),
        Entry::new("patching/updating a mutating webhook should work", |t| updating(t, Res::MUTATING)),
        Entry::new("patching/updating a validating webhook should work", |t| updating(t, Res::VALIDATING)),
        Entry::new("should be able to create and update mutating webhook configurations with match conditions", |t| {
            conditions(t, Res::MUTATING)
        }),
        Entry::new(
            "should be able to create and update validating webhook configurations with match conditions",
            |t| conditions(t, Res::VALIDATING),
        ),
        Entry::new("should reject mutating webhook configurations with invalid match conditions", |t| {
            invalid(t, Res::MUTATING)
        }),
        Entry::new("should reject validating webhook configurations with invalid match conditions", |t| {
            invalid(t, Res::VALIDATING)
        }),
    ]
    .into_iter()
    .map(|entry| entry.under(WHAT))
    .collect()
}

/// Mutates or denies ConfigMaps with data `state: bad`, by the kind of the configuration.
async fn server(t: &T) -> Result<Extension> {
    admission(&t.env.surroundings.address, |path, request| {
        let bad = request["object"]["data"]["state"] == "bad";
        match path {
            "/mutate" => Verdict::Patch(set_data("mutated", "yes")),
            "/deny" if bad => Verdict::Deny("bad".into()),
            _ => Verdict::Allow,
        }
    })
    .await
}

fn path(res: &Res) -> &'static str {
    if res.plural == Res::MUTATING.plural { "/mutate" } else { "/deny" }
}

/// Whether the webhooks act on the next ConfigMap.
async fn acts(t: &T, res: &Res) -> Result<bool> {
    let mut map = config_map("x", &json!({"state": "bad"}));
    map["metadata"] = json!({"generateName": "probe-"});
    let answer = t.try_make(&Res::CONFIG_MAP, map).await?;
    if res.plural == Res::MUTATING.plural {
        Ok(answer.ok()?["data"]["mutated"] == "yes")
    } else if answer.status == 201 {
        Ok(false)
    } else {
        answer.refused(400, "denied the request: bad").map(|_| true)
    }
}

async fn until_acts(t: &T, res: &Res, wanted: bool) -> Result<()> {
    t.eventually(&format!("webhooks act: {wanted}"), || async {
        ensure!(acts(t, res).await? == wanted, "not yet");
        Ok(())
    })
    .await
}

async fn listing(t: Arc<T>, res: Res) -> Result<()> {
    let server = server(&t).await?;
    for number in 0..10 {
        let body = json!({
            "metadata": {"name": format!("{}-{number}", t.ns), "labels": {"conformance": t.ns}},
            "webhooks": [hook(&t, &server, path(&res), &config_maps(&["CREATE"]))],
        });
        t.make(&res, body).await?;
    }
    let selected = format!("{}?labelSelector=conformance%3D{}", res.everywhere(), t.ns);
    same("configurations with the label", &names(&t.api.get(&selected).await?).len(), &10)?;
    until_acts(&t, &res, true).await?;
    t.api.call("DELETE", &selected, JSON, &Value::Null).await?.ok()?;
    same("left", &names(&t.api.get(&selected).await?).len(), &0)?;
    until_acts(&t, &res, false).await
}

async fn updating(t: Arc<T>, res: Res) -> Result<()> {
    let server = server(&t).await?;
    let name = t.ns.clone();
    let body =
        json!({"metadata": {"name": name}, "webhooks": [hook(&t, &server, path(&res), &config_maps(&["CREATE"]))]});
    t.make(&res, body).await?;
    until_acts(&t, &res, true).await?;
    let path = res.named("", &name);
    t.update(&path, |hooks| hooks["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"])).await?;
    until_acts(&t, &res, false).await?;
    let back = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
    t.api.patch(&path, JSON_PATCH, &back).await?;
    until_acts(&t, &res, true).await
}

fn with_conditions(t: &T, server: &Extension, res: &Res, conditions: &Value) -> Value {
    let mut one = hook(t, server, path(res), &config_maps(&["CREATE"]));
    one["matchConditions"] = conditions.clone();
    json!({"metadata": {"name": t.ns}, "webhooks": [one]})
}

async fn conditions(t: Arc<T>, res: Res) -> Result<()> {
    let server = server(&t).await?;
    let first = json!([{"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}]);
    let made = t.make(&res, with_conditions(&t, &server, &res, &first)).await?;
    same("conditions of the create", &made["webhooks"][0]["matchConditions"], &first)?;
    let path = res.named("", &t.ns);
    let read = t.api.get(&path).await?;
    same("conditions stored", &read["webhooks"][0]["matchConditions"], &first)?;
    let second = json!([
        {"name": "expression-1", "expression": "object.metadata.namespace == 'staging'"},
        {"name": "expression-2", "expression": "object.metadata.name == 'some-name'"},
    ]);
    t.update(&path, |hooks| hooks["webhooks"][0]["matchConditions"] = second.clone()).await?;
    let read = t.api.get(&path).await?;
    same("conditions after the update", &read["webhooks"][0]["matchConditions"], &second)
}

async fn invalid(t: Arc<T>, res: Res) -> Result<()> {
    let server = server(&t).await?;
    let bad = json!([{"name": "invalid-expression-1", "expression": "... [] bad expression"}]);
    let refused =
        t.try_make(&res, with_conditions(&t, &server, &res, &bad)).await?.refused(422, "compilation failed")?;
    let field = refused["details"]["causes"][0]["field"].as_str().unwrap_or_default();
    same("field", field, "webhooks[0].matchConditions[0].expression")?;
    let unknown = json!([{"name": "unknown", "expression": "nobody.metadata.name == 'x'"}]);
    t.try_make(&res, with_conditions(&t, &server, &res, &unknown)).await?.refused(422, "compilation failed").map(drop)
}
