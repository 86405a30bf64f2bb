//! What of a Node the inventory decides: labels and taints.
//!
//! Nodes have others too, from kubelets, controllers and people. Which ones are ours stands on the Node itself, in an
//! annotation: so what the inventory has no longer is taken away again, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use hoststate::Action;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::apply::{ObjectChange, Outcome};
use super::difference::{between, shown};
use crate::cluster::{CONTROL_PLANE_TAINT, Cluster, Host};

const OURS: &str = "kinstall.dev/inventory";
const ROLE: &str = "node-role.kubernetes.io/control-plane";
/// A Node changes every few seconds; a taint is written only onto what was read.
const TRIES: usize = 10;

/// Keys of labels; keys and effects of taints.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ours {
    #[serde(default)]
    labels: BTreeSet<String>,
    #[serde(default)]
    taints: BTreeSet<(String, String)>,
}

/// Makes every Node that there is what the inventory says. Gives those that changed.
pub async fn bring(client: &Client, cluster: &Cluster) -> anyhow::Result<Vec<(String, Outcome)>> {
    let mut changed = Vec::new();
    for host in &cluster.hosts {
        if bring_one(client, host).await.with_context(|| format!("cannot label the node {}", host.name))? {
            changed.push((format!("Node {}", host.name), Outcome::Updated));
        }
    }
    Ok(changed)
}

/// What [`bring`] would do; changes nothing.
pub async fn plan(client: &Client, cluster: &Cluster) -> anyhow::Result<Vec<ObjectChange>> {
    let nodes = Api::<Node>::all(client.clone());
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    let mut changes = Vec::new();
    for host in &cluster.hosts {
        let Some(node) = nodes.get_opt(&host.name).await? else { continue };
        let Some(mut patch) = patch(&node, host) else { continue };
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            // nothing is written, so nothing of others can be overwritten
            metadata.remove("resourceVersion");
        }
        let patched = nodes.patch(&host.name, &parameters, &Patch::Merge(patch)).await?;
        let fields = shown("Node", &between(&serde_json::to_value(&node)?, &serde_json::to_value(&patched)?));
        changes.push(ObjectChange { object: format!("Node {}", host.name), action: Action::Update, fields });
    }
    Ok(changes)
}

