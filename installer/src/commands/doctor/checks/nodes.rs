//! Nodes as the API has them.

use serde_json::Value;

use super::{Found, Sure, found};
use crate::commands::doctor::seen::{Seen, condition, list, name};

const KUBELET: &str = "kinstall-kubelet.service";

/// Conditions that are bad when they are true, what they mean, and what helps.
const PRESSURES: [(&str, &str, &str); 4] = [
    (
        "MemoryPressure",
        "its memory is nearly used up: no pod that asks for none comes to it, and the kernel may end processes",
        "give pods limits, or the host more memory",
    ),
    (
        "DiskPressure",
        "its disk is nearly full: no new pods come to it, and images that no pod uses are removed",
        "free some space on that host",
    ),
    ("PIDPressure", "it has nearly no process ids left", "look for a pod that starts processes without end"),
    ("NetworkUnavailable", "its pod network is not there", "restart kinstall-cni-agent.service on that host"),
];

pub fn nodes(seen: &Seen<'_>) -> Vec<Found> {
    let Some(objects) = seen.objects() else { return Vec::new() };
    let nodes = objects.of("nodes");
    let mut list = Vec::new();
    for host in &seen.hosts {
        let Some(node) = nodes.iter().find(|node| node["metadata"]["name"] == host.host.name.as_str()) else {
            let installed = matches!(host.told, Ok(Some(_)));
            if installed {
                let what = "its kubelet has not made a node of it";
                let cure = format!("{} says why", seen.kinstall(&format!("logs {} --unit kubelet", host.host.name)));
                list.push(found(Sure::Certain, format!("node {}", host.host.name), what, cure));
            }
            continue;
        };
        list.extend(ready(seen, node).map(|found| Found { cure: seen.on(host.host, &found.cure), ..found }));
        list.extend(PRESSURES.iter().filter_map(|(kind, what, cure)| {
            let condition = condition(node, kind).filter(|condition| condition["status"] == "True")?;
            let message = condition["message"].as_str().map(str::to_owned);
            Some(found(Sure::Certain, format!("node {}", name(node)), *what, *cure).signs(message))
        }));
        list.extend(cordoned(node));
    }
    let known = |node: &&Value| seen.cluster.hosts.iter().any(|host| node["metadata"]["name"] == host.name.as_str());
    for node in nodes.iter().filter(|node| !known(node)) {
        if !is_ready(node) {
            let what = "it is not Ready, and the inventory does not name it";
            let cure = format!(
                "{} takes it out of the cluster",
                seen.kinstall(&format!("node remove {} --force", name(node)))
            );
            list.push(found(Sure::Likely, format!("node {}", name(node)), what, cure));
        }
    }
    list
}

fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// The cure is for its host.
fn ready(seen: &Seen<'_>, node: &Value) -> Option<Found> {
    let on = format!("node {}", name(node));
    let cure = format!("systemctl restart {KUBELET}");
    let Some(ready) = condition(node, "Ready") else {
        return Some(found(Sure::Certain, on, "its kubelet has never told how it is", cure));
    };
    let message = ready["message"].as_str().map(str::to_owned);
    match ready["status"].as_str() {
        Some("True") => None,
        Some("False") => Some(found(Sure::Certain, on, "it is not Ready, its kubelet says", cure).signs(message)),
        _ => {
            let since = seen.age(&ready["lastHeartbeatTime"]).map(|age| format!(", for {age} s")).unwrap_or_default();
            let what = format!("it is not Ready: its kubelet is silent{since}");
            Some(found(Sure::Certain, on, what, cure).signs(message))
        }
    }
}

/// Cordons of our own do not stay when all is well; those of people do.
fn cordoned(node: &Value) -> Option<Found> {
    let ours = node["metadata"]["annotations"]["kinstall.dev/cordoned-for"].as_str()?;
    let cordoned = node["spec"]["unschedulable"] == true
        || list(&node["spec"]["taints"]).iter().any(|taint| taint["key"] == "node.kubernetes.io/unschedulable");
    cordoned.then(|| {
        let what = format!("it takes no new pods: an {ours} that did not come to its end left it cordoned");
        found(Sure::Likely, format!("node {}", name(node)), what, format!("kubectl uncordon {}", name(node)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{cluster, node, objects, one, well};
    use super::*;

    #[test]
    fn nodes_that_are_not_well_are_told_with_the_reason() {
        let cluster = cluster();
        let judged = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut seen = well(&cluster);
            change(objects(&mut seen, "nodes"));
            nodes(&seen)
        };
        assert!(judged(&|_| {}).is_empty());
        let silent = one(judged(&|nodes| {
            nodes[1]["status"]["conditions"][0] =
                json!({"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."});
        }));
        assert!(
            silent.what.contains("silent")
                && silent.cure == "kinstall exec --hosts h2 -- systemctl restart kinstall-kubelet.service",
            "{silent:?}"
        );
        let unready = one(judged(&|nodes| {
            nodes[0]["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "message": "no runtime"});
        }));
        assert_eq!(unready.signs, ["no runtime"]);
        let pressed = one(judged(&|nodes| nodes[1]["status"]["conditions"][1]["status"] = json!("True")));
        assert!(pressed.what.contains("disk"), "{pressed:?}");
        assert!(one(judged(&|nodes| drop(nodes.remove(1)))).what.contains("has not made a node"));
        assert!(judged(&|nodes| nodes.push(node("h9"))).is_empty(), "somebody else's business");
        let stranger = one(judged(&|nodes| {
            let mut stranger = node("h9");
            stranger["status"] = json!({});
            nodes.push(stranger);
        }));
        assert!(stranger.cure.contains("kinstall node remove h9"), "{stranger:?}");
    }

    #[test]
    fn only_a_cordon_of_ours_that_stayed_is_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        objects(&mut seen, "nodes")[1]["spec"] = json!({"unschedulable": true});
        assert!(nodes(&seen).is_empty());
        objects(&mut seen, "nodes")[1]["metadata"]["annotations"] = json!({"kinstall.dev/cordoned-for": "upgrade"});
        assert_eq!(one(nodes(&seen)).cure, "kubectl uncordon h2");
    }
}
