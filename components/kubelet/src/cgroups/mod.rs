//! The pods' control groups: `kubepods[/burstable|/besteffort]/pod<uid>`, named as the driver names them.
//!
//! With cgroupfs the kubelet makes, limits and removes them (`files.rs`); with systemd they are slices that it asks systemd for
//! (`systemd.rs`, over `bus/`). The classes' groups have limits too: all pods together what the node gives to pods, burstable
//! pods as much of the processors as they ask for, those of best effort what is left over. Works on cgroup v1, hybrid and v2.
//! Upstream: `pkg/kubelet/cm`.

mod bus;
mod files;
mod systemd;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::CgroupDriver;
use crate::pods::resources::{self, PodLimits, Qos};
use bus::Bus;
use files::Files;
use systemd::Slices;

/// What v2's groups of containers are told besides their limits, as upstream's kubelet does it where nothing else is configured:
/// all processes end together when memory runs out (`singleProcessOOMKill: false`), and none of them is swapped (`NoSwap`).
const OF_CONTAINERS: [(&str, &str); 2] = [(OOM_GROUP, "1"), ("memory.swap.max", "0")];
const OOM_GROUP: &str = "memory.oom.group";
/// Until systemd is asked again for its socket.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Cgroups {
    driver: CgroupDriver,
    files: Files,
    slices: Slices,
    pods: Arc<Known>,
}

/// The pods that may run.
#[derive(Debug, Default)]
struct Known {
    /// By uid: class and requested thousandths of a processor.
    requests: Mutex<BTreeMap<String, (Qos, i64)>>,
    changed: Notify,
}

impl Cgroups {
    pub fn detect(driver: CgroupDriver) -> Cgroups {
        Cgroups::new(driver, Files::at("/sys/fs/cgroup"), Bus::new(bus::SOCKET))
    }

    fn new(driver: CgroupDriver, files: Files, bus: Bus) -> Cgroups {
        let slices = Slices { bus, unified: files.unified };
        Cgroups { driver, files, slices, pods: Arc::default() }
    }

    /// Makes the groups of the classes, so that pods find them; `node` is what all pods together may have.
    pub async fn prepare(&self, node: PodLimits) {
        self.limit_class(Qos::Guaranteed, node).await;
        self.limit_class(Qos::BestEffort, LEFT_OVER).await;
        // One that lives has pods whose requests are not known yet: its share must not fall meanwhile.
        let burstable = class_path(self.driver, Qos::Burstable);
        if !self.files.exists(&burstable) {
            self.limit_class(Qos::Burstable, LEFT_OVER).await;
        }
    }

    /// Keeps the class of burstable pods, and what systemd forgets, as they have to be. Never ends.
    pub async fn keep(self) {
        tokio::join!(self.keep_burstable(), self.keep_oom_groups());
    }

    async fn keep_burstable(&self) {
        let mut given = None;
        loop {
            self.pods.changed.notified().await;
            let limits = PodLimits { shares: resources::shares(self.requested(Qos::Burstable)), ..LEFT_OVER };
            if given != Some(limits) && self.limit_class(Qos::Burstable, limits).await {
                given = Some(limits);
            }
        }
    }

