//! Looking at a host. Nothing here changes anything.

mod certificates;
mod firewalls;
mod kernel;
mod neighbours;
mod network;
mod renewal;
mod selinux;
mod store;
mod sysctls;
mod system;

use std::collections::BTreeMap;

use hoststate::Facts;

use crate::resources::directory;
use crate::{Root, manifest, operator};
pub use kernel::{FEATURES as KERNEL_FEATURES, module_present};
pub use system::read;

/// Everything preflight and templates ask about; what cannot be read stays at its default.
pub fn collect(root: &Root) -> Facts {
    let os = system::os_release(root);
    let (cgroup, cgroup_controllers) = system::cgroups(root);
    let (memory_bytes, swap_bytes) = system::memory(root);
    let (resolv_conf, nameservers) = network::resolver(root);
    let os_field = |key: &str| os.get(key).cloned().unwrap_or_default();
    let manifest = || manifest::load(root).ok().flatten();
    let noted = manifest();
    let facts = Facts {
        hostname: system::read(root, "/proc/sys/kernel/hostname"),
        machine_id: system::read(root, "/etc/machine-id"),
        product_uuid: Some(system::read(root, "/sys/class/dmi/id/product_uuid")).filter(|uuid| !uuid.is_empty()),
        arch: std::env::consts::ARCH.to_owned(),
        kernel: system::read(root, "/proc/sys/kernel/osrelease"),
        os_id: os_field("ID"),
        os_version: os_field("VERSION_ID"),
        os_pretty_name: os_field("PRETTY_NAME"),
        os_like: os_field("ID_LIKE").split_whitespace().map(str::to_owned).collect(),
        image_based: root.path("/run/ostree-booted").exists(),
        glibc: system::glibc(root),
        init_is_systemd: root.path("/run/systemd/system").is_dir(),
        systemd_version: system::systemd_version(root),
        cgroup,
        cgroup_controllers,
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes,
        swap_bytes,
        disks: ["/var/lib", "/opt", "/etc", "/run"].iter().filter_map(|path| system::disk(root, path)).collect(),
        clock_millis: system::clock_millis(),
        addresses: network::addresses(),
        default_route_interface: network::default_route_interface(root),
        listening: network::listening(root),
        features: kernel::features(root),
        user: std::env::var("USER").unwrap_or_default(),
        uid: nix::unistd::geteuid().as_raw(),
        renewal: None,
        manifest: None,
        other_kubernetes: other_kubernetes(root),
        filled_directories: filled_directories(root),
        nameservers,
        resolv_conf,
        can_lower_oom_score: system::can_lower_oom_score(),
        selinux_enforcing: system::read(root, "/sys/fs/selinux/enforce") == "1",
        selinux: selinux::collect(root),
        later_sysctls: sysctls::collect(root),
        neighbours: neighbours::collect(root),
        store: store::collect(root),
        certificates: certificates::collect(root),
        operator_copy: operator::digest(root),
    };
    // A session that was given up a moment ago may still be at its work. What it makes it notes before; what it has made is not
    // a stranger's only because the note came after the first look for it.
    let manifest = noted.or_else(manifest);
    Facts { renewal: manifest.is_some().then(|| renewal::collect(root)), manifest, ..facts }
}

/// Files that only another Kubernetes leaves.
const OTHERS: [(&str, &str); 10] = [
    ("/etc/kubernetes/kubelet.conf", "kubeadm"),
    ("/etc/kubernetes/admin.conf", "kubeadm"),
    ("/etc/kubernetes/manifests/kube-apiserver.yaml", "kubeadm"),
    ("/etc/rancher/k3s/k3s.yaml", "k3s"),
    ("/etc/systemd/system/k3s.service", "k3s"),
    ("/etc/systemd/system/k3s-agent.service", "k3s"),
    ("/etc/rancher/rke2", "RKE2"),
    ("/var/lib/k0s", "k0s"),
    ("/var/snap/microk8s", "MicroK8s"),
    ("/etc/systemd/system/kubelet.service", "a kubelet of another installer"),
];

/// Directories that kinstall makes and `down` removes with everything in them.
const OURS: [&str; 7] = [
    "/opt/kinstall",
    "/etc/kinstall",
    "/var/lib/kinstall/store",
    "/var/lib/kinstall/etcd",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
];

fn filled_directories(root: &Root) -> Vec<String> {
    let filled = |path: &&&str| directory::is_empty(root, path).is_ok_and(|empty| !empty);
    OURS.iter().filter(filled).map(|path| (*path).to_owned()).collect()
}

fn other_kubernetes(root: &Root) -> BTreeMap<String, String> {
    OTHERS
        .iter()
        .filter(|(path, _)| root.path(path).exists())
        .map(|(path, what)| ((*path).to_owned(), (*what).to_owned()))
        .collect()
}
