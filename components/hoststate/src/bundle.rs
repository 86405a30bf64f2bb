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
    /// `amd64` or `arm64`.
    pub arch: String,
    pub files: Vec<BundleFile>,
    pub images: Vec<BundleImage>,
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
