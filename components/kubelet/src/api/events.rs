//! Kubernetes Events about pods and the node: queued, counted when repeated, never in anyone's way.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;

const QUEUE: usize = 256;
const REMEMBERED: usize = 1024;

#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Note>);

struct Note {
    object: ObjectReference,
    type_: &'static str,
    reason: &'static str,
    message: String,
}

impl Recorder {
    pub fn start(client: kube::Client, node: String) -> Recorder {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(publish(client, node, receiver));
        Recorder(sender)
    }

    pub fn pod(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &'static str, message: String) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| format!("spec.containers{{{name}}}")),
        };
        self.send(object, warning, reason, message);
    }

    pub fn node(&self, node: &Node, warning: bool, reason: &'static str, message: String) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.name_any()),
            uid: node.metadata.uid.clone(),
            ..Default::default()
        };
        self.send(object, warning, reason, message);
    }

    fn send(&self, object: ObjectReference, warning: bool, reason: &'static str, message: String) {
        let type_ = if warning { "Warning" } else { "Normal" };
        // a full queue drops the event: events are best effort by contract
        self.0.try_send(Note { object, type_, reason, message }).ok();
    }
}

async fn publish(client: kube::Client, node: String, mut notes: mpsc::Receiver<Note>) {
    let mut known: HashMap<String, (String, i32)> = HashMap::new();
    while let Some(note) = notes.recv().await {
        if known.len() > REMEMBERED {
            known.clear();
        }
        let key = format!("{:?}/{:?}/{}/{}", note.object.uid, note.object.field_path, note.reason, note.message);
        let namespace = note.object.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let now = Time(Timestamp::now());
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let patch = serde_json::json!({"count": *count, "lastTimestamp": now});
            let sent = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            if !matches!(&sent, Err(error) if super::is_status(error, 404)) {
                continue;
            }
        }
        let name = format!("{}.{:x}", note.object.name.as_deref().unwrap_or("node"), now.0.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..Default::default() },
            involved_object: note.object,
            type_: Some(note.type_.into()),
            reason: Some(note.reason.into()),
            message: Some(note.message),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.clone()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(node.clone()),
            ..Default::default()
        };
        let created = tokio::time::timeout(Duration::from_secs(5), api.create(&PostParams::default(), &event)).await;
        match created {
            Ok(Ok(_)) => {
                known.insert(key, (name, 1));
            }
            Ok(Err(error)) => tracing::debug!(%error, "event not recorded"),
            Err(_) => tracing::debug!("event not recorded: the API server did not answer"),
        }
    }
}
