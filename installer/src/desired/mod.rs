//! What each host shall look like: a pure function of the resolved cluster, its PKI, the bundle's contents and the host's facts.
//!
//! Where the control planes keep their store, and who of them founds it, is decided before from the facts of all ([`Topology`]).
//! The order of resources is the order in which a host is brought up: directories and files, the runtime together with the
//! control plane, the images that every pod needs, the node's components, and last the (large) images of the sample.

mod certificates;
mod files;
mod kept;
mod neighbours;
mod registries;
pub mod render;
mod timers;
mod topology;
mod units;

pub use certificates::{certificates_state, no_bundle};
pub use files::admin_kubeconfig;
pub use neighbours::file_for;
pub use timers::names as job_names;
pub use topology::Topology;
pub use units::{CONTAINERD, CONTROL_PLANE, ETCD, KUBELET, names as unit_names};

use hoststate::bundle::BundleManifest;
use hoststate::resource::{ClusterRef, OUR_IMAGES};
use hoststate::{Facts, HostState, ImageSource, Resource};
use serde_json::{Value, json};

use crate::bundle::{COMPONENTS, PAUSE};
use crate::cluster::{BALANCER_PORT, Cluster, Host};
use crate::inventory::Backend;
use crate::state::pki::Pki;

/// Everything but the host itself.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub cluster: &'a Cluster,
    pub identity: &'a ClusterRef,
    pub pki: &'a Pki,
    pub bundle: &'a BundleManifest,
    pub topology: &'a Topology,
}

pub fn components_image(version: &str) -> String {
    format!("{OUR_IMAGES}components:{version}")
}

/// Named by what it is made of: the runtime's configuration names it, and need not change with every version.
fn pause_image(bundle: &BundleManifest) -> String {
    let file = bundle.files.iter().find(|file| file.path == PAUSE);
    format!("{OUR_IMAGES}pause:{}", file.map_or("none", |file| file.sha256.get(..12).unwrap_or(&file.sha256)))
}

/// Kernel modules that are loaded where the kernel has them as modules.
const MODULES: &[&str] = &["overlay", "nf_tables", "nft_numgen", "nf_conntrack", "nf_nat", "vxlan", "veth"];

/// Routed pods need forwarding; answers of Services may leave by another device than the kernel's strict filter expects.
const SYSCTLS: &[(&str, &str)] = &[("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.all.rp_filter", "2")];

/// A listener that ends gives what it has not accepted to another one on its port: how one ingress takes another's place.
const MIGRATION: (&str, &str) = ("net.ipv4.tcp_migrate_req", "1");

/// What somebody else may not set at boot: another name of a parameter of ours, and the value that makes pods unreachable.
pub const SPOILING: &[(&str, &str)] =
    &[("net.ipv4.ip_forward", "0"), ("net.ipv4.conf.all.forwarding", "0"), ("net.ipv4.conf.all.rp_filter", "1")];

/// What this host's kernel has of it; listeners migrate since 5.14.
fn sysctls(facts: &Facts) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut parts = facts.kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let kernel = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    SYSCTLS.iter().copied().chain((kernel >= (5, 14)).then_some(MIGRATION))
}

/// The state of one host.
pub fn host_state(inputs: Inputs<'_>, host: &Host, facts: &Facts) -> anyhow::Result<HostState> {
    let context = context(inputs, host, facts)?;
    let version = &inputs.bundle.version;
    let mut resources = files::directories(inputs, host);
    resources.extend(registries::directories(inputs.cluster));
    resources.extend(files::bundled(inputs, host));
    resources.extend(files::configs(inputs, host, &context)?);
    resources.extend(registries::files(inputs.cluster)?);
    resources.extend(neighbours::files(facts, &context)?);
    resources.extend(sysctls(facts).map(|(key, value)| Resource::Sysctl { key: key.into(), value: value.into() }));
    resources.extend(modules(facts).map(|name| Resource::KernelModule { name: name.into() }));
    resources.extend(timers::directories(inputs.cluster, host));
    resources.extend(units::files(inputs, host, &context)?);
    resources.extend(timers::files(inputs, host, &context)?);
    // the control plane needs no runtime: both start together
    resources.extend(units::units(inputs, host, units::Stage::Base));
    resources.push(executable_image(pause_image(inputs.bundle), version, PAUSE, "/pause"));
    // before the kubelet: a pod whose image is not there yet would be put off for ten seconds
    resources.push(executable_image(components_image(version), version, COMPONENTS, "/kinstall-components"));
    resources.extend(units::units(inputs, host, units::Stage::Node));
    resources.extend(timers::units(inputs.cluster, host));
    if host.worker {
        resources.extend(inputs.bundle.images.iter().map(|image| Resource::Image {
            name: image.name.clone(),
            source: ImageSource::Archive { sha256: image.sha256.clone(), size: image.size },
        }));
    }
    let keeps = kept::keeps(inputs, host, facts, &resources);
    Ok(HostState {
        cluster: inputs.identity.clone(),
        host: host.name.clone(),
        version: version.clone(),
        kubernetes: Some(inputs.bundle.kubernetes().to_owned()),
        resources,
        keeps,
    })
}

