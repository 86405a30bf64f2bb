//! Directories, the bundle's files, configurations and keys of a host.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::Issued;
use hoststate::resource::Contents;
use hoststate::{Content, Resource};
use serde_json::{Value, json};

use super::Inputs;
use super::render::render;
use crate::bundle::ETCD;
use crate::cluster::{Cluster, Host};

const DIRECTORIES: &[(&str, u32, Contents)] = &[
    ("/etc/kinstall", 0o700, Contents::Ours),
    ("/etc/kinstall/pki", 0o700, Contents::Ours),
    ("/etc/kinstall/cni", 0o755, Contents::Ours),
    ("/etc/kinstall/cni/net.d", 0o755, Contents::Ours),
    ("/var/lib/kinstall", 0o711, Contents::Foreign),
    // containerd and the provisioner close these two themselves
    ("/var/lib/kinstall/containerd", 0o700, Contents::Ours),
    ("/var/lib/kinstall/cni", 0o700, Contents::Ours),
    ("/var/lib/kinstall/volumes", 0o700, Contents::Data),
    ("/run/kinstall", 0o711, Contents::Ours),
    ("/var/lib/kubelet", 0o750, Contents::Ours),
    ("/var/log/pods", 0o755, Contents::Ours),
    ("/var/log/containers", 0o755, Contents::Ours),
];

pub fn directories(inputs: Inputs<'_>, host: &Host) -> Vec<Resource> {
    let directory = |path: &str, mode, contents| Resource::Directory { path: path.to_owned(), mode, contents };
    let version = format!("/opt/kinstall/{}", inputs.bundle.version);
    let mut list = vec![directory("/opt/kinstall", 0o755, Contents::Ours), directory(&version, 0o755, Contents::Ours)];
    let has_lib = inputs.bundle.files.iter().any(|file| file.path.starts_with("lib/"));
    for (part, wanted) in [("bin", true), ("lib", has_lib), ("cni", true), ("cni/bin", true)] {
        if wanted {
            list.push(directory(&format!("{version}/{part}"), 0o755, Contents::Ours));
        }
    }
    list.extend(DIRECTORIES.iter().map(|(path, mode, contents)| directory(path, *mode, *contents)));
    if host.control_plane {
        list.push(directory("/var/lib/kinstall/store", 0o700, Contents::Data));
    }
    if runs_etcd(inputs.cluster, host) {
        list.push(directory("/var/lib/kinstall/etcd", 0o700, Contents::Data));
    }
    list
}

pub fn runs_etcd(cluster: &Cluster, host: &Host) -> bool {
    host.control_plane && cluster.runs_etcd()
}

/// The bundle's files that this host has a use for, the CNI plugin's link, and last the link that makes this version the current one.
pub fn bundled(inputs: Inputs<'_>, host: &Host) -> Vec<Resource> {
    let bundle = inputs.bundle;
    let version = format!("/opt/kinstall/{}", bundle.version);
    let mut list: Vec<_> = bundle
        .files
        .iter()
        .filter(|file| file.path != ETCD || runs_etcd(inputs.cluster, host))
        .map(|file| Resource::File {
            path: format!("{version}/{}", file.path),
            mode: file.mode,
            content: Content::Blob { sha256: file.sha256.clone(), size: file.size },
        })
        .collect();
    // The runtime calls `loopback` for every sandbox, besides the plugins that the configuration names.
    for plugin in ["kinstall-cni", "loopback"] {
        list.push(Resource::Symlink {
            path: format!("{version}/cni/bin/{plugin}"),
            target: "../../bin/kinstall-components".into(),
        });
    }
    list.push(Resource::Symlink { path: "/opt/kinstall/current".into(), target: bundle.version.clone() });
    list
}

pub fn configs(inputs: Inputs<'_>, host: &Host, context: &Value) -> anyhow::Result<Vec<Resource>> {
    let mut list = Vec::new();
    let mut plain = |path: &str, mode, template: &str| -> anyhow::Result<()> {
        let text = render(template, context)?;
        list.push(Resource::File { path: path.into(), mode, content: Content::Inline { text, secret: false } });
        Ok(())
    };
    plain("/etc/sysctl.d/60-kinstall.conf", 0o644, "config/sysctl.conf")?;
    plain("/etc/modules-load.d/kinstall.conf", 0o644, "config/modules-load.conf")?;
    plain("/etc/kinstall/containerd.toml", 0o600, "config/containerd.toml")?;
    for name in ["kubelet", "proxy", "cni-agent"] {
        plain(&format!("/etc/kinstall/{name}.yaml"), 0o600, &format!("config/{name}.yaml"))?;
    }
    if host.control_plane {
        plain("/etc/kinstall/control-plane.yaml", 0o600, "config/control-plane.yaml")?;
    }
    if runs_etcd(inputs.cluster, host) {
        for name in ["etcd", "etcd-members"] {
            plain(&format!("/etc/kinstall/{name}.yaml"), 0o600, &format!("config/{name}.yaml"))?;
        }
    }
    if inputs.cluster.several_control_planes() {
        plain("/etc/kinstall/balancer.yaml", 0o600, "config/balancer.yaml")?;
    }
    list.extend(keys(inputs, host));
    list.extend(kubeconfigs(inputs, host)?);
    Ok(list)
}

