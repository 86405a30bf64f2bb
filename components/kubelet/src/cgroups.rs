//! The pods' control groups: `kubepods[/burstable|/besteffort]/pod<uid>`, named as the driver names them.
//!
//! With cgroupfs the kubelet makes and removes them; with systemd the runtime's scopes bring their slices
//! to life, and the kubelet writes the pod's limits into them and stops them in the end. Works on cgroup
//! v1, hybrid and v2. Upstream: `pkg/kubelet/cm`.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::config::CgroupDriver;
use crate::pods::resources::{self, CPU_PERIOD, PodLimits, Qos};

const V1_CONTROLLERS: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb"];

#[derive(Debug, Clone)]
pub struct Cgroups {
    driver: CgroupDriver,
    unified: bool,
    root: PathBuf,
}

impl Cgroups {
    pub fn detect(driver: CgroupDriver) -> Cgroups {
        let root = PathBuf::from("/sys/fs/cgroup");
        Cgroups { driver, unified: root.join("cgroup.controllers").exists(), root }
    }

    /// Makes the groups of the classes, so that pods find them.
    pub fn prepare(&self) {
        if self.driver == CgroupDriver::Cgroupfs {
            for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
                self.make(&class_path(self.driver, qos));
            }
            // best effort pods get what is left over
            self.apply(&class_path(self.driver, Qos::BestEffort), PodLimits { shares: 2, quota: None, memory: None });
        }
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

    /// Before the sandbox is made.
    pub fn create(&self, pod: &Pod, uid: &str) {
        if self.driver == CgroupDriver::Cgroupfs {
            self.make(&self.path(uid, resources::qos(pod)));
            self.limit(pod, uid);
        }
    }

    /// Writes the pod's limits; with systemd the slice exists only once the sandbox runs.
    pub fn limit(&self, pod: &Pod, uid: &str) {
        self.apply(&self.path(uid, resources::qos(pod)), resources::pod(pod));
    }

    /// After the last process has ended.
    pub fn remove(&self, uid: &str, qos: Qos) {
        if self.driver == CgroupDriver::Systemd {
            let slice = slice_name(uid, qos);
            if self.hierarchies().iter().any(|h| h.join(self.path(uid, qos)).exists()) {
                tokio::spawn(async move {
                    let stop = tokio::process::Command::new("systemctl").args(["stop", "--no-block", &slice]).output();
                    if let Err(error) = stop.await {
                        tracing::debug!(%error, slice, "slice not stopped");
                    }
                });
            }
            return;
        }
        for hierarchy in self.hierarchies() {
            remove_tree(&hierarchy.join(self.path(uid, qos)));
        }
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        if self.unified {
            return vec![self.root.clone()];
        }
        let mounted = V1_CONTROLLERS.iter().map(|c| self.root.join(c));
        mounted.filter(|p| p.is_dir()).collect()
    }

    fn make(&self, path: &Path) {
        for hierarchy in self.hierarchies() {
            let mut whole = hierarchy.clone();
            for part in path.components() {
                if self.unified {
                    for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io", "+hugetlb"] {
                        // a controller the kernel lacks must not keep the others away
                        std::fs::write(whole.join("cgroup.subtree_control"), controller).ok();
                    }
                }
                let parent = whole.clone();
                whole.push(part);
                if let Err(error) = std::fs::create_dir(&whole)
                    && error.kind() != std::io::ErrorKind::AlreadyExists
                {
                    tracing::warn!("cannot make control group {}: {error}", whole.display());
                    break;
                }
                if !self.unified && hierarchy.ends_with("cpuset") {
                    inherit_cpuset(&parent, &whole);
                }
            }
        }
    }

    fn apply(&self, path: &Path, limits: PodLimits) {
        let set = |controller: &str, file: &str, value: String| {
            let directory = if self.unified { self.root.clone() } else { self.root.join(controller) };
            let file = directory.join(path).join(file);
            if file.exists()
                && let Err(error) = std::fs::write(&file, &value)
            {
                tracing::warn!("cannot write {value} to {}: {error}", file.display());
            }
        };
        if self.unified {
            set("", "cpu.weight", weight(limits.shares).to_string());
            let quota = limits.quota.map_or_else(|| "max".to_string(), |q| q.to_string());
            set("", "cpu.max", format!("{quota} {CPU_PERIOD}"));
            set("", "memory.max", limits.memory.map_or_else(|| "max".to_string(), |m| m.to_string()));
        } else {
            set("cpu", "cpu.shares", limits.shares.to_string());
            set("cpu", "cpu.cfs_quota_us", limits.quota.unwrap_or(-1).to_string());
            set("memory", "memory.limit_in_bytes", limits.memory.unwrap_or(-1).to_string());
        }
    }
}

/// v1's cpuset needs its two lists before a process can enter.
fn inherit_cpuset(parent: &Path, child: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let empty = std::fs::read_to_string(child.join(file)).is_ok_and(|text| text.trim().is_empty());
        if empty && let Ok(value) = std::fs::read_to_string(parent.join(file)) {
            std::fs::write(child.join(file), value.trim()).ok();
        }
    }
}

fn remove_tree(path: &Path) {
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            remove_tree(&entry.path());
        }
        if let Err(error) = std::fs::remove_dir(path) {
            tracing::debug!("control group {} not removed: {error}", path.display());
        }
    }
}

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

/// systemd reads a dash as a level of the hierarchy, so the uid's dashes become underscores.
fn slice_name(uid: &str, qos: Qos) -> String {
    let uid = uid.replace('-', "_");
    match qos {
        Qos::Guaranteed => format!("kubepods-pod{uid}.slice"),
        Qos::Burstable => format!("kubepods-burstable-pod{uid}.slice"),
        Qos::BestEffort => format!("kubepods-besteffort-pod{uid}.slice"),
    }
}

/// runc's conversion of v1 shares to v2 weight.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_drivers() {
        let at = |driver| Cgroups { driver, unified: false, root: "/sys/fs/cgroup".into() };
        let systemd = at(CgroupDriver::Systemd);
        assert_eq!(systemd.parent("a-b", Qos::Burstable), "kubepods-burstable-poda_b.slice");
        assert_eq!(systemd.path("a-b", Qos::Guaranteed), PathBuf::from("kubepods.slice/kubepods-poda_b.slice"));
        assert_eq!(at(CgroupDriver::Cgroupfs).parent("a-b", Qos::BestEffort), "/kubepods/besteffort/poda-b");
    }

    #[test]
    fn weights() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }
}
