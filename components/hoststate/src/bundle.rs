//! The bundle's table of contents.
//!
//! A bundle is a tar (zstd) whose first member is `manifest.json` ([`BundleManifest`]) and whose other members are
//! `blobs/<sha256>`. Every blob is verified against its name before use.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleManifest {
    /// 1.
    pub format: u32,
    pub version: String,
    /// The version of Kubernetes whose behaviour the components have: `1.37.0`. Bundles of the first days do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// `amd64` or `arm64`.
    pub arch: String,
    pub files: Vec<BundleFile>,
    pub images: Vec<BundleImage>,
}

/// What bundles and hosts that do not name Kubernetes' version have; and what the components of this source tree have.
pub const KUBERNETES: &str = "1.37.0";

impl BundleManifest {
    /// Kubernetes' version, also of a bundle that does not name it.
    pub fn kubernetes(&self) -> &str {
        self.kubernetes.as_deref().unwrap_or(KUBERNETES)
    }
}

/// A file below `/opt/kinstall/<version>/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleFile {
    /// Relative, e.g. `bin/containerd`.
    pub path: String,
    pub mode: u32,
    pub sha256: String,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleImage {
    /// Full reference, e.g. `docker.io/library/mariadb:10.11`.
    pub name: String,
    pub sha256: String,
    pub size: u64,
}
