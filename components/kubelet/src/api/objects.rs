//! The ConfigMaps and Secrets that pods of this node use, each kept fresh by a watch of its own.
//!
//! The node authorizer lets a kubelet read exactly the objects its pods name, so there is one watch for
//! each object, shared by all pods that use it and ended with the last of them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a pod waits for the first answer about an object before it reports an error and retries.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    ConfigMap,
    Secret,
}

/// The payload of a ConfigMap or Secret: names to bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Payload {
    pub data: std::collections::BTreeMap<String, Vec<u8>>,
    pub immutable: bool,
    pub type_: String,
}

#[derive(Debug, Clone)]
enum State {
    Unknown(Option<String>),
    Absent,
    Present(Arc<Payload>),
}

type Key = (Kind, String, String);

/// A pod's claim on an object; the watch ends with the last claim.
pub struct Claim {
    state: watch::Receiver<State>,
    key: Key,
    task: AbortHandle,
    objects: Weak<Inner>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(inner) = self.objects.upgrade() {
            let mut entries = inner.entries.lock();
            if entries.get(&self.key).is_some_and(|weak| weak.strong_count() == 0) {
                entries.remove(&self.key);
            }
        }
    }
}

struct Inner {
    api: Arc<super::Api>,
    entries: Mutex<HashMap<Key, Weak<Claim>>>,
}

#[derive(Clone)]
pub struct Objects(Arc<Inner>);

impl Objects {
    pub fn new(api: Arc<super::Api>) -> Self {
        Objects(Arc::new(Inner { api, entries: Mutex::new(HashMap::new()) }))
    }

    /// Starts (or joins) the watch of one object.
    pub fn claim(&self, kind: Kind, namespace: &str, name: &str) -> Result<Arc<Claim>> {
        let key = (kind, namespace.to_string(), name.to_string());
        let mut entries = self.0.entries.lock();
        if let Some(claim) = entries.get(&key).and_then(Weak::upgrade) {
            return Ok(claim);
        }
        let client = self.0.api.watch_client(entries.len())?;
        let (sender, state) = watch::channel(State::Unknown(None));
        let task = match kind {
            Kind::ConfigMap => tokio::spawn(follow::<ConfigMap>(client, key.clone(), sender, from_config_map)),
            Kind::Secret => tokio::spawn(follow::<Secret>(client, key.clone(), sender, from_secret)),
        };
        let claim =
            Arc::new(Claim { state, key: key.clone(), task: task.abort_handle(), objects: Arc::downgrade(&self.0) });
        entries.insert(key, Arc::downgrade(&claim));
        Ok(claim)
    }
}

impl Claim {
    /// The object's payload; `None` if it does not exist.
    pub async fn get(&self) -> Result<Option<Arc<Payload>>> {
        let mut state = self.state.clone();
        let answered = tokio::time::timeout(FIRST_ANSWER, state.wait_for(|s| !matches!(s, State::Unknown(_)))).await;
        if let Ok(Ok(state)) = answered {
            return Ok(match &*state {
                State::Present(payload) => Some(payload.clone()),
                _ => None,
            });
        }
        let (kind, namespace, name) = &self.key;
        let cause = match &*self.state.borrow() {
            State::Unknown(Some(cause)) => cause.clone(),
            _ => "the API server did not answer".to_string(),
        };
        bail!("{kind:?} {namespace}/{name} cannot be read: {cause}")
    }

    /// Completes when the object changes.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        let mut receiver = self.state.clone();
        receiver.mark_unchanged();
        receiver
    }
}

async fn follow<K>(client: kube::Client, key: Key, sender: watch::Sender<State>, payload: fn(K) -> Payload)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let (kind, namespace, name) = key;
    let api: Api<K> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut delay = Duration::from_millis(50);
    let mut stream = watcher::watcher(api, config).boxed();
    let mut seen = false;
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => seen = false,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                seen = true;
                delay = Duration::from_millis(50);
                let fresh = payload(object);
                let immutable = fresh.immutable;
                sender.send_if_modified(|state| {
                    let same = matches!(state, State::Present(old) if **old == fresh);
                    if !same {
                        *state = State::Present(Arc::new(fresh));
                    }
                    !same
                });
                if immutable {
                    // it can only be deleted, which a running pod does not care about
                    sender.closed().await;
                    return;
                }
            }
            Ok(Event::InitDone) if seen => {}
            Ok(Event::InitDone | Event::Delete(_)) => {
                sender.send_if_modified(|state| {
                    let same = matches!(state, State::Absent);
                    *state = State::Absent;
                    !same
                });
            }
            Err(error) => {
                tracing::debug!(%error, ?kind, namespace, name, "watch of an object interrupted");
                sender.send_if_modified(|state| {
                    if let State::Unknown(cause) = state {
                        *cause = Some(error.to_string());
                    }
                    false
                });
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(10));
            }
        }
    }
}

fn from_config_map(object: ConfigMap) -> Payload {
    let mut data: std::collections::BTreeMap<String, Vec<u8>> =
        object.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())).collect();
    data.extend(object.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
    Payload { data, immutable: object.immutable.unwrap_or(false), type_: String::new() }
}

fn from_secret(object: Secret) -> Payload {
    Payload {
        data: object.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect(),
        immutable: object.immutable.unwrap_or(false),
        type_: object.type_.unwrap_or_default(),
    }
}
