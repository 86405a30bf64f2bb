//! Pods that hang, and the addons that are made of some.

use serde_json::Value;

use super::{Found, Sure, found};
use crate::api::wait::workload_available;
use crate::commands::doctor::seen::{Objects, Seen, condition, ends_again, list, name};

/// Longer than this nothing that goes well takes.
const PATIENCE_SECONDS: i64 = 120;
const LATELY_SECONDS: i64 = 3600;
/// Of many pods with the same trouble no more are told one by one.
const MOST: usize = 20;

/// Why a container waits: what that means, and what helps besides `describe`.
const WAITING: [(&str, &str, &str); 9] = [
    ("ErrImagePull", "its image cannot be had", "correct the image's name, or what the node may reach"),
    ("ImagePullBackOff", "its image cannot be had", "correct the image's name, or what the node may reach"),
    (
        "ErrImageNeverPull",
        "its image is not on the node, and is never to be fetched",
        "set imagePullPolicy: IfNotPresent",
    ),
    ("InvalidImageName", "its image has no valid name", "correct the image's name"),
    (
        "CreateContainerConfigError",
        "what it is configured with is not there",
        "make the ConfigMap, Secret or key that it names",
    ),
    ("CreateContainerError", "its container cannot be made", "correct what the message says"),
    ("RunContainerError", "its container cannot be started", "correct the command or what the message says"),
    ("CrashLoopBackOff", "it ends again and again", "mend what its last words say"),
    ("StartError", "its container cannot be started", "correct the command or what the message says"),
];

pub fn pods(seen: &Seen<'_>) -> Vec<Found> {
    let Some(objects) = seen.objects() else { return Vec::new() };
    let mut list: Vec<Found> = objects.of("pods").iter().filter_map(|pod| problem(seen, objects, pod)).collect();
    if list.len() > MOST {
        let more = list.len() - MOST;
        list.truncate(MOST);
        let cure = "kubectl get pods -A -o wide shows all of them";
        list.push(found(Sure::Certain, &seen.cluster.name, format!("{more} more pods hang"), cure));
    }
    list
}

fn problem(seen: &Seen<'_>, objects: &Objects, pod: &Value) -> Option<Found> {
    let on = format!("pod {}", name(pod));
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    if let Some(age) = seen.age(&pod["metadata"]["deletionTimestamp"]) {
        // the timestamp is when it should have been gone
        return (age > PATIENCE_SECONDS).then(|| stuck(objects, pod, on, age));
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|scheduled| scheduled["status"] == "False") {
        if scheduled["reason"] == "SchedulingGated" {
            return None;
        }
        let message = scheduled["message"].as_str().map(str::to_owned);
        let what = "no node can take it";
        return Some(found(Sure::Certain, on, what, describe(pod, "correct what the scheduler says")).signs(message));
    }
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|field| list(&pod["status"][field]));
    for status in statuses.into_iter().flatten() {
        if let Some(found) = waiting(seen, objects, pod, status, &on).or_else(|| killed(seen, pod, status, &on)) {
            return Some(found);
        }
    }
    slow(seen, objects, pod, phase, on)
}

/// A container that waits for what will not come by itself.
fn waiting(seen: &Seen<'_>, objects: &Objects, pod: &Value, status: &Value, on: &str) -> Option<Found> {
    let waiting = &status["state"]["waiting"];
    // between two waits it runs for a moment
    let why = if ends_again(status, seen.now) { Some("CrashLoopBackOff") } else { waiting["reason"].as_str() };
    let (reason, what, cure) = WAITING.iter().find(|(reason, ..)| why == Some(reason))?;
    let container = status["name"].as_str().unwrap_or_default();
    let mut message = waiting["message"].as_str().unwrap_or_default().to_owned();
    let mut what = format!("{what} (container {container}: {reason})");
    let mut cure = (*cure).to_owned();
    let mut signs = Vec::new();
    if *reason == "CrashLoopBackOff" {
        let last = &status["lastState"]["terminated"];
        if let Some(code) = last["exitCode"].as_i64() {
            what = format!(
                "it ends again and again (container {container}: exit code {code}, {})",
                last["reason"].as_str().unwrap_or("no reason given")
            );
        }
        signs.extend(objects.last_words.get(&format!("{}/{container}", name(pod))).cloned().unwrap_or_default());
        // that it waits is said already
        message = last["message"].as_str().unwrap_or_default().to_owned();
    } else if *reason == "ImagePullBackOff" {
        // why is in the event of the try before
        message = objects.warning(pod).unwrap_or(message);
    }
    if message.contains("lookup ") || message.contains("no such host") || message.contains("dns error") {
        cure = "the node cannot resolve the registry's name: name a nameserver that answers in its /etc/resolv.conf"
            .to_owned();
    }
    let image = status["image"].as_str().filter(|_| what.contains("image")).map(|image| format!("image: {image}"));
    Some(found(Sure::Certain, on, what, describe(pod, &cure)).signs(image.into_iter().chain([message]).chain(signs)))
}

