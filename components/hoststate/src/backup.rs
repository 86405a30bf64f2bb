//! What a backup takes from a host and a restore puts there.

use serde::{Deserialize, Serialize};

use crate::resource::ClusterRef;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Taking {
    /// A compressed dump of the store, tried before it is called good.
    Store,
    /// A compressed tar of the provisioner's local volumes, their files as they are at that moment.
    Volumes,
}

/// Bytes that the installer sends as [`crate::Request::Blob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub sha256: String,
    pub size: u64,
}

/// Makes the host what `down --keep-data` would have left of the cluster as it was when it was backed up; `up` goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub cluster: ClusterRef,
    pub host: String,
    pub version: String,
    /// For one control plane. What any host has of a store is put aside.
    pub store: Option<Blob>,
    /// Without them the volumes that the host has stay.
    pub volumes: Option<Blob>,
}

/// What a control plane's timer has made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backups {
    pub directory: String,
    /// In the order of their times.
    pub files: Vec<BackupFile>,
    /// The last one did not come to its end.
    pub failed: bool,
    /// When the next one is made, as systemd says it.
    pub next: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    pub name: String,
    /// Bytes.
    pub size: u64,
}
