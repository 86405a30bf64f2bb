//! Host states against golden files. After a wanted change: `UPDATE_GOLDEN=1 cargo test -p kinstall --test states`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use certs::Issued;
use hoststate::bundle::{BundleFile, BundleImage};
use hoststate::resource::ClusterRef;
use hoststate::{BundleManifest, Content, Facts, HostState, Resource};
use kinstall::cluster::Cluster;
use kinstall::desired::{Inputs, host_state};
use kinstall::state::pki::Pki;

const INVENTORY: &str = "\
cluster: demo
hosts:
- {name: h1, address: 10.99.0.11, role: controlPlane}
- {name: h2, address: 10.99.0.12, role: worker, labels: {disk: ssd}, taints: ['a=b:NoSchedule']}
";

fn issued(name: &str) -> Issued {
    Issued { cert_pem: format!("certificate of {name}"), key_pem: format!("SECRET key of {name}") }
}

fn pki() -> Pki {
    Pki {
        ca: issued("ca"),
        service_account: issued("sa"),
        apiserver: issued("apiserver"),
        apiserver_kubelet_client: issued("apiserver-kubelet-client"),
        front_proxy_ca: issued("front-proxy-ca"),
        front_proxy_client: issued("front-proxy-client"),
        proxy: issued("proxy"),
        cni_agent: issued("cni-agent"),
        admin: issued("admin"),
        kubelet_bootstrap: ["h1", "h2"].into_iter().map(|host| (host.to_owned(), issued(host))).collect(),
    }
}

fn bundle() -> BundleManifest {
    let names = [
        "bin/containerd",
        "bin/containerd-shim-runc-v2",
        "bin/ctr",
        "bin/kinstall-components",
        "bin/pause",
        "bin/runc",
        "lib/libseccomp.so.2",
    ];
    let digest = |index: usize| format!("{index:064x}");
    BundleManifest {
        format: 1,
        version: "0.1.0".into(),
        arch: "amd64".into(),
        files: names
            .iter()
            .enumerate()
            .map(|(index, path)| BundleFile { path: (*path).into(), mode: 0o755, sha256: digest(index), size: 1000 })
            .collect(),
        images: vec![BundleImage { name: "docker.io/library/mariadb:10.11".into(), sha256: digest(99), size: 100_000 }],
    }
}

fn state(host: usize, facts: &Facts) -> HostState {
    let cluster = Cluster::parse(INVENTORY, "i", Path::new("/")).unwrap();
    let identity = ClusterRef { name: "demo".into(), id: "the-id".into() };
    let (pki, bundle) = (pki(), bundle());
    let inputs = Inputs { cluster: &cluster, identity: &identity, pki: &pki, bundle: &bundle };
    host_state(inputs, &cluster.hosts[host], facts).unwrap()
}

fn facts() -> Facts {
    Facts {
        features: ["overlay", "vxlan", "nf_tables"].iter().map(|name| ((*name).to_owned(), true)).collect(),
        resolv_conf: "/run/systemd/resolve/resolv.conf".into(),
        can_lower_oom_score: true,
        ..Facts::default()
    }
}

/// A state as people can read it: texts as texts.
fn readable(state: &HostState) -> String {
    let mut text = String::new();
    for resource in &state.resources {
        match resource {
            Resource::File { path, mode, content: Content::Inline { text: content, secret } } => {
                let content = if *secret { "(secret)".to_owned() } else { content.clone() };
                text.push_str(&format!("== file {path} {mode:o}\n{}\n", content.trim_end()));
            }
            other => text.push_str(&format!("== {}\n", serde_json::to_string(other).unwrap())),
        }
    }
    text
}

fn golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (index, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(expected, actual, "{name}:{}", index + 1);
    }
    assert_eq!(expected.lines().count(), actual.lines().count(), "{name}: lines at the end differ");
}

#[test]
fn control_plane_and_worker() {
    golden("control-plane.txt", &readable(&state(0, &facts())));
    golden("worker.txt", &readable(&state(1, &facts())));
}

#[test]
fn every_resource_has_its_own_id_and_units_restart_on_files_that_are_there() {
    for host in 0..2 {
        let state = state(host, &facts());
        let ids: Vec<_> = state.resources.iter().map(Resource::id).collect();
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        for resource in &state.resources {
            if let Resource::Unit { name, restart_on, .. } = resource {
                for path in restart_on {
                    assert!(
                        ids.contains(&format!("file {path}")) || ids.contains(&format!("symlink {path}")),
                        "{name}: {path}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_key_is_secret_and_closed_to_others() {
    let state = state(0, &facts());
    for resource in &state.resources {
        if let Resource::File { path, mode, content: Content::Inline { text, secret } } = resource {
            let holds_key = text.contains("SECRET") || path.ends_with(".kubeconfig");
            assert_eq!(holds_key, *secret, "{path}");
            assert!(!holds_key || *mode == 0o600, "{path}");
        }
    }
    assert!(!readable(&state).contains("SECRET"));
}

#[test]
fn what_the_host_cannot_do_is_left_out() {
    let mut weak = facts();
    weak.can_lower_oom_score = false;
    weak.features.insert("vxlan".into(), false);
    let text = readable(&state(1, &weak));
    assert!(text.contains("restrict_oom_score_adj = true") && !text.contains("OOMScoreAdjust"));
    assert!(!text.contains("\"name\":\"vxlan\""));
    // only the control plane's host has the authority's key
    assert!(!text.contains("ca.key"));
}
