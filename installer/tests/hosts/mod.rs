//! Hosts that the lab cannot boot, and what people have on theirs: converge's own code looks at a root made of a file in this
//! folder (README.md says what they are), and findings and state are compared with golden files.

mod paper;

use hoststate::facts::Address;
use hoststate::resource::ClusterRef;
use hoststate::{Content, Facts, HostState, Resource, sha256_hex, shown};
use kinstall::cluster::Cluster;
use kinstall::preflight::{Finding, Severity, Subject, check};

use super::golden;

const INVENTORY: &str = "\
cluster: demo
hosts:
- {name: h1, address: 10.99.0.11, roles: [controlPlane, worker]}
- {name: h2, address: 10.99.0.12, role: worker}
";

/// What every other one is compared with.
const FIRST: &str = "debian-12";

const DISTRIBUTIONS: [&str; 13] = [
    FIRST,
    "debian-13",
    "ubuntu-22.04",
    "ubuntu-24.04",
    "rocky-9",
    "rhel-10",
    "leap-15.6",
    "sles-15.6",
    "debian-11",
    "alpine-3.20",
    "microos",
    "flatcar",
    "fedora-coreos",
];

/// What is found, by severity and check, besides what the distribution has by itself.
const CONFLICTS: &[(&str, &[(Severity, &str)])] = {
    use Severity::{Error, Note, Warning};
    &[
        ("docker", &[(Warning, "firewall"), (Note, "neighbours")]),
        ("docker-opened", &[(Note, "neighbours")]),
        (
            "ufw",
            &[
                (Warning, "firewall"),
                (Warning, "firewall"),
                (Note, "operating system"),
                (Note, "neighbours"),
                (Note, "neighbours"),
            ],
        ),
        ("ufw-opened", &[(Note, "operating system"), (Note, "neighbours"), (Note, "neighbours")]),
        ("firewalld-opened", &[(Note, "operating system"), (Note, "neighbours")]),
        ("nftables", &[(Warning, "firewall"), (Warning, "firewall")]),
        ("nftables-opened", &[]),
        ("networkmanager", &[(Note, "neighbours")]),
        ("cni", &[(Note, "neighbours")]),
        ("kubeadm", &[(Error, "other Kubernetes"), (Error, "directories")]),
        ("swap", &[(Warning, "swap")]),
        ("port", &[(Error, "ports")]),
        ("sysctl", &[(Warning, "kernel parameters"), (Warning, "kernel parameters")]),
        ("mounts", &[(Error, "file systems"), (Error, "file systems")]),
        ("resolver", &[(Warning, "resolver")]),
        (
            "selinux-mls",
            &[
                (Error, "SELinux"),
                (Warning, "swap"),
                (Warning, "firewall"),
                (Note, "operating system"),
                (Note, "neighbours"),
            ],
        ),
        (
            "selinux-without-tools",
            &[
                (Error, "SELinux"),
                (Warning, "swap"),
                (Warning, "firewall"),
                (Note, "operating system"),
                (Note, "neighbours"),
            ],
        ),
        (
            "selinux-permissive",
            &[(Warning, "swap"), (Warning, "firewall"), (Note, "operating system"), (Note, "neighbours")],
        ),
    ]
};

/// What converge finds on such a host. What the machine that runs the test has of its own is set.
fn facts(name: &str) -> Facts {
    let (_directory, root) = paper::root(name);
    let mut facts = converge::collect_facts(&root);
    facts.arch = "x86_64".into();
    facts.can_lower_oom_score = true;
    facts.addresses = vec![Address { interface: "eth0".into(), address: "10.99.0.11".into(), prefix: 24 }];
    for disk in &mut facts.disks {
        (disk.free_bytes, disk.total_bytes, disk.free_inodes) = (20 << 30, 40 << 30, 1 << 20);
    }
    facts
}

fn cluster() -> Cluster {
    Cluster::parse(INVENTORY, "i", std::path::Path::new("/")).unwrap()
}

fn findings(facts: &Facts) -> Vec<Finding> {
    let cluster = cluster();
    let host = &cluster.hosts[0];
    check(&[Subject { cluster: &cluster, cluster_id: "the-id", host, facts, clock_skew_millis: 0 }])
}

fn told(findings: &[Finding]) -> String {
    let severity = |it: &Finding| match it.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let line = |it: &Finding| format!("{}: {}: {}\n    remedy: {}\n", severity(it), it.check, it.message, it.fix);
    findings.iter().map(line).collect()
}

fn state(facts: &Facts) -> HostState {
    super::state_of(INVENTORY, 0, facts)
}

/// A resource, with a digest in the place of its text: the texts stand in the other golden files.
fn short(resource: &Resource) -> String {
    match resource {
        Resource::File { mode, content: Content::Inline { text, secret }, .. } => {
            let digest = if *secret { "secret".to_owned() } else { sha256_hex(text.as_bytes())[..12].to_owned() };
            format!("{} {mode:o} {digest}\n", resource.id())
        }
        other => format!("{}\n", other.id()),
    }
}

