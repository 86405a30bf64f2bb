//! The part of the configuration that is about who may do what, what is written down about it, and how much anybody may take.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::activity::Patience;

pub(super) fn yes() -> bool {
    true
}

/// Requests without credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Anonymous {
    /// Whether `system:anonymous` exists at all.
    pub enabled: bool,
    /// Where it may go, each with what lies below it; it is then authorized like anybody. Empty: everywhere.
    pub paths: Vec<String>,
}

impl Default for Anonymous {
    fn default() -> Self {
        Anonymous { enabled: true, paths: ["/healthz", "/livez", "/readyz", "/version"].map(Into::into).to_vec() }
    }
}

/// An OpenID Connect provider whose ID tokens are believed (upstream: the `--oidc-*` flags).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Oidc {
    /// `https://…`; must be the tokens' `iss`, letter by letter. Its discovery document names the keys.
    pub issuer_url: String,
    /// Must be among the tokens' `aud`.
    pub client_id: String,
    #[serde(default = "subject")]
    pub username_claim: String,
    /// Before user names. Absent: `<issuerUrl>#`, but nothing before e-mail addresses; `-`: nothing.
    #[serde(default)]
    pub username_prefix: Option<String>,
    /// A claim that is a text or a list of texts; absent: no groups.
    #[serde(default)]
    pub groups_claim: Option<String>,
    #[serde(default)]
    pub groups_prefix: String,
    /// Claims that must be there with exactly these texts.
    #[serde(default)]
    pub required_claims: BTreeMap<String, String>,
    /// Authorities of the provider's certificate; absent: those of the host.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512.
    #[serde(default = "rs256")]
    pub signing_algs: Vec<String>,
}

fn subject() -> String {
    "sub".into()
}
fn rs256() -> Vec<String> {
    vec!["RS256".into()]
}

/// A proxy before this server that says in headers who asks (upstream: the `--requestheader-*` flags).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestHeader {
    /// Authorities of the proxy's client certificate; give it no certificate that others can have.
    pub client_ca_file: PathBuf,
    /// Common names the proxy may have; empty: any.
    #[serde(default)]
    pub allowed_names: Vec<String>,
    #[serde(default = "remote_user")]
    pub username_headers: Vec<String>,
    #[serde(default = "remote_uid")]
    pub uid_headers: Vec<String>,
    #[serde(default = "remote_group")]
    pub group_headers: Vec<String>,
    #[serde(default = "remote_extra")]
    pub extra_header_prefixes: Vec<String>,
}

impl RequestHeader {
    /// The headers that everybody uses, from a proxy of these common names.
    pub fn new(client_ca_file: PathBuf, allowed_names: Vec<String>) -> Self {
        RequestHeader {
            client_ca_file,
            allowed_names,
            username_headers: remote_user(),
            uid_headers: remote_uid(),
            group_headers: remote_group(),
            extra_header_prefixes: remote_extra(),
        }
    }
}

fn remote_user() -> Vec<String> {
    vec!["X-Remote-User".into()]
}
fn remote_uid() -> Vec<String> {
    vec!["X-Remote-Uid".into()]
}
fn remote_group() -> Vec<String> {
    vec!["X-Remote-Group".into()]
}
fn remote_extra() -> Vec<String> {
    vec!["X-Remote-Extra-".into()]
}

/// PodSecurity admission where a namespace has no labels of its own (upstream: PodSecurityConfiguration).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodSecurity {
    pub defaults: PodSecurityDefaults,
    pub exemptions: PodSecurityExemptions,
}

/// Levels are privileged, baseline or restricted; versions `latest` or `v1.N`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PodSecurityDefaults {
    pub enforce: String,
    pub enforce_version: String,
    pub audit: String,
    pub audit_version: String,
    pub warn: String,
    pub warn_version: String,
}

impl Default for PodSecurityDefaults {
    fn default() -> Self {
        let (level, version) = (|| "privileged".to_owned(), || "latest".to_owned());
        PodSecurityDefaults {
            enforce: level(),
            enforce_version: version(),
            audit: level(),
            audit_version: version(),
            warn: level(),
            warn_version: version(),
        }
    }
}

/// Whose pods are not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodSecurityExemptions {
    pub usernames: Vec<String>,
    pub runtime_classes: Vec<String>,
    pub namespaces: Vec<String>,
}

/// Writes down who did what.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// A Policy of audit.k8s.io/v1: which requests, at which level.
    pub policy_file: PathBuf,
    /// One JSON object a line; made readable for its owner only.
    pub log_path: PathBuf,
    /// MiB after which the log is put aside under a name with the time.
    #[serde(default = "hundred")]
    pub log_max_size: u64,
    /// How many logs put aside are kept; 0: all.
    #[serde(default)]
    pub log_max_backup: usize,
    /// Days they are kept; 0: for ever.
    #[serde(default)]
    pub log_max_age: u64,
    /// Events that may wait to be written. When it is full, events are dropped and counted: the log never stops the API.
    #[serde(default = "ten_thousand")]
    pub buffer_size: usize,
}

fn hundred() -> u64 {
    100
}
fn ten_thousand() -> usize {
    10_000
}

/// Priority and fairness: how many requests are served at once, and whose come first.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fairness {
    pub enabled: bool,
    /// Seats for requests, shared out between priority levels. With `maxMutatingRequestsInflight` the server's whole
    /// concurrency, as upstream adds both.
    pub max_requests_inflight: u32,
    pub max_mutating_requests_inflight: u32,
}

impl Default for Fairness {
    fn default() -> Self {
        Fairness { enabled: true, max_requests_inflight: 400, max_mutating_requests_inflight: 200 }
    }
}

/// What one client may take of the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds after which a request that is no watch, log or tunnel is answered 504.
    pub request_timeout_seconds: u64,
    /// Open connections of all clients together; further ones wait in the system's queue.
    pub max_connections: usize,
    /// HTTP/2 requests at once on one connection. Upstream allows 100, and Go's clients then open another connection; others
    /// (hyper's) wait, and one kubelet has a watch for each ConfigMap and Secret.
    pub http2_max_streams_per_connection: u32,
    /// Bytes of a request's head, URL included.
    pub max_header_bytes: usize,
    /// Seconds the head of a request may take to come, and the first one to begin.
    pub header_timeout_seconds: u64,
    /// Seconds a connection is kept without a request.
    pub idle_timeout_seconds: u64,
    /// Seconds that requests are still served when the server has to end and says that it is not ready.
    pub shutdown_delay_seconds: u64,
    /// Seconds that requests under way have then to end; with the delay less than the service manager waits before it kills.
    pub shutdown_wait_seconds: u64,
}

impl Limits {
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            head: Duration::from_secs(self.header_timeout_seconds),
            idle: Duration::from_secs(self.idle_timeout_seconds),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_timeout_seconds: 60,
            max_connections: 20_000,
            http2_max_streams_per_connection: 1000,
            max_header_bytes: 1024 * 1024,
            header_timeout_seconds: 32,
            idle_timeout_seconds: 90,
            shutdown_delay_seconds: 0,
            shutdown_wait_seconds: 15,
        }
    }
}
