//! Checks of hosts before anything is changed, as a table: every problem of every host at once, each with its fix.

mod conflicts;
mod platform;

use std::collections::BTreeMap;

use hoststate::Facts;
use hoststate::facts::CgroupMode;

use crate::cluster::{BALANCER_PORT, Cluster, ETCD_CLIENT_PORT, ETCD_PEER_PORT, Host};
use crate::distributions::remedies;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    Error,
    Warning,
    /// Lived with; told once, before the first apply.
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub severity: Severity,
    pub host: String,
    pub check: &'static str,
    pub message: String,
    pub fix: String,
}

/// One host with what is known of it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub cluster: &'a Cluster,
    pub cluster_id: &'a str,
    pub host: &'a Host,
    pub facts: &'a Facts,
    /// The host's clock minus the operator's.
    pub clock_skew_millis: i64,
}

struct Problem {
    severity: Severity,
    message: String,
    fix: String,
}

fn error(message: impl Into<String>, fix: impl Into<String>) -> Problem {
    Problem { severity: Severity::Error, message: message.into(), fix: fix.into() }
}

fn note(message: impl Into<String>, fix: impl Into<String>) -> Problem {
    Problem { severity: Severity::Note, message: message.into(), fix: fix.into() }
}

fn warning(message: impl Into<String>, fix: impl Into<String>) -> Problem {
    Problem { severity: Severity::Warning, message: message.into(), fix: fix.into() }
}

/// Seconds that clocks may differ by.
pub const CLOCK_TOLERANCE: i64 = 5;

