//! Admission webhooks for what the server itself defines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::crds::Crd;
use super::kubectl::Cli;
use super::objects::{config_map, own_namespace, pod, rule};
use crate::admission::{Verdict, admission, set_data};
use crate::client::{JSON, MERGE, STRATEGIC};
use crate::context::{T, same};
use crate::extension::Extension;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("should be able to deny attaching pod", attach),
        Entry::new("should be able to deny pod and configmap creation", deny),
        Entry::new("should deny crd creation", deny_crd),
        Entry::new("should honor timeout", timeout),
        Entry::new("should mutate configmap", mutate),
        Entry::new("should mutate everything except 'skip-me' configmaps", skip_me),
        Entry::new("should mutate pod and apply defaults after mutation", pod_defaults),
        Entry::new("should not be able to mutate or prevent deletion of webhook configuration objects", exempt),
        Entry::new("should unconditionally reject operations on fail closed webhook", fail_closed),
    ]
    .into_iter()
    .map(|entry| entry.under(WHAT))
    .collect()
}

pub const WHAT: &str = "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin]";

/// A webhook for the test's own namespace.
pub fn hook(t: &T, server: &Extension, path: &str, rules: &Value) -> Value {
    json!({
        "name": format!("{}.{}.conformance.local", path.trim_start_matches('/'), t.ns),
        "clientConfig": server.client_config(path),
        "rules": rules, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "namespaceSelector": own_namespace(t),
    })
}

pub fn config_maps(operations: &[&str]) -> Value {
    json!([rule("", "v1", "configmaps", operations)])
}

/// Registers webhooks together with one that refuses marked ConfigMaps, and waits until that one answers.
pub async fn register(t: &T, res: &Res, server: &Extension, hooks: Vec<Value>) -> Result<String> {
    let name = format!("{}-{}", t.ns, crate::context::random(4));
    let mut marker = hook(t, server, "/always-deny", &config_maps(&["CREATE"]));
    marker["name"] = json!(format!("marker.{name}.conformance.local"));
    marker["objectSelector"] = json!({"matchLabels": {"marker": name}});
    let mut all = hooks;
    all.push(marker);
    t.make(res, json!({"metadata": {"name": name, "labels": {"conformance": t.ns}}, "webhooks": all})).await?;
    t.eventually("the webhooks are called", || async {
        let body = json!({"metadata": {"generateName": "marker-", "labels": {"marker": name}}});
        let answer = t.try_make(&Res::CONFIG_MAP, body).await?;
        ensure!(answer.status != 201, "the marker was created");
        Ok(())
    })
    .await?;
    Ok(name)
}

/// The refusal of one webhook, as upstream words it.
pub fn denied(by: &Value, message: &str) -> String {
    let by = by["name"].as_str().unwrap_or_default();
    format!("admission webhook \"{by}\" denied the request: {message}")
}

async fn server(t: &T, rule: impl Fn(&str, &Value) -> Verdict + Send + Sync + 'static) -> Result<Extension> {
    admission(&t.env.surroundings.address, move |path, request| match path {
        "/always-deny" => Verdict::Deny("this webhook denies all requests".into()),
        _ => rule(path, request),
    })
    .await
}

async fn attach(t: Arc<T>) -> Result<()> {
    let server = server(&t, |_, request| {
        let name = request["name"].as_str().unwrap_or_default();
        if name == "to-be-attached-pod" && request["operation"] == "CONNECT" && request["subResource"] == "attach" {
            Verdict::Deny("attaching to pod 'to-be-attached-pod' is not allowed".into())
        } else {
            Verdict::Allow
        }
    })
    .await?;
    let deny = hook(&t, &server, "/deny-attach", &json!([rule("", "v1", "pods/attach", &["CONNECT"])]));
    register(&t, &Res::VALIDATING, &server, vec![deny]).await?;
    t.make(&Res::POD, pod(&t, "to-be-attached-pod")).await?;
    t.until("a running pod", &t.path(&Res::POD, "to-be-attached-pod"), |pod| pod["status"]["phase"] == "Running")
        .await?;
    let cli = Cli::new(&t)?;
    let attempt = cli.run(&["attach", "to-be-attached-pod", "-i", "-c=main"]).await?;
    attempt.fails("attaching to pod 'to-be-attached-pod' is not allowed")
}