async fn bring_one(client: &Client, host: &Host) -> anyhow::Result<bool> {
    let nodes = Api::<Node>::all(client.clone());
    let mut tries = 0;
    loop {
        let Some(node) = nodes.get_opt(&host.name).await? else { return Ok(false) };
        let Some(patch) = patch(&node, host) else { return Ok(false) };
        match nodes.patch(&host.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What has to change; None: nothing.
fn patch(node: &Node, host: &Host) -> Option<Value> {
    let noted = node.annotations().get(OURS).and_then(|text| serde_json::from_str::<Ours>(text).ok());
    let (wanted, was) = (wanted_taints(host), ours_before(noted.as_ref()));
    let ours = Ours { labels: host.labels.keys().cloned().collect(), taints: wanted.keys().cloned().collect() };
    let mut labels = Map::new();
    for (key, value) in host.labels.iter().filter(|(key, value)| node.labels().get(*key) != Some(*value)) {
        labels.insert(key.clone(), json!(value));
    }
    for key in was.labels.difference(&ours.labels).filter(|key| node.labels().contains_key(*key)) {
        labels.insert(key.clone(), Value::Null);
    }
    let taints = taints(node, &wanted, &was);
    let mut patch = json!({});
    if !labels.is_empty() {
        patch["metadata"]["labels"] = labels.into();
    }
    if let Some(taints) = taints {
        patch["metadata"]["resourceVersion"] = json!(node.resource_version());
        patch["spec"]["taints"] = json!(taints);
    }
    if noted.as_ref() != Some(&ours) {
        patch["metadata"]["annotations"] = json!({OURS: serde_json::to_string(&ours).ok()?});
    }
    (patch != json!({})).then_some(patch)
}

/// A control plane's role was always written by us, also before it was noted.
fn ours_before(noted: Option<&Ours>) -> Ours {
    let mut was = Ours::default();
    if let Some(noted) = noted {
        was.labels.clone_from(&noted.labels);
        was.taints.clone_from(&noted.taints);
    }
    was.labels.insert(ROLE.to_owned());
    if let Some((key, effect)) = CONTROL_PLANE_TAINT.rsplit_once(':') {
        was.taints.insert((key.to_owned(), effect.to_owned()));
    }
    was
}

/// By key and effect.
fn wanted_taints(host: &Host) -> BTreeMap<(String, String), Option<String>> {
    let parse = |taint: &String| {
        let (left, effect) = taint.rsplit_once(':')?;
        let (key, value) = left.split_once('=').map_or((left, None), |(key, value)| (key, Some(value.to_owned())));
        Some(((key.to_owned(), effect.to_owned()), value.filter(|value| !value.is_empty())))
    };
    host.taints.iter().filter_map(parse).collect()
}

/// The whole list as it is to be; None: as it is.
fn taints(node: &Node, wanted: &BTreeMap<(String, String), Option<String>>, was: &Ours) -> Option<Vec<Taint>> {
    let there = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let id = |taint: &Taint| (taint.key.clone(), taint.effect.clone());
    let value = |taint: &Taint| taint.value.clone().filter(|value| !value.is_empty());
    let stays = |taint: &&Taint| match wanted.get(&id(taint)) {
        Some(wanted) => *wanted == value(taint),
        None => !was.taints.contains(&id(taint)),
    };
    let mut taints: Vec<Taint> = there.iter().filter(stays).cloned().collect();
    for ((key, effect), value) in wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            taints.push(Taint { key: key.clone(), effect: effect.clone(), value: value.clone(), time_added: None });
        }
    }
    let same = taints.len() == there.len() && taints.iter().zip(&there).all(|(new, old)| id(new) == id(old));
    (!same || taints.iter().zip(&there).any(|(new, old)| value(new) != value(old))).then_some(taints)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host(role: &str, more: &str) -> Host {
        let first = "- {name: h0, address: 10.0.0.9, role: controlPlane}\n".repeat(usize::from(role == "worker"));
        let text = format!("cluster: c\nhosts:\n{first}- {{name: h1, address: 10.0.0.1, role: {role}{more}}}\n");
        Cluster::parse(&text, "i", std::path::Path::new("/")).unwrap().hosts.pop().unwrap()
    }

    fn node(labels: Value, taints: Value, noted: Option<Value>) -> Node {
        let annotations = noted.map(|noted| json!({OURS: noted.to_string()}));
        serde_json::from_value(json!({
            "metadata": {"name": "h1", "resourceVersion": "7", "labels": labels, "annotations": annotations},
            "spec": {"taints": taints},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_wanted_is_set_once() {
        let host = host("worker", ", labels: {disk: ssd, a/b: c}, taints: ['gpu=yes:NoSchedule']");
        let theirs = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]);
        let found = patch(&node(json!({"disk": "ssd", "theirs": "x"}), theirs.clone(), None), &host).unwrap();
        assert_eq!(found["metadata"]["labels"], json!({"a/b": "c"}));
        let gpu = json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"});
        assert_eq!(found["spec"]["taints"], json!([theirs[0], gpu]));
        assert_eq!(found["metadata"]["resourceVersion"], "7");
        let noted: Value = serde_json::from_str(found["metadata"]["annotations"][OURS].as_str().unwrap()).unwrap();
        assert_eq!(noted, json!({"labels": ["a/b", "disk"], "taints": [["gpu", "NoSchedule"]]}));
        let labels = json!({"disk": "ssd", "a/b": "c", "theirs": "x"});
        assert_eq!(patch(&node(labels, json!([gpu]), Some(noted)), &host), None);
    }

    #[test]
    fn what_was_ours_goes_and_what_is_theirs_stays() {
        let noted = json!({"labels": ["disk"], "taints": [["gpu", "NoSchedule"]]});
        let taints = json!([
            {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
            {"key": "gpu", "value": "yes", "effect": "NoExecute"},
            {"key": "theirs", "effect": "NoSchedule"},
        ]);
        let labels = json!({"disk": "ssd", "theirs": "x"});
        let found = patch(&node(labels, taints.clone(), Some(noted)), &host("worker", "")).unwrap();
        assert_eq!(found["metadata"]["labels"], json!({"disk": null}));
        assert_eq!(found["spec"]["taints"], json!([taints[1], taints[2]]));
    }

    #[test]
    fn a_role_that_was_taken_away_is_gone_from_the_node() {
        let labels = json!({ROLE: ""});
        let taints = json!([{"key": ROLE, "effect": "NoSchedule"}]);
        let found = patch(&node(labels.clone(), taints.clone(), None), &host("worker", "")).unwrap();
        assert_eq!((&found["metadata"]["labels"], &found["spec"]["taints"]), (&json!({ROLE: null}), &json!([])));
        assert_eq!(CONTROL_PLANE_TAINT, format!("{ROLE}:NoSchedule"));
    }
}
