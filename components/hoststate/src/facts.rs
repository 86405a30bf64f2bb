//! What a host is, as far as preflight checks and templates need to know.

use serde::{Deserialize, Serialize};

use crate::certificates::CertificateFile;
use crate::wire::HostManifest;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    pub hostname: String,
    pub machine_id: String,
    /// SMBIOS/DMI product UUID where readable.
    pub product_uuid: Option<String>,
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    pub kernel: String,
    /// From os-release.
    pub os_id: String,
    pub os_version: String,
    pub os_pretty_name: String,
    /// What it is made from, nearest first (`ID_LIKE`).
    pub os_like: Vec<String>,
    /// The whole system is one image (ostree), which updates replace.
    pub image_based: bool,
    /// The C library's version; None where it is another one.
    pub glibc: Option<String>,
    pub init_is_systemd: bool,
    pub systemd_version: Option<u32>,
    pub cgroup: CgroupMode,
    /// Controllers usable for pods.
    pub cgroup_controllers: Vec<String>,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// The file systems of /var/lib, /opt, /etc and /run.
    pub disks: Vec<Disk>,
    /// Milliseconds since the Unix epoch when the facts were taken.
    pub clock_millis: u64,
    pub addresses: Vec<Address>,
    pub default_route_interface: Option<String>,
    pub listening: Vec<ListeningPort>,
    /// Kernel features by name (`overlay`, `nf_tables`, `vxlan`, `br_netfilter`, `veth`, `bridge`, …) → usable.
    pub features: std::collections::BTreeMap<String, bool>,
    pub user: String,
    pub uid: u32,
    /// This host's manifest if kinstall was here before.
    pub manifest: Option<HostManifest>,
    /// Signs of another cluster: path or process → what it is ("/etc/kubernetes/kubelet.conf": "kubeadm").
    pub other_kubernetes: std::collections::BTreeMap<String, String>,
    /// Directories that would be ours, and that have something in them; of interest where there is no manifest.
    #[serde(default)]
    pub filled_directories: Vec<String>,
    /// Nameservers of /etc/resolv.conf (or systemd-resolved's upstream file, which is then `resolv_conf`).
    pub nameservers: Vec<String>,
    pub resolv_conf: String,
    /// Whether the kernel lets us lower `oom_score_adj` (CAP_SYS_RESOURCE); false in some containers.
    pub can_lower_oom_score: bool,
    pub selinux_enforcing: bool,
    pub selinux: SeLinux,
    /// What the host sets at boot after kinstall's own file of sysctl.d, of `net.ipv4`.
    pub later_sysctls: Vec<LaterSysctl>,
    pub neighbours: Neighbours,
    pub store: StoreFacts,
    pub certificates: Vec<CertificateFile>,
    /// The timer that renews them; None where there is no kinstall.
    pub renewal: Option<Renewal>,
    /// SHA-256 of the operator's files that are kept here.
    pub operator_copy: Option<String>,
}

/// What else on a host has to do with containers and packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Neighbours {
    /// Names of those that run: `Docker`, `containerd`, `CRI-O`, `Podman`, `firewalld`, `NetworkManager`, `ufw`,
    /// `systemd-networkd`, `systemd-resolved`.
    pub services: Vec<String>,
    /// Chains of others that drop what none of their rules accepts, with their hook: `ip filter FORWARD (forward)`.
    pub dropping: Vec<String>,
    /// Networks and addresses from which others' rules accept everything.
    pub trusted: Vec<String>,
    /// Those whose packets others' rules forward, both ways.
    pub forwarded: Vec<String>,
    /// Files in `/etc/cni/net.d`.
    pub cni_files: Vec<String>,
}

/// SELinux' policy, where one is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeLinux {
    /// `targeted`, `mls`, …
    pub policy: String,
    /// The program is there that labels files as the policy says.
    pub can_label: bool,
}

/// One line of sysctl.d that counts more than kinstall's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaterSysctl {
    pub file: String,
    pub key: String,
    pub value: String,
}

/// How it stands with this host's own renewal of its certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Renewal {
    /// The timer waits for its next time.
    pub active: bool,
    /// That time as systemd writes it; empty where it knows none.
    pub next: String,
    /// The last run did not do what it should have done.
    pub failed: bool,
}

/// What this host keeps of the cluster's store, and as what it was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreFacts {
    /// An embedded store has data here.
    pub embedded: bool,
    /// A member of etcd has data here.
    pub member: bool,
    /// That member was part of a working etcd at some time: what it has may be what is left of the cluster.
    pub joined: bool,
    /// How the member that is configured here came or comes into being.
    pub birth: Option<Birth>,
    /// The control plane here is configured to make the store.
    pub founder: bool,
}

/// How a member of etcd comes into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Birth {
    /// With all the others, which make a new etcd together.
    Found,
    /// It is added to an etcd that works.
    Join,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupMode {
    #[default]
    None,
    V1,
    Hybrid,
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    pub path: String,
    pub filesystem: String,
    pub free_bytes: u64,
    pub total_bytes: u64,
    pub free_inodes: u64,
    #[serde(default)]
    pub read_only: bool,
    /// Programs on it do not run.
    #[serde(default)]
    pub no_exec: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub interface: String,
    pub address: String,
    pub prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListeningPort {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub address: String,
    pub port: u16,
    /// Name and path of the process, where it could be found.
    pub process: Option<String>,
}
