//! An extension API server behind the aggregator: the harness is that server, with one kind of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{JSON, MERGE};
use crate::context::{T, names, same};
use crate::extension::{Extension, Incoming, Outgoing, handler};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    let name = "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator";
    vec![Entry::new(name, sample)]
}

/// What the extension server was sent and what it holds.
#[derive(Default)]
struct Flunders {
    objects: BTreeMap<String, Value>,
    users: Vec<String>,
    leaked: bool,
}

fn answer(group: &str, flunders: &Mutex<Flunders>, incoming: &Incoming) -> Outgoing {
    let mut held = flunders.lock().unwrap_or_else(PoisonError::into_inner);
    let header = |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    held.leaked |= !header("authorization").is_empty() || !header("impersonate-user").is_empty();
    let version = format!("{group}/v1alpha1");
    let base = format!("/apis/{version}");
    if incoming.path == base {
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        let flunder = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": verbs});
        return Outgoing::json(
            200,
            &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [flunder]}),
        );
    }
    let Some(rest) = incoming.path.strip_prefix(&format!("{base}/namespaces/")) else {
        return Outgoing::json(
            404,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"}),
        );
    };
    held.users.push(header("x-remote-user").to_owned());
    let name = rest.split('/').nth(2).unwrap_or_default().to_owned();
    // the namespaces of other tests end meanwhile, and take what is in them
    let namespace = rest.split('/').next().unwrap_or_default();
    let inside = |object: &Value| object["metadata"]["namespace"] == namespace;
    match (incoming.method.as_str(), name.is_empty()) {
        ("POST", true) => {
            let object = incoming.json();
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            held.objects.insert(name, object.clone());
            Outgoing::json(201, &object)
        }
        ("GET", true) => {
            let items: Vec<&Value> = held.objects.values().filter(|it| inside(it)).collect();
            Outgoing::json(
                200,
                &json!({"kind": "FlunderList", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}),
            )
        }
        ("DELETE", true) => {
            held.objects.retain(|_, object| !inside(object));
            Outgoing::json(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        ("PATCH", false) => match held.objects.get_mut(&name) {
            Some(object) => {
                object["metadata"]["labels"] = incoming.json()["metadata"]["labels"].clone();
                Outgoing::json(200, object)
            }
            None => missing(),
        },
        ("DELETE", false) => held.objects.remove(&name).map_or_else(missing, |object| Outgoing::json(200, &object)),
        _ => held.objects.get(&name).map_or_else(missing, |object| Outgoing::json(200, object)),
    }
}

fn missing() -> Outgoing {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "flunder not found", "reason": "NotFound", "code": 404});
    Outgoing::json(404, &status)
}

fn available(service: &Value, wanted: &str) -> bool {
    let conditions = service["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Available" && c["status"] == wanted)
}

