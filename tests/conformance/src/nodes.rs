//! The harness as kubelet: where a cluster has no nodes, two are made, and pods bound to them get the status a kubelet would
//! write. Nothing runs; what the control plane does with such pods is real.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use certs::Subject;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::client::{Client, JSON, MERGE, STRATEGIC};
use crate::extension::{Extension, Incoming, Outgoing, handler};
use crate::resource::Res;

pub const NODES: [&str; 2] = ["conf-node-1", "conf-node-2"];
const LABEL: &str = "conformance.kinstall.local/fake";

/// Whether a real kubelet is Ready here.
pub async fn real_nodes(api: &Client) -> Result<bool> {
    let nodes = api.get(&Res::NODE.everywhere()).await?;
    let items = nodes["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().any(|node| node["metadata"]["labels"][LABEL].is_null() && is_ready(node)))
}

pub fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The nodes' keeper; what it spawned ends when it is dropped.
pub struct FakeNodes {
    api: Client,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _kubelet: Option<Extension>,
}

impl Drop for FakeNodes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl FakeNodes {
    pub async fn start(api: Client, address: &str) -> Result<Self> {
        let kubelet = match serve(&api, address).await {
            Ok(kubelet) => Some(kubelet),
            Err(error) => {
                eprintln!("the fake kubelet has no certificate, so logs cannot be read: {error:#}");
                None
            }
        };
        let port = kubelet.as_ref().map_or(10250, |kubelet| kubelet.port);
        let mut tasks = Vec::new();
        for node in NODES {
            register(&api, node, address, port).await.with_context(|| format!("cannot make the node {node}"))?;
            tasks.push(tokio::spawn(heartbeat(api.clone(), node, address.to_owned(), port)));
        }
        tasks.push(tokio::spawn(keep_pods(api.clone(), address.to_owned())));
        Ok(FakeNodes { api, tasks, _kubelet: kubelet })
    }

    pub async fn end(self) {
        for node in NODES {
            if let Err(error) = self.api.call("DELETE", &Res::NODE.named("", node), JSON, &Value::Null).await {
                eprintln!("clean-up: {error:#}");
            }
        }
    }
}

async fn register(api: &Client, name: &str, address: &str, port: u16) -> Result<()> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
    });
    let answer = api.call("POST", "/api/v1/nodes", JSON, &node).await?;
    if answer.status != 409 {
        answer.ok()?;
    }
    beat(api, name, address, port).await
}

async fn heartbeat(api: Client, name: &'static str, address: String, port: u16) {
    let mut clock = tokio::time::interval(Duration::from_secs(8));
    loop {
        clock.tick().await;
        if let Err(error) = beat(&api, name, &address, port).await {
            eprintln!("heartbeat of {name}: {error:#}");
        }
    }
}

async fn beat(api: &Client, name: &str, address: &str, port: u16) -> Result<()> {
    let now = now();
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "500Gi"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the harness is ready",
        "lastHeartbeatTime": now, "lastTransitionTime": now});
    let status = json!({"status": {
        "conditions": [ready], "capacity": resources, "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {"kubeletVersion": "v1.37.0", "operatingSystem": "linux", "architecture": "amd64", "osImage": "harness",
            "machineID": name, "systemUUID": name, "bootID": name, "kernelVersion": "0", "containerRuntimeVersion": "harness://0",
            "kubeProxyVersion": ""},
    }});
    api.patch(&format!("/api/v1/nodes/{name}/status"), STRATEGIC, &status).await?;
    let lease = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micros()}});
    let path = Res::LEASE.named("kube-node-lease", name);
    let answer = api.call("PATCH", &path, MERGE, &lease).await?;
    if answer.status == 404 {
        let mut new = lease;
        new["metadata"] = json!({"name": name});
        api.call("POST", &Res::LEASE.collection("kube-node-lease"), JSON, &new).await?;
        return Ok(());
    }
    answer.ok().map(drop)
}

