//! Looks at everything at once: every host by two connections, so that one of them tells why the other says nothing, and the API.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join, join_all};
use kube::Client;
use kube::api::{Api, LogParams};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::connect;
use super::script;
use super::seen::{HostSeen, Objects, Seen, Told, ends_again, list, name};
use crate::api::Servers;
use crate::cluster::{Cluster, Host};
use crate::commands::fleet::{Fleet, Member};
use crate::commands::{ADMIN_KUBECONFIG, Run};
use crate::desired::unit_names;
use crate::host::{Executable, HostError, Shell};

const STEP: &str = "look";
/// How long the API may take to be ready, and to say all that is asked.
const API_READY: Duration = Duration::from_secs(5);
const API_LISTS: Duration = Duration::from_secs(30);
/// Of so many containers that end again and again the last words are fetched.
const LAST_WORDS: usize = 10;
const LINES: i64 = 5;

/// What is asked of the API: the plural name and where it is.
const LISTS: [(&str, &str); 17] = [
    ("nodes", "/api/v1/nodes"),
    ("namespaces", "/api/v1/namespaces"),
    ("pods", "/api/v1/pods"),
    ("events", "/api/v1/events"),
    ("services", "/api/v1/services"),
    ("persistentvolumeclaims", "/api/v1/persistentvolumeclaims"),
    ("persistentvolumes", "/api/v1/persistentvolumes"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("storageclasses", "/apis/storage.k8s.io/v1/storageclasses"),
    ("ingresses", "/apis/networking.k8s.io/v1/ingresses"),
    ("ingressclasses", "/apis/networking.k8s.io/v1/ingressclasses"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("deployments", "/apis/apps/v1/deployments"),
    ("daemonsets", "/apis/apps/v1/daemonsets"),
    ("statefulsets", "/apis/apps/v1/statefulsets"),
    ("apiservices", "/apis/apiregistration.k8s.io/v1/apiservices"),
    ("secrets", "/api/v1/secrets"),
];

pub async fn look<'a>(run: &'a Run<'_>, hosts: &[&'a Host]) -> Seen<'a> {
    let fleet = Fleet::new(run);
    let limit = Semaphore::new(run.cluster.limits.hosts);
    let probing = join_all(hosts.iter().map(|host| async {
        let _permit = limit.acquire().await;
        probe(&run.cluster, host).await
    }));
    let opening = async {
        let opened = fleet.open_some(run, hosts.iter().copied(), Executable::Installed(None)).await;
        join_all(opened.into_iter().map(|(_, opened)| tell(run, &fleet, opened))).await
    };
    let (api, (probes, told)) = join(api(run), join(probing, opening)).await;
    let objects = api.as_ref().and_then(|api| api.as_ref().ok());
    let reaching = join_all(hosts.iter().zip(&probes).map(|(host, probed)| async {
        let targets = connect::targets(&run.cluster, host, objects);
        let (_, Some(shell)) = probed else { return Vec::new() };
        if targets.is_empty() {
            return Vec::new();
        }
        let lines = ask(&run.cluster, shell, &connect::script(&targets)).await;
        connect::parse(&targets, &lines.unwrap_or_default())
    }));
    let reaches = reaching.await;
    let mut seen = Vec::new();
    for (((host, (probe, shell)), told), reaches) in hosts.iter().zip(probes).zip(told).zip(reaches) {
        if let Some(shell) = shell {
            shell.close().await;
        }
        seen.push(HostSeen { host, probe, told, reaches });
    }
    let cluster_id = if run.state.exists() { run.state.identity().map(|known| known.id).ok() } else { None };
    Seen {
        cluster: &run.cluster,
        cluster_id: cluster_id.unwrap_or_default(),
        inventory: &run.inventory,
        now: OffsetDateTime::now_utc(),
        hosts: seen,
        api,
    }
}

