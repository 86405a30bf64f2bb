//! The kubelet's configuration file: YAML, camelCase, unknown fields refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

/// How containers are put into control groups; must be the runtime's own choice too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

/// Everything the kubelet is told. Field names in YAML are camelCase.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Name of the Node object; also the CN of the certificates (`system:node:<name>`). Required.
    pub node_name: String,
    /// The node's InternalIP: what pods on the host network report and what the API server dials. Required.
    pub node_ip: String,
    /// Where the kubelet writes (and later reads) its own kubeconfig.
    pub kubeconfig: PathBuf,
    /// Kubeconfig used only to ask for the first client certificate.
    pub bootstrap_kubeconfig: PathBuf,
    /// Client and serving certificates with their keys.
    pub cert_dir: PathBuf,
    /// CA that signs the certificates of those who may call port 10250, and the API server's own.
    pub client_ca_file: PathBuf,
    /// URL of the API server.
    pub server: String,
    /// CRI socket, `unix://…`.
    pub container_runtime_endpoint: String,
    /// Addresses written into pods' resolv.conf.
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub cgroup_driver: CgroupDriver,
    pub max_pods: u32,
    /// Extra labels set when the node registers.
    pub node_labels: BTreeMap<String, String>,
    /// Taints set when the node is first created.
    pub register_with_taints: Vec<Taint>,
    pub root_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    /// Directory of the symlinks `<pod>_<ns>_<container>-<id>.log`.
    pub container_logs_dir: PathBuf,
    /// The host's resolv.conf, for pods with dnsPolicy Default and as the tail of ClusterFirst.
    pub resolv_conf: PathBuf,
    /// Disk use in percent at which unused images are removed …
    #[serde(rename = "imageGCHighThresholdPercent", alias = "imageGcHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// … until it falls below this.
    #[serde(rename = "imageGCLowThresholdPercent", alias = "imageGcLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// Resources subtracted from capacity (`cpu`, `memory`, `ephemeral-storage`).
    pub kube_reserved: BTreeMap<String, String>,
    pub system_reserved: BTreeMap<String, String>,
    /// Address the HTTPS server listens on.
    pub address: String,
    pub port: u16,
    /// Plain HTTP `/healthz` on 127.0.0.1; 0 turns it off.
    pub healthz_port: u16,
    /// Sysctls outside of the safe set that pods may ask for (`net.core.*` form allowed).
    pub allowed_unsafe_sysctls: Vec<String>,
    /// A container's log is rotated at this size, in bytes …
    pub container_log_max_bytes: u64,
    /// … and this many files are kept.
    pub container_log_max_files: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node_name: String::new(),
            node_ip: String::new(),
            kubeconfig: "/etc/kinstall/kubelet.kubeconfig".into(),
            bootstrap_kubeconfig: "/etc/kinstall/kubelet-bootstrap.kubeconfig".into(),
            cert_dir: "/var/lib/kubelet/pki".into(),
            client_ca_file: "/etc/kinstall/pki/ca.crt".into(),
            server: String::new(),
            container_runtime_endpoint: "unix:///run/kinstall/containerd.sock".into(),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            cgroup_driver: CgroupDriver::Systemd,
            max_pods: 110,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            container_logs_dir: "/var/log/containers".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
            address: "0.0.0.0".into(),
            port: 10250,
            healthz_port: 10248,
            allowed_unsafe_sysctls: Vec::new(),
            container_log_max_bytes: 10 * 1024 * 1024,
            container_log_max_files: 5,
        }
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the kubelet's configuration {}", path.display()))?;
        Config::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Config> {
        let config: Config = serde_yaml::from_str(text).context("not a valid kubelet configuration")?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        if self.node_name.is_empty() {
            bail!("nodeName is missing: set it to the host's name in the inventory");
        }
        if self.node_ip.parse::<std::net::IpAddr>().is_err() {
            bail!("nodeIp {:?} is not an IP address", self.node_ip);
        }
        if self.server.is_empty() {
            bail!("server is missing: set it to the API server's URL, https://host:6443");
        }
        if self.image_gc_low_threshold_percent >= self.image_gc_high_threshold_percent {
            bail!("imageGCLowThresholdPercent must be below imageGCHighThresholdPercent");
        }
        Ok(())
    }

    /// Path of the CRI socket without its scheme.
    pub fn runtime_socket(&self) -> PathBuf {
        let endpoint = &self.container_runtime_endpoint;
        endpoint.strip_prefix("unix://").unwrap_or(endpoint).into()
    }

    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINIMAL: &str = "nodeName: n1\nnodeIp: 10.99.0.2\nserver: https://10.99.0.2:6443\n";

    #[test]
    fn defaults_are_the_architectures() {
        let config = Config::parse(MINIMAL).unwrap();
        assert_eq!(config.port, 10250);
        assert_eq!(config.runtime_socket(), PathBuf::from("/run/kinstall/containerd.sock"));
        assert_eq!(config.cgroup_driver, CgroupDriver::Systemd);
    }

    #[test]
    fn unknown_fields_and_missing_names_are_refused() {
        assert!(Config::parse(&format!("{MINIMAL}nope: 1\n")).is_err());
        assert!(Config::parse("nodeIp: 10.0.0.1\nserver: https://x\n").is_err());
        assert!(Config::parse(&MINIMAL.replace("10.99.0.2\n", "no-ip\n")).is_err());
    }
}
