//! Notices that something happened to a pod's containers, and wakes that pod's task.
//!
//! Upstream's PLEG (KEP-3386). A runtime that streams container events (containerd ≥ 1.7) is believed;
//! besides, and always with older ones, the lists of sandboxes and containers are compared with the
//! previous ones: two cheap calls.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_cri::v1 as cri;

use super::{Cri, LABEL_POD_UID};

const RELIST: Duration = Duration::from_secs(1);
const RELIST_BUSY: Duration = Duration::from_millis(200);
const RELIST_WITH_EVENTS: Duration = Duration::from_secs(30);

/// Told which pod changed.
pub trait Wake: Send + Sync + 'static {
    fn wake(&self, uid: &str);
    /// Whether some pod is on its way up or down, so that news should come sooner.
    fn busy(&self) -> bool;
}

/// Runs until dropped. `healthy` is false while the runtime cannot be listed.
pub async fn run(cri: Cri, wake: Arc<dyn Wake>, healthy: Arc<AtomicBool>) {
    let streaming = Arc::new(AtomicBool::new(false));
    let events = follow_events(cri.clone(), wake.clone(), streaming.clone());
    let lists = relist(cri, wake, healthy, streaming);
    tokio::join!(events, lists);
}

async fn follow_events(cri: Cri, wake: Arc<dyn Wake>, streaming: Arc<AtomicBool>) {
    loop {
        match cri.runtime.clone().get_container_events(cri::GetEventsRequest {}).await {
            Ok(stream) => {
                streaming.store(true, Ordering::Relaxed);
                let mut stream = stream.into_inner();
                while let Ok(Some(event)) = stream.message().await {
                    let uid = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
                    if let Some(uid) = uid {
                        wake.wake(&uid);
                    }
                }
                streaming.store(false, Ordering::Relaxed);
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => return,
            Err(_) => {}
        }
        tokio::time::sleep(RELIST).await;
    }
}

async fn relist(cri: Cri, wake: Arc<dyn Wake>, healthy: Arc<AtomicBool>, streaming: Arc<AtomicBool>) {
    let mut previous: Option<HashMap<String, HashSet<(String, i32)>>> = None;
    loop {
        match tokio::try_join!(cri.sandboxes(None), cri.containers(None)) {
            Ok((sandboxes, containers)) => {
                healthy.store(true, Ordering::Relaxed);
                let fresh = by_pod(sandboxes, containers);
                if let Some(previous) = &previous {
                    for uid in changed(previous, &fresh) {
                        wake.wake(&uid);
                    }
                }
                previous = Some(fresh);
            }
            Err(error) => {
                if healthy.swap(false, Ordering::Relaxed) {
                    tracing::warn!("container runtime cannot be listed: {error:#}");
                }
            }
        }
        let pause = match (streaming.load(Ordering::Relaxed), wake.busy()) {
            (true, _) => RELIST_WITH_EVENTS,
            (false, true) => RELIST_BUSY,
            (false, false) => RELIST,
        };
        tokio::time::sleep(pause).await;
    }
}

fn by_pod(sandboxes: Vec<cri::PodSandbox>, containers: Vec<cri::Container>) -> HashMap<String, HashSet<(String, i32)>> {
    let mut pods: HashMap<String, HashSet<(String, i32)>> = HashMap::new();
    for sandbox in sandboxes {
        if let Some(metadata) = sandbox.metadata {
            pods.entry(metadata.uid).or_default().insert((sandbox.id, sandbox.state));
        }
    }
    for container in containers {
        if let Some(uid) = container.labels.get(LABEL_POD_UID) {
            // container states are kept apart from sandbox states, which use the same small numbers
            pods.entry(uid.clone()).or_default().insert((container.id, container.state + 100));
        }
    }
    pods
}

fn changed(
    old: &HashMap<String, HashSet<(String, i32)>>,
    new: &HashMap<String, HashSet<(String, i32)>>,
) -> Vec<String> {
    let uids: HashSet<&String> = old.keys().chain(new.keys()).collect();
    uids.into_iter().filter(|uid| old.get(*uid) != new.get(*uid)).cloned().collect()
}
