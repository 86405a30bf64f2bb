//! A cluster where all is well, for tests to break.
#![allow(clippy::panic)]

use hoststate::HostManifest;
use hoststate::facts::{Address, CgroupMode, Disk, Renewal};
use hoststate::resource::ClusterRef;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Found;
use crate::cluster::{Cluster, Host};
use crate::commands::doctor::script::{Filesystem, Probe, Unit};
use crate::commands::doctor::seen::{HostSeen, Objects, Seen, Told};
use crate::desired::unit_names;

const ID: &str = "the-id";

pub fn cluster() -> Cluster {
    let text = "cluster: c\nssh: {user: admin, port: 2222}\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n\
                - {name: h2, address: 10.0.0.2, role: worker}\n";
    parse(text)
}

/// With three control planes.
pub fn ha() -> Cluster {
    let hosts: String =
        (1..=3).map(|n| format!("- {{name: h{n}, address: 10.0.0.{n}, roles: [controlPlane, worker]}}\n")).collect();
    parse(&format!("cluster: c\nhosts:\n{hosts}"))
}

fn parse(text: &str) -> Cluster {
    Cluster::parse(text, "i", std::path::Path::new("/")).unwrap_or_else(|error| panic!("{error}"))
}

pub fn well(cluster: &Cluster) -> Seen<'_> {
    Seen {
        cluster,
        cluster_id: ID.into(),
        inventory: "inventory.yaml",
        now: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
        hosts: cluster.hosts.iter().map(|host| host_seen(cluster, host)).collect(),
        api: Some(Ok(Objects::with("nodes", cluster.hosts.iter().map(|host| node(&host.name)).collect()))),
    }
}

fn host_seen<'a>(cluster: &'a Cluster, host: &'a Host) -> HostSeen<'a> {
    let unit = |name: &str| Unit {
        name: name.into(),
        load: "loaded".into(),
        active: "active".into(),
        sub: "running".into(),
        result: "success".into(),
        restarts: 0,
        since_micros: 10_000_000,
    };
    let probe = Probe {
        units: unit_names(cluster, host).into_iter().map(unit).collect(),
        up_seconds: 100.0,
        memory_kib: 4 << 20,
        available_kib: 2 << 20,
        filesystems: vec![Filesystem { path: "/".into(), size_kib: 100 << 20, free_kib: 50 << 20 }],
        ..Probe::default()
    };
    let told = Told { facts: facts(host), drift: Some(Vec::new()), ..Told::default() };
    HostSeen { host, probe: Ok(probe), told: Ok(Some(told)), reaches: Vec::new() }
}

fn facts(host: &Host) -> hoststate::Facts {
    let disk = |path: &str| Disk {
        path: path.into(),
        filesystem: "ext4".into(),
        free_bytes: 50 << 30,
        total_bytes: 100 << 30,
        free_inodes: 1 << 20,
        read_only: false,
        no_exec: false,
    };
    hoststate::Facts {
        hostname: host.name.clone(),
        machine_id: format!("machine-{}", host.name),
        arch: "x86_64".into(),
        kernel: "6.1.0".into(),
        os_id: "debian".into(),
        os_version: "12".into(),
        init_is_systemd: true,
        systemd_version: Some(252),
        cgroup: CgroupMode::V2,
        cgroup_controllers: ["cpu", "memory", "pids"].map(str::to_owned).into(),
        memory_bytes: 4 << 30,
        disks: ["/var/lib", "/opt", "/run"].map(disk).into(),
        addresses: vec![Address { interface: "eth0".into(), address: host.node_address.to_string(), prefix: 24 }],
        features: ["overlay", "nf_tables", "nf_conntrack", "nf_nat", "veth", "vxlan"]
            .map(|name| (name.to_owned(), true))
            .into(),
        manifest: Some(HostManifest {
            cluster: ClusterRef { name: "c".into(), id: ID.into() },
            host: host.name.clone(),
            complete: true,
            ..HostManifest::default()
        }),
        nameservers: vec!["192.0.2.53".into()],
        resolv_conf: "/etc/resolv.conf".into(),
        renewal: Some(Renewal { active: true, next: "tomorrow".into(), failed: false }),
        ..hoststate::Facts::default()
    }
}

pub fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("node-{name}")},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]},
    })
}

/// What a host tells, to be changed.
pub fn edit<'s>(seen: &'s mut Seen<'_>, index: usize) -> &'s mut Told {
    match &mut seen.hosts[index].told {
        Ok(Some(told)) => told,
        _ => panic!("host {index} tells nothing"),
    }
}

/// The API's objects of a kind, to be changed.
pub fn objects<'s>(seen: &'s mut Seen<'_>, plural: &'static str) -> &'s mut Vec<Value> {
    match &mut seen.api {
        Some(Ok(objects)) => objects.lists.entry(plural).or_default(),
        _ => panic!("the API says nothing"),
    }
}

pub fn one(mut list: Vec<Found>) -> Found {
    assert_eq!(list.len(), 1, "{list:?}");
    list.remove(0)
}

/// As the API writes it, so many seconds ago.
pub fn ago(seen: &Seen<'_>, seconds: i64) -> Value {
    let time = seen.now - time::Duration::seconds(seconds);
    json!(time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default())
}

#[test]
fn nothing_is_found_where_all_is_well() {
    for cluster in [cluster(), ha()] {
        let mut seen = well(&cluster);
        if cluster.runs_etcd() {
            for index in 0..3 {
                edit(&mut seen, index).facts.store.joined = true;
            }
        }
        let list = super::judge(&seen);
        // no addons are among what it has
        let others: Vec<_> = list.iter().filter(|(check, _)| *check != "addons").collect();
        assert!(others.is_empty(), "{others:?}");
    }
}
