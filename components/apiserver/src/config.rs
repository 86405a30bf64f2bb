//! What the API server is told.

mod etcd;
mod security;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use serde::Deserialize;

pub use etcd::Etcd;
pub use security::{
    Anonymous, Audit, Fairness, Limits, Oidc, PodSecurity, PodSecurityDefaults, PodSecurityExemptions, RequestHeader,
};

/// Every field, as it stands in the YAML file (camelCase); unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    #[serde(default = "default_bind_address")]
    pub bind_address: IpAddr,
    /// 0 asks the system for a free port (tests); see `ApiServer::address`.
    #[serde(default = "default_port")]
    pub secure_port: u16,
    /// What tells this server from the others of its cluster: the name of its host, as a DNS label or subdomain. Absent: what the
    /// system calls itself.
    #[serde(default)]
    pub name: Option<String>,
    /// What goes into the endpoints of the Service `default/kubernetes`; must be reachable from pods.
    pub advertise_address: IpAddr,
    /// Folder of the embedded store.
    pub data_dir: PathBuf,
    /// Several control planes share their objects in etcd.
    #[serde(default)]
    pub etcd: Option<Etcd>,
    pub tls_cert_file: PathBuf,
    pub tls_private_key_file: PathBuf,
    /// Authorities whose client certificates are believed.
    pub client_ca_file: PathBuf,
    /// Keys (public, or private) that verify service-account tokens.
    pub service_account_key_files: Vec<PathBuf>,
    /// The key that signs new tokens (EC P-256 or RSA, PEM).
    pub service_account_signing_key_file: PathBuf,
    #[serde(default = "default_issuer")]
    pub service_account_issuer: String,
    /// Empty: only the issuer.
    #[serde(default)]
    pub api_audiences: Vec<String>,
    #[serde(default = "default_service_range")]
    pub service_cluster_ip_range: Ipv4Net,
    /// Inclusive, `30000-32767`.
    #[serde(default)]
    pub service_node_port_range: PortRange,
    /// What the API server shows to kubelets; without it logs and exec are refused.
    #[serde(default)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[serde(default)]
    pub kubelet_client_key: Option<PathBuf>,
    /// Authorities of the kubelets' serving certificates.
    #[serde(default)]
    pub kubelet_ca_file: Option<PathBuf>,
    #[serde(default = "default_domain")]
    pub cluster_domain: String,
    /// How long history is kept for watches and paged lists.
    #[serde(default = "default_compaction_seconds")]
    pub compaction_interval_seconds: u64,
    /// VersionTLS12 (also when absent) or VersionTLS13.
    #[serde(default)]
    pub tls_min_version: Option<String>,
    /// IANA names of suites for TLS 1.2; empty: all that are safe. TLS 1.3 has its own.
    #[serde(default)]
    pub tls_cipher_suites: Vec<String>,
    /// Who may come without credentials.
    #[serde(default)]
    pub anonymous: Anonymous,
    /// Whether Secrets of type bootstrap.kubernetes.io/token in kube-system are credentials.
    #[serde(default = "security::yes")]
    pub bootstrap_token_auth: bool,
    /// Longest life of a service-account token; longer wishes are shortened with a warning. Absent: no bound but 2^32 s.
    #[serde(default)]
    pub service_account_max_token_expiration_seconds: Option<i64>,
    /// Whether tokens that pods get by admission (3607 s) live for a year, for clients that never read their token again.
    #[serde(default = "security::yes")]
    pub service_account_extend_token_expiration: bool,
    /// Where others fetch the keys of service-account tokens; absent: below the issuer.
    #[serde(default)]
    pub service_account_jwks_uri: Option<String>,
    /// A provider of identities outside of the cluster.
    #[serde(default)]
    pub oidc: Option<Oidc>,
    /// A proxy that authenticates for others.
    #[serde(default)]
    pub request_header: Option<RequestHeader>,
    /// What this server shows extension servers, so that they believe what it says of its clients (upstream:
    /// `--proxy-client-cert-file`). Absent: it shows nothing.
    #[serde(default)]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[serde(default)]
    pub proxy_client_key_file: Option<PathBuf>,
    #[serde(default)]
    pub pod_security: PodSecurity,
    /// Absent: nothing is audited.
    #[serde(default)]
    pub audit: Option<Audit>,
    /// An EncryptionConfiguration of apiserver.config.k8s.io/v1; read again when it changes. Absent: values lie in the store as
    /// they are.
    #[serde(default)]
    pub encryption_provider_config: Option<PathBuf>,
    #[serde(default)]
    pub fairness: Fairness,
    #[serde(default)]
    pub limits: Limits,
    /// How long an event is kept after it was last written.
    #[serde(default = "default_event_ttl_seconds")]
    pub event_ttl_seconds: u64,
}

fn default_event_ttl_seconds() -> u64 {
    3600
}

fn default_bind_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
fn default_port() -> u16 {
    6443
}
fn default_issuer() -> String {
    "https://kubernetes.default.svc.cluster.local".into()
}
fn default_service_range() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16)
}
fn default_domain() -> String {
    "cluster.local".into()
}
fn default_compaction_seconds() -> u64 {
    300
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        PortRange { first: 30000, last: 32767 }
    }
}

