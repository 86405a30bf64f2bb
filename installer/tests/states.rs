//! Host states against golden files. After a wanted change: `UPDATE_GOLDEN=1 cargo test -p kinstall --test states`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(target_os = "linux")]
mod hosts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use certs::Issued;
use hoststate::bundle::{BundleFile, BundleImage};
use hoststate::facts::{Birth, Neighbours, StoreFacts};
use hoststate::resource::ClusterRef;
use hoststate::{BundleManifest, Content, Facts, HostState, Resource};
use kinstall::cluster::Cluster;
use kinstall::desired::{Inputs, Topology, host_state};
use kinstall::state::pki::{EtcdMember, EtcdPki, Orders, Pki};

const INVENTORY: &str = "\
cluster: demo
hosts:
- {name: h1, address: 10.99.0.11, role: controlPlane}
- {name: h2, address: 10.99.0.12, role: worker, labels: {disk: ssd}, taints: ['a=b:NoSchedule']}
";

const SEVERAL: &str = "\
cluster: demo
hosts:
- {name: h1, address: 10.99.0.11, role: controlPlane}
- {name: h2, address: 10.99.0.12, roles: [controlPlane, worker]}
- {name: h3, address: 10.99.0.13, role: controlPlane}
- {name: h4, address: 10.99.0.14, role: worker}
";

fn issued(name: &str) -> Issued {
    Issued { cert_pem: format!("certificate of {name}"), key_pem: format!("SECRET key of {name}") }
}

fn pki(cluster: &Cluster) -> Pki {
    let of_each = |issue: &dyn Fn(&str) -> Issued| {
        cluster.hosts.iter().map(|host| (host.name.clone(), issue(&host.name))).collect::<BTreeMap<_, _>>()
    };
    let member =
        |host: &str| EtcdMember { server: issued(&format!("etcd-server of {host}")), peer: issued("etcd-peer") };
    Pki {
        ca: issued("ca"),
        service_account: issued("sa"),
        apiserver: of_each(&|host| issued(&format!("apiserver of {host}"))),
        apiserver_kubelet_client: issued("apiserver-kubelet-client"),
        front_proxy_ca: issued("front-proxy-ca"),
        front_proxy_client: issued("front-proxy-client"),
        proxy: issued("proxy"),
        cni_agent: issued("cni-agent"),
        admin: issued("admin"),
        kubelet_bootstrap: of_each(&issued),
        etcd: (cluster.runs_etcd() || cluster.external_etcd.is_some()).then(|| EtcdPki {
            ca_pem: issued("etcd-ca").cert_pem,
            ca_key_pem: cluster.runs_etcd().then(|| issued("etcd-ca").key_pem),
            client: issued("apiserver-etcd-client"),
            members: match cluster.runs_etcd() {
                true => cluster.control_planes().map(|host| (host.name.clone(), member(&host.name))).collect(),
                false => BTreeMap::new(),
            },
        }),
        orders: Orders::default(),
    }
}

