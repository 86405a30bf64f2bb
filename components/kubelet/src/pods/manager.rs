//! Follows the pods bound to this node and keeps a task for each; cleans up after pods no one knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use super::ending::remove_from_runtime;
use super::worker::{Desired, Worker};
use super::{Shared, resources::Qos, sandbox};
use crate::cri::pleg::Wake;
use crate::volumes::mountinfo;

struct Handle {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    busy: Arc<AtomicBool>,
    task: AbortHandle,
    /// The task has done all it had to do; only the API's last word is missing.
    finished: bool,
}

impl Drop for Handle {
    /// A kubelet that stops leaves the containers alone.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tasks by pod uid.
pub struct Manager {
    shared: Arc<Shared>,
    handles: Mutex<HashMap<String, Handle>>,
    finished: mpsc::UnboundedSender<String>,
    synced: AtomicBool,
}

impl Wake for Manager {
    fn wake(&self, uid: &str) {
        if let Some(handle) = self.handles.lock().get(uid) {
            handle.wake.notify_one();
        }
    }

    fn busy(&self) -> bool {
        self.handles.lock().values().any(|h| h.busy.load(Ordering::Relaxed))
    }
}

impl Manager {
    pub fn new(shared: Arc<Shared>) -> (Arc<Manager>, mpsc::UnboundedReceiver<String>) {
        let (finished, receiver) = mpsc::unbounded_channel();
        let manager = Manager { shared, handles: Mutex::default(), finished, synced: AtomicBool::new(false) };
        (Arc::new(manager), receiver)
    }

    /// The pods as the API last told them.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.handles.lock().values().map(|h| h.desired.borrow().pod().clone()).collect()
    }

    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let pods = self.pods();
        let mut matching: Vec<Arc<Pod>> =
            pods.into_iter().filter(|p| p.name_any() == name && p.namespace().as_deref() == Some(namespace)).collect();
        // a pod being deleted may share its name with its successor
        matching.sort_by_key(|p| p.metadata.deletion_timestamp.is_some());
        matching.into_iter().next()
    }

    /// Whether the API has told all pods at least once.
    pub fn synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// Runs until dropped.
    pub async fn run(self: Arc<Self>, mut finished: mpsc::UnboundedReceiver<String>) {
        let api: Api<Pod> = Api::all(self.shared.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.shared.config.node_name));
        let mut stream = watcher::watcher(api, config).boxed();
        let mut listed: HashSet<String> = HashSet::new();
        let mut delay = Duration::from_millis(100);
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => {
                        delay = Duration::from_millis(100);
                        self.handle(event, &mut listed);
                    }
                    Some(Err(error)) => {
                        tracing::warn!("watch of pods interrupted: {error}");
                        tokio::time::sleep(delay).await;
                        delay = (delay * 2).min(Duration::from_secs(5));
                    }
                    None => return,
                },
                Some(uid) = finished.recv() => self.task_finished(&uid),
            }
        }
    }

    fn handle(self: &Arc<Self>, event: Event<Pod>, listed: &mut HashSet<String>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.insert(sandbox::uid(&pod));
                self.apply(pod);
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => self.gone(&sandbox::uid(&pod), Some(pod)),
            Event::InitDone => {
                let known: Vec<String> = self.handles.lock().keys().cloned().collect();
                for uid in known.iter().filter(|uid| !listed.contains(*uid)) {
                    self.gone(uid, None);
                }
                if !self.synced.swap(true, Ordering::Relaxed) {
                    tokio::spawn(self.clone().clean_orphans());
                }
            }
        }
    }

    fn apply(self: &Arc<Self>, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let uid = sandbox::uid(&pod);
        let pod = Arc::new(pod);
        let mut handles = self.handles.lock();
        if let Some(handle) = handles.get(&uid) {
            handle.desired.send_replace(Desired::Present(pod));
            return;
        }
        let (desired, receiver) = watch::channel(Desired::Present(pod));
        let (wake, busy) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
        let worker = Worker::new(self.shared.clone(), receiver, wake.clone(), busy.clone());
        let (finished, name) = (self.finished.clone(), uid.clone());
        let task = tokio::spawn(async move {
            worker.run().await;
            finished.send(name).ok();
        });
        let handle = Handle { desired, wake, busy, task: task.abort_handle(), finished: false };
        handles.insert(uid, handle);
    }

    fn gone(&self, uid: &str, pod: Option<Pod>) {
        let mut handles = self.handles.lock();
        let Some(handle) = handles.get(uid) else { return };
        if handle.finished {
            handles.remove(uid);
            return;
        }
        let last = pod.map(Arc::new).unwrap_or_else(|| handle.desired.borrow().pod().clone());
        handle.desired.send_replace(Desired::Gone(last));
    }

    fn task_finished(&self, uid: &str) {
        let mut handles = self.handles.lock();
        let Some(handle) = handles.get_mut(uid) else { return };
        handle.finished = true;
        let gone = matches!(&*handle.desired.borrow(), Desired::Gone(_));
        if gone {
            handles.remove(uid);
        }
    }

    fn known(&self) -> HashSet<String> {
        self.handles.lock().keys().cloned().collect()
    }

    /// What a previous life of this node left behind.
    pub async fn clean_orphans(self: Arc<Self>) {
        if let Err(error) = self.orphans_in_runtime().await {
            tracing::warn!("pods no one knows could not be removed: {error:#}");
        }
        self.orphans_on_disk();
    }

    async fn orphans_in_runtime(&self) -> Result<()> {
        let known = self.known();
        let sandboxes = self.shared.cri.sandboxes(None).await?;
        let uids: HashSet<String> = sandboxes.into_iter().filter_map(|s| s.metadata).map(|m| m.uid).collect();
        for uid in uids.difference(&known) {
            tracing::info!("removing pod {uid}: the API does not know it");
            for container in self.shared.cri.containers(Some(uid)).await? {
                let grace = container.annotations.get(super::container::ANNOTATION_GRACE);
                let grace = grace.and_then(|g| g.parse().ok()).unwrap_or(30i64).clamp(1, 30);
                self.shared.cri.stop_container(&container.id, grace).await?;
            }
            remove_from_runtime(&self.shared, uid).await?;
            for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
                self.shared.cgroups.remove(uid, qos);
            }
        }
        Ok(())
    }

    /// Directories of pods; what cannot be unmounted stays.
    fn orphans_on_disk(&self) {
        let known = self.known();
        let config = &self.shared.config;
        for entry in std::fs::read_dir(config.pods_dir()).into_iter().flatten().flatten() {
            if !known.contains(&entry.file_name().to_string_lossy().into_owned())
                && let Err(error) = mountinfo::remove_tree(&entry.path())
            {
                tracing::warn!("{error:#}");
            }
        }
        for entry in std::fs::read_dir(&config.pod_logs_dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.rsplit('_').next().is_some_and(|uid| !known.contains(uid)) {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
        super::logs::prune_links(config);
    }
}
