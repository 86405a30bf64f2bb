//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy at work.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::objects::{own_namespace, rule, workload};
use crate::context::{T, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    const MUTATING: &str = "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin]";
    const VALIDATING: &str = "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin]";
    vec![
        Entry::new("should mutate a Deployment", patch).under(MUTATING),
        Entry::new("should mutate a Deployment with annotations", annotate).under(MUTATING),
        Entry::new("should allow expressions to refer variables.", variables).under(VALIDATING),
        Entry::new("should validate against a Deployment", validate).under(VALIDATING),
    ]
}

/// The rules of a policy that sees the test's Deployments, Jobs left out.
fn spec(t: &T, field: &str, value: &Value) -> Value {
    let mut spec = json!({"matchConstraints": {
        "namespaceSelector": own_namespace(t),
        "resourceRules": [rule("apps", "v1", "deployments", &["CREATE", "UPDATE"])],
    }});
    spec[field] = value.clone();
    spec
}

async fn bind(t: &T, policy: &Res, binding: &Res, spec: Value) -> Result<()> {
    let name = format!("{}.policy.example.com", t.ns);
    t.make(policy, json!({"metadata": {"name": name}, "spec": spec})).await?;
    let mut bound = json!({"policyName": name, "matchResources": {"namespaceSelector": own_namespace(t)}});
    if binding.plural == Res::VAP_BINDING.plural {
        bound["validationActions"] = json!(["Deny"]);
    }
    t.make(binding, json!({"metadata": {"name": format!("{}.binding.example.com", t.ns)}, "spec": bound})).await?;
    Ok(())
}

/// A dry run is refused as soon as the policy acts.
async fn until_refused(t: &T, deployment: &Value, text: &str) -> Result<Value> {
    let path = format!("{}?dryRun=All", Res::DEPLOYMENT.collection(&t.ns));
    t.eventually("the policy acts", || async {
        t.api.call("POST", &path, crate::client::JSON, deployment).await?.refused(422, text)
    })
    .await
}

fn deployment(t: &T, name: &str, replicas: u32) -> Value {
    let mut deployment = workload(t, name, replicas, true);
    deployment["apiVersion"] = json!("apps/v1");
    deployment["kind"] = json!("Deployment");
    deployment
}

async fn validate(t: Arc<T>) -> Result<()> {
    let rules = json!([
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants more than 1 replica, got ' + string(object.spec.replicas)"},
        {"expression": "namespaceObject.metadata.name == object.metadata.namespace", "message": "Internal error! Other namespace should not be allowed."},
    ]);
    bind(&t, &Res::VAP, &Res::VAP_BINDING, spec(&t, "validations", &rules)).await?;
    let bad = deployment(&t, "replicated", 1);
    let refused = until_refused(&t, &bad, "wants more than 1 replica, got 1").await?;
    let name = format!("ValidatingAdmissionPolicy '{}.policy.example.com'", t.ns);
    let message = refused["message"].as_str().unwrap_or_default();
    ensure!(message.contains(&name) && message.contains("denied request"), "{message}");
    same("reason", &refused["reason"], &json!("Invalid"))?;
    t.make(&Res::DEPLOYMENT, deployment(&t, "replicated", 2)).await?;
    let path = format!("{}/scale", t.path(&Res::DEPLOYMENT, "replicated"));
    // the policy names deployments, not their scale
    t.api.patch(&path, crate::client::MERGE, &json!({"spec": {"replicas": 3}})).await?;
    let merge = json!({"spec": {"replicas": 1}});
    let path = t.path(&Res::DEPLOYMENT, "replicated");
    t.api.call("PATCH", &path, crate::client::MERGE, &merge).await?.refused(422, "got 1").map(drop)
}

async fn variables(t: Arc<T>) -> Result<()> {
    let rules = json!([{"expression": "variables.oddReplicas", "message": "replicas is not odd"}]);
    let mut spec = spec(&t, "validations", &rules);
    spec["variables"] = json!([
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        {"name": "unused", "expression": "1 / 0"},
    ]);
    bind(&t, &Res::VAP, &Res::VAP_BINDING, spec).await?;
    until_refused(&t, &deployment(&t, "replicated", 2), "replicas is not odd").await?;
    t.make(&Res::DEPLOYMENT, deployment(&t, "replicated", 1)).await.map(drop)
}

async fn until_mutated(t: &T, check: impl Fn(&Value) -> bool) -> Result<Value> {
    let path = format!("{}?dryRun=All", Res::DEPLOYMENT.collection(&t.ns));
    t.eventually("the policy acts", || async {
        let tried = t.api.post(&path, &deployment(t, "mutated", 2)).await?;
        ensure!(check(&tried), "not mutated: {tried}");
        Ok(())
    })
    .await?;
    let made = t.make(&Res::DEPLOYMENT, deployment(t, "mutated", 2)).await?;
    ensure!(check(&made), "not mutated: {made}");
    Ok(made)
}

async fn annotate(t: Arc<T>) -> Result<()> {
    let expression = r#"Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}"#;
    let mutation = json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]);
    let mut spec = spec(&t, "mutations", &mutation);
    spec["reinvocationPolicy"] = json!("Never");
    bind(&t, &Res::MAP, &Res::MAP_BINDING, spec).await?;
    let made = until_mutated(&t, |tried| tried["metadata"]["annotations"]["mutated-by"] == "admission-policy").await?;
    same("labels are kept", &made["metadata"]["labels"]["app"], &json!("mutated"))
}

async fn patch(t: Arc<T>) -> Result<()> {
    let expression = r#"[JSONPatch{op: "test", path: "/spec/replicas", value: 2}, JSONPatch{op: "replace", path: "/spec/replicas", value: object.spec.replicas + 1}]"#;
    let apply = r#"Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: "main", imagePullPolicy: "Never"}]}}}}"#;
    let mutation = json!([
        {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}},
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}},
    ]);
    let mut spec = spec(&t, "mutations", &mutation);
    spec["reinvocationPolicy"] = json!("Never");
    bind(&t, &Res::MAP, &Res::MAP_BINDING, spec).await?;
    let made = until_mutated(&t, |tried| tried["spec"]["replicas"] == 3).await?;
    let containers = &made["spec"]["template"]["spec"]["containers"];
    same("containers", &containers.as_array().map(Vec::len), &Some(1))?;
    same("imagePullPolicy", &containers[0]["imagePullPolicy"], &json!("Never"))?;
    same("image is kept", &containers[0]["image"], &json!(t.env.surroundings.image))
}