/// One that runs again after it had used up its memory.
fn killed(seen: &Seen<'_>, pod: &Value, status: &Value, on: &str) -> Option<Found> {
    let last = &status["lastState"]["terminated"];
    let lately = seen.age(&last["finishedAt"]).is_some_and(|age| age < LATELY_SECONDS);
    (last["reason"] == "OOMKilled" && lately).then(|| {
        let container = status["name"].as_str().unwrap_or_default();
        let what = format!("its container {container} was killed because it used more memory than its limit");
        found(Sure::Likely, on, what, describe(pod, "raise the container's memory limit"))
    })
}

/// One that takes longer than anything takes that goes well.
fn slow(seen: &Seen<'_>, objects: &Objects, pod: &Value, phase: &str, on: String) -> Option<Found> {
    let node = pod["spec"]["nodeName"].as_str();
    let node = node.and_then(|node| objects.of("nodes").iter().find(|known| known["metadata"]["name"] == node));
    // what becomes of pods on such a node nobody knows; the node is told
    if node.is_some_and(|node| condition(node, "Ready").is_none_or(|ready| ready["status"] != "True")) {
        return None;
    }
    let signs = objects.warning(pod);
    match phase {
        "Pending" if seen.age(&pod["metadata"]["creationTimestamp"])? > PATIENCE_SECONDS => {
            let what = "it has a node, but does not start there";
            Some(found(Sure::Likely, on, what, describe(pod, "mend what the last event says")).signs(signs))
        }
        "Running" => {
            let ready = condition(pod, "Ready").filter(|ready| ready["status"] == "False")?;
            (seen.age(&ready["lastTransitionTime"])? > PATIENCE_SECONDS).then(|| {
                let message = ready["message"].as_str().map(str::to_owned);
                let what = "it runs, but is not Ready: Services send it nothing";
                found(Sure::Likely, on, what, describe(pod, "look at its readiness probe"))
                    .signs(message.into_iter().chain(signs))
            })
        }
        _ => None,
    }
}

