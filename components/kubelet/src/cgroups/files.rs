//! Control groups as the kernel's own files: made, given limits, removed. cgroup v1, hybrid and v2.

use std::path::{Path, PathBuf};

use crate::pods::resources::{CPU_PERIOD, PodLimits};

const V1_CONTROLLERS: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb"];

#[derive(Debug, Clone)]
pub struct Files {
    pub unified: bool,
    root: PathBuf,
}

impl Files {
    pub fn at(root: impl Into<PathBuf>) -> Files {
        let root = root.into();
        Files { unified: root.join("cgroup.controllers").exists(), root }
    }

    /// Whether any hierarchy has this group.
    pub fn exists(&self, path: &Path) -> bool {
        self.hierarchies().iter().any(|hierarchy| hierarchy.join(path).exists())
    }

    /// Whether v2's groups have this file.
    pub fn has(&self, path: &Path, file: &str) -> bool {
        self.unified && self.root.join(path).join(file).exists()
    }

    pub fn make(&self, path: &Path) {
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

    pub fn limit(&self, path: &Path, limits: PodLimits) {
        let set = |controller: &str, file: &str, value: String| {
            let directory = if self.unified { self.root.clone() } else { self.root.join(controller) };
            write(&directory.join(path).join(file), &value);
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

    /// Writes one file of every group below, of those whose name ends so.
    pub fn write_below(&self, path: &Path, ending: &str, file: &str, value: &str) {
        let mut groups = vec![self.root.join(path)];
        while let Some(group) = groups.pop() {
            for child in children(&group) {
                if child.as_os_str().as_encoded_bytes().ends_with(ending.as_bytes()) {
                    write(&child.join(file), value);
                }
                groups.push(child);
            }
        }
    }

    pub fn remove(&self, path: &Path) {
        for hierarchy in self.hierarchies() {
            remove_tree(&hierarchy.join(path));
        }
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        if self.unified {
            return vec![self.root.clone()];
        }
        let mounted = V1_CONTROLLERS.iter().map(|c| self.root.join(c));
        mounted.filter(|p| p.is_dir()).collect()
    }
}

/// A file that is not there belongs to a controller that is not on.
fn write(file: &Path, value: &str) {
    if file.exists()
        && let Err(error) = std::fs::write(file, value)
        // the group ended meanwhile
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("cannot write {value} to {}: {error}", file.display());
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

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(path: &Path) {
    if !path.exists() {
        return;
    }
    for child in children(path) {
        remove_tree(&child);
    }
    if let Err(error) = std::fs::remove_dir(path) {
        tracing::debug!("control group {} not removed: {error}", path.display());
    }
}

/// runc's conversion of v1 shares to v2 weight.
pub fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn weights() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn only_groups_of_containers_are_written_below() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str| {
            let directory = root.path().join(path);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("memory.oom.group"), "0").unwrap();
            directory.join("memory.oom.group")
        };
        let pod = group("kubepods.slice/kubepods-pod1.slice");
        let container = group("kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope");
        let other = group("system.slice/other.scope");
        Files::at(root.path()).write_below(Path::new("kubepods.slice"), ".scope", "memory.oom.group", "1");
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!([read(pod), read(container), read(other)], ["0", "1", "0"]);
    }
}