fn bundle() -> BundleManifest {
    let names = [
        "bin/containerd",
        "bin/containerd-shim-runc-v2",
        "bin/ctr",
        "bin/etcd",
        "bin/kinstall-components",
        "bin/pause",
        "bin/runc",
        "lib/libseccomp.so.2",
    ];
    let digest = |index: usize| format!("{index:064x}");
    BundleManifest {
        format: 1,
        version: "0.1.0".into(),
        kubernetes: None,
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
    state_of(INVENTORY, host, facts)
}

fn state_of(inventory: &str, host: usize, facts: &Facts) -> HostState {
    let cluster = Cluster::parse(inventory, "i", Path::new("/")).unwrap();
    let identity = ClusterRef { name: "demo".into(), id: "the-id".into() };
    let (pki, bundle) = (pki(&cluster), bundle());
    let all = cluster.hosts.iter().map(|host| (host.name.as_str(), facts)).collect();
    let topology = Topology::of(&cluster, &all, true).unwrap();
    let inputs = Inputs { cluster: &cluster, identity: &identity, pki: &pki, bundle: &bundle, topology: &topology };
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
fn one_of_three_control_planes_and_a_worker_beside_them() {
    golden("one-of-three.txt", &readable(&state_of(SEVERAL, 1, &facts())));
    golden("worker-of-three.txt", &readable(&state_of(SEVERAL, 3, &facts())));
}

#[test]
fn a_cluster_with_one_control_plane_has_nothing_of_etcd_and_of_the_balancer() {
    for host in 0..2 {
        let text = readable(&state(host, &facts()));
        for word in ["etcd", "balancer", "6444"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}

#[test]
fn what_a_member_was_born_as_stays_and_a_host_without_data_joins() {
    let text = |facts: &Facts| readable(&state_of(SEVERAL, 1, facts));
    let founding = text(&facts());
    assert!(founding.contains("birth: found"));
    let mut later = facts();
    later.store = StoreFacts { member: true, joined: true, birth: Some(Birth::Found), ..StoreFacts::default() };
    assert_eq!(text(&later), founding, "a second run changes nothing");

    let cluster = Cluster::parse(SEVERAL, "i", Path::new("/")).unwrap();
    let bare = facts();
    let known = [("h1", &later), ("h2", &bare), ("h3", &later)].into_iter().collect();
    let topology = Topology::of(&cluster, &known, true).unwrap();
    let (identity, pki, bundle) = (ClusterRef::default(), pki(&cluster), bundle());
    let inputs = Inputs { cluster: &cluster, identity: &identity, pki: &pki, bundle: &bundle, topology: &topology };
    assert!(readable(&host_state(inputs, &cluster.hosts[1], &bare).unwrap()).contains("birth: join"));
}

#[test]
fn systemd_networkd_where_it_runs_is_told_which_links_are_none_of_its() {
    let file = "== file /etc/systemd/network/05-kinstall.network 644";
    assert!(!readable(&state(1, &facts())).contains(file));
    let neighbours = Neighbours { services: vec!["systemd-networkd".into()], ..Neighbours::default() };
    let text = readable(&state(1, &Facts { neighbours, ..facts() }));
    let (_, after) = text.split_once(file).unwrap();
    assert!(after.contains("[Match]\nName=kin*\n\n[Link]\nUnmanaged=yes\n"), "{after}");
}

#[test]
fn scheduled_backups_are_a_timer_on_control_planes_and_nothing_elsewhere() {
    let key = archive::Key::generate();
    let public = key.public();
    let more =
        format!("backup: {{schedule: '*-*-* 03:30:00', keep: 3, recipients: [{public}], directory: /srv/backups}}\n");
    let with = format!("{INVENTORY}{more}");
    let state = state_of(&with, 0, &facts());
    let text = readable(&state);
    for expected in [
        "OnCalendar=*-*-* 03:30:00\n",
        "ExecStart=/opt/kinstall/current/bin/kinstall-components backup scheduled --config /etc/kinstall/backup.yaml\n",
        &format!("recipients:\n- {public}\ndirectory: \"/srv/backups\"\nkeep: 3\n"),
        "cluster:\n  name: \"demo\"\n  id: \"the-id\"\n",
        "\"path\":\"/srv/backups\",\"mode\":448,\"contents\":\"foreign\"",
        "\"name\":\"kinstall-backup.timer\",\"enabled\":true,\"active\":true",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    assert!(!text.contains("AGE-SECRET-KEY"));
    assert!(!readable(&state_of(&with, 1, &facts())).contains("backup"), "a worker has no store");
    assert!(!readable(&state_of(INVENTORY, 0, &facts())).contains("kinstall-backup"), "nobody asked for backups");
}

#[test]
fn somebody_elses_etcd_is_spoken_to_and_not_run() {
    let etcd = "etcd: {endpoints: ['https://10.9.9.9:2379'], caFile: ca, certFile: crt, keyFile: key}\n";
    let text = readable(&state_of(&format!("{INVENTORY}{etcd}"), 0, &facts()));
    assert!(text.contains("    - https://10.9.9.9:2379\n") && text.contains("founder: true"));
    assert!(text.contains("/etc/kinstall/pki/apiserver-etcd-client.key 600"));
    assert!(!text.contains("kinstall-etcd") && !text.contains("bin/etcd") && !text.contains("balancer"));
}

#[test]
fn every_resource_has_its_own_id_and_units_restart_on_files_that_are_there() {
    let states = (0..2).map(|host| (INVENTORY, host)).chain((0..4).map(|host| (SEVERAL, host)));
    for (inventory, host) in states {
        let state = state_of(inventory, host, &facts());
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
    let state = state_of(SEVERAL, 0, &facts());
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
    weak.kernel = "5.10.0-33-amd64".into();
    weak.features.insert("vxlan".into(), false);
    let text = readable(&state(1, &weak));
    assert!(text.contains("restrict_oom_score_adj = true") && !text.contains("OOMScoreAdjust"));
    assert!(!text.contains("tcp_migrate_req"));
    let newer = Facts { kernel: "6.1.0-40-amd64".into(), ..facts() };
    assert_eq!(readable(&state(1, &newer)).matches("tcp_migrate_req").count(), 2, "a resource, and for the next boot");
    assert!(!text.contains("\"name\":\"vxlan\""));
    // only the control plane's host has the authority's key
    assert!(!text.contains("ca.key"));
    let text = readable(&state_of(SEVERAL, 3, &facts()));
    assert!(!text.contains("ca.key") && !text.contains("pki/etcd") && !text.contains("bin/etcd"));
}