/// What one state has otherwise than another.
fn differences(first: &HostState, other: &HostState) -> String {
    let mut text = String::new();
    for resource in &other.resources {
        let was = first.resources.iter().find(|it| it.id() == resource.id());
        if was == Some(resource) {
            continue;
        }
        match (was, resource) {
            (Some(Resource::File { content: was, .. }), Resource::File { path, content: becomes, .. }) => {
                text += &format!(
                    "~ {}\n{}\n",
                    resource.id(),
                    shown::difference(path, text_of(was), text_of(becomes)).trim_end()
                );
            }
            (Some(_), _) => text += &format!("~ {}\n", serde_json::to_string(resource).unwrap()),
            (None, Resource::File { mode, content, .. }) => {
                text += &format!("+ {} {mode:o}\n{}\n", resource.id(), text_of(content).unwrap_or_default().trim_end());
            }
            (None, _) => text += &format!("+ {}\n", serde_json::to_string(resource).unwrap()),
        }
    }
    let gone = first.resources.iter().filter(|was| !other.resources.iter().any(|it| it.id() == was.id()));
    text + &gone.map(|was| format!("- {}\n", was.id())).collect::<String>()
}

fn text_of(content: &Content) -> Option<&str> {
    match content {
        Content::Inline { text, .. } => Some(text),
        Content::Blob { .. } => None,
    }
}

#[test]
fn distributions() {
    let first = state(&facts(FIRST));
    for name in DISTRIBUTIONS {
        let facts = facts(name);
        let findings = findings(&facts);
        let of_state = if findings.iter().any(|it| it.severity == Severity::Error) {
            "refused: nothing is made there\n".to_owned()
        } else if name == FIRST {
            state(&facts).resources.iter().map(short).collect()
        } else {
            format!("{FIRST}'s, but for:\n{}", differences(&first, &state(&facts)))
        };
        let system = format!(
            "kernel {}, systemd {}, cgroups {:?}",
            facts.kernel,
            facts.systemd_version.map_or("none".to_owned(), |version| version.to_string()),
            facts.cgroup
        );
        golden(
            &format!("hosts/{name}.txt"),
            &format!("== {system}\n== findings\n{}== state\n{of_state}", told(&findings)),
        );
    }
}

#[test]
fn conflicts_are_told_each_with_what_to_do_and_no_more_once_that_was_done() {
    let mut text = String::new();
    for (name, expected) in CONFLICTS {
        let findings = findings(&facts(name));
        let found: Vec<_> = findings.iter().map(|it| (it.severity, it.check)).collect();
        assert_eq!(found, *expected, "{name}:\n{}", told(&findings));
        text += &format!("== {name}\n{}", told(&findings));
    }
    golden("hosts/conflicts.txt", &text);
}

#[test]
fn a_neighbours_file_is_made_where_it_runs_and_matters() {
    let files = |name: &str| -> Vec<String> {
        let state = super::state_of(INVENTORY, 0, &facts(name));
        let of_neighbours = |id: &String| id.contains("NetworkManager") || id.contains("/etc/systemd/network");
        state.resources.iter().map(Resource::id).filter(of_neighbours).collect()
    };
    let of_manager = ["directory /etc/NetworkManager/conf.d", "file /etc/NetworkManager/conf.d/kinstall.conf"];
    let of_networkd = ["directory /etc/systemd/network", "file /etc/systemd/network/05-kinstall.network"];
    assert_eq!(files("networkmanager"), of_manager);
    assert_eq!(files("rocky-9"), of_manager);
    assert_eq!(files("ubuntu-24.04"), of_networkd);
    assert_eq!(files(FIRST), Vec::<String>::new());
}

#[test]
fn what_was_lived_with_is_not_told_to_a_host_of_the_cluster() {
    let mut facts = facts("rocky-9");
    facts.manifest = Some(hoststate::HostManifest {
        cluster: ClusterRef { name: "demo".into(), id: "the-id".into() },
        host: "h1".into(),
        complete: true,
        ..hoststate::HostManifest::default()
    });
    let found: Vec<_> = findings(&facts).iter().map(|it| (it.severity, it.check)).collect();
    assert_eq!(found, [(Severity::Warning, "swap")]);
}

/// systemd ignores an option that it does not know, and says so in its journal only.
#[test]
fn units_use_no_option_that_the_oldest_systemd_lacks() {
    /// Options and systemd's version that brought them; those without a number are older than any that is met.
    const NEWER: [(&str, u32); 4] =
        [("StartLimitIntervalSec", 230), ("TasksMax", 227), ("RandomizedDelaySec", 229), ("Delegate", 218)];
    const OLD: [&str; 26] = [
        "Description",
        "Documentation",
        "After",
        "Wants",
        "Type",
        "NotifyAccess",
        "ExecStart",
        "ExecStartPre",
        "ExecStartPost",
        "Environment",
        "EnvironmentFile",
        "Restart",
        "RestartSec",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "LimitNOFILE",
        "LimitCORE",
        "LimitNPROC",
        "KillMode",
        "OOMScoreAdjust",
        "WantedBy",
        "Nice",
        "IOSchedulingClass",
        "OnCalendar",
        "Persistent",
        "AccuracySec",
    ];
    /// `preflight` refuses older ones.
    const OLDEST: u32 = 244;
    let mut seen = 0;
    for resource in &state(&facts(FIRST)).resources {
        let Resource::File { path, content: Content::Inline { text, .. }, .. } = resource else { continue };
        if !path.starts_with("/etc/systemd/system/") {
            continue;
        }
        for option in
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.split_once('=')?.0))
        {
            let newer = NEWER.iter().find(|(name, _)| *name == option);
            assert!(newer.map_or_else(|| OLD.contains(&option), |(_, since)| *since <= OLDEST), "{path}: {option}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} options in all units");
    for name in DISTRIBUTIONS {
        assert!(facts(name).systemd_version.is_none_or(|version| version >= OLDEST), "{name}");
    }
}