fn stuck(objects: &Objects, pod: &Value, on: String, age: i64) -> Found {
    let held = list(&pod["metadata"]["finalizers"]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let what = format!("it should have been gone {age} s ago");
    let (namespace, pod_name) = (
        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        pod["metadata"]["name"].as_str().unwrap_or_default(),
    );
    let cure = match held.is_empty() {
        true => format!("kubectl -n {namespace} delete pod {pod_name} --force, once its node is known to be dead"),
        false => format!("who has set the finalizers ({held}) has to take them away"),
    };
    found(Sure::Likely, on, what, cure).signs(objects.warning(pod))
}

fn describe(pod: &Value, advice: &str) -> String {
    let (namespace, name) = (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str());
    format!("kubectl -n {} describe pod {}; {advice}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// What kinstall brought into the API and what everything else needs.
pub fn addons(seen: &Seen<'_>) -> Vec<Found> {
    let Some(objects) = seen.objects() else { return Vec::new() };
    let (label, value) = crate::api::apply::MANAGED_BY;
    let mut list = Vec::new();
    let mut there = Vec::new();
    for (kind, plural) in [("Deployment", "deployments"), ("DaemonSet", "daemonsets")] {
        let ours = objects.of(plural).iter().filter(|object| {
            object["metadata"]["namespace"] == "kube-system" && object["metadata"]["labels"][label] == value
        });
        for object in ours {
            there.push(object["metadata"]["name"].as_str().unwrap_or_default());
            let Ok(typed) = serde_json::from_value(with_type(object, kind)) else { continue };
            if !workload_available(kind, &typed) {
                let cure = format!(
                    "kubectl -n kube-system get pods -o wide; kubectl -n kube-system describe {} {}",
                    kind.to_lowercase(),
                    there.last().unwrap_or(&"")
                );
                list.push(found(
                    Sure::Certain,
                    format!("{} {}", kind.to_lowercase(), name(object)),
                    "it is not available on every node",
                    cure,
                ));
            }
        }
    }
    let wanted =
        ["kinstall-dns", "kinstall-provisioner"].into_iter().chain(seen.cluster.ingress.then_some("kinstall-ingress"));
    for missing in wanted.filter(|wanted| !there.contains(wanted)) {
        list.push(found(Sure::Certain, format!("kube-system/{missing}"), "the addon is gone", seen.kinstall("up")));
    }
    list
}

/// Items of lists do not say what they are.
fn with_type(object: &Value, kind: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = "apps/v1".into();
    object["kind"] = kind.into();
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{ago, cluster, objects, one, well};
    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"nodeName": "h2"},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "c", "image": "example.invalid/x:1", "state": {}}]},
        })
    }

    fn judged(change: impl FnOnce(&mut Value, &Seen<'_>)) -> Vec<Found> {
        let cluster = cluster();
        let mut seen = well(&cluster);
        let mut pod = pod();
        pod["metadata"]["creationTimestamp"] = ago(&seen, 10);
        change(&mut pod, &seen);
        objects(&mut seen, "pods").push(pod);
        *objects(&mut seen, "events") = vec![
            json!({"involvedObject": {"uid": "u"}, "type": "Warning", "reason": "Failed", "message": "not found", "lastTimestamp": "2024-01-02T00:00:00Z"}),
            json!({"involvedObject": {"uid": "u"}, "type": "Warning", "reason": "Old", "message": "old", "lastTimestamp": "2024-01-01T00:00:00Z"}),
        ];
        if let Some(Ok(objects)) = &mut seen.api {
            objects.last_words.insert("n/p/c".into(), vec!["no database".into()]);
        }
        pods(&seen)
    }

    #[test]
    fn pods_that_start_or_run_are_nothing_to_tell() {
        assert!(judged(|_, _| {}).is_empty());
        assert!(
            judged(|pod, _| pod["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": "ContainerCreating"}}))
            .is_empty()
        );
        assert!(judged(|pod, _| pod["status"]["phase"] = json!("Failed")).is_empty());
        assert!(judged(|pod, seen| pod["metadata"]["deletionTimestamp"] = ago(seen, -20)).is_empty());
        assert!(
            judged(|pod, seen| {
                pod["status"]["phase"] = json!("Running");
                pod["status"]["conditions"] =
                    json!([{"type": "Ready", "status": "False", "lastTransitionTime": ago(seen, 20)}]);
            })
            .is_empty()
        );
    }

    #[test]
    fn every_reason_for_which_containers_wait_is_told() {
        for (reason, words, _) in WAITING {
            let told = one(judged(|pod, _| {
                pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": reason, "message": "m"}});
            }));
            assert!(told.sure == Sure::Certain && told.what.contains(words) && told.on == "pod n/p", "{told:?}");
            assert!(told.cure.starts_with("kubectl -n n describe pod p; "), "{told:?}");
        }
        let image = one(judged(|pod, _| {
            pod["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}});
        }));
        assert_eq!(image.signs, ["image: example.invalid/x:1", "Failed: not found"]);
        let dns = one(judged(|pod, _| {
            pod["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": "ErrImagePull", "message": "lookup example.invalid: no such host"}});
        }));
        assert!(dns.cure.contains("resolv.conf"), "{dns:?}");
    }

    #[test]
    fn who_ends_again_and_again_is_told_with_the_last_words() {
        let told = one(judged(|pod, _| {
            pod["status"]["phase"] = json!("Running");
            pod["status"]["containerStatuses"][0] = json!({"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}});
        }));
        assert!(told.what.contains("exit code 3") && told.signs == ["no database"], "{told:?}");
        let killed = one(judged(|pod, seen| {
            pod["status"]["phase"] = json!("Running");
            pod["status"]["containerStatuses"][0] = json!({"name": "c", "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled", "finishedAt": ago(seen, 60)}}});
        }));
        assert!(killed.cure.contains("memory limit"), "{killed:?}");
    }

    #[test]
    fn who_ends_again_is_told_between_two_waits_too() {
        let status = |seen: &Seen<'_>, restarts: u32, ran: i64, since: i64, state: &str| {
            let ended = json!({"exitCode": 3, "reason": "Error", "startedAt": ago(seen, since + 5 + ran), "finishedAt": ago(seen, since + 5)});
            let state = match state {
                "running" => json!({"running": {"startedAt": ago(seen, since)}}),
                "failed" => json!({"terminated": {"exitCode": 3, "finishedAt": ago(seen, since)}}),
                "done" => json!({"terminated": {"exitCode": 0, "finishedAt": ago(seen, since)}}),
                waits => json!({"waiting": {"reason": waits}}),
            };
            json!({"name": "c", "restartCount": restarts, "state": state, "lastState": {"terminated": ended}})
        };
        for (is_told, restarts, ran, since, state) in [
            (true, 2, 1, 3, "running"),
            (true, 2, 1, 3, "failed"),
            (true, 2, 1, 3, "ContainerCreating"),
            (false, 1, 1, 3, "running"),
            (false, 2, 1, 90, "running"),
            (false, 2, 4000, 3, "running"),
            (false, 2, 1, 3, "done"),
        ] {
            let told = judged(|pod, seen| {
                pod["status"]["phase"] = json!("Running");
                pod["status"]["containerStatuses"][0] = status(seen, restarts, ran, since, state);
            });
            let words = told.first().map(|told| (told.sure, told.what.as_str(), told.signs.as_slice()));
            let expected = (
                Sure::Certain,
                "it ends again and again (container c: exit code 3, Error)",
                &["no database".to_owned()][..],
            );
            assert_eq!(words, is_told.then_some(expected), "{restarts} restarts, {ran} s, {since} s, {state}");
        }
    }

    #[test]
    fn pods_that_take_too_long_are_told() {
        let unschedulable = one(judged(|pod, _| {
            pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}]);
        }));
        assert_eq!(
            (unschedulable.sure, unschedulable.signs.as_slice()),
            (Sure::Certain, &["0/2 nodes are available".to_owned()][..])
        );
        assert!(
            one(judged(|pod, seen| pod["metadata"]["creationTimestamp"] = ago(seen, 300))).signs
                == ["Failed: not found"]
        );
        assert!(
            one(judged(|pod, seen| pod["metadata"]["deletionTimestamp"] = ago(seen, 300))).what.contains("300 s ago")
        );
        assert!(
            one(judged(|pod, seen| {
                pod["status"]["phase"] = json!("Running");
                pod["status"]["conditions"] =
                    json!([{"type": "Ready", "status": "False", "lastTransitionTime": ago(seen, 300)}]);
            }))
            .what
            .contains("not Ready")
        );
    }

    #[test]
    fn addons_that_are_gone_or_not_available_are_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        let addon = |name: &str, available: u32| {
            json!({"metadata": {"namespace": "kube-system", "name": name, "labels": {"app.kubernetes.io/managed-by": "kinstall"}},
                   "status": {"desiredNumberScheduled": 2, "numberAvailable": available, "updatedNumberScheduled": 2}})
        };
        *objects(&mut seen, "daemonsets") =
            vec![addon("kinstall-dns", 2), addon("kinstall-ingress", 2), addon("kinstall-provisioner", 2)];
        assert!(addons(&seen).is_empty(), "{:?}", addons(&seen));
        objects(&mut seen, "daemonsets")[0]["status"]["numberAvailable"] = json!(1);
        assert!(one(addons(&seen)).what.contains("not available"));
        objects(&mut seen, "daemonsets").remove(0);
        assert_eq!(one(addons(&seen)).on, "kube-system/kinstall-dns");
    }
}
