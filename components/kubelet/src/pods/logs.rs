//! Log directories, their symlinks, and the last words of a container.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{container as spec, sandbox};
use crate::config::Config;
use crate::cri::observe::Container as Seen;

/// Upstream's bounds of a termination message.
const MAX_MESSAGE: u64 = 4096;
const MAX_MESSAGE_FROM_LOG: usize = 2048;
const MAX_LINES_FROM_LOG: usize = 80;

pub fn make_directories(config: &Config, pod: &Pod) -> Result<()> {
    let directory = sandbox::log_directory(config, pod);
    let all = pod.spec.iter().flat_map(|s| {
        let ordinary = s.init_containers.iter().flatten().chain(&s.containers).map(|c| c.name.clone());
        ordinary.chain(s.ephemeral_containers.iter().flatten().map(|c| c.name.clone()))
    });
    for name in all {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

/// The name log shippers look for.
pub fn link(config: &Config, pod: &Pod, container: &str, attempt: u32, id: &str) {
    let target = sandbox::log_directory(config, pod).join(container).join(format!("{attempt}.log"));
    let name = format!("{}_{}_{container}-{id}.log", pod.name_any(), pod.namespace().unwrap_or_default());
    std::fs::create_dir_all(&config.container_logs_dir).ok();
    let link = config.container_logs_dir.join(name);
    std::fs::remove_file(&link).ok();
    if let Err(error) = std::os::unix::fs::symlink(&target, &link) {
        tracing::debug!("log link {} not made: {error}", link.display());
    }
}

/// Removes links whose log is gone.
pub fn prune_links(config: &Config) {
    let Ok(entries) = std::fs::read_dir(&config.container_logs_dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = std::fs::read_link(&path).is_ok_and(|target| target.starts_with(&config.pod_logs_dir));
        if ours && !path.exists() {
            std::fs::remove_file(&path).ok();
        }
    }
}

/// An ended container's termination message.
pub fn termination_message(seen: &Seen) -> String {
    let annotations = &seen.status.annotations;
    let default = spec::DEFAULT_MESSAGE_PATH.to_string();
    let inside = annotations.get(spec::ANNOTATION_MESSAGE_PATH).unwrap_or(&default);
    let mount = seen.status.mounts.iter().find(|m| &m.container_path == inside);
    let written = mount.map(|m| read_head(Path::new(&m.host_path))).unwrap_or_default();
    let from_log = annotations.get(spec::ANNOTATION_MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
    if written.is_empty() && from_log && seen.status.exit_code != 0 {
        return tail(&PathBuf::from(&seen.status.log_path));
    }
    written
}

fn read_head(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        file.take(MAX_MESSAGE).read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(path: &Path) -> String {
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let size = file.metadata().map_or(0, |m| m.len());
    // each line carries a prefix of its own, so more than the bound is read
    let from = size.saturating_sub(4 * MAX_MESSAGE_FROM_LOG as u64);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text
        .lines()
        .filter_map(|l| crate::server::logs::parse(l.as_bytes()))
        .map(|l| {
            let mut text = String::from_utf8_lossy(l.content).into_owned();
            if !l.partial {
                text.push('\n');
            }
            text
        })
        .collect();
    let joined = lines[lines.len().saturating_sub(MAX_LINES_FROM_LOG)..].concat();
    let mut start = joined.len().saturating_sub(MAX_MESSAGE_FROM_LOG);
    while !joined.is_char_boundary(start) {
        start += 1;
    }
    joined[start..].to_string()
}