type Check = fn(Subject<'_>) -> Vec<Problem>;

/// Checks of one host by itself.
const CHECKS: &[(&str, Check)] = &[
    ("operating system", platform::operating_system),
    ("architecture", |s| {
        let known = ["x86_64", "aarch64"].contains(&s.facts.arch.as_str());
        unless(known, || {
            error(format!("the architecture {:?} is not supported", s.facts.arch), "use an x86_64 or aarch64 host")
        })
    }),
    ("systemd", systemd),
    ("C library", platform::c_library),
    ("kernel features", kernel_features),
    ("cgroups", cgroups),
    ("memory", memory),
    ("disk", disk),
    ("file systems", platform::file_systems),
    ("ports", ports),
    ("clock", |s| {
        let seconds = s.clock_skew_millis / 1000;
        unless(seconds.abs() <= CLOCK_TOLERANCE, || {
            error(
                format!("its clock is {seconds} s away from this machine's; certificates would not be valid"),
                remedies(s.facts).clock,
            )
        })
    }),
    ("swap", |s| {
        unless(s.facts.swap_bytes == 0, || {
            warning(
                format!("{} MiB of swap are on; memory limits of pods will not be exact", s.facts.swap_bytes >> 20),
                "swapoff -a, and remove swap from /etc/fstab (of zram: touch /etc/systemd/zram-generator.conf)",
            )
        })
    }),
    ("address", address),
    ("other cluster", other_cluster),
    ("store", |s| {
        unless(!s.facts.store.joined || s.cluster.runs_etcd(), || {
            error(
                "its cluster's store is in etcd, which clusters with one control plane or an etcd of somebody else do not run",
                "name three or five control planes in the inventory, those that there were",
            )
        })
    }),
    ("other Kubernetes", |s| {
        s.facts
            .other_kubernetes
            .iter()
            .map(|(sign, what)| {
                error(
                    format!("{what} is or was here ({sign})"),
                    format!("remove {what} with its own uninstaller, or take another host"),
                )
            })
            .collect()
    }),
    ("directories", |s| {
        let nobodys = if s.facts.manifest.is_none() { s.facts.filled_directories.as_slice() } else { &[] };
        nobodys
            .iter()
            .map(|path| {
                error(
                    format!("{path} is not empty, and it was not kinstall that filled it, or its manifest is lost"),
                    format!("look into it, then move it away or remove it (rm -r {path})"),
                )
            })
            .collect()
    }),
    ("resolver", |s| {
        unless(!s.facts.nameservers.is_empty(), || {
            warning("no nameserver is configured; pods will resolve cluster names only", "name one in /etc/resolv.conf")
        })
    }),
    ("resolver", |s| {
        let is_own = |server: &String| server.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        unless(s.facts.nameservers.is_empty() || !s.facts.nameservers.iter().all(is_own), || {
            warning(
                format!("{} names only this host's own resolver, which pods cannot reach", s.facts.resolv_conf),
                "name the servers behind it in /etc/resolv.conf, or let systemd-resolved keep them in /run/systemd/resolve/resolv.conf",
            )
        })
    }),
    ("neighbours", conflicts::neighbours),
    ("firewall", conflicts::firewall),
    ("kernel parameters", conflicts::kernel_parameters),
    ("SELinux", platform::selinux),
];

fn unless(good: bool, problem: impl FnOnce() -> Problem) -> Vec<Problem> {
    if good { Vec::new() } else { vec![problem()] }
}

/// All findings, errors first, in the order of the hosts.
pub fn check(subjects: &[Subject<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for subject in subjects {
        for (name, check) in CHECKS {
            findings.extend(check(*subject).into_iter().map(|problem| Finding {
                severity: problem.severity,
                host: subject.host.name.clone(),
                check: name,
                message: problem.message,
                fix: problem.fix,
            }));
        }
    }
    findings.extend(between_hosts(subjects));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn systemd(s: Subject<'_>) -> Vec<Problem> {
    if !s.facts.init_is_systemd {
        return vec![error("its init is not systemd", "boot it with systemd; kinstall's components are systemd units")];
    }
    match s.facts.systemd_version {
        Some(version) if version < 244 => {
            vec![error(format!("its systemd {version} is too old"), "upgrade to systemd 244 or later")]
        }
        _ => Vec::new(),
    }
}

fn kernel_features(s: Subject<'_>) -> Vec<Problem> {
    const NEEDED: &[&str] = &["overlay", "nf_tables", "nf_conntrack", "nf_nat", "veth"];
    let vxlan = (s.cluster.network.backend == crate::inventory::Backend::Vxlan).then_some("vxlan");
    NEEDED
        .iter()
        .copied()
        .chain(vxlan)
        .filter(|name| !s.facts.features.get(*name).copied().unwrap_or(false))
        .map(|name| error(format!("the kernel has no {name}"), remedies(s.facts).kernel))
        .collect()
}

fn cgroups(s: Subject<'_>) -> Vec<Problem> {
    if s.facts.cgroup == CgroupMode::None {
        return vec![error(
            "no cgroup hierarchy is mounted",
            "boot with cgroups: systemd mounts them unless it is told not to",
        )];
    }
    ["cpu", "memory", "pids"]
        .iter()
        .filter(|name| {
            !s.facts
                .cgroup_controllers
                .iter()
                .any(|have| have == *name || (**name == "cpu" && have.starts_with("cpu,")))
        })
        .map(|name| {
            error(
                format!("the cgroup controller {name} is missing"),
                format!("enable it on the kernel command line (cgroup_enable={name}) and reboot"),
            )
        })
        .collect()
}

fn memory(s: Subject<'_>) -> Vec<Problem> {
    let mib = s.facts.memory_bytes >> 20;
    match mib {
        0..460 => vec![error(format!("it has {mib} MiB of memory"), "512 MiB are the least")],
        460..960 if s.host.worker => {
            vec![warning(format!("it has {mib} MiB of memory; pods will have little room"), "1 GiB or more is advised")]
        }
        _ => Vec::new(),
    }
}

fn disk(s: Subject<'_>) -> Vec<Problem> {
    let ours = is_ours(s);
    let mut problems = Vec::new();
    for disk in &s.facts.disks {
        let needed_mib = match disk.path.as_str() {
            _ if ours => 50,
            "/var/lib" => 2048,
            "/opt" => 512,
            _ => 16,
        };
        let free = disk.free_bytes >> 20;
        if free < needed_mib {
            problems.push(error(
                format!("{} has {free} MiB free", disk.path),
                format!("free at least {needed_mib} MiB on the file system of {}", disk.path),
            ));
        }
        if disk.free_inodes > 0 && disk.free_inodes < 10_000 {
            problems.push(error(
                format!("{} has {} free inodes", disk.path, disk.free_inodes),
                "remove small files there or use a larger file system",
            ));
        }
    }
    problems
}

fn is_ours(s: Subject<'_>) -> bool {
    s.facts.manifest.as_ref().is_some_and(|manifest| manifest.cluster.id == s.cluster_id)
}

fn ports(s: Subject<'_>) -> Vec<Problem> {
    const NODE: &[(&str, u16, &str)] =
        &[("tcp", 10250, "kubelet"), ("tcp", 10248, "kubelet's health check"), ("tcp", 10256, "proxy's health check")];
    let mut wanted = NODE.to_vec();
    if s.host.control_plane {
        wanted.push(("tcp", 6443, "API server"));
    }
    if s.host.control_plane && s.cluster.runs_etcd() {
        wanted.extend([("tcp", ETCD_CLIENT_PORT, "etcd"), ("tcp", ETCD_PEER_PORT, "etcd")]);
    }
    if s.cluster.several_control_planes() {
        wanted.push(("tcp", BALANCER_PORT, "balancer of the API servers"));
    }
    if s.cluster.ingress {
        wanted.extend([("tcp", 80, "ingress controller"), ("tcp", 443, "ingress controller")]);
    }
    if s.cluster.network.backend == crate::inventory::Backend::Vxlan {
        wanted.push(("udp", 8472, "pod network"));
    }
    wanted
        .into_iter()
        .filter_map(|(protocol, port, what)| {
            let taken = s.facts.listening.iter().find(|l| l.protocol == protocol && l.port == port)?;
            let process = taken.process.as_deref().unwrap_or_default();
            // sockets of the kernel (VXLAN) and of processes in pods name no owner: on a host of this cluster they are ours
            if process.contains("kinstall") || (is_ours(s) && process.is_empty()) {
                return None;
            }
            let by = if process.is_empty() { "another process".to_owned() } else { process.to_owned() };
            Some(error(
                format!("{protocol} port {port}, which the {what} needs, is in use by {by}"),
                "stop that service on the host, or take another host",
            ))
        })
        .collect()
}

fn address(s: Subject<'_>) -> Vec<Problem> {
    let wanted = s.host.node_address.to_string();
    unless(s.facts.addresses.iter().any(|a| a.address == wanted), || {
        let own: Vec<_> =
            s.facts.addresses.iter().filter(|a| a.interface != "lo").map(|a| a.address.as_str()).collect();
        error(
            format!("it has no address {wanted} (it has {})", own.join(", ")),
            "set nodeAddress in the inventory to the address by which the other hosts reach it",
        )
    })
}

fn other_cluster(s: Subject<'_>) -> Vec<Problem> {
    match &s.facts.manifest {
        Some(manifest) if manifest.cluster.id != s.cluster_id => vec![error(
            format!("it already belongs to the kinstall cluster {:?} ({})", manifest.cluster.name, manifest.cluster.id),
            "run `kinstall down` with that cluster's inventory first, or take the host out of this one",
        )],
        Some(manifest) if manifest.host != s.host.name => vec![error(
            format!("it is already this cluster's host {:?}", manifest.host),
            "give it its old name again, or run `kinstall down` first",
        )],
        _ => Vec::new(),
    }
}

/// What must differ between hosts, and clocks that must not.
fn between_hosts(subjects: &[Subject<'_>]) -> Vec<Finding> {
    type Unique = (&'static str, fn(&Facts) -> &str, &'static str);
    const UNIQUE: &[Unique] = &[
        ("hostname", |f| &f.hostname, "give each host its own name with `hostnamectl set-hostname`"),
        (
            "machine-id",
            |f| &f.machine_id,
            "on one of them: rm /etc/machine-id && systemd-machine-id-setup, then reboot",
        ),
    ];
    let mut findings = Vec::new();
    for (what, value, fix) in UNIQUE {
        let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for subject in subjects.iter().filter(|s| !value(s.facts).is_empty()) {
            owners.entry(value(subject.facts)).or_default().push(&subject.host.name);
        }
        for (value, hosts) in owners.into_iter().filter(|(_, hosts)| hosts.len() > 1) {
            findings.push(Finding {
                severity: Severity::Error,
                host: hosts[1].to_owned(),
                check: what,
                message: format!("the {what} {value:?} is shared by {}", hosts.join(", ")),
                fix: (*fix).to_owned(),
            });
        }
    }
    let clocks = || subjects.iter().map(|s| (s.clock_skew_millis, &s.host.name));
    if let (Some((early, first)), Some((late, last))) = (clocks().min(), clocks().max())
        && late - early > CLOCK_TOLERANCE * 1000
    {
        findings.push(Finding {
            severity: Severity::Error,
            host: last.clone(),
            check: "clock",
            message: format!("its clock is {} s ahead of that of {first}", (late - early) / 1000),
            fix: "set the clocks, best by an NTP client on every host".into(),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use hoststate::facts::{Address, Disk, ListeningPort, SeLinux};
    use hoststate::resource::ClusterRef;
    use hoststate::wire::HostManifest;

    const INVENTORY: &str = "cluster: t\nhosts:\n- {name: h1, address: 10.99.0.11, role: controlPlane}\n- {name: h2, address: 10.99.0.12, role: worker}\n";

    fn good(index: u8) -> Facts {
        Facts {
            hostname: format!("h{index}"),
            machine_id: format!("{index}"),
            arch: "x86_64".into(),
            kernel: "6.1.0-18-amd64".into(),
            os_id: "debian".into(),
            os_version: "12".into(),
            init_is_systemd: true,
            systemd_version: Some(252),
            cgroup: CgroupMode::V2,
            cgroup_controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
            memory_bytes: 4 << 30,
            disks: vec![Disk {
                path: "/var/lib".into(),
                filesystem: "ext4".into(),
                free_bytes: 20 << 30,
                total_bytes: 40 << 30,
                free_inodes: 1 << 20,
                read_only: false,
                no_exec: false,
            }],
            addresses: vec![Address { interface: "eth0".into(), address: format!("10.99.0.1{index}"), prefix: 24 }],
            features: ["overlay", "nf_tables", "nf_conntrack", "nf_nat", "veth", "vxlan"]
                .iter()
                .map(|f| ((*f).to_owned(), true))
                .collect(),
            nameservers: vec!["10.99.0.1".into()],
            ..Facts::default()
        }
    }

    fn findings(change: impl FnOnce(&mut Facts), skew: i64) -> Vec<(Severity, &'static str)> {
        let cluster = Cluster::parse(INVENTORY, "i", std::path::Path::new("/")).unwrap();
        let (mut one, two) = (good(1), good(2));
        change(&mut one);
        let subject = |host, facts, clock_skew_millis| Subject {
            cluster: &cluster,
            cluster_id: "id",
            host,
            facts,
            clock_skew_millis,
        };
        let found = check(&[subject(&cluster.hosts[0], &one, skew), subject(&cluster.hosts[1], &two, 0)]);
        assert!(found.iter().all(|f| !f.fix.is_empty() && !f.message.is_empty()));
        found.into_iter().map(|f| (f.severity, f.check)).collect()
    }

    fn manifest(id: &str) -> HostManifest {
        HostManifest {
            cluster: ClusterRef { name: "t".into(), id: id.into() },
            host: "h1".into(),
            version: "1".into(),
            complete: true,
            ..HostManifest::default()
        }
    }

    #[test]
    fn the_table() {
        use Severity::{Error, Note, Warning};
        type Case = (&'static str, fn(&mut Facts), &'static [(Severity, &'static str)]);
        const CASES: &[Case] = &[
            ("good", |_| (), &[]),
            ("os", |f| f.os_id = "plan9".into(), &[(Warning, "operating system")]),
            ("kernel", |f| f.kernel = "4.19.0".into(), &[(Error, "operating system")]),
            ("glibc", |f| f.glibc = Some("2.31".into()), &[(Warning, "C library")]),
            ("arch", |f| f.arch = "riscv64".into(), &[(Error, "architecture")]),
            ("init", |f| f.init_is_systemd = false, &[(Error, "systemd")]),
            ("feature", |f| *f.features.get_mut("vxlan").unwrap() = false, &[(Error, "kernel features")]),
            ("cgroup", |f| f.cgroup_controllers = vec!["cpu".into(), "pids".into()], &[(Error, "cgroups")]),
            ("memory", |f| f.memory_bytes = 256 << 20, &[(Error, "memory")]),
            ("disk", |f| f.disks[0].free_bytes = 100 << 20, &[(Error, "disk")]),
            ("swap", |f| f.swap_bytes = 1 << 30, &[(Warning, "swap")]),
            ("address", |f| f.addresses.clear(), &[(Error, "address")]),
            ("hostname", |f| f.hostname = "h2".into(), &[(Error, "hostname")]),
            ("machine id", |f| f.machine_id = "2".into(), &[(Error, "machine-id")]),
            (
                "kubeadm",
                |f| drop(f.other_kubernetes.insert("/etc/kubernetes/kubelet.conf".into(), "kubeadm".into())),
                &[(Error, "other Kubernetes")],
            ),
            ("directory", |f| f.filled_directories.push("/var/lib/kubelet".into()), &[(Error, "directories")]),
            ("nameserver", |f| f.nameservers.clear(), &[(Warning, "resolver")]),
            ("stub", |f| f.nameservers = vec!["127.0.0.53".into()], &[(Warning, "resolver")]),
            ("Docker", |f| f.neighbours.services = vec!["Docker".into()], &[(Note, "neighbours")]),
            ("CNI", |f| f.neighbours.cni_files = vec!["/etc/cni/net.d/10-x.conf".into()], &[(Note, "neighbours")]),
            ("NetworkManager", |f| f.neighbours.services = vec!["NetworkManager".into()], &[(Note, "neighbours")]),
            ("firewalld", |f| f.neighbours.services = vec!["firewalld".into()], &[(Warning, "firewall")]),
            (
                "ufw and its chains",
                |f| {
                    f.neighbours.services = vec!["ufw".into()];
                    f.neighbours.dropping =
                        vec!["ip filter INPUT (input)".into(), "ip filter FORWARD (forward)".into()];
                },
                &[(Warning, "firewall"), (Warning, "firewall")],
            ),
            ("own rules", |f| f.neighbours.dropping = vec!["inet x i (input)".into()], &[(Warning, "firewall")]),
            ("unknown policy", |f| f.selinux_enforcing = true, &[(Error, "SELinux")]),
            (
                "targeted policy",
                |f| {
                    f.selinux_enforcing = true;
                    f.selinux = SeLinux { policy: "targeted".into(), can_label: true };
                },
                &[(Note, "SELinux")],
            ),
            ("read-only", |f| f.disks[0].read_only = true, &[(Error, "file systems")]),
            ("noexec elsewhere", |f| f.disks[0].no_exec = true, &[]),
            ("etcd of one", |f| f.store.joined = true, &[(Error, "store")]),
        ];
        for (name, change, expected) in CASES {
            assert_eq!(findings(change, 0), *expected, "{name}");
        }
    }

    #[test]
    fn clocks_are_compared_with_ours_and_with_each_other() {
        assert_eq!(findings(|_| (), 4000), []);
        assert_eq!(findings(|_| (), -90_000), [(Severity::Error, "clock"), (Severity::Error, "clock")]);
    }

    #[test]
    fn what_was_lived_with_is_not_told_again_but_what_drops_pods_packets_is() {
        let all = |f: &mut Facts| {
            f.neighbours.services = ["Docker", "firewalld", "NetworkManager"].map(str::to_owned).to_vec();
            f.neighbours.cni_files = vec!["/etc/cni/net.d/x".into()];
            f.neighbours.dropping = vec!["ip filter FORWARD (forward)".into()];
        };
        assert_eq!(findings(all, 0).len(), 5);
        let later = |f: &mut Facts| {
            all(f);
            f.manifest = Some(manifest("id"));
        };
        assert_eq!(findings(later, 0), [(Severity::Warning, "firewall")]);
    }

    #[test]
    fn ports_count_only_when_they_are_not_ours() {
        let listen = |f: &mut Facts, process: Option<&str>| {
            f.listening = vec![ListeningPort {
                protocol: "tcp".into(),
                address: "0.0.0.0".into(),
                port: 6443,
                process: process.map(str::to_owned),
            }];
        };
        assert_eq!(findings(|f| listen(f, Some("haproxy")), 0), [(Severity::Error, "ports")]);
        assert_eq!(findings(|f| listen(f, None), 0), [(Severity::Error, "ports")]);
        assert_eq!(findings(|f| listen(f, Some("/opt/kinstall/1/bin/kinstall-components")), 0), []);
        assert_eq!(
            findings(
                |f| {
                    listen(f, None);
                    f.manifest = Some(manifest("id"));
                },
                0
            ),
            []
        );
        assert_eq!(findings(|f| f.manifest = Some(manifest("another")), 0), [(Severity::Error, "other cluster")]);
    }
}
