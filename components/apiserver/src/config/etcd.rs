//! Where objects live when there are several control planes.

use std::path::PathBuf;

use serde::Deserialize;

/// Without this section the store is embedded, in `dataDir`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Etcd {
    /// URLs of members, the preferred one first.
    pub endpoints: Vec<String>,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Whether this server makes the store when there is none yet: from the embedded one in `dataDir` if it is there, else
    /// empty. The others wait until it is made; afterwards it means nothing.
    #[serde(default)]
    pub founder: bool,
    /// The cluster's id; a store in etcd that another cluster made is refused.
    #[serde(default)]
    pub cluster: Option<String>,
}
