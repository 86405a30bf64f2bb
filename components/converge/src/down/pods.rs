//! Ending the pods of a host and removing what they leave in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hoststate::wire::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tree;
use crate::resources::{self, Context};
use crate::{command, pidfd, runtime};

/// How long containers may take to end by themselves: databases write their pages back.
const GRACE: Duration = Duration::from_secs(20);
const STEP: &str = "stop pods";

/// What has to be removed once the pods are gone.
#[derive(Default)]
pub struct Remains {
    /// Files below /run/netns that hold a pod's network namespace.
    namespaces: Vec<PathBuf>,
}

/// Asks every container to end, waits, then ends the rest.
pub fn stop(context: Context<'_>) -> Result<Remains, Failure> {
    let processes = processes_in_pods();
    let remains = Remains { namespaces: network_namespaces(&processes) };
    for pid in &processes {
        let _ = kill(*pid, Signal::SIGTERM);
    }
    pidfd::wait_all(&processes, Instant::now() + GRACE);
    // Through the runtime, so that shims end and take their sockets and state with them.
    let tasks = runtime::look(&["tasks", "ls", "-q"]).unwrap_or_default();
    let ids: Vec<&str> = tasks.lines().collect();
    if !ids.is_empty() {
        // What it cannot delete is ended by `clean`.
        let _ = runtime::run(context.sink, STEP, &[&["tasks", "delete", "--force"], ids.as_slice()].concat());
    }
    Ok(remains)
}

/// After the runtime has stopped: processes that stayed, mounts, namespaces, cgroups.
pub fn clean(context: Context<'_>, remains: &Remains) -> Result<(), Failure> {
    let left: Vec<Pid> = processes_in_pods().into_iter().chain(our_processes()).collect();
    for pid in &left {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    pidfd::wait_all(&left, Instant::now() + GRACE);
    for path in ["/run/kinstall", "/var/lib/kubelet", runtime::ROOT] {
        let path = context.root.path(path);
        if path.exists() {
            tree::unmount_below(&path).map_err(|error| resources::io(STEP, &error))?;
        }
    }
    for namespace in &remains.namespaces {
        let _ = nix::mount::umount2(namespace, nix::mount::MntFlags::MNT_DETACH);
        let _ = fs::remove_file(namespace);
    }
    remove_shim_sockets();
    remove_cni_results();
    if !remains.namespaces.is_empty() {
        let _ = tree::remove_if_empty(Path::new("/run/netns"));
    }
    let _ = command::look("systemctl", &["stop", "kubepods.slice"]);
    // A container that was ended while it started leaves its scope failed, and a failed unit keeps the slices that it was in.
    let _ = command::look("systemctl", &["reset-failed", "cri-containerd-*.scope", "kubepods*"]);
    forget_limits(&context.root.path("/run/systemd/system.control"));
    for directory in pod_cgroups() {
        remove_cgroup(&directory);
    }
    Ok(())
}

/// What systemd was told of slices that it had not been asked for: it keeps that until the next boot.
fn forget_limits(told: &Path) {
    for directory in subdirectories(told) {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("kubepods") && name.ends_with(".slice.d") {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Shims put their sockets here whatever the runtime's own state directory is. A foreign containerd's sockets are in use and
/// stay.
fn remove_shim_sockets() {
    let directory = Path::new("/run/containerd/s");
    let in_use = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !in_use.lines().any(|line| line.ends_with(&*path.to_string_lossy())) {
            let _ = fs::remove_file(path);
        }
    }
    for directory in [directory, Path::new("/run/containerd")] {
        let _ = tree::remove_if_empty(directory);
    }
}

/// The runtime's CNI library keeps the result of every attachment in a directory of its own, named by network and container.
fn remove_cni_results() {
    let directory = Path::new("/var/lib/cni/results");
    let names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for name in names.iter().filter(|name| name.starts_with("kinstall-")) {
        let container = name.strip_prefix("kinstall-").and_then(|rest| rest.strip_suffix("-eth0")).unwrap_or_default();
        let _ = fs::remove_file(directory.join(name));
        let _ = fs::remove_file(directory.join(format!("cni-loopback-{container}-lo")));
    }
    for directory in [directory, Path::new("/var/lib/cni")] {
        let _ = tree::remove_if_empty(directory);
    }
}

/// The top cgroups of pods in every hierarchy: `kubepods` or `kubepods.slice`.
fn pod_cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies =
        fs::read_dir(root).into_iter().flatten().flatten().filter(|e| e.path().is_dir()).map(|e| e.path());
    hierarchies
        .chain([root.to_owned()])
        .flat_map(|hierarchy| ["kubepods", "kubepods.slice"].map(|name| hierarchy.join(name)))
        .filter(|path| path.is_dir())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn processes_in_pods() -> Vec<Pid> {
    let mut pids = BTreeSet::new();
    let mut directories = pod_cgroups();
    while let Some(directory) = directories.pop() {
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1));
        directories.extend(subdirectories(&directory));
    }
    pids.into_iter().map(Pid::from_raw).collect()
}

/// Processes that run an executable of ours (shims above all), except this one and those that wait for it: the installer of a
/// run that was killed is gone, its work goes on, and the next one's session waits for the host's lock.
fn our_processes() -> Vec<Pid> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with("/opt/kinstall")))
        .filter(|pid| !fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_session(&line)))
        .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
        .collect()
}

/// `converge`, by its command line as the kernel tells it.
fn is_session(command_line: &[u8]) -> bool {
    command_line.split(|byte| *byte == 0).nth(1) == Some(b"converge")
}

/// The files below /run/netns whose namespace one of these processes is in.
fn network_namespaces(processes: &[Pid]) -> Vec<PathBuf> {
    let inode = |path: String| fs::metadata(path).ok().map(|meta| meta.ino());
    let own = inode("/proc/self/ns/net".to_owned());
    let ours: BTreeSet<u64> = processes.iter().filter_map(|pid| inode(format!("/proc/{pid}/ns/net"))).collect();
    fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            fs::metadata(path).is_ok_and(|meta| ours.contains(&meta.ino()) && Some(meta.ino()) != own)
                && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cni-"))
        })
        .collect()
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    fs::read_dir(path).into_iter().flatten().flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

/// A cgroup is removed by rmdir alone, its children first.
fn remove_cgroup(path: &Path) {
    for child in subdirectories(path) {
        remove_cgroup(&child);
    }
    let _: io::Result<()> = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_of_slices_of_pods_go_and_those_of_other_units_stay() {
        let told = tempfile::tempdir().unwrap();
        for unit in ["kubepods.slice.d", "kubepods-pod1.slice.d", "ssh.service.d"] {
            fs::create_dir(told.path().join(unit)).unwrap();
            fs::write(told.path().join(unit).join("50-MemoryMax.conf"), "[Slice]\nMemoryMax=1\n").unwrap();
        }
        forget_limits(told.path());
        assert_eq!(subdirectories(told.path()), [told.path().join("ssh.service.d")]);
    }

    #[test]
    fn a_session_that_waits_for_its_turn_is_not_one_of_those_that_are_ended() {
        assert!(is_session(b"/opt/kinstall/current/bin/kinstall-components\0converge\0"));
        assert!(!is_session(b"/opt/kinstall/current/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0"));
        assert!(!is_session(b"/opt/kinstall/current/bin/kinstall-components\0kubelet\0--config\0converge\0"));
        assert!(!is_session(b""));
    }
}
