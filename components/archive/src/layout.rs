//! What stands in an archive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Raised when an older reader would misread; it refuses instead.
pub const FORMAT: u32 = 1;

/// The store's dump, see [`crate::dump`].
pub const STORE: &str = "store.jsonl.zst";
/// Before the names of the operator's files: the inventory, and what is in the state directory.
pub const OPERATOR: &str = "operator/";
/// Among the operator's files.
pub const INVENTORY: &str = "operator/inventory.yaml";
/// Before the names of what is in the operator's state directory.
pub const STATE: &str = "operator/state/";
/// Before the names of hosts whose volumes are here, each a compressed tar of `/var/lib/kinstall/volumes`.
pub const VOLUMES: &str = "volumes/";

pub(crate) const ABOUT: &str = "backup.json";
pub(crate) const CONTENTS: &str = "contents.json";

/// The name of a host's volumes.
pub fn volumes_of(host: &str) -> String {
    format!("{VOLUMES}{host}.tar.zst")
}

/// Where an archive comes from: its first member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub format: u32,
    pub cluster: Origin,
    /// kinstall's.
    pub version: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// The machine that wrote it.
    pub made_on: String,
}

/// The cluster: its name and its random id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub name: String,
    pub id: String,
}

/// Everything between, by name: the last member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    pub streams: BTreeMap<String, Stream>,
    pub store: Option<StoreSummary>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Bytes.
    pub size: u64,
    pub sha256: String,
    pub parts: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSummary {
    pub objects: u64,
    pub revision: u64,
}

/// A part's name in the tar.
pub(crate) fn part(name: &str, index: u32) -> String {
    format!("{name}.{index:05}")
}
