//! `kinstall report`: what somebody needs who is asked for help, in one file, and no secret in it.
//!
//! Collected is what hosts say ([`host`]), what the API has, and what `doctor` finds; whatever goes into the [`archive`] goes through
//! the [`redact`]or, which knows by [`known`] what must not be in it.

mod archive;
mod host;
mod known;
mod redact;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::future::{join, join_all};
use futures::stream;
use kube::Client;
use kube::api::{Api, LogParams};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::Semaphore;

use archive::Archive;
use redact::Redactor;

use super::doctor::look::{self, look};
use super::doctor::seen::{Seen, list};
use super::doctor::{self, judge};
use super::{Ended, Run, fleet};
use crate::api::Servers;
use crate::cli::Report;
use crate::cluster::Host;
use crate::desired::{job_names, unit_names};
use crate::host::{HostError, Shell};

/// What the API is asked for besides what `doctor` looks at.
const MORE: [(&str, &str); 9] = [
    ("configmaps", "/api/v1/configmaps"),
    ("replicasets", "/apis/apps/v1/replicasets"),
    ("jobs", "/apis/batch/v1/jobs"),
    ("leases", "/apis/coordination.k8s.io/v1/leases"),
    ("poddisruptionbudgets", "/apis/policy/v1/poddisruptionbudgets"),
    ("certificatesigningrequests", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
    ("customresourcedefinitions", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ("validatingwebhookconfigurations", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
    ("mutatingwebhookconfigurations", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"),
];
/// Logs of so many of the pods in kube-system, and so much of each.
const PODS: usize = 60;
const POD_LINES: i64 = 1000;
/// Logs of the last runs of kinstall here.
const RUNS: usize = 5;
/// How long a host may take to tell all that it is asked.
const PATIENCE: Duration = Duration::from_secs(180);
const API_PATIENCE: Duration = Duration::from_secs(60);

/// A file of the report.
struct Part {
    name: String,
    content: Content,
}

enum Content {
    Text(String),
    Json(Value),
}

fn text(name: impl Into<String>, text: impl Into<String>) -> Part {
    Part { name: name.into(), content: Content::Text(text.into()) }
}

fn value(name: impl Into<String>, value: Value) -> Part {
    Part { name: name.into(), content: Content::Json(value) }
}

pub async fn run(run: &Run<'_>, arguments: &Report) -> anyhow::Result<Ended> {
    let stamp = OffsetDateTime::now_utc().format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
    let folder = format!("kinstall-report-{}-{stamp}", run.cluster.name);
    let path = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.zst")));
    let mut archive = Archive::create(&path, &folder)?;
    run.printer.phase("looking");
    let hosts: Vec<_> = run.cluster.hosts.iter().collect();
    let (seen, (told, api)) = join(look(run, &hosts), join(hosts_tell(run, arguments.since), api_tells(run))).await;
    let mut missing: Vec<String> = Vec::new();
    let mut parts = here(run, &stamp, &seen);
    for (host, told) in hosts.iter().zip(told) {
        match told {
            Ok(files) => parts
                .extend(files.into_iter().map(|(name, content)| text(format!("hosts/{}/{name}", host.name), content))),
            Err(error) => {
                fleet::tell(run.printer, &error);
                missing.push(error.to_string());
            }
        }
    }
    let mut secrets = known::here(&run.cluster, &run.state);
    match api {
        Ok(found) => {
            secrets.extend(found.secrets);
            parts.extend(found.parts);
            let seen = seen.objects().into_iter().flat_map(|objects| &objects.lists);
            parts.extend(seen.map(|(plural, items)| value(format!("api/{plural}.json"), json!({"items": items}))));
        }
        Err(error) => missing.push(format!("API: {error:#}")),
    }
    parts.push(text("missing.txt", missing.join("\n")));
    let redactor = Redactor::new(secrets);
    for Part { name, content } in parts {
        let shown = match content {
            Content::Text(text) => redactor.text(&text),
            Content::Json(value) => redactor.json(value),
        };
        archive.add(&name, &shown)?;
    }
    let files = archive.files;
    let bytes = archive.finish()?;
    let shown = path.display().to_string();
    let mut said = format!(
        "{shown}: {files} files, {} KiB; keys, tokens, passwords and the values of Secrets are not in it",
        bytes.div_ceil(1024)
    );
    if !missing.is_empty() {
        said.push_str(&format!("\n{} parts could not be had; missing.txt in it says which", missing.len()));
    }
    run.printer
        .result(&said, &json!({"event": "report", "file": shown, "files": files, "bytes": bytes, "missing": missing}));
    Ok(Ended::Done)
}

/// What this machine knows, and what was seen.
fn here(run: &Run<'_>, stamp: &str, seen: &Seen<'_>) -> Vec<Part> {
    let found = judge(seen);
    let mut parts = vec![
        value(
            "report.json",
            json!({"cluster": run.cluster.name, "created": stamp, "kinstall": env!("CARGO_PKG_VERSION"), "hosts": seen.hosts.len(),
                   "operator": {"os": std::env::consts::OS, "arch": std::env::consts::ARCH}}),
        ),
        text("doctor.txt", doctor::text(&found)),
        value("doctor.json", doctor::value(&found, run.printer.elapsed().as_secs_f64())),
    ];
    parts.extend(file(Path::new(&run.inventory)).map(|content| text("inventory.yaml", content)));
    for name in ["applied.json", "addons.json", "cluster.json"] {
        let json = run.state.read::<Value>(name).ok().flatten();
        parts.extend(json.map(|json| value(format!("state/{name}"), json)));
    }
    let mut logs: Vec<PathBuf> =
        fs::read_dir(run.state.path().join("logs")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.sort();
    for path in logs.iter().rev().take(RUNS) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        parts.extend(file(path).map(|content| text(format!("runs/{name}"), content)));
    }
    for (host, told) in seen.told() {
        let folder = format!("hosts/{}", host.host.name);
        parts.extend(serde_json::to_value(&told.facts).ok().map(|facts| value(format!("{folder}/facts.json"), facts)));
        parts.extend(serde_json::to_value(&told.drift).ok().map(|drift| value(format!("{folder}/drift.json"), drift)));
        let members = told.members.as_ref().map(|members| serde_json::to_value(members).unwrap_or_default());
        parts.extend(members.map(|members| value(format!("{folder}/etcd-members.json"), members)));
    }
    parts
}

fn file(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Every host's files.
async fn hosts_tell(run: &Run<'_>, since: Duration) -> Vec<Result<Vec<(String, String)>, HostError>> {
    let at_once = Semaphore::new(run.cluster.limits.hosts);
    let telling = run.cluster.hosts.iter().map(|host| async {
        let _permit = at_once.acquire().await;
        match tokio::time::timeout(PATIENCE, host_tells(run, host, since)).await {
            Ok(result) => result,
            Err(_) => Err(HostError::new(
                &host.name,
                "report",
                format!("it did not tell all within {} s", PATIENCE.as_secs()),
            )),
        }
    });
    join_all(telling).await
}

async fn host_tells(run: &Run<'_>, host: &Host, since: Duration) -> Result<Vec<(String, String)>, HostError> {
    let shell = Shell::open(host, run.cluster.limits.connect_timeout).await?;
    let units: Vec<String> =
        unit_names(&run.cluster, host).into_iter().map(str::to_owned).chain(job_names(&run.cluster, host)).collect();
    let mut lines = Vec::new();
    shell.run("report", &host::script(&units, since), |line| lines.push(line)).await?;
    shell.close().await;
    Ok(host::parse(&lines))
}

struct FromApi {
    parts: Vec<Part>,
    secrets: Vec<String>,
}

async fn api_tells(run: &Run<'_>) -> anyhow::Result<FromApi> {
    let asking = async {
        let client = Servers::open(&run.kubeconfig()?).await?.ready(Duration::from_secs(5)).await?.client;
        // without them nobody could say that none is in what the API gave
        let secrets = known::in_api(&client).await.context("its Secrets cannot be read")?;
        let lists = look::lists(&client, &MORE).await?;
        let mut parts: Vec<_> = lists
            .into_iter()
            .map(|(plural, items)| value(format!("api/{plural}.json"), json!({"items": items})))
            .collect();
        parts.extend(pod_logs(&client).await?);
        Ok(FromApi { parts, secrets })
    };
    tokio::time::timeout(API_PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("it did not tell all within {} s", API_PATIENCE.as_secs())))
}

/// What the cluster's own pods say.
async fn pod_logs(client: &Client) -> anyhow::Result<Vec<Part>> {
    let path = "/api/v1/namespaces/kube-system/pods";
    let pods: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let api: &Api<k8s_openapi::api::core::v1::Pod> = &Api::namespaced(client.clone(), "kube-system");
    let containers: Vec<(String, String)> = list(&pods["items"])
        .iter()
        .take(PODS)
        .flat_map(|pod| {
            let containers = list(&pod["spec"]["containers"]).iter().filter_map(|container| container["name"].as_str());
            let pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            containers.map(move |container| (pod.clone(), container.to_owned()))
        })
        .collect();
    let asking = containers.into_iter().map(|(pod, container)| async move {
        let parameters = LogParams {
            container: Some(container.clone()),
            tail_lines: Some(POD_LINES),
            timestamps: true,
            ..LogParams::default()
        };
        let said = api.logs(&pod, &parameters).await.unwrap_or_else(|error| format!("no log: {error}"));
        text(format!("pods/{pod}/{container}.log"), said)
    });
    Ok(stream::iter(asking).buffer_unordered(8).collect().await)
}
