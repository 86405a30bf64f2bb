//! The systemd units, as a table.

use hoststate::bundle::BundleManifest;
use hoststate::{Content, Resource};
use serde_json::{Value, json};

use super::render::render;
use crate::cluster::Host;

/// When a unit is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What everything else needs.
    Base,
    /// What makes the host a node; pods need the pause image first.
    Node,
}

struct Unit {
    name: &'static str,
    description: &'static str,
    command: &'static str,
    after: &'static [&'static str],
    /// The files whose change restarts it, besides its unit file and its executable.
    config: &'static [&'static str],
    /// Further lines of its `[Service]` section.
    extra: &'static [&'static str],
    stage: Stage,
    control_plane_only: bool,
    /// Dies last when memory runs out.
    oom_score: i32,
}

const UNITS: &[Unit] = &[
    Unit {
        name: "kinstall-containerd.service",
        description: "kinstall: container runtime",
        command: "containerd --config /etc/kinstall/containerd.toml",
        after: &[],
        config: &["/etc/kinstall/containerd.toml"],
        // containers outlive the runtime
        extra: &["Delegate=yes", "KillMode=process", "LimitNPROC=infinity"],
        stage: Stage::Base,
        control_plane_only: false,
        oom_score: -999,
    },
    Unit {
        name: "kinstall-control-plane.service",
        description: "kinstall: Kubernetes control plane",
        command: "kinstall-components control-plane --config /etc/kinstall/control-plane.yaml",
        after: &[],
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
        extra: &[],
        stage: Stage::Base,
        control_plane_only: true,
        oom_score: -998,
    },
    Unit {
        name: "kinstall-kubelet.service",
        description: "kinstall: kubelet",
        command: "kinstall-components kubelet --config /etc/kinstall/kubelet.yaml",
        after: &["kinstall-containerd.service"],
        config: &[
            "/etc/kinstall/kubelet.yaml",
            "/etc/kinstall/pki/ca.crt",
            "/etc/kinstall/kubelet-bootstrap.kubeconfig",
        ],
        extra: &["KillMode=process"],
        stage: Stage::Node,
        control_plane_only: false,
        oom_score: -999,
    },
    Unit {
        name: "kinstall-proxy.service",
        description: "kinstall: Service proxy",
        command: "kinstall-components proxy --config /etc/kinstall/proxy.yaml",
        after: &[],
        config: &["/etc/kinstall/proxy.yaml", "/etc/kinstall/proxy.kubeconfig"],
        extra: &[],
        stage: Stage::Node,
        control_plane_only: false,
        oom_score: -998,
    },
    Unit {
        name: "kinstall-cni-agent.service",
        description: "kinstall: pod network",
        command: "kinstall-components cni-agent --config /etc/kinstall/cni-agent.yaml",
        after: &[],
        config: &["/etc/kinstall/cni-agent.yaml", "/etc/kinstall/cni-agent.kubeconfig"],
        extra: &[],
        stage: Stage::Node,
        control_plane_only: false,
        oom_score: -998,
    },
];

fn of_host(host: &Host) -> impl Iterator<Item = &'static Unit> {
    let control_plane = host.control_plane;
    UNITS.iter().filter(move |unit| control_plane || !unit.control_plane_only)
}

fn path(unit: &Unit) -> String {
    format!("/etc/systemd/system/{}", unit.name)
}

/// The unit files of a host.
pub fn files(host: &Host, bundle: &BundleManifest, context: &Value) -> anyhow::Result<Vec<Resource>> {
    let library_path = bundle.files.iter().any(|file| file.path.starts_with("lib/"));
    let can_lower_oom_score = context["can_lower_oom_score"] == true;
    of_host(host)
        .map(|unit| {
            let mut extra: Vec<String> = unit.extra.iter().map(|line| (*line).to_owned()).collect();
            if can_lower_oom_score {
                extra.push(format!("OOMScoreAdjust={}", unit.oom_score));
            }
            let text = render(
                "units/component.service",
                &json!({
                    "description": unit.description,
                    "command": unit.command,
                    "after": unit.after,
                    "extra": extra,
                    "library_path": library_path && unit.name == "kinstall-containerd.service",
                }),
            )?;
            Ok(Resource::File { path: path(unit), mode: 0o644, content: Content::Inline { text, secret: false } })
        })
        .collect()
}

/// The units of one stage; those next to each other start together.
pub fn units(host: &Host, version: &str, stage: Stage) -> Vec<Resource> {
    of_host(host)
        .filter(|unit| unit.stage == stage)
        .map(|unit| {
            let mut restart_on = vec![path(unit)];
            restart_on.extend(unit.config.iter().map(|file| (*file).to_owned()));
            restart_on.push("/opt/kinstall/current".into());
            let executable = unit.command.split(' ').next().unwrap_or_default();
            restart_on.push(format!("/opt/kinstall/{version}/bin/{executable}"));
            Resource::Unit { name: unit.name.into(), enabled: true, active: true, restart_on }
        })
        .collect()
}

/// The names of a host's units, for `status`.
pub fn names(host: &Host) -> Vec<&'static str> {
    of_host(host).map(|unit| unit.name).collect()
}