async fn deny(t: Arc<T>) -> Result<()> {
    let server = server(&t, |path, request| match path {
        "/pods" if request["object"]["spec"]["containers"][0]["name"] == "hang" => {
            Verdict::Late(Duration::from_secs(30))
        }
        "/pods" if request["object"]["metadata"]["labels"]["webhook"] == "disallow" => {
            Verdict::Deny("the pod contains unwanted label".into())
        }
        "/configmaps" if request["object"]["data"]["webhook"] == "disallow" => {
            Verdict::Deny("the configmap contains unwanted key and value".into())
        }
        _ => Verdict::Allow,
    })
    .await?;
    let pods = hook(&t, &server, "/pods", &json!([rule("", "v1", "pods", &["CREATE"])]));
    let mut pods_in_time = pods.clone();
    pods_in_time["timeoutSeconds"] = json!(2);
    let mut maps = hook(&t, &server, "/configmaps", &config_maps(&["CREATE", "UPDATE", "DELETE"]));
    maps["namespaceSelector"]["matchExpressions"] = json!([{"key": "exempt", "operator": "NotIn", "values": ["true"]}]);
    register(&t, &Res::VALIDATING, &server, vec![pods_in_time, maps.clone()]).await?;

    let mut unwanted = pod(&t, "disallowed");
    unwanted["metadata"]["labels"] = json!({"webhook": "disallow"});
    t.try_make(&Res::POD, unwanted).await?.refused(400, &denied(&pods, "the pod contains unwanted label"))?;
    let mut hanging = pod(&t, "hanging");
    hanging["spec"]["containers"][0]["name"] = json!("hang");
    let begun = Instant::now();
    let answer = t.try_make(&Res::POD, hanging).await?;
    ensure!(answer.status == 500, "a hanging webhook: {} {}", answer.status, answer.text());
    timed_out(&answer.text())?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "a webhook with 2 s held the request {:?}", begun.elapsed());
    ensure!(t.api.find(&t.path(&Res::POD, "hanging")).await?.is_none(), "the pod exists nevertheless");

    let bad = json!({"webhook": "disallow"});
    let text = denied(&maps, "the configmap contains unwanted key and value");
    t.try_make(&Res::CONFIG_MAP, config_map("bad", &bad)).await?.refused(400, &text)?;
    t.make(&Res::CONFIG_MAP, config_map("good", &json!({"webhook": "allow"}))).await?;
    let path = t.path(&Res::CONFIG_MAP, "good");
    let mut changed = t.api.get(&path).await?;
    changed["data"] = bad.clone();
    t.api.call("PUT", &path, JSON, &changed).await?.refused(400, &text)?;
    for kind in [MERGE, STRATEGIC] {
        t.api.call("PATCH", &path, kind, &json!({"data": bad})).await?.refused(400, &text)?;
    }
    t.api.patch(&t.path_of_namespace(), MERGE, &json!({"metadata": {"labels": {"exempt": "true"}}})).await?;
    t.eventually("the namespace is exempt", || async {
        t.try_make(&Res::CONFIG_MAP, config_map("bad", &bad)).await?.ok().map(drop)
    })
    .await
}

fn timed_out(text: &str) -> Result<()> {
    ensure!(
        text.contains("failed calling webhook")
            && (text.contains("context deadline exceeded") || text.contains("timeout")),
        "no word of the timeout: {text}"
    );
    Ok(())
}