    /// Whenever systemd reads its units anew it writes that processes of a scope may end one by one: before 253 it has no property
    /// for that, and a runtime that sets the property is younger still.
    async fn keep_oom_groups(&self) {
        if self.driver != CgroupDriver::Systemd || !self.files.unified {
            return;
        }
        let pods = class_path(self.driver, Qos::Guaranteed);
        loop {
            let written = || self.files.write_below(&pods, ".scope", OOM_GROUP, "1");
            if let Err(error) = self.slices.bus.after_reloads(written).await {
                tracing::debug!("systemd is not listened to: {error:#}");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// Says whether it is done.
    async fn limit_class(&self, qos: Qos, limits: PodLimits) -> bool {
        let path = class_path(self.driver, qos);
        if self.driver == CgroupDriver::Cgroupfs {
            self.files.make(&path);
            self.files.limit(&path, limits);
            return true;
        }
        let set = self.slices.set(&name(&path), class_description(qos), limits).await;
        set.inspect_err(|error| tracing::warn!("pods have no limits together: {error:#}")).is_ok()
    }

    fn requested(&self, class: Qos) -> i64 {
        self.pods.requests.lock().values().filter(|(qos, _)| *qos == class).map(|(_, milli)| milli).sum()
    }

    /// What the runtime is told as the parent of a pod's containers.
    pub fn parent(&self, uid: &str, qos: Qos) -> String {
        match self.driver {
            CgroupDriver::Systemd => slice_name(uid, qos),
            CgroupDriver::Cgroupfs => format!("/{}", self.path(uid, qos).display()),
        }
    }

    /// Relative to the root of each hierarchy.
    fn path(&self, uid: &str, qos: Qos) -> PathBuf {
        let leaf = match self.driver {
            CgroupDriver::Systemd => slice_name(uid, qos),
            CgroupDriver::Cgroupfs => format!("pod{uid}"),
        };
        class_path(self.driver, qos).join(leaf)
    }

    /// The files of v2 that containers' groups are given besides their limits, of those that this kernel has.
    pub fn of_containers(&self) -> HashMap<String, String> {
        let pods = class_path(self.driver, Qos::Guaranteed);
        let here = OF_CONTAINERS.into_iter().filter(|(file, _)| self.files.has(&pods, file));
        here.map(|(file, value)| (file.to_string(), value.to_string())).collect()
    }

    /// A pod that may run on this node. True if it was not known, as all are not to a kubelet that has just started.
    pub fn admit(&self, pod: &Pod, uid: &str) -> bool {
        let request = (resources::qos(pod), resources::requested_cpu(pod));
        let before = self.pods.requests.lock().insert(uid.to_string(), request);
        if before != Some(request) {
            self.pods.changed.notify_one();
        }
        before.is_none()
    }

    /// A pod that runs no more.
    pub fn forget(&self, uid: &str) {
        if self.pods.requests.lock().remove(uid).is_some() {
            self.pods.changed.notify_one();
        }
    }

    /// The pod's group with its limits. With cgroupfs it is there when this returns; systemd is asked for it by the future, which
    /// may be awaited while the runtime makes the sandbox: whoever comes second finds it.
    /// False if the group has no limits yet.
    pub fn create(&self, pod: &Pod, uid: &str) -> impl Future<Output = bool> + use<> {
        let (path, limits) = (self.path(uid, resources::qos(pod)), resources::pod(pod));
        let asked = match self.driver {
            CgroupDriver::Systemd => Some((self.slices.clone(), description(pod))),
            CgroupDriver::Cgroupfs => {
                self.files.make(&path);
                self.files.limit(&path, limits);
                None
            }
        };
        async move {
            let Some((slices, description)) = asked else { return true };
            let set = slices.set(&name(&path), &description, limits).await;
            set.inspect_err(|error| tracing::warn!("{description}: {error:#}")).is_ok()
        }
    }

    /// For a group that only the runtime has made: its limits are there until systemd reads its units anew.
    pub fn limit(&self, pod: &Pod, uid: &str) {
        self.files.limit(&self.path(uid, resources::qos(pod)), resources::pod(pod));
    }

    /// After the last process has ended.
    pub fn remove(&self, uid: &str, qos: Qos) {
        self.forget(uid);
        let path = self.path(uid, qos);
        if self.driver == CgroupDriver::Cgroupfs {
            return self.files.remove(&path);
        }
        if self.files.exists(&path) {
            let slices = self.slices.clone();
            tokio::spawn(async move {
                if let Err(error) = slices.stop(&name(&path)).await {
                    tracing::warn!("a pod's slice stays: {error:#}");
                }
            });
        }
    }
}

const LEFT_OVER: PodLimits = PodLimits { shares: 2, quota: None, memory: None };

fn class_path(driver: CgroupDriver, qos: Qos) -> PathBuf {
    let path = match (driver, qos) {
        (CgroupDriver::Cgroupfs, Qos::Guaranteed) => "kubepods",
        (CgroupDriver::Cgroupfs, Qos::Burstable) => "kubepods/burstable",
        (CgroupDriver::Cgroupfs, Qos::BestEffort) => "kubepods/besteffort",
        (CgroupDriver::Systemd, Qos::Guaranteed) => "kubepods.slice",
        (CgroupDriver::Systemd, Qos::Burstable) => "kubepods.slice/kubepods-burstable.slice",
        (CgroupDriver::Systemd, Qos::BestEffort) => "kubepods.slice/kubepods-besteffort.slice",
    };
    path.into()
}

fn class_description(qos: Qos) -> &'static str {
    match qos {
        Qos::Guaranteed => "Kubernetes pods",
        Qos::Burstable => "Kubernetes pods of class Burstable",
        Qos::BestEffort => "Kubernetes pods of class BestEffort",
    }
}

fn description(pod: &Pod) -> String {
    format!("Kubernetes pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// A slice's unit is named as its group.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// systemd reads a dash as a level of the hierarchy, so the uid's dashes become underscores.
fn slice_name(uid: &str, qos: Qos) -> String {
    let uid = uid.replace('-', "_");
    match qos {
        Qos::Guaranteed => format!("kubepods-pod{uid}.slice"),
        Qos::Burstable => format!("kubepods-burstable-pod{uid}.slice"),
        Qos::BestEffort => format!("kubepods-besteffort-pod{uid}.slice"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bus::Answer;
    use bus::tests::{Calls, manager};
    use serde_json::json;

    use super::*;
    use crate::pods::resources::tests::pod_from;

    fn with_systemd(directory: &Path) -> (Cgroups, Calls) {
        let (bus, calls) = manager(directory, |_| Answer::Done);
        (Cgroups::new(CgroupDriver::Systemd, Files::at(directory), bus), calls)
    }

    fn asking_for(cpu: &str) -> Pod {
        pod_from(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
    }

    #[tokio::test]
    async fn names_of_both_drivers() {
        let directory = tempfile::tempdir().unwrap();
        let systemd = with_systemd(directory.path()).0;
        assert_eq!(systemd.parent("a-b", Qos::Burstable), "kubepods-burstable-poda_b.slice");
        assert_eq!(systemd.path("a-b", Qos::Guaranteed), PathBuf::from("kubepods.slice/kubepods-poda_b.slice"));
        let cgroupfs = Cgroups { driver: CgroupDriver::Cgroupfs, ..systemd };
        assert_eq!(cgroupfs.parent("a-b", Qos::BestEffort), "/kubepods/besteffort/poda-b");
    }

    #[tokio::test]
    async fn burstable_pods_have_the_share_that_they_ask_for_together() {
        let directory = tempfile::tempdir().unwrap();
        let (cgroups, calls) = with_systemd(directory.path());
        let keeper = tokio::spawn(cgroups.clone().keep());
        assert!(cgroups.admit(&asking_for("500m"), "a"));
        assert!(cgroups.admit(&asking_for("1500m"), "b"));
        assert!(cgroups.admit(&pod_from(json!({"containers": [{"name": "c"}]})), "c"));
        assert!(!cgroups.admit(&asking_for("500m"), "a"));
        assert_eq!(cgroups.requested(Qos::Burstable), 2000);
        // v1's word, since the directory is no v2: two processors are 2048 shares
        let given = |shares: u64| {
            let has = |body: &[u8], bytes: &[u8]| body.windows(bytes.len()).any(|part| part == bytes);
            let burstable = |body: &[u8]| has(body, b"kubepods-burstable.slice\0") && has(body, b"CPUShares\0");
            calls.lock().iter().any(|(_, body)| burstable(body) && has(body, &shares.to_ne_bytes()))
        };
        while !given(2048) {
            tokio::task::yield_now().await;
        }
        cgroups.forget("b");
        while !given(512) {
            tokio::task::yield_now().await;
        }
        assert!(!keeper.is_finished());
        keeper.abort();
    }

    #[tokio::test]
    async fn a_pods_slice_is_asked_for_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let (cgroups, calls) = with_systemd(directory.path());
        cgroups.create(&asking_for("1"), "u").await;
        std::fs::create_dir_all(directory.path().join("cpu").join(cgroups.path("u", Qos::Burstable))).unwrap();
        cgroups.remove("u", Qos::Burstable);
        while calls.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        let methods: Vec<String> = calls.lock().iter().map(|(method, _)| method.clone()).collect();
        assert_eq!(methods, ["StartTransientUnit", "StopUnit"]);
        let text = b"Kubernetes pod ns/p\0";
        assert!(calls.lock()[0].1.windows(text.len()).any(|part| part == text));
    }

    #[test]
    fn containers_are_told_what_this_kernel_knows() {
        let root = tempfile::tempdir().unwrap();
        let told = || Cgroups::new(CgroupDriver::Cgroupfs, Files::at(root.path()), Bus::new("")).of_containers();
        std::fs::create_dir_all(root.path().join("kubepods")).unwrap();
        std::fs::write(root.path().join("kubepods/memory.oom.group"), "0").unwrap();
        assert!(told().is_empty(), "not on v1");
        std::fs::write(root.path().join("cgroup.controllers"), "memory").unwrap();
        assert_eq!(told(), HashMap::from([("memory.oom.group".into(), "1".into())]), "no swap in this kernel");
    }
}