/// Gives every pod of the fake nodes the status it waits for; again from the start whenever the watch ends.
async fn keep_pods(api: Client, address: String) {
    loop {
        if let Err(error) = follow_pods(&api, &address).await {
            eprintln!("the watch on pods: {error:#}");
            // the server may be away; the next attempt would be refused at once
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn follow_pods(api: &Client, address: &str) -> Result<()> {
    let mut watch = api.watch("/api/v1/pods").await?;
    while let Some(event) = watch.next().await? {
        if event.kind == "ERROR" {
            break;
        }
        let ours = event.object["spec"]["nodeName"].as_str().is_some_and(|name| NODES.contains(&name));
        if event.kind != "DELETED" && ours {
            let (api, address) = (api.clone(), address.to_owned());
            tokio::spawn(async move { attend(&api, &event.object, &address).await });
        }
    }
    Ok(())
}

/// A pod that goes is let go, one that comes runs. Refusals mean that somebody else was quicker.
async fn attend(api: &Client, pod: &Value, address: &str) {
    static PODS: AtomicU32 = AtomicU32::new(1);
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let path = Res::POD.named(namespace, name);
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
        let _ = api.call("DELETE", &path, JSON, &options).await;
        return;
    }
    if !pod["status"]["podIP"].is_null() {
        return;
    }
    let number = PODS.fetch_add(1, Ordering::Relaxed);
    // addresses for documentation: nobody connects to them
    let ip = format!("198.51.{}.{}", 100 + number / 250 % 100, 1 + number % 250);
    let now = now();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let containers = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            json!({"name": container["name"], "image": container["image"], "imageID": "harness", "restartCount": 0,
                "containerID": format!("harness://{number}"), "ready": true, "started": true,
                "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let status = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": address, "hostIPs": [{"ip": address}],
        "startTime": now, "containerStatuses": statuses,
        "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady")],
    }});
    match api.call("PATCH", &format!("{path}/status"), STRATEGIC, &status).await {
        Ok(answer) if !matches!(answer.status, 200 | 404 | 409) => {
            eprintln!("the status of {namespace}/{name}: {} {}", answer.status, answer.text());
        }
        Ok(_) => {}
        Err(error) => eprintln!("the status of {namespace}/{name}: {error:#}"),
    }
}

/// The port the API server asks for logs. Its certificate comes from the cluster, as a kubelet's does.
async fn serve(api: &Client, address: &str) -> Result<Extension> {
    let node = NODES[0];
    let key = certs::generate_key()?;
    let subject = Subject::new(&format!("system:node:{node}"), &["system:nodes"]);
    let csr = certs::create_csr(&key, &subject, &[address.to_owned(), node.to_owned()])?;
    let name = format!("conf-kubelet-{}", crate::context::random(6));
    let path = Res::CSR.named("", &name);
    let request = json!({
        "metadata": {"name": name},
        "spec": {"request": encode(&csr), "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"]},
    });
    let as_node = api.with("impersonate-user", &format!("system:node:{node}"))?;
    let as_node =
        as_node.with("impersonate-group", "system:nodes")?.with("impersonate-group", "system:authenticated")?;
    as_node.post(&Res::CSR.everywhere(), &request).await?;
    let approval = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "Harness", "message": "the harness is this kubelet"}]}});
    api.patch(&format!("{path}/approval"), MERGE, &approval).await?;
    let issued = tokio::time::timeout(Duration::from_secs(20), async {
        let mut watch = api.watch(&format!("{}?fieldSelector=metadata.name%3D{name}", Res::CSR.everywhere())).await?;
        let event = watch.until("the certificate", |event| event.object["status"]["certificate"].is_string()).await?;
        decode(text(&event.object["status"]["certificate"]))
    });
    let issued = issued.await.context("no certificate within 20 s")??;
    Extension::with_certificate(address, &issued, &key, "", handler(|incoming| async move { logs(&incoming) })).await
}

fn encode(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

fn decode(text: &str) -> Result<String> {
    use base64::Engine;
    Ok(String::from_utf8(base64::prelude::BASE64_STANDARD.decode(text)?)?)
}

/// The log every fake container has: ten lines of an hour ago and ten of now.
fn logs(incoming: &Incoming) -> Outgoing {
    if !incoming.path.starts_with("/containerLogs/") {
        return Outgoing { status: 404, kind: "text/plain", body: "the harness has only logs".into() };
    }
    let now = time::OffsetDateTime::now_utc();
    let number = |name: &str| incoming.parameter(name).and_then(|value| value.parse::<i64>().ok());
    let since = number("sinceSeconds").map_or(i64::MAX, |seconds| seconds);
    let lines: Vec<String> = (1..=20)
        .map(|line| (if line <= 10 { 3600 } else { 0 }, line))
        .filter(|(age, _)| *age <= since)
        .map(|(age, line)| {
            let stamp = (now - Duration::from_secs(age as u64)).format(&Rfc3339).unwrap_or_default();
            let stamp = if incoming.parameter("timestamps") == Some("true") { stamp + " " } else { String::new() };
            format!("{stamp}line {line} of the log\n")
        })
        .collect();
    let tail = number("tailLines").and_then(|lines| usize::try_from(lines).ok()).unwrap_or(lines.len());
    let mut text = lines[lines.len().saturating_sub(tail)..].concat();
    if let Some(limit) = number("limitBytes").and_then(|bytes| usize::try_from(bytes).ok()) {
        text.truncate(limit);
    }
    Outgoing::text(text)
}

pub fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

/// Now, as a MicroTime.
pub fn micros() -> String {
    let text = now();
    format!("{}.000000Z", text.trim_end_matches('Z'))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