impl PortRange {
    pub fn contains(&self, port: i64) -> bool {
        (i64::from(self.first)..=i64::from(self.last)).contains(&port)
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a range of ports; write it as 30000-32767");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first == 0 || first > last {
            return Err(wrong());
        }
        Ok(PortRange { first, last })
    }
}

impl Config {
    /// Reads a YAML file.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_yaml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// The configuration of a server whose files all lie in one folder under fixed names: what `example serve` and tests use.
    pub fn in_dir(dir: &Path, port: u16) -> Self {
        let file = |name: &str| dir.join(name);
        Config {
            bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            secure_port: port,
            name: None,
            advertise_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            data_dir: file("store"),
            etcd: None,
            tls_cert_file: file("apiserver.crt"),
            tls_private_key_file: file("apiserver.key"),
            client_ca_file: file("ca.crt"),
            service_account_key_files: vec![file("sa.pub")],
            service_account_signing_key_file: file("sa.key"),
            service_account_issuer: default_issuer(),
            api_audiences: Vec::new(),
            service_cluster_ip_range: default_service_range(),
            service_node_port_range: PortRange::default(),
            kubelet_client_certificate: Some(file("apiserver-kubelet-client.crt")),
            kubelet_client_key: Some(file("apiserver-kubelet-client.key")),
            kubelet_ca_file: Some(file("ca.crt")),
            cluster_domain: default_domain(),
            compaction_interval_seconds: default_compaction_seconds(),
            tls_min_version: None,
            tls_cipher_suites: Vec::new(),
            anonymous: Anonymous::default(),
            bootstrap_token_auth: true,
            service_account_max_token_expiration_seconds: None,
            service_account_extend_token_expiration: true,
            service_account_jwks_uri: None,
            oidc: None,
            request_header: Some(RequestHeader::new(file("front-proxy-ca.crt"), vec!["front-proxy-client".into()])),
            proxy_client_cert_file: Some(file("front-proxy-client.crt")),
            proxy_client_key_file: Some(file("front-proxy-client.key")),
            pod_security: PodSecurity::default(),
            audit: None,
            encryption_provider_config: None,
            fairness: Fairness::default(),
            limits: Limits::default(),
            event_ttl_seconds: default_event_ttl_seconds(),
        }
    }

    /// `name`, or the host's.
    pub fn server_name(&self) -> anyhow::Result<String> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let host =
                    nix::unistd::gethostname().context("cannot read the name of this host; set apiServer.name")?;
                name_of(&host.to_string_lossy())
            }
        };
        // it becomes the name of a Lease and the value of a label
        let mut problems = machinery::names::dns1123_subdomain(&name);
        problems.extend(machinery::names::label_value(&name));
        if !problems.is_empty() {
            bail!("{name:?} cannot be the name of an API server; set apiServer.name: {}", problems.join("; "));
        }
        Ok(name)
    }

    /// Audiences a token must name to be accepted here.
    pub fn audiences(&self) -> Vec<String> {
        if self.api_audiences.is_empty() {
            vec![self.service_account_issuer.clone()]
        } else {
            self.api_audiences.clone()
        }
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.service_cluster_ip_range.prefix_len() > 28 {
            bail!("serviceClusterIpRange {} is too small; use a /28 or larger", self.service_cluster_ip_range);
        }
        if self.compaction_interval_seconds == 0 {
            bail!("compactionIntervalSeconds must be at least 1");
        }
        if self.proxy_client_cert_file.is_some() != self.proxy_client_key_file.is_some() {
            bail!("proxyClientCertFile and proxyClientKeyFile are halves of one pair; name both or none");
        }
        Ok(())
    }
}

/// What hosts are called, as far as names allow it.
fn name_of(host: &str) -> String {
    const LONGEST: usize = 63;
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = host.chars().map(allowed).take(LONGEST).collect();
    // labels begin and end with a letter or digit
    let labels = name.split('.').map(|label| label.trim_matches('-')).filter(|label| !label.is_empty());
    let name = labels.collect::<Vec<_>>().join(".");
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_must_be_kept_for_a_while() {
        let good = Config::in_dir(Path::new("x"), 0);
        assert!(good.check().is_ok());
        assert!(Config { compaction_interval_seconds: 0, ..good }.check().is_err());
    }

    #[test]
    fn any_host_has_a_name() {
        for (host, name) in [("cp1", "cp1"), ("My_Host-.Example", "my-host.example"), ("--", "localhost")] {
            assert_eq!(name_of(host), name);
        }
        let named = |name: &str| Config { name: Some(name.into()), ..Config::in_dir(Path::new("x"), 0) };
        assert!(named("cp1").server_name().is_ok());
        let long = "x".repeat(64);
        for wrong in ["", "Cp1", "a_b", &long] {
            assert!(named(wrong).server_name().is_err(), "{wrong}");
        }
    }
}
