//! The typed resources that make up a host's declared state.

use serde::{Deserialize, Serialize};

/// What the names of images begin with that are made on hosts, and so are in no registry.
pub const OUR_IMAGES: &str = "kinstall.local/";

/// Everything kinstall wants of one host. Resources are applied in order; `down` removes them in reverse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostState {
    pub cluster: ClusterRef,
    /// The host's name in the inventory, which is also its Node name.
    pub host: String,
    /// kinstall's version whose bundle this state comes from.
    pub version: String,
    /// Kubernetes' version; see [`crate::bundle::BundleManifest::kubernetes`].
    #[serde(default)]
    pub kubernetes: Option<String>,
    pub resources: Vec<Resource>,
    /// Files (paths of `File` resources with text) whose credentials the host has renewed by itself and keeps: of a kubeconfig
    /// the client certificate and its key, of any other the whole content. Those that the host does not have are made as
    /// they stand here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<String>,
}

/// Which cluster a host belongs to; the id is random, so two clusters of one name are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRef {
    pub name: String,
    pub id: String,
}

/// One thing on a host. Modes are plain numbers (0o644 = 420).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum Resource {
    /// A directory of ours. `contents` says what `down` does with what has gathered in it.
    Directory {
        path: String,
        mode: u32,
        contents: Contents,
    },
    File {
        path: String,
        mode: u32,
        content: Content,
    },
    Symlink {
        path: String,
        target: String,
    },
    /// `value` as it reads in `/proc/sys`; the old value is restored by `down`.
    Sysctl {
        key: String,
        value: String,
    },
    KernelModule {
        name: String,
    },
    /// A systemd unit (its unit file is a `File` before it). Restarted when any of `restart_on` (paths of File or Symlink
    /// resources) changed. Units are started without waiting for each other but where `after` says so; an image waits for the
    /// runtime's unit, and the apply ends when all are up.
    Unit {
        name: String,
        enabled: bool,
        active: bool,
        restart_on: Vec<String>,
        /// Units before it that must be up before this one is touched.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        after: Vec<String>,
    },
    /// An image in the runtime; needs the runtime's unit before it.
    Image {
        name: String,
        source: ImageSource,
    },
}

impl Resource {
    /// A name that is unique within a HostState and readable in plans and logs.
    pub fn id(&self) -> String {
        match self {
            Self::Directory { path, .. } => format!("directory {path}"),
            Self::File { path, .. } => format!("file {path}"),
            Self::Symlink { path, .. } => format!("symlink {path}"),
            Self::Sysctl { key, .. } => format!("sysctl {key}"),
            Self::KernelModule { name } => format!("kernel module {name}"),
            Self::Unit { name, .. } => format!("unit {name}"),
            Self::Image { name, .. } => format!("image {name}"),
        }
    }

    /// The digests of bundle blobs this resource is made from.
    pub fn blobs(&self) -> Option<&str> {
        match self {
            Self::File { content: Content::Blob { sha256, .. }, .. } => Some(sha256),
            Self::Image { source: ImageSource::Archive { sha256, .. }, .. } => Some(sha256),
            _ => None,
        }
    }
}

/// What `down` does with files in a directory that no resource names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Contents {
    /// They are somebody else's: the directory is removed only when empty.
    Foreign,
    /// They are the components' own working files: removed.
    Ours,
    /// They are the cluster's data (the store, volumes): removed unless `--keep-data`.
    Data,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Content {
    /// UTF-8 text. `secret`: never shown in plans, events and logs.
    Inline {
        text: String,
        #[serde(default)]
        secret: bool,
    },
    /// A blob of the bundle, sent only when the host does not have it.
    Blob { sha256: String, size: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ImageSource {
    /// Made on the host: one layer that holds this host file (a static executable) at `/<file name>`, with this entrypoint.
    Executable { path: String, entrypoint: Vec<String> },
    /// An OCI archive from the bundle.
    Archive { sha256: String, size: u64 },
}
