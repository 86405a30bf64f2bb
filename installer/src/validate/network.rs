//! The pod network, seen from pods: short-lived ones that hold the static executable's `probe`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, DeleteParams, LogParams, PostParams, PropagationPolicy};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;

use super::report::{Outcome, Report};
use crate::api::apply::passing;
use crate::api::wait::{self, pod_ready};
use crate::cluster::{Cluster, Host};

const PORT: u16 = 8080;
/// More nodes than this prove nothing more; each validates a path to its neighbour.
const MAX_NODES: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(60);

/// One thing that a client pod tries, in a container of its own so that its exit code is the answer.
struct Try {
    name: &'static str,
    container: &'static str,
    hint: &'static str,
    arguments: Vec<String>,
}

pub async fn run(report: &mut Report<'_>, client: &Client, cluster: &Cluster, image: &str) {
    let namespace = format!("kinstall-validate-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let hint = "see `kubectl describe pod` in that namespace, and `journalctl -u kinstall-kubelet -u kinstall-containerd` on the node";
    let hosts: Vec<&Host> = cluster.hosts.iter().take(MAX_NODES).collect();
    let ready = report.check("pods start on every node", hint, servers(client, &namespace, &hosts, image)).await;
    if let Some(servers) = ready {
        let outcomes = clients(client, cluster, &namespace, &hosts, &servers, image).await;
        match outcomes {
            Ok(outcomes) => outcomes.into_iter().for_each(|outcome| report.add(outcome)),
            Err(error) => report.add(Outcome {
                name: "pod network".into(),
                duration: Duration::ZERO,
                result: Err(format!("{error:#}")),
                hint: hint.into(),
            }),
        }
    }
    let parameters =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    // what is left of it does no harm, and the next run uses another name
    let _ = Api::<Namespace>::all(client.clone()).delete(&namespace, &parameters).await;
}

/// A server pod on each node and a Service over them; gives the pods' addresses by node.
async fn servers(
    client: &Client,
    namespace: &str,
    hosts: &[&Host],
    image: &str,
) -> anyhow::Result<(BTreeMap<String, Server>, String)> {
    create(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": namespace}})).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for host in hosts {
        create(&pods, server_pod(host, image)).await?;
    }
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = create(
        &services,
        json!({"metadata": {"name": "servers"}, "spec": {"type": "NodePort", "selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]}}),
    )
    .await?;
    let cluster_ip =
        service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()).context("the Service got no cluster IP")?;
    let node_port = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_ref()?.first()?.node_port)
        .context("the Service got no node port")?;
    let ready = wait::until(pods, watcher::Config::default().labels("app=server"), TIMEOUT, |pods| {
        pods.len() == hosts.len() && pods.values().all(pod_ready)
    })
    .await;
    let pods = ready.map_err(|pods| {
        let late: Vec<_> = pods.values().filter(|pod| !pod_ready(pod)).map(ResourceExt::name_any).collect();
        anyhow!("not Ready after {} s: {}", TIMEOUT.as_secs(), late.join(", "))
    })?;
    let servers: BTreeMap<_, _> = pods
        .values()
        .filter_map(|pod| {
            let node = pod.spec.as_ref()?.node_name.clone()?;
            let address = pod.status.as_ref()?.pod_ip.clone()?;
            Some((node, Server { address, cluster_ip: cluster_ip.clone(), node_port }))
        })
        .collect();
    let count = servers.len();
    Ok((servers, format!("{count} of {}", hosts.len())))
}

struct Server {
    address: String,
    cluster_ip: String,
    node_port: i32,
}

/// A client on each node tries its neighbour's server.
async fn clients(
    client: &Client,
    cluster: &Cluster,
    namespace: &str,
    hosts: &[&Host],
    servers: &BTreeMap<String, Server>,
    image: &str,
) -> anyhow::Result<Vec<Outcome>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    let mut tries = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let neighbour = hosts[(index + 1) % hosts.len()];
        let server = servers.get(&neighbour.name).with_context(|| format!("no server runs on {}", neighbour.name))?;
        let list = tries_for(cluster, namespace, neighbour, server);
        create(&pods, client_pod(host, image, &list)).await?;
        tries.push((*host, neighbour, list));
    }
    let _ = wait::until(pods.clone(), watcher::Config::default().labels("app=client"), TIMEOUT, |pods| {
        pods.len() == hosts.len()
            && pods.values().all(|pod| tries[0].2.iter().all(|t| exit_code(pod, t.container).is_some()))
    })
    .await;
    let mut outcomes = Vec::new();
    for index in 0..tries[0].2.len() {
        let mut failures = Vec::new();
        let mut slowest = Duration::ZERO;
        for (host, neighbour, list) in &tries {
            let one = &list[index];
            let pod = pods.get(&client_name(host)).await?;
            let parameters = LogParams { container: Some(one.container.into()), ..LogParams::default() };
            let log = pods.logs(&pod.name_any(), &parameters).await.unwrap_or_default();
            match exit_code(&pod, one.container) {
                Some(0) => slowest = slowest.max(time_taken(&log)),
                other => {
                    let said = log.trim().replace('\n', " | ");
                    let end = other.map_or_else(|| "did not end".to_owned(), |code| format!("exit {code}"));
                    failures.push(format!("from {} to {}: {end} {said}", host.name, neighbour.name));
                }
            }
        }
        let duration = if failures.is_empty() { slowest } else { started.elapsed() };
        let result =
            if failures.is_empty() { Ok(format!("from {} nodes", tries.len())) } else { Err(failures.join("; ")) };
        outcomes.push(Outcome {
            name: tries[0].2[index].name.into(),
            duration,
            result,
            hint: tries[0].2[index].hint.into(),
        });
    }
    Ok(outcomes)
}

