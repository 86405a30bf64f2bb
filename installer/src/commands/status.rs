//! `kinstall status`: hosts, nodes, addons. Looks only.

use std::time::Duration;

use futures::future::join_all;
use hoststate::Action;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::fleet::{self, Fleet};
use super::{Ended, Run};
use crate::api::Servers;
use crate::api::wait::{node_ready, workload_available};
use crate::cli::Status;
use crate::desired::{Inputs, host_state};
use crate::host::{Executable, HostError};
use crate::state::pki::Pki;

pub async fn run(run: &Run<'_>, arguments: &Status) -> anyhow::Result<Ended> {
    let bundle = run.bundle_if_any(arguments.bundled.bundle.as_deref()).await?;
    let fleet = &Fleet::new(run);
    // only a bundle says what a host shall look like; without one the units' state is left out
    let inputs = match (&bundle, run.state.exists()) {
        (Some(bundle), true) => Some((run.state.identity()?, Pki::load_or_create(&run.state, &run.cluster)?, bundle)),
        _ => None,
    };
    let opened = fleet.open(run, Executable::Installed(None)).await;
    let topology = fleet::topology(run, opened.iter().filter_map(|(_, opened)| opened.as_ref().ok()?.as_ref()));
    let rows = opened.into_iter().map(|(host, opened)| {
        let inputs = inputs.as_ref().zip(topology.as_ref().ok()).map(|((identity, pki, bundle), topology)| Inputs {
            cluster: &run.cluster,
            identity,
            pki,
            bundle: &bundle.manifest,
            topology,
        });
        async move {
            let mut row = json!({"host": host.name, "address": host.address, "reachable": true});
            match opened {
                Err(error) => {
                    row =
                        json!({"host": host.name, "address": host.address, "reachable": false, "error": brief(&error)})
                }
                Ok(None) => row["version"] = Value::Null,
                Ok(Some(mut member)) => {
                    let manifest = member.facts.manifest.as_ref();
                    row["version"] = json!(manifest.map(|manifest| &manifest.version));
                    row["complete"] = json!(manifest.is_some_and(|manifest| manifest.complete));
                    if let Some(inputs) = inputs
                        && let Ok(state) = host_state(inputs, host, &member.facts)
                        && let Ok(changes) = member.session.plan_whole(&state, &fleet.uploads).await
                    {
                        let units = crate::desired::unit_names(&run.cluster, host);
                        let down: Vec<_> = units
                            .iter()
                            .filter(|unit| {
                                changes.iter().any(|change| {
                                    change.resource == format!("unit {unit}") && change.action == Action::Start
                                })
                            })
                            .collect();
                        row["units"] = json!({"total": units.len(), "inactive": down});
                        row["pendingChanges"] = json!(changes.len());
                    }
                    member.session.close().await;
                }
            }
            row
        }
    });
    let hosts = join_all(rows).await;
    let cluster = match run.kubeconfig() {
        Ok(text) => tokio::time::timeout(Duration::from_secs(20), from_api(&text))
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the API server did not answer within 20 s"))),
        Err(error) => Err(error),
    };
    let good = hosts.iter().all(|host| {
        host["reachable"] == true
            && host["complete"] == true
            && host["units"]["inactive"].as_array().is_none_or(Vec::is_empty)
    }) && cluster.as_ref().is_ok_and(all_good);
    let (api_error, cluster) = match cluster {
        Ok(cluster) => (None, cluster),
        Err(error) => (Some(format!("{error:#}")), json!({"nodes": [], "addons": []})),
    };
    let text = table(&hosts, &cluster, api_error.as_deref());
    run.printer.result(&text, &json!({"event": "status", "ok": good, "hosts": hosts, "nodes": cluster["nodes"], "addons": cluster["addons"], "apiError": api_error}));
    Ok(if good { Ended::Done } else { Ended::Failed })
}

fn brief(error: &HostError) -> String {
    format!("{}: {}", error.step, error.message)
}

fn all_good(cluster: &Value) -> bool {
    let fine = |list: &Value, field: &str| {
        list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(|item| item[field] == true))
    };
    fine(&cluster["nodes"], "ready") && fine(&cluster["addons"], "available")
}

async fn from_api(kubeconfig: &str) -> anyhow::Result<Value> {
    let client: Client = Servers::open(kubeconfig).await?.ready(Duration::from_secs(10)).await?.client;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| {
            let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
            json!({"name": node.name_any(), "ready": node_ready(node), "version": info.map(|info| &info.kubelet_version)})
        })
        .collect();
    let mut addons = Vec::new();
    for kind in ["Deployment", "DaemonSet"] {
        let resource = kube::discovery::ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "kube-system", &resource);
        let (label, value) = crate::api::apply::MANAGED_BY;
        for object in api.list(&ListParams::default().labels(&format!("{label}={value}"))).await? {
            addons
                .push(json!({"kind": kind, "name": object.name_any(), "available": workload_available(kind, &object)}));
        }
    }
    Ok(json!({"nodes": nodes, "addons": addons}))
}

fn table(hosts: &[Value], cluster: &Value, api_error: Option<&str>) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut text = String::from("HOST            ADDRESS           VERSION   STATE\n");
    for host in hosts {
        let inactive: Vec<_> =
            host["units"]["inactive"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let state = match (host["reachable"] == true, host["version"].is_null(), host["complete"] == true) {
            (false, ..) => format!("unreachable: {}", word(&host["error"])),
            (_, true, _) => "not installed".to_owned(),
            (_, _, false) => "incomplete: run `kinstall up` again".to_owned(),
            _ if !inactive.is_empty() => format!("inactive: {}", inactive.join(", ")),
            _ => match host["pendingChanges"].as_u64() {
                None => "installed".to_owned(),
                Some(0) => "as wanted, every unit active".to_owned(),
                Some(count) => format!("units active, {count} changes pending (`kinstall plan` shows them)"),
            },
        };
        text.push_str(&format!(
            "{:<15} {:<17} {:<9} {state}\n",
            word(&host["host"]),
            word(&host["address"]),
            word(&host["version"])
        ));
    }
    if let Some(error) = api_error {
        text.push_str(&format!("\nAPI: {error}"));
        return text;
    }
    text.push_str("\nNODE            KUBELET              STATE\n");
    for node in cluster["nodes"].as_array().into_iter().flatten() {
        let state = if node["ready"] == true { "Ready" } else { "NotReady" };
        text.push_str(&format!("{:<15} {:<20} {state}\n", word(&node["name"]), word(&node["version"])));
    }
    text.push_str("\nADDON                     STATE\n");
    for addon in cluster["addons"].as_array().into_iter().flatten() {
        let state = if addon["available"] == true { "available" } else { "not available" };
        text.push_str(&format!("{:<25} {state}\n", word(&addon["name"])));
    }
    text
}