async fn deny_crd(t: Arc<T>) -> Result<()> {
    let server = server(&t, |_, request| {
        if request["object"]["metadata"]["labels"]["crd-webhook-test"] == "crd-no-can-do" {
            Verdict::Deny("the crd contains unwanted label".into())
        } else {
            Verdict::Allow
        }
    })
    .await?;
    let mut deny = hook(
        &t,
        &server,
        "/crd",
        &json!([rule("apiextensions.k8s.io", "*", "customresourcedefinitions", &["CREATE"])]),
    );
    deny["namespaceSelector"] = json!({});
    deny["objectSelector"] = json!({"matchLabels": {"conformance": t.ns}});
    register(&t, &Res::VALIDATING, &server, vec![deny.clone()]).await?;
    let mut crd = Crd::simple(&t);
    crd.labels = json!({"conformance": t.ns, "crd-webhook-test": "crd-no-can-do"});
    let answer = t.try_make(&Res::CRD, crd.body()).await?;
    answer.refused(400, &denied(&deny, "the crd contains unwanted label"))?;
    ensure!(t.api.find(&crd.path()).await?.is_none(), "the definition exists nevertheless");
    Ok(())
}

/// A webhook that waits 5 s, with less and with more patience, and with either policy.
async fn timeout(t: Arc<T>) -> Result<()> {
    let server = server(&t, |_, _| Verdict::Late(Duration::from_secs(5))).await?;
    for (seconds, policy, passes) in
        [(Some(1), "Fail", false), (Some(1), "Ignore", true), (Some(10), "Fail", true), (None, "Fail", true)]
    {
        let mut slow = hook(&t, &server, "/slow", &config_maps(&["CREATE"]));
        slow["objectSelector"] = json!({"matchExpressions": [{"key": "marker", "operator": "DoesNotExist"}]});
        slow["failurePolicy"] = json!(policy);
        if let Some(seconds) = seconds {
            slow["timeoutSeconds"] = json!(seconds);
        }
        let name = register(&t, &Res::VALIDATING, &server, vec![slow]).await?;
        let begun = Instant::now();
        let answer = t.try_make(&Res::CONFIG_MAP, json!({"metadata": {"generateName": "slow-"}})).await?;
        let took = begun.elapsed();
        if passes {
            answer.ok()?;
        } else {
            same("status of a timeout", &answer.status, &500)?;
            timed_out(&answer.text())?;
        }
        // either before the webhook answers, or then and within the longest patience
        let expected = if seconds == Some(1) { 1..5 } else { 5..10 };
        ensure!(expected.contains(&took.as_secs()), "{policy} with {seconds:?} s took {took:?}");
        t.remove(&Res::VALIDATING, &name).await?;
        gone(&t, &name).await?;
    }
    Ok(())
}

/// A removed configuration's marker is not refused any more.
async fn gone(t: &T, name: &str) -> Result<()> {
    t.eventually("the webhook is not called any more", || async {
        let body = json!({"metadata": {"generateName": "marker-", "labels": {"marker": name}}});
        t.try_make(&Res::CONFIG_MAP, body).await?.ok().map(drop)
    })
    .await
}

async fn mutate(t: Arc<T>) -> Result<()> {
    let server = server(&t, |path, request| {
        let data = &request["object"]["data"];
        match path {
            "/stage-1" if data["mutation-start"] == "yes" => Verdict::Patch(set_data("mutation-stage-1", "yes")),
            "/stage-2" if data["mutation-stage-1"] == "yes" => Verdict::Patch(set_data("mutation-stage-2", "yes")),
            _ => Verdict::Allow,
        }
    })
    .await?;
    let hooks = ["/stage-1", "/stage-2"].map(|path| hook(&t, &server, path, &config_maps(&["CREATE"])));
    register(&t, &Res::MUTATING, &server, hooks.to_vec()).await?;
    let made = t.make(&Res::CONFIG_MAP, config_map("to-be-mutated", &json!({"mutation-start": "yes"}))).await?;
    let expected = json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"});
    same("data after both", &made["data"], &expected)?;
    same("data stored", &t.read(&Res::CONFIG_MAP, "to-be-mutated").await?["data"], &expected)
}