fn keys(inputs: Inputs<'_>, host: &Host) -> Vec<Resource> {
    let pki = inputs.pki;
    let file = |name: &str, mode, text: &str, secret| Resource::File {
        path: format!("/etc/kinstall/pki/{name}"),
        mode,
        content: Content::Inline { text: text.to_owned(), secret },
    };
    let mut list = vec![file("ca.crt", 0o644, &pki.ca.cert_pem, false)];
    if host.control_plane {
        list.push(file("ca.key", 0o600, &pki.ca.key_pem, true));
        list.push(file("sa.pub", 0o644, &pki.service_account.cert_pem, false));
        list.push(file("sa.key", 0o600, &pki.service_account.key_pem, true));
        list.push(file("front-proxy-ca.crt", 0o644, &pki.front_proxy_ca.cert_pem, false));
        // a control plane renews what these have signed
        list.push(file("front-proxy-ca.key", 0o600, &pki.front_proxy_ca.key_pem, true));
        let mut leaves: Vec<_> =
            pki.apiserver.get(&host.name).map(|issued| ("apiserver", issued)).into_iter().collect();
        leaves.push(("apiserver-kubelet-client", &pki.apiserver_kubelet_client));
        leaves.push(("front-proxy-client", &pki.front_proxy_client));
        if let Some(etcd) = &pki.etcd {
            list.push(file("etcd-ca.crt", 0o644, &etcd.ca_pem, false));
            list.extend(etcd.ca_key_pem.as_ref().map(|key| file("etcd-ca.key", 0o600, key, true)));
            leaves.push(("apiserver-etcd-client", &etcd.client));
            let member = etcd.members.get(&host.name);
            leaves.extend(member.into_iter().flat_map(|own| [("etcd-server", &own.server), ("etcd-peer", &own.peer)]));
        }
        for (name, issued) in leaves {
            list.push(file(&format!("{name}.crt"), 0o644, &issued.cert_pem, false));
            list.push(file(&format!("{name}.key"), 0o600, &issued.key_pem, true));
        }
    }
    list
}

fn kubeconfigs(inputs: Inputs<'_>, host: &Host) -> anyhow::Result<Vec<Resource>> {
    let pki = inputs.pki;
    let mut list =
        vec![("proxy", "system:kube-proxy", &pki.proxy), ("cni-agent", "system:kinstall:cni-agent", &pki.cni_agent)];
    let bootstrap = format!("system:bootstrap:{}", host.name);
    if let Some(issued) = pki.kubelet_bootstrap.get(&host.name) {
        list.push(("kubelet-bootstrap", &bootstrap, issued));
    }
    if host.control_plane {
        list.push(("admin", "kubernetes-admin", &pki.admin));
    }
    list.into_iter()
        .map(|(name, user, issued)| {
            let server = inputs.cluster.node_api_url()?;
            let text = kubeconfig(inputs, user, issued, &[(user.to_owned(), server)])?;
            let path = format!("/etc/kinstall/{name}.kubeconfig");
            Ok(Resource::File { path, mode: 0o600, content: Content::Inline { text, secret: true } })
        })
        .collect()
}

/// The administrator's kubeconfig for the operator's machine: a context for each API server, the first one's is current.
pub fn admin_kubeconfig(inputs: Inputs<'_>) -> anyhow::Result<String> {
    const USER: &str = "kubernetes-admin";
    let urls = inputs.cluster.api_urls();
    let several = urls.len() > 1;
    let named = |(host, url): (&Host, String)| (if several { host.name.clone() } else { USER.to_owned() }, url);
    kubeconfig(inputs, USER, &inputs.pki.admin, &urls.into_iter().map(named).collect::<Vec<_>>())
}

/// A kubeconfig that holds everything it needs, with a context for each server: what it is called before the `@`, and its URL.
fn kubeconfig(inputs: Inputs<'_>, user: &str, issued: &Issued, servers: &[(String, String)]) -> anyhow::Result<String> {
    let several = servers.len() > 1;
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, url)| {
            let cluster = &inputs.cluster.name;
            let entry = if several { format!("{cluster}-{name}") } else { cluster.clone() };
            json!({"entry": entry, "context": format!("{name}@{cluster}"), "url": url})
        })
        .collect();
    render(
        "config/kubeconfig.yaml",
        &json!({
            "servers": servers,
            "user": user,
            "ca_data": STANDARD.encode(&inputs.pki.ca.cert_pem),
            "certificate_data": STANDARD.encode(&issued.cert_pem),
            "key_data": STANDARD.encode(&issued.key_pem),
        }),
    )
}
