//! Which of a node's pods go, which stay, and which hold up the whole: the rules of `kubectl drain --ignore-daemonsets`.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::Options;

/// On a pod that a kubelet runs from a file: the API shows it only.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Why a pod stays on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// Its controller would put it there again.
    DaemonSet,
    /// The API cannot remove it.
    Mirror,
}

/// Why a pod may not go unless the operator says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nobody creates it again.
    Unmanaged,
    EmptyDir,
}

impl Obstacle {
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unmanaged => "no controller will create it again (--force removes it for good)",
            Self::EmptyDir => "what it keeps in emptyDir volumes would be lost (--delete-emptydir-data accepts that)",
        }
    }
}

/// A node's pods, each in one list. As long as `held` is not empty nothing may be evicted.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub go: Vec<Pod>,
    pub stay: Vec<(Pod, Stays)>,
    pub held: Vec<(Pod, Obstacle)>,
}

pub fn decide<'a>(pods: impl IntoIterator<Item = &'a Pod>, options: &Options) -> Decision {
    let mut decision = Decision::default();
    for pod in pods {
        match (stays(pod), obstacle(pod, options)) {
            (Some(why), _) => decision.stay.push((pod.clone(), why)),
            (None, Some(why)) => decision.held.push((pod.clone(), why)),
            (None, None) => decision.go.push(pod.clone()),
        }
    }
    decision
}

fn stays(pod: &Pod) -> Option<Stays> {
    if pod.annotations().contains_key(MIRROR) {
        return Some(Stays::Mirror);
    }
    let of_daemon_set = controller(pod).is_some_and(|kind| kind == "DaemonSet");
    (of_daemon_set && !is_finished(pod)).then_some(Stays::DaemonSet)
}

/// The first that applies; a finished pod, or one on its way out, has nothing left to lose.
fn obstacle(pod: &Pod, options: &Options) -> Option<Obstacle> {
    if is_finished(pod) || is_going(pod) {
        return None;
    }
    if controller(pod).is_none() && !options.force {
        return Some(Obstacle::Unmanaged);
    }
    (has_empty_dir(pod) && !options.delete_empty_dir_data).then_some(Obstacle::EmptyDir)
}

pub fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn controller(pod: &Pod) -> Option<&str> {
    pod.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.kind.as_str())
}

fn has_empty_dir(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.is_some_and(|volumes| volumes.iter().any(|volume| volume.empty_dir.is_some()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn pod(change: Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}});
        merge(&mut pod, change);
        serde_json::from_value(pod).unwrap()
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
            }
            (into, from) => *into = from,
        }
    }

    fn owned(kind: &str, controller: bool) -> Value {
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": controller}
        ]}})
    }

    fn with(mut first: Value, second: Value) -> Value {
        merge(&mut first, second);
        first
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        Goes,
        Stays(Stays),
        Held(Obstacle),
    }

    fn fate(pod: &Pod, force: bool, delete_empty_dir_data: bool) -> Fate {
        let options = Options { force, delete_empty_dir_data, timeout: Duration::ZERO };
        let decision = decide([pod], &options);
        assert_eq!(decision.go.len() + decision.stay.len() + decision.held.len(), 1);
        match (decision.stay.first(), decision.held.first()) {
            (Some((_, why)), _) => Fate::Stays(*why),
            (_, Some((_, why))) => Fate::Held(*why),
            _ => Fate::Goes,
        }
    }

    #[test]
    fn every_kind_of_pod_under_every_option() {
        use Fate::{Goes, Held};
        let scratch = || json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let claim = || json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
        let phase = |phase: &str| json!({"status": {"phase": phase}});
        let going = || json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let mirror = || json!({"metadata": {"annotations": {MIRROR: "hash"}}});
        let set = || owned("ReplicaSet", true);
        let daemon = || owned("DaemonSet", true);
        let bare = Held(Obstacle::Unmanaged);
        let data = Held(Obstacle::EmptyDir);
        let stays = |why| [Fate::Stays(why); 4];
        // with: nothing, --force, --delete-emptydir-data, both
        let table = [
            ("of a ReplicaSet", set(), [Goes; 4]),
            ("with a claim", with(set(), claim()), [Goes; 4]),
            ("with scratch data", with(set(), scratch()), [data, data, Goes, Goes]),
            ("nobody's", json!({}), [bare, Goes, bare, Goes]),
            ("nobody's with scratch data", scratch(), [bare, data, bare, Goes]),
            ("owned but not controlled", owned("Widget", false), [bare, Goes, bare, Goes]),
            ("of a DaemonSet", daemon(), stays(Stays::DaemonSet)),
            ("of a DaemonSet with scratch data", with(daemon(), scratch()), stays(Stays::DaemonSet)),
            ("of a DaemonSet, finished", with(daemon(), phase("Failed")), [Goes; 4]),
            ("a mirror", mirror(), stays(Stays::Mirror)),
            ("a mirror, owned by its node", with(mirror(), owned("Node", true)), stays(Stays::Mirror)),
            ("nobody's, finished", with(scratch(), phase("Succeeded")), [Goes; 4]),
            ("nobody's, running", with(json!({}), phase("Running")), [bare, Goes, bare, Goes]),
            ("nobody's, on its way out", with(scratch(), going()), [Goes; 4]),
        ];
        for (name, shape, expected) in table {
            let pod = pod(shape);
            let found = [(false, false), (true, false), (false, true), (true, true)].map(|(f, d)| fate(&pod, f, d));
            assert_eq!(found, expected, "{name}");
        }
    }
}