async fn skip_me(t: Arc<T>) -> Result<()> {
    let server = server(&t, |_, _| Verdict::Patch(set_data("mutated", "yes"))).await?;
    let mut mutate = hook(&t, &server, "/mutate", &config_maps(&["CREATE"]));
    mutate["matchConditions"] = json!([{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]);
    register(&t, &Res::MUTATING, &server, vec![mutate]).await?;
    let skipped = t.make(&Res::CONFIG_MAP, config_map("skip-me", &json!({"a": "b"}))).await?;
    same("data of skip-me", &skipped["data"], &json!({"a": "b"}))?;
    let mutated = t.make(&Res::CONFIG_MAP, config_map("another", &json!({"a": "b"}))).await?;
    same("data of another", &mutated["data"], &json!({"a": "b", "mutated": "yes"}))
}

async fn pod_defaults(t: Arc<T>) -> Result<()> {
    let image = t.env.surroundings.image.clone();
    let server = server(&t, move |_, _| {
        let init = json!([{"name": "webhook-added-init-container", "image": image}]);
        Verdict::Patch(json!([{"op": "add", "path": "/spec/initContainers", "value": init}]))
    })
    .await?;
    let mutate = hook(&t, &server, "/pods", &json!([rule("", "v1", "pods", &["CREATE"])]));
    register(&t, &Res::MUTATING, &server, vec![mutate]).await?;
    let made = t.make(&Res::POD, pod(&t, "webhook-to-be-mutated")).await?;
    let init = &made["spec"]["initContainers"];
    same("init containers", &init.as_array().map(Vec::len), &Some(1))?;
    same("name", &init[0]["name"], &json!("webhook-added-init-container"))?;
    same("terminationMessagePolicy", &init[0]["terminationMessagePolicy"], &json!("File"))
}

/// Webhooks that would change and keep webhook configurations are never asked.
async fn exempt(t: Arc<T>) -> Result<()> {
    let server = server(&t, |path, _| match path {
        "/mutate" => Verdict::Patch(json!([{"op": "add", "path": "/metadata/labels/mutated", "value": "yes"}])),
        _ => Verdict::Deny("nobody deletes this".into()),
    })
    .await?;
    let rules = |operation: &str| json!([rule("admissionregistration.k8s.io", "*", "*", &[operation])]);
    let selector = json!({"matchLabels": {"conformance": format!("{}-object", t.ns)}});
    for (res, path, operation) in [(Res::VALIDATING, "/deny", "DELETE"), (Res::MUTATING, "/mutate", "CREATE")] {
        let mut broad = hook(&t, &server, path, &rules(operation));
        broad["namespaceSelector"] = json!({});
        broad["objectSelector"] = selector.clone();
        register(&t, &res, &server, vec![broad]).await?;
    }
    for res in [Res::VALIDATING, Res::MUTATING] {
        let name = format!("{}-dummy", t.ns);
        let mut dummy = hook(&t, &server, "/dummy", &config_maps(&["CREATE"]));
        dummy["objectSelector"] = json!({"matchLabels": {"nobody": "has-this"}});
        let labels = json!({"conformance": format!("{}-object", t.ns)});
        let made = t.make(&res, json!({"metadata": {"name": name, "labels": labels}, "webhooks": [dummy]})).await?;
        ensure!(made["metadata"]["labels"].get("mutated").is_none(), "a webhook configuration was mutated: {made}");
        t.remove(&res, &name).await?;
        ensure!(t.api.find(&res.named("", &name)).await?.is_none(), "the configuration is still there");
    }
    Ok(())
}

/// Without a CA bundle the webhook's certificate cannot be believed, so everything is refused.
async fn fail_closed(t: Arc<T>) -> Result<()> {
    let server = server(&t, |_, _| Verdict::Allow).await?;
    let mut closed = hook(&t, &server, "/fail-closed", &config_maps(&["CREATE"]));
    closed["clientConfig"] = json!({"url": server.url("/fail-closed")});
    closed["failurePolicy"] = json!("Fail");
    closed["objectSelector"] = json!({"matchExpressions": [{"key": "marker", "operator": "DoesNotExist"}]});
    register(&t, &Res::VALIDATING, &server, vec![closed.clone()]).await?;
    let answer = t.try_make(&Res::CONFIG_MAP, config_map("foo", &json!({}))).await?;
    let name = closed["name"].as_str().unwrap_or_default();
    let refused = answer.refused(500, &format!("failed calling webhook \"{name}\""))?;
    same("reason", &refused["reason"], &json!("InternalError"))
}