/// The modules the host can load; those that are built in count as loaded.
fn modules(facts: &Facts) -> impl Iterator<Item = &'static str> {
    MODULES.iter().copied().filter(|name| facts.features.get(*name).copied().unwrap_or(false))
}

fn executable_image(name: String, version: &str, file: &str, entrypoint: &str) -> Resource {
    Resource::Image {
        name,
        source: ImageSource::Executable {
            path: format!("/opt/kinstall/{version}/{file}"),
            entrypoint: vec![entrypoint.to_owned()],
        },
    }
}

/// What the templates of this host may use.
fn context(inputs: Inputs<'_>, host: &Host, facts: &Facts) -> anyhow::Result<Value> {
    let cluster = inputs.cluster;
    let network = &cluster.network;
    let pairs = |list: &mut dyn Iterator<Item = (String, String)>| {
        list.map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>()
    };
    Ok(json!({
        "cluster": cluster.name,
        "id": inputs.identity.id,
        "version": inputs.bundle.version,
        "backup": cluster.backup,
        "server": cluster.node_api_url()?,
        "node_name": host.name,
        "node_ip": host.node_address,
        "pod_cidr": network.pod_cidr,
        "service_cidr": network.service_cidr,
        "dns_ip": network.dns_ip(),
        "domain": network.domain,
        "backend": match network.backend { Backend::Vxlan => "vxlan", Backend::HostGateway => "host-gw" },
        "labels": pairs(&mut host.labels.iter().filter(|(key, _)| !is_restricted(key)).map(|(key, value)| (key.clone(), value.clone()))),
        "taints": host.taints.iter().map(|taint| parse_taint(taint)).collect::<Vec<_>>(),
        "resolv_conf": if facts.resolv_conf.is_empty() { "/etc/resolv.conf" } else { &facts.resolv_conf },
        "can_lower_oom_score": facts.can_lower_oom_score,
        "registries": if cluster.registries.is_empty() { None } else { Some(registries::FOLDER) },
        "pause_image": pause_image(inputs.bundle),
        "sysctls": pairs(&mut sysctls(facts).map(|(key, value)| (key.to_owned(), value.to_owned()))),
        "modules": modules(facts).collect::<Vec<_>>(),
        "etcd": etcd(inputs, host),
        "api_servers": cluster.api_addresses(host),
        "balancer_port": BALANCER_PORT,
    }))
}

/// What a control plane's host has to know of etcd; nothing with the embedded store.
fn etcd(inputs: Inputs<'_>, host: &Host) -> Value {
    let Inputs { cluster, topology, identity, .. } = inputs;
    let endpoints = cluster.etcd_endpoints(host);
    if !host.control_plane || endpoints.is_empty() {
        return Value::Null;
    }
    let member = |host: &Host| json!({"name": host.name, "peer_url": host.etcd_peer_url(), "client_url": host.etcd_client_url()});
    json!({
        "endpoints": endpoints,
        "founder": topology.founder.as_ref() == Some(&host.name),
        "own": member(host),
        "members": cluster.control_planes().map(member).collect::<Vec<_>>(),
        "birth": topology.births.get(&host.name),
        "token": identity.id,
    })
}

/// Labels that a kubelet may not give itself (NodeRestriction admission, KEP-279); the administrator sets them by the API.
pub fn is_restricted(label: &str) -> bool {
    const ALLOWED: &[&str] =
        &["kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os", "node.kubernetes.io/instance-type"];
    let Some((prefix, _)) = label.split_once('/') else { return false };
    let reserved =
        ["kubernetes.io", "k8s.io"].iter().any(|domain| prefix == *domain || prefix.ends_with(&format!(".{domain}")));
    let by_kubelet = ["kubelet.kubernetes.io", "node.kubernetes.io", "topology.kubernetes.io"].iter().any(|domain| {
        prefix == *domain || (*domain != "topology.kubernetes.io" && prefix.ends_with(&format!(".{domain}")))
    });
    reserved && !by_kubelet && !ALLOWED.contains(&label)
}

/// `key=value:Effect`, whose form the inventory has checked.
fn parse_taint(taint: &str) -> Value {
    let (left, effect) = taint.rsplit_once(':').unwrap_or((taint, "NoSchedule"));
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    json!({"key": key, "value": value, "effect": effect})
}
