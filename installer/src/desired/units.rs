//! The systemd units, as a table.

use hoststate::{Content, Resource};
use serde_json::{Value, json};

use super::render::render;
use super::{Inputs, files, registries};
use crate::cluster::{Cluster, Host};

pub const CONTAINERD: &str = "kinstall-containerd.service";
pub const KUBELET: &str = "kinstall-kubelet.service";
pub const CONTROL_PLANE: &str = "kinstall-control-plane.service";
pub const ETCD: &str = "kinstall-etcd.service";
const BALANCER: &str = "kinstall-balancer.service";
const MEMBERS: &str =
    "/opt/kinstall/current/bin/kinstall-components etcd-members --config /etc/kinstall/etcd-members.yaml";

/// When a unit is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What everything else needs.
    Base,
    /// What makes the host a node; pods need the pause image first.
    Node,
}

/// Which hosts a unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    EveryHost,
    ControlPlanes,
    /// Control planes of a cluster that has its own etcd.
    Members,
    /// Every host of a cluster with several control planes.
    Balanced,
}

struct Unit {
    name: &'static str,
    description: &'static str,
    command: &'static str,
    /// Those that the host has are started before it; a unit of the same stage is also waited for before it is touched.
    after: &'static [&'static str],
    /// The files whose change restarts it, besides its unit file and its executable.
    config: &'static [&'static str],
    /// Further ones where there is etcd.
    etcd_config: &'static [&'static str],
    /// Further lines of its `[Service]` section.
    extra: &'static [&'static str],
    stage: Stage,
    on: On,
    /// Dies last when memory runs out.
    oom_score: i32,
}

const UNITS: &[Unit] = &[
    Unit {
        name: CONTAINERD,
        description: "kinstall: container runtime",
        command: "containerd --config /etc/kinstall/containerd.toml",
        after: &[],
        config: &["/etc/kinstall/containerd.toml"],
        etcd_config: &[],
        // containers outlive the runtime
        extra: &["Delegate=yes", "KillMode=process", "LimitNPROC=infinity"],
        stage: Stage::Base,
        on: On::EveryHost,
        oom_score: -999,
    },
    Unit {
        name: BALANCER,
        description: "kinstall: balancer of the API servers",
        command: "kinstall-components balancer --config /etc/kinstall/balancer.yaml",
        after: &[],
        // it watches its configuration
        config: &[],
        etcd_config: &[],
        extra: &[],
        stage: Stage::Base,
        on: On::Balanced,
        oom_score: -998,
    },
    Unit {
        name: ETCD,
        description: "kinstall: etcd",
        command: "etcd --config-file /var/lib/kinstall/etcd/etcd.yaml",
        after: &[],
        // certificates are read at each connection; who the other members are it knows itself
        config: &["/etc/kinstall/etcd.yaml"],
        etcd_config: &["/etc/kinstall/pki/etcd-ca.crt"],
        extra: &[],
        stage: Stage::Base,
        on: On::Members,
        oom_score: -999,
    },
    Unit {
        name: CONTROL_PLANE,
        description: "kinstall: Kubernetes control plane",
        command: "kinstall-components control-plane --config /etc/kinstall/control-plane.yaml",
        after: &[ETCD],
        config: &[
            "/etc/kinstall/control-plane.yaml",
            "/etc/kinstall/pki/ca.crt",
            "/etc/kinstall/pki/ca.key",
            "/etc/kinstall/pki/sa.key",
            "/etc/kinstall/pki/apiserver.crt",
            "/etc/kinstall/pki/apiserver-kubelet-client.crt",
            "/etc/kinstall/pki/front-proxy-ca.crt",
            "/etc/kinstall/pki/front-proxy-client.crt",
        ],
        etcd_config: &["/etc/kinstall/pki/etcd-ca.crt", "/etc/kinstall/pki/apiserver-etcd-client.crt"],
        extra: &[],
        stage: Stage::Base,
        on: On::ControlPlanes,
        oom_score: -998,
    },
    Unit {
        name: KUBELET,
        description: "kinstall: kubelet",
        command: "kinstall-components kubelet --config /etc/kinstall/kubelet.yaml",
        after: &[CONTAINERD, BALANCER],
        config: &[
            "/etc/kinstall/kubelet.yaml",
            "/etc/kinstall/pki/ca.crt",
            "/etc/kinstall/kubelet-bootstrap.kubeconfig",
        ],
        etcd_config: &[],
        extra: &["KillMode=process"],
        stage: Stage::Node,
        on: On::EveryHost,
        oom_score: -999,
    },
    Unit {
        name: "kinstall-proxy.service",
        description: "kinstall: Service proxy",
        command: "kinstall-components proxy --config /etc/kinstall/proxy.yaml",
        after: &[BALANCER],
        config: &["/etc/kinstall/proxy.yaml", "/etc/kinstall/proxy.kubeconfig"],
        etcd_config: &[],
        extra: &[],
        stage: Stage::Node,
        on: On::EveryHost,
        oom_score: -998,
    },
    Unit {
        name: "kinstall-cni-agent.service",
        description: "kinstall: pod network",
        command: "kinstall-components cni-agent --config /etc/kinstall/cni-agent.yaml",
        after: &[BALANCER],
        config: &["/etc/kinstall/cni-agent.yaml", "/etc/kinstall/cni-agent.kubeconfig"],
        etcd_config: &[],
        extra: &[],
        stage: Stage::Node,
        on: On::EveryHost,
        oom_score: -998,
    },
];

