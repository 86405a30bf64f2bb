//! Follows the pods bound to this node and keeps a task for each; cleans up after pods no one knows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
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

/// How long to wait before orphans are tried again: first and at most.
const ORPHAN_RETRY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

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

    fn knows(&self, uid: &str) -> bool {
        self.handles.lock().contains_key(uid)
    }

    /// What a previous life of this node left behind. Nothing is taken from the disk while a pod may still run on it.
    pub async fn clean_orphans(self: Arc<Self>) {
        let told = |error: &anyhow::Error| tracing::warn!("pods no one knows cannot be removed yet: {error:#}");
        until_done(ORPHAN_RETRY, told, || self.clone().orphans_in_runtime()).await;
        self.orphans_on_disk();
    }

    async fn orphans_in_runtime(self: Arc<Self>) -> Result<()> {
        let sandboxes = self.shared.cri.sandboxes(None).await?;
        let uids: BTreeSet<String> = sandboxes.into_iter().filter_map(|s| s.metadata).map(|m| m.uid).collect();
        each(uids.into_iter().filter(|uid| !self.knows(uid)), |uid| self.clone().remove_orphan(uid)).await
    }

    async fn remove_orphan(self: Arc<Self>, uid: String) -> Result<()> {
        let uid = uid.as_str();
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
        Ok(())
    }

    /// Directories of pods; what cannot be unmounted stays. Pods may arrive meanwhile, so each is asked for when its turn comes.
    fn orphans_on_disk(&self) {
        let config = &self.shared.config;
        for entry in std::fs::read_dir(config.pods_dir()).into_iter().flatten().flatten() {
            if !self.knows(&entry.file_name().to_string_lossy())
                && let Err(error) = mountinfo::remove_tree(&entry.path())
            {
                tracing::warn!("{error:#}");
            }
        }
        for entry in std::fs::read_dir(&config.pod_logs_dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.rsplit('_').next().is_some_and(|uid| !self.knows(uid)) {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
        super::logs::prune_links(config);
    }
}

/// Does it for all; what failed is told together in the end.
async fn each<Done: Future<Output = Result<()>>>(
    uids: impl Iterator<Item = String>,
    mut work: impl FnMut(String) -> Done,
) -> Result<()> {
    let mut failed = Vec::new();
    for uid in uids {
        if let Err(error) = work(uid.clone()).await {
            failed.push(format!("{uid}: {error:#}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// Tries until it succeeds, after longer and longer pauses.
async fn until_done<Done: Future<Output = Result<()>>>(
    pauses: RangeInclusive<Duration>,
    told: impl Fn(&anyhow::Error),
    mut work: impl FnMut() -> Done,
) {
    let mut pause = *pauses.start();
    while let Err(error) = work().await {
        told(&error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(*pauses.end());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn what_fails_is_tried_again_and_stops_nothing_else() {
        let left: Mutex<BTreeSet<String>> = Mutex::new(["a", "stuck", "z"].map(String::from).into());
        let (rounds, told) = (AtomicU32::new(0), Mutex::new(Vec::new()));
        let pauses = Duration::from_millis(1)..=Duration::from_millis(2);
        let tell = |error: &anyhow::Error| told.lock().push((error.to_string(), left.lock().len()));
        let remove = |uid: String| {
            let refused = uid == "stuck" && rounds.load(Ordering::Relaxed) < 4;
            std::future::ready(if refused {
                Err(anyhow::anyhow!("the runtime says no"))
            } else {
                left.lock().remove(&uid);
                Ok(())
            })
        };
        let round = || {
            rounds.fetch_add(1, Ordering::Relaxed);
            let now = left.lock().clone();
            each(now.into_iter(), remove)
        };
        until_done(pauses, tell, round).await;
        assert!(left.lock().is_empty());
        let message = "stuck: the runtime says no".to_string();
        assert_eq!(*told.lock(), vec![(message, 1); 3], "the others went in the first round");
    }
}
