//! `.kinstall/<cluster>/` beside the inventory: what must not be lost between runs.
//!
//! The cluster's random id, its PKI, the passwords of the sample app, the lock, the last applied states, one log file a run.
//! Directories are 0700, files 0600, written by rename.

pub mod applied;
pub mod lock;
pub mod log;
pub mod pki;
mod portable;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hoststate::resource::ClusterRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    cluster: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    name: String,
    id: String,
}

/// What is remembered of the sample app: its passwords, and what validation published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WordPressState {
    pub admin_user: String,
    pub admin_password: String,
    pub database_password: String,
    pub database_root_password: String,
    #[serde(default)]
    pub post: Option<Published>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    pub id: u64,
    pub title: String,
    pub image_path: String,
}

impl StateDir {
    /// The directory as it would be; nothing is created.
    pub fn at(inventory_directory: &Path, cluster: &str) -> Self {
        Self { path: inventory_directory.join(".kinstall").join(cluster), cluster: cluster.to_owned() }
    }

    pub fn create(&self) -> anyhow::Result<()> {
        for directory in [self.path.clone(), self.path.join("pki"), self.path.join("logs")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .with_context(|| format!("cannot create the state directory {}", directory.display()))?;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn exists(&self) -> bool {
        self.path.join("cluster.json").exists()
    }

    /// The cluster's name and random id, made at the first call.
    pub fn identity(&self) -> anyhow::Result<ClusterRef> {
        let found: Option<Identity> = self.read("cluster.json")?;
        let identity = match found {
            Some(identity) => identity,
            None => {
                let identity = Identity { name: self.cluster.clone(), id: uuid::Uuid::new_v4().to_string() };
                self.write("cluster.json", &identity)?;
                identity
            }
        };
        Ok(ClusterRef { name: identity.name, id: identity.id })
    }

    /// The sample's passwords, made at the first call.
    pub fn wordpress(&self) -> anyhow::Result<WordPressState> {
        if let Some(state) = self.read("wordpress.json")? {
            return Ok(state);
        }
        let state = WordPressState {
            admin_user: "admin".into(),
            admin_password: password(),
            database_password: password(),
            database_root_password: password(),
            post: None,
        };
        self.save_wordpress(&state)?;
        Ok(state)
    }

    pub fn save_wordpress(&self, state: &WordPressState) -> anyhow::Result<()> {
        self.write("wordpress.json", state)
    }

    pub fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                let value = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is damaged; restore it from a backup", path.display()))?;
                Ok(Some(value))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        self.write_bytes(name, &bytes)
    }

    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_private(&self.path.join(name), bytes)
    }

    /// It need not be there.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        remove(&self.path.join(name))
    }

    /// Forgets a host that was taken out of the cluster: one of the same name gets keys of its own.
    pub fn forget_host(&self, name: &str) -> anyhow::Result<()> {
        self.forget_keys(name)?;
        applied::Applied::forget(self, name)
    }

    /// A host of this name gets keys of its own.
    pub fn forget_keys(&self, name: &str) -> anyhow::Result<()> {
        for what in pki::OF_ONE_HOST {
            for kind in ["crt", "key"] {
                remove(&self.path.join("pki").join(format!("{what}-{name}.{kind}")))?;
            }
        }
        Ok(())
    }

    /// Forgets the cluster after `down`: keys and passwords of what no longer is. Logs and the lock stay.
    pub fn forget(&self) -> anyhow::Result<()> {
        for name in [
            "cluster.json",
            "wordpress.json",
            "applied.json",
            "addons.json",
            "served.json",
            "moving.json",
            "admin.kubeconfig",
        ] {
            self.remove(name)?;
        }
        match fs::remove_dir_all(self.path.join("pki")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.join("pki").display()))
            }
            _ => Ok(()),
        }
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A private file, all of it or the old one: written beside, synced, renamed.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// 144 random bits that need no escaping anywhere.
fn password() -> String {
    use base64::Engine as _;
    let bytes: [u8; 18] = rand::random();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
