//! `kinstall node list`: what the API knows of nodes, beside what their hosts say. Looks only.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::api::Servers;
use crate::api::wait::node_ready;
use crate::cluster::Host;
use crate::commands::fleet::Fleet;
use crate::commands::{Ended, Run};
use crate::host::Executable;
use crate::state::applied::Applied;

const ROLE: &str = "node-role.kubernetes.io/";

pub async fn run(run: &Run<'_>) -> anyhow::Result<Ended> {
    let fleet = Fleet::new(run);
    let (nodes, hosts) = tokio::join!(nodes(run), fleet.open(run, Executable::Installed(None)));
    let nodes = nodes?;
    let closing = hosts.into_iter().map(|(host, opened)| async move {
        let said = match opened {
            Err(error) => json!({"reachable": false, "error": format!("{}: {}", error.step, error.message)}),
            Ok(None) => json!({"reachable": true, "installed": false}),
            Ok(Some(member)) => {
                let manifest = member.facts.manifest.as_ref();
                let said = json!({
                    "reachable": true,
                    "installed": manifest.is_some(),
                    "version": manifest.map(|manifest| &manifest.version),
                    "applied": manifest.map(|manifest| &manifest.applied),
                    "complete": manifest.is_some_and(|manifest| manifest.complete),
                });
                member.session.close().await;
                said
            }
        };
        (host, said)
    });
    let mut rows: Vec<Value> = Vec::new();
    for (host, said) in join_all(closing).await {
        rows.push(row(nodes.iter().find(|node| node.name_any() == host.name), Some(host), said));
    }
    let known = |node: &&Node| !run.cluster.hosts.iter().any(|host| host.name == node.name_any());
    rows.extend(nodes.iter().filter(known).map(|node| row(Some(node), None, Value::Null)));
    let beside = Applied::load(&run.state)?.unwrap_or_default();
    let beside: Vec<&str> = beside.beside(&run.cluster).into_iter().map(|host| host.host.as_str()).collect();
    let text = format!("{}{}", table(&rows), never_taken_back(&beside));
    run.printer.result(&text, &json!({"event": "nodes", "nodes": rows, "notTakenBack": beside}));
    Ok(Ended::Done)
}

fn never_taken_back(hosts: &[&str]) -> String {
    let line = |host: &&str| {
        format!(
            "{host} was a host of the cluster and was never taken back: `kinstall node remove {host}` does it when it can be reached\n"
        )
    };
    hosts.iter().map(line).collect()
}

async fn nodes(run: &Run<'_>) -> anyhow::Result<Vec<Node>> {
    let client = Servers::open(&run.kubeconfig()?).await?.ready(Duration::from_secs(10)).await?.client;
    Ok(Api::<Node>::all(client).list(&ListParams::default()).await?.items)
}

fn row(node: Option<&Node>, host: Option<&Host>, said: Value) -> Value {
    let status = node.and_then(|node| node.status.as_ref());
    let internal = status.and_then(|status| {
        status.addresses.iter().flatten().find(|address| address.type_ == "InternalIP").map(|found| &found.address)
    });
    let address = internal.cloned().or_else(|| host.map(|host| host.node_address.to_string()));
    json!({
        "name": node.map(|node| node.name_any()).or_else(|| host.map(|host| host.name.clone())),
        "roles": roles(node, host),
        "address": address,
        "registered": node.is_some(),
        "ready": node.is_some_and(node_ready),
        "schedulable": node.map(|node| node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true)),
        "version": status.and_then(|status| status.node_info.as_ref()).map(|info| &info.kubelet_version),
        "inInventory": host.is_some(),
        "host": said,
    })
}

/// The inventory's; of a node that it does not name, what its labels say.
fn roles(node: Option<&Node>, host: Option<&Host>) -> Vec<String> {
    if let Some(host) = host {
        let roles = [("control-plane", host.control_plane), ("worker", host.worker)];
        return roles.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect();
    }
    node.iter()
        .flat_map(|node| node.labels().keys())
        .filter_map(|key| Some(key.strip_prefix(ROLE)?.to_owned()))
        .collect()
}

fn table(rows: &[Value]) -> String {
    let word = |value: &Value| value.as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let line = |cells: [String; 6]| {
        let [name, roles, address, state, version, host] = cells;
        format!("{name:<15} {roles:<21} {address:<15} {state:<20} {version:<18} {host}\n")
    };
    let mut text = line(["NODE", "ROLES", "ADDRESS", "STATE", "KUBELET", "HOST"].map(str::to_owned));
    for row in rows {
        let roles: Vec<_> = row["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut state = match (row["registered"] == true, row["ready"] == true) {
            (false, _) => "no node".to_owned(),
            (_, true) => "Ready".to_owned(),
            _ => "NotReady".to_owned(),
        };
        if row["schedulable"] == false {
            state.push_str(", cordoned");
        }
        let roles = if roles.is_empty() { "-".to_owned() } else { roles.join(",") };
        let cells = [word(&row["name"]), roles, word(&row["address"]), state, word(&row["version"]), host(row)];
        text.push_str(&line(cells));
    }
    text
}

fn host(row: &Value) -> String {
    let said = &row["host"];
    let text = |name: &str| said[name].as_str().unwrap_or("?");
    match () {
        () if row["inInventory"] == false => "not in the inventory".to_owned(),
        () if said["reachable"] == false => format!("unreachable: {}", text("error")),
        () if said["installed"] == false => "not installed".to_owned(),
        () if said["complete"] == false => format!("{}, incomplete: run `kinstall up` again", text("version")),
        () => format!("{}, applied {}", text("version"), text("applied")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_is_told_with_its_host_and_either_without_the_other() {
        let text = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, roles: [controlPlane, worker]}\n- {name: h2, address: 10.0.0.2, role: worker}\n";
        let cluster = crate::cluster::Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        let node = |name: &str, cordoned: bool| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": cordoned},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}],
                },
            }))
            .unwrap()
        };
        let said =
            json!({"reachable": true, "installed": true, "complete": true, "version": "1.2", "applied": "today"});
        let rows = [
            row(Some(&node("h1", true)), Some(&cluster.hosts[0]), said),
            row(None, Some(&cluster.hosts[1]), json!({"reachable": true, "installed": false})),
            row(Some(&node("old", false)), None, Value::Null),
        ];
        let text = table(&rows);
        let lines: Vec<_> = text.lines().collect();
        for (line, words) in [
            (1, &["h1", "control-plane,worker", "10.0.0.9", "Ready, cordoned", "1.2, applied today"][..]),
            (2, &["h2", "worker", "10.0.0.2", "no node", "not installed"]),
            (3, &["old", "control-plane", "Ready", "not in the inventory"]),
        ] {
            assert!(words.iter().all(|word| lines[line].contains(word)), "{}", lines[line]);
        }
    }
}