fn tries_for(cluster: &Cluster, namespace: &str, neighbour: &Host, server: &Server) -> Vec<Try> {
    let domain = &cluster.network.domain;
    let get = |url: String| vec!["--get".to_owned(), url, "--expect".to_owned(), "server-".to_owned()];
    vec![
        Try {
            name: "DNS answers in pods",
            container: "dns",
            hint: "see `kubectl -n kube-system logs daemonset/kinstall-dns`",
            arguments: [
                "--dns".to_owned(),
                format!("kubernetes.default.svc.{domain}"),
                "--dns".to_owned(),
                format!("servers.{namespace}.svc.{domain}"),
            ]
            .to_vec(),
        },
        Try {
            name: "pods reach pods of other nodes",
            container: "pod",
            hint: "see `journalctl -u kinstall-cni-agent` on both nodes; with VXLAN, UDP port 8472 must be open between hosts",
            arguments: get(format!("http://{}:{PORT}/", server.address)),
        },
        Try {
            name: "pods reach a Service",
            container: "service",
            hint: "see `journalctl -u kinstall-proxy` and `nft list ruleset` on the node",
            arguments: get(format!("http://{}/", server.cluster_ip)),
        },
        Try {
            name: "pods reach a NodePort",
            container: "node-port",
            hint: "see `journalctl -u kinstall-proxy` on the node; ports 30000 to 32767 must be open between hosts",
            arguments: get(format!("http://{}:{}/", neighbour.node_address, server.node_port)),
        },
    ]
}

/// Exit code of a container that has ended.
fn exit_code(pod: &Pod, container: &str) -> Option<i32> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// How long the probe's checks took, as its JSON lines say.
fn time_taken(log: &str) -> Duration {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Duration::from_millis(lines.filter_map(|line| line["millis"].as_u64()).sum())
}

fn client_name(host: &Host) -> String {
    format!("client-{}", host.name)
}

fn server_pod(host: &Host, image: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": format!("server-{}", host.name), "labels": {"app": "server"}},
        "spec": pod_spec(host, json!([{
            "name": "server",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/kinstall-components", "probe", "serve", "--port", PORT.to_string(), "--name", format!("server-{}", host.name)],
            "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        }]), "Always"),
    })
}

fn client_pod(host: &Host, image: &str, tries: &[Try]) -> serde_json::Value {
    let containers: Vec<_> = tries
        .iter()
        .map(|one| {
            let mut command = ["/kinstall-components", "probe", "run", "--timeout", "20"].map(str::to_owned).to_vec();
            command.extend(one.arguments.iter().cloned());
            json!({"name": one.container, "image": image, "imagePullPolicy": "IfNotPresent", "command": command})
        })
        .collect();
    json!({
        "metadata": {"name": client_name(host), "labels": {"app": "client"}},
        "spec": pod_spec(host, json!(containers), "Never"),
    })
}

fn pod_spec(host: &Host, containers: serde_json::Value, restart: &str) -> serde_json::Value {
    json!({
        "nodeSelector": {"kubernetes.io/hostname": host.name},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "restartPolicy": restart,
        "containers": containers,
    })
}

/// Creates an object; a namespace that was just made may need a moment until its service account is there.
async fn create<K>(api: &Api<K>, object: serde_json::Value) -> anyhow::Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object)?;
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        match api.create(&PostParams::default(), &object).await {
            Ok(created) => return Ok(created),
            Err(error) if Instant::now() < deadline && (passing(&error) || forbidden(&error)) => {
                tokio::time::sleep(Duration::from_millis(200)).await
            }
            Err(error) => bail!("cannot create an object for the test: {error}"),
        }
    }
}

/// ServiceAccount admission says 403 until the controllers have made `default`.
fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("service account"))
}