async fn sample(t: Arc<T>) -> Result<()> {
    let group = format!("wardle.{}.example.com", t.ns);
    let flunders = Arc::new(Mutex::new(Flunders::default()));
    let held = {
        let (group, flunders) = (group.clone(), flunders.clone());
        handler(move |incoming| {
            let outgoing = answer(&group, &flunders, &incoming);
            async move { outgoing }
        })
    };
    let address = &t.env.surroundings.address;
    let server = Extension::start(address, &[format!("sample-api.{}.svc", t.ns)], held).await?;
    // an endpoint must not be a loopback address; a name may stand for one
    let loopback = address.starts_with("127.");
    let external = if loopback { "localhost".to_owned() } else { address.clone() };
    let service = json!({"metadata": {"name": "sample-api"}, "spec": {
        "type": "ExternalName", "externalName": external, "ports": [{"port": server.port, "protocol": "TCP"}]}});
    t.make(&Res::SERVICE, service).await?;
    let name = format!("v1alpha1.{group}");
    let body = json!({"metadata": {"name": name}, "spec": {
        "service": {"namespace": t.ns, "name": "sample-api", "port": server.port}, "group": group, "version": "v1alpha1",
        "caBundle": server.ca_bundle(), "groupPriorityMinimum": 2000, "versionPriority": 200}});
    t.make(&Res::API_SERVICE, body).await?;
    let path = Res::API_SERVICE.named("", &name);
    t.until("an available APIService", &path, |service| available(service, "True")).await?;
    use_it(&t, &group).await?;
    {
        let held = flunders.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!held.leaked, "the caller's credentials reached the extension server");
        ensure!(held.users.iter().all(|user| !user.is_empty()), "a request came without its user");
    }
    status(&t, &path).await?;
    drop(server);
    t.until("an unavailable APIService", &path, |service| available(service, "False")).await?;
    let flunders = format!("/apis/{group}/v1alpha1/namespaces/{}/flunders", t.ns);
    // upstream says it in plain text
    same("status of an unavailable group", &t.api.call("GET", &flunders, JSON, &Value::Null).await?.status, &503)?;
    t.api.delete(&path, &Value::Null).await?;
    t.eventually("the group leaves discovery", || async {
        let groups = t.api.get("/apis").await?;
        let there =
            groups["groups"].as_array().context("no groups")?.iter().any(|entry| entry["name"] == group.as_str());
        ensure!(!there, "still there");
        Ok(())
    })
    .await
}

async fn use_it(t: &T, group: &str) -> Result<()> {
    let flunders = format!("/apis/{group}/v1alpha1/namespaces/{}/flunders", t.ns);
    let version = format!("/apis/{group}/v1alpha1");
    t.eventually("the group in discovery", || t.api.get(&version)).await?;
    let body = json!({"apiVersion": format!("{group}/v1alpha1"), "kind": "Flunder",
        "metadata": {"name": "rest-flunder", "namespace": t.ns, "labels": {"sample-label": "true"}}});
    let answer = t.api.call("POST", &flunders, JSON, &body).await?;
    same("status of the create", &answer.status, &201)?;
    same("items", &names(&t.api.get(&flunders).await?), &vec!["rest-flunder"])?;
    let one = format!("{flunders}/rest-flunder");
    t.api.patch(&one, MERGE, &json!({"metadata": {"labels": {"patched": "yes"}}})).await?;
    same("label", &t.api.get(&one).await?["metadata"]["labels"]["patched"], &json!("yes"))?;
    t.api.delete(&one, &Value::Null).await?;
    t.api.call("GET", &one, JSON, &Value::Null).await?.refused(404, "flunder not found")?;
    t.api.post(&flunders, &body).await?;
    t.api.call("DELETE", &flunders, JSON, &Value::Null).await?.ok()?;
    same("items after the deletion", &names(&t.api.get(&flunders).await?).len(), &0)?;
    let all = t.api.get(&Res::API_SERVICE.everywhere()).await?;
    ensure!(names(&all).contains(&"v1."), "the built-in v1. is no APIService: {:?}", names(&all));
    Ok(())
}

/// `/status` is read, patched and replaced.
async fn status(t: &T, path: &str) -> Result<()> {
    let status = format!("{path}/status");
    let read = t.api.get(&status).await?;
    ensure!(available(&read, "True"), "by /status: {read}");
    let updated = t
        .update(&status, |service| {
            if let Some(all) = service["status"]["conditions"].as_array_mut() {
                all.push(super::objects::condition("StatusUpdated", "True"));
            }
        })
        .await?;
    let conditions = updated["status"]["conditions"].as_array().context("no conditions")?;
    ensure!(conditions.iter().any(|c| c["type"] == "StatusUpdated"), "the condition is lost: {conditions:?}");
    t.api.patch(path, MERGE, &json!({"spec": {"versionPriority": 400}})).await?;
    same("versionPriority", &t.api.get(path).await?["spec"]["versionPriority"], &json!(400))
}
