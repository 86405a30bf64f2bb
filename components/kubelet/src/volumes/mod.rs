//! A pod's volumes: made before its containers, kept fresh, taken away after them.

pub mod atomic;
pub mod certificate;
pub mod claims;
pub mod hostpath;
pub mod mountinfo;
pub mod mounts;
pub mod ownership;
pub mod payload;
pub mod subpath;
pub mod trust;

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use kube::ResourceExt;
use nix::mount::{MsFlags, mount};

use crate::config::Config;
use crate::pods::fields::Addresses;
use crate::pods::quantity;
use claims::Backing;
use payload::Sources;

#[derive(Debug, Clone)]
pub struct Mounted {
    pub path: PathBuf,
    pub read_only: bool,
}

pub struct PodVolumes {
    pub sources: Sources,
    directory: PathBuf,
    mounted: HashMap<String, Mounted>,
}

impl PodVolumes {
    pub fn new(config: &Config, uid: &str, sources: Sources) -> PodVolumes {
        PodVolumes { sources, directory: config.pod_dir(uid), mounted: HashMap::new() }
    }

    pub fn get(&self, name: &str) -> Option<&Mounted> {
        self.mounted.get(name)
    }

    /// Makes what is missing and refreshes files from their sources.
    pub async fn set_up(&mut self, pod: &Pod, addresses: &Addresses) -> Result<()> {
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        let volumes = pod.spec.as_ref().and_then(|s| s.volumes.clone()).unwrap_or_default();
        for volume in &volumes {
            let files = self.sources.files(pod, volume, addresses).await;
            let context = || format!("MountVolume.SetUp failed for volume {:?}", volume.name);
            match files.with_context(context)? {
                Some(files) => self.write_files(pod, volume, &files).with_context(context)?,
                None if self.mounted.contains_key(&volume.name) => {}
                None => {
                    let mounted = self.one(pod, volume).await.with_context(context)?;
                    self.mounted.insert(volume.name.clone(), mounted);
                }
            }
        }
        Ok(())
    }

    fn path(&self, plugin: &str, name: &str) -> PathBuf {
        self.directory.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }

    fn write_files(&mut self, pod: &Pod, volume: &Volume, files: &atomic::Files) -> Result<()> {
        let (plugin, secret) = match volume {
            v if v.secret.is_some() => ("secret", true),
            v if v.projected.is_some() => ("projected", true),
            v if v.config_map.is_some() => ("configmap", false),
            _ => ("downward-api", false),
        };
        let path = self.path(plugin, &volume.name);
        if !self.mounted.contains_key(&volume.name) {
            std::fs::create_dir_all(&path)?;
            if secret && !mountinfo::is_mounted(&path) {
                // secrets never reach a disk
                mount_tmpfs(&path, None)?;
            }
            let group = fs_group(pod);
            chown(&path, None, group)?;
            let mode = if group.is_some() { 0o2777 } else { 0o777 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        }
        atomic::write(&path, files, fs_group(pod))?;
        self.mounted.insert(volume.name.clone(), Mounted { path, read_only: true });
        Ok(())
    }

    async fn one(&self, pod: &Pod, volume: &Volume) -> Result<Mounted> {
        let name = &volume.name;
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(pod, name, source);
        }
        if let Some(source) = &volume.host_path {
            hostpath::prepare(&source.path, source.type_.as_deref().unwrap_or_default())?;
            return Ok(Mounted { path: source.path.clone().into(), read_only: false });
        }
        if let Some(source) = &volume.nfs {
            let options = if source.read_only == Some(true) { vec!["ro".to_string()] } else { Vec::new() };
            return self.nfs(name, &source.server, &source.path, &options).await;
        }
        if let Some(source) = &volume.persistent_volume_claim {
            return self.claim(pod, name, &source.claim_name, source.read_only == Some(true)).await;
        }
        if volume.ephemeral.is_some() {
            return self.claim(pod, name, &format!("{}-{name}", pod.name_any()), false).await;
        }
        bail!("its kind is not supported by this kubelet")
    }

    async fn claim(&self, pod: &Pod, name: &str, claim: &str, read_only: bool) -> Result<Mounted> {
        match claims::resolve(&self.sources.client, pod, claim).await? {
            Backing::HostPath { path, type_ } => {
                hostpath::prepare(&path, &type_)?;
                Ok(Mounted { path: path.into(), read_only })
            }
            Backing::Local { path } => {
                let path = PathBuf::from(path);
                if !path.is_dir() {
                    bail!("local volume {} is not a directory on this host", path.display());
                }
                if let Some(group) = fs_group(pod).filter(|_| !read_only) {
                    let policy =
                        pod.spec.as_ref().and_then(|s| s.security_context.as_ref()?.fs_group_change_policy.clone());
                    let on_mismatch = policy.as_deref() == Some("OnRootMismatch");
                    let target = path.clone();
                    tokio::task::spawn_blocking(move || ownership::apply(&target, group, on_mismatch)).await??;
                }
                Ok(Mounted { path, read_only })
            }
            Backing::Nfs { server, path, options } => {
                let mounted = self.nfs(name, &server, &path, &options).await?;
                Ok(Mounted { read_only: read_only || mounted.read_only, ..mounted })
            }
        }
    }

    fn empty_dir(&self, pod: &Pod, name: &str, source: &EmptyDirVolumeSource) -> Result<Mounted> {
        let path = self.path("empty-dir", name);
        std::fs::create_dir_all(&path)?;
        let limit = source.size_limit.as_ref().map(quantity::value).filter(|n| *n > 0);
        match source.medium.as_deref().unwrap_or_default() {
            "" => {}
            "Memory" if mountinfo::is_mounted(&path) => {}
            "Memory" => mount_tmpfs(&path, limit)?,
            other => bail!("emptyDir medium {other:?} is not supported"),
        }
        let group = fs_group(pod);
        chown(&path, None, group)?;
        // 0777 whatever the kubelet's own mask is
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(Mounted { path, read_only: false })
    }

    /// Needs the host's mount.nfs, as upstream does.
    async fn nfs(&self, name: &str, server: &str, path: &str, options: &[String]) -> Result<Mounted> {
        let target = self.path("nfs", name);
        std::fs::create_dir_all(&target)?;
        if !mountinfo::is_mounted(&target) {
            let mut command = tokio::process::Command::new("mount");
            command.args(["-t", "nfs"]);
            if !options.is_empty() {
                command.args(["-o", &options.join(",")]);
            }
            let output = command.arg(format!("{server}:{path}")).arg(&target).output().await?;
            if !output.status.success() {
                bail!("mounting {server}:{path} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(Mounted { path: target, read_only: options.iter().any(|o| o == "ro") })
    }

    /// Unmounts and removes everything of the pod on this host; outside data stays.
    pub fn tear_down(&mut self) -> Result<()> {
        self.mounted.clear();
        mountinfo::remove_tree(&self.directory)
    }

    /// Unmounts only: what an ended pod wrote stays until the pod is deleted, secrets do not.
    pub fn release(&mut self) -> Result<()> {
        self.sources.rest();
        self.mounted.clear();
        for point in mountinfo::below(&self.directory)? {
            mountinfo::unmount(&point)?;
        }
        Ok(())
    }
}

pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn mount_tmpfs(path: &Path, size: Option<i64>) -> Result<()> {
    let options = size.map(|size| format!("size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref())
        .with_context(|| format!("cannot mount a tmpfs on {}", path.display()))
}