/// By a shell of its own, which stays open for what else is to be asked.
async fn probe(cluster: &Cluster, host: &Host) -> (Result<script::Probe, HostError>, Option<Shell>) {
    let shell = match Shell::open(host, cluster.limits.connect_timeout).await {
        Ok(shell) => shell,
        Err(error) => return (Err(error), None),
    };
    let lines = ask(cluster, &shell, &script::script(&unit_names(cluster, host))).await;
    (lines.map(|lines| script::parse(&lines)), Some(shell))
}

async fn ask(cluster: &Cluster, shell: &Shell, script: &str) -> Result<Vec<String>, HostError> {
    let mut lines = Vec::new();
    let asking = shell.run(STEP, script, |line| lines.push(line));
    match tokio::time::timeout(cluster.limits.connect_timeout * 2, asking).await {
        Ok(result) => result.map(|_| lines),
        Err(_) => Err(shell
            .error(STEP, "it does not answer, though it lets us in")
            .hint("look at its load and its disks; a host whose disk does not answer needs a reboot")),
    }
}

async fn tell(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    opened: Result<Option<Member<'_>>, HostError>,
) -> Result<Option<Told>, HostError> {
    let Some(mut member) = opened? else { return Ok(None) };
    let drift = fleet.bounded(member.host, member.session.drift()).await;
    let members = match run.cluster.runs_etcd() && member.facts.store.joined {
        true => Some(fleet.bounded(member.host, member.session.members()).await.map_err(|error| error.message)),
        false => None,
    };
    member.session.close().await;
    Ok(Some(Told { facts: member.facts, clock_skew_millis: member.clock_skew_millis, drift: drift?, members }))
}

/// None where there is no kubeconfig because nothing was ever installed from here.
async fn api(run: &Run<'_>) -> Option<Result<Objects, String>> {
    if !run.state.path().join(ADMIN_KUBECONFIG).exists() {
        return None;
    }
    let asking = async {
        let client = Servers::open(&run.kubeconfig()?).await?.ready(API_READY).await?.client;
        tokio::time::timeout(API_LISTS, objects(&client))
            .await
            .map_err(|_| anyhow::anyhow!("it did not list its objects within {} s", API_LISTS.as_secs()))?
    };
    Some(asking.await.map_err(|error: anyhow::Error| format!("{error:#}")))
}

async fn objects(client: &Client) -> anyhow::Result<Objects> {
    let mut objects = Objects { lists: lists(client, &LISTS).await?, ..Objects::default() };
    objects.last_words = last_words(client, objects.of("pods")).await;
    Ok(objects)
}

/// The objects of several kinds: plural names and where they are. Of Secrets their names only.
pub async fn lists(
    client: &Client,
    kinds: &[(&'static str, &'static str)],
) -> anyhow::Result<BTreeMap<&'static str, Vec<Value>>> {
    let asking = kinds.iter().map(|(plural, path)| async move {
        let accept = match *plural {
            "secrets" => "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            _ => "application/json",
        };
        let request = http::Request::get(*path).header(http::header::ACCEPT, accept).body(Vec::new())?;
        let mut answer: Value = client.request(request).await?;
        let items = match answer["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        anyhow::Ok((*plural, items))
    });
    join_all(asking).await.into_iter().collect()
}

/// What containers said before they ended, of those that end again and again.
async fn last_words(client: &Client, pods: &[Value]) -> BTreeMap<String, Vec<String>> {
    let now = OffsetDateTime::now_utc();
    let ending = pods.iter().flat_map(|pod| {
        let statuses = ["initContainerStatuses", "containerStatuses"].map(|field| list(&pod["status"][field]));
        statuses
            .into_iter()
            .flatten()
            .filter(move |status| ends_again(status, now))
            .map(move |status| (pod, status["name"].as_str().unwrap_or_default()))
    });
    let asking = ending.take(LAST_WORDS).map(|(pod, container)| async move {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), namespace);
        let parameters = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LINES),
            previous: true,
            ..LogParams::default()
        };
        let said = pods.logs(pod["metadata"]["name"].as_str().unwrap_or_default(), &parameters).await.ok()?;
        Some((format!("{}/{container}", name(pod)), said.lines().map(str::to_owned).collect()))
    });
    join_all(asking).await.into_iter().flatten().collect()
}