fn of_host(cluster: &Cluster, host: &Host) -> impl Iterator<Item = &'static Unit> {
    let (control_plane, member) = (host.control_plane, files::runs_etcd(cluster, host));
    let balanced = cluster.several_control_planes();
    UNITS.iter().filter(move |unit| match unit.on {
        On::EveryHost => true,
        On::ControlPlanes => control_plane,
        On::Members => member,
        On::Balanced => balanced,
    })
}

fn path(unit: &Unit) -> String {
    format!("/etc/systemd/system/{}", unit.name)
}

/// The unit files of a host.
pub fn files(inputs: Inputs<'_>, host: &Host, context: &Value) -> anyhow::Result<Vec<Resource>> {
    let Inputs { cluster, bundle, .. } = inputs;
    let library_path = bundle.files.iter().any(|file| file.path.starts_with("lib/"));
    let can_lower_oom_score = context["can_lower_oom_score"] == true;
    let there = names(cluster, host);
    of_host(cluster, host)
        .map(|unit| {
            let mut extra: Vec<String> = unit.extra.iter().map(|line| (*line).to_owned()).collect();
            if unit.name == CONTAINERD && cluster.proxy.is_some() {
                extra.push(format!("EnvironmentFile={}", registries::PROXY));
            }
            if unit.name == ETCD {
                extra.extend(etcd_lines(&bundle.arch));
            }
            if can_lower_oom_score {
                extra.push(format!("OOMScoreAdjust={}", unit.oom_score));
            }
            let text = render(
                "units/component.service",
                &json!({
                    "description": unit.description,
                    "command": unit.command,
                    "after": unit.after.iter().filter(|name| there.contains(name)).collect::<Vec<_>>(),
                    "extra": extra,
                    "library_path": library_path && unit.name == CONTAINERD,
                }),
            )?;
            Ok(Resource::File { path: path(unit), mode: 0o644, content: Content::Inline { text, secret: false } })
        })
        .collect()
}

/// Before it starts the member gets its place in the cluster, and the unit is up when the member has a vote.
fn etcd_lines(arch: &str) -> Vec<String> {
    let mut lines = vec![format!("ExecStartPre={MEMBERS} prepare"), format!("ExecStartPost={MEMBERS} joined")];
    // what etcd 3.4 wants to hear on processors that its authors do not test
    if arch != "amd64" {
        lines.push(format!("Environment=ETCD_UNSUPPORTED_ARCH={arch}"));
    }
    lines
}

/// The units of one stage; those next to each other start together.
pub fn units(inputs: Inputs<'_>, host: &Host, stage: Stage) -> Vec<Resource> {
    let cluster = inputs.cluster;
    let of_stage: Vec<_> = of_host(cluster, host).filter(|unit| unit.stage == stage).collect();
    of_stage
        .iter()
        .map(|unit| {
            let mut restart_on = vec![path(unit)];
            restart_on.extend(unit.config.iter().map(|file| (*file).to_owned()));
            if !cluster.etcd_endpoints(host).is_empty() {
                restart_on.extend(unit.etcd_config.iter().map(|file| (*file).to_owned()));
            }
            if unit.name == CONTAINERD && cluster.proxy.is_some() {
                restart_on.push(registries::PROXY.to_owned());
            }
            restart_on.extend(programs(inputs, unit));
            let is_before = |name: &&&str| of_stage.iter().any(|other| other.name == **name);
            let after = unit.after.iter().filter(is_before).map(|name| (*name).to_owned()).collect();
            Resource::Unit { name: unit.name.into(), enabled: true, active: true, restart_on, after }
        })
        .collect()
}

/// The bundle's files that a unit runs. A version whose files are the same restarts nothing.
fn programs(inputs: Inputs<'_>, unit: &Unit) -> impl Iterator<Item = String> {
    /// With each other they are what users' containers run in.
    const RUNTIME: &[&str] = &["bin/containerd", "bin/containerd-shim-runc-v2", "bin/runc"];
    let executable = format!("bin/{}", unit.command.split(' ').next().unwrap_or_default());
    let is_runtime = unit.name == CONTAINERD;
    inputs
        .bundle
        .files
        .iter()
        .filter(move |file| {
            file.path == executable
                || is_runtime && (RUNTIME.contains(&file.path.as_str()) || file.path.starts_with("lib/"))
        })
        .map(|file| format!("/opt/kinstall/{}/{}", inputs.bundle.version, file.path))
}

/// The names of a host's units, for `status`.
pub fn names(cluster: &Cluster, host: &Host) -> Vec<&'static str> {
    of_host(cluster, host).map(|unit| unit.name).collect()
}
