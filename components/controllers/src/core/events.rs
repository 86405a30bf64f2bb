//! Records Event objects (core/v1) without ever delaying a controller: a channel and one task. Repeats of the same event are
//! counted on one object, as client-go's correlator does.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;

use super::meta;

const REMEMBERED: usize = 1024;
const BUFFERED: usize = 1024;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    object: String,
    component: &'static str,
    reason: &'static str,
    message: String,
}

struct Record {
    kind: &'static str,
    involved: ObjectReference,
    identity: Identity,
}

#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Record>);

impl Recorder {
    /// The recorder, and the future that writes what is recorded.
    pub fn new(client: Client) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(BUFFERED);
        (Self(sender), write(client, receiver))
    }

    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(component, "Normal", object, reason, message.into());
    }

    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(component, "Warning", object, reason, message.into());
    }

    fn record<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        kind: &'static str,
        object: &K,
        reason: &'static str,
        message: String,
    ) {
        let of = object.meta();
        let involved = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: of.name.clone(),
            namespace: of.namespace.clone(),
            uid: of.uid.clone(),
            resource_version: of.resource_version.clone(),
            field_path: None,
        };
        let identity = Identity { object: meta::uid(of).to_owned(), component, reason, message };
        // A full buffer drops the event: events inform, they never hold up work.
        let _ = self.0.try_send(Record { kind, involved, identity });
    }
}

struct Written {
    ns: String,
    name: String,
    count: i32,
}

async fn write(client: Client, mut records: mpsc::Receiver<Record>) {
    let mut written: HashMap<Identity, Written> = HashMap::new();
    let mut sequence: u64 = 0;
    while let Some(record) = records.recv().await {
        if let Some(earlier) = written.get_mut(&record.identity)
            && repeat(&client, earlier).await
        {
            continue;
        }
        if written.len() >= REMEMBERED {
            written.clear();
        }
        sequence += 1;
        let identity = record.identity.clone();
        let event = event_for(record, sequence);
        let (ns, name) = (meta::namespace(&event.metadata).to_owned(), meta::name(&event.metadata).to_owned());
        match Api::<Event>::namespaced(client.clone(), &ns).create(&PostParams::default(), &event).await {
            Ok(_) => {
                written.insert(identity, Written { ns, name, count: 1 });
            }
            Err(error) if meta::namespace_terminating(&error) || meta::not_found(&error) => {}
            Err(error) => tracing::debug!(event = %identity.reason, %error, "event not recorded"),
        }
    }
}

async fn repeat(client: &Client, earlier: &mut Written) -> bool {
    earlier.count += 1;
    let patch = json!({"count": earlier.count, "lastTimestamp": meta::now_time()});
    let api = Api::<Event>::namespaced(client.clone(), &earlier.ns);
    api.patch(&earlier.name, &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok()
}

fn event_for(record: Record, sequence: u64) -> Event {
    let ns = record.involved.namespace.clone().filter(|ns| !ns.is_empty()).unwrap_or_else(|| "default".into());
    let object = record.involved.name.as_deref().unwrap_or_default();
    let name = format!("{object}.{:x}{sequence:04x}", meta::now().as_microsecond());
    let at = meta::now_time();
    Event {
        metadata: ObjectMeta { namespace: Some(ns), name: Some(name), ..Default::default() },
        involved_object: record.involved,
        reason: Some(record.identity.reason.to_owned()),
        message: Some(record.identity.message),
        type_: Some(record.kind.to_owned()),
        count: Some(1),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        source: Some(EventSource { component: Some(record.identity.component.to_owned()), host: None }),
        reporting_component: Some(record.identity.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Default::default()
    }
}
