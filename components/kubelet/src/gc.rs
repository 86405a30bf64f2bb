//! Housekeeping: logs that grew too long, images no one uses on a full disk.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_cri::v1 as cri;
use k8s_openapi::jiff::Timestamp;

use crate::config::Config;
use crate::cri::Cri;
use crate::node::host;

const LOGS: Duration = Duration::from_secs(10);
const IMAGES: Duration = Duration::from_secs(60);
/// An image is kept at least this long after it was last used.
const MINIMUM_AGE: Duration = Duration::from_secs(120);

/// Rotates logs, for ever.
pub async fn rotate_logs(config: Arc<Config>, cri: Cri) {
    loop {
        tokio::time::sleep(LOGS).await;
        let Ok(containers) = cri.containers(None).await else { continue };
        let running = containers.iter().filter(|c| c.state == cri::ContainerState::ContainerRunning as i32);
        for container in running {
            if let Err(error) = rotate(&config, &cri, &container.id).await {
                tracing::warn!("log of container {} not rotated: {error:#}", container.id);
            }
        }
    }
}

async fn rotate(config: &Config, cri: &Cri, id: &str) -> Result<()> {
    let Some(status) = cri.container_status(id).await? else { return Ok(()) };
    let path = PathBuf::from(&status.log_path);
    let size = std::fs::metadata(&path).map_or(0, |m| m.len());
    if size < config.container_log_max_bytes {
        return Ok(());
    }
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    std::fs::rename(&path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
    let request = cri::ReopenContainerLogRequest { container_id: id.to_string() };
    if let Err(error) = cri.runtime.clone().reopen_container_log(request).await {
        // the runtime still writes to the old file: give it its name back
        std::fs::rename(&aside, &path).ok();
        return Err(error).context("the runtime did not reopen the log");
    }
    let keep = usize::try_from(config.container_log_max_files.max(2) - 1).unwrap_or(1);
    for old in rotated(&path).into_iter().rev().skip(keep) {
        std::fs::remove_file(old).ok();
    }
    Ok(())
}

/// Files set aside from a log, oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let Some((directory, name)) = path.parent().zip(path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect();
    found.sort();
    found
}

/// Removes unused images while the disk is too full, for ever.
pub async fn collect_images(config: Arc<Config>, cri: Cri) {
    let mut last_used: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(IMAGES).await;
        if let Err(error) = one_collection(&config, &cri, &mut last_used).await {
            tracing::warn!("images not collected: {error:#}");
        }
    }
}

async fn one_collection(config: &Config, cri: &Cri, last_used: &mut HashMap<String, Instant>) -> Result<()> {
    let images = cri.list_images().await?;
    let used: HashSet<String> = cri
        .containers(None)
        .await?
        .into_iter()
        .flat_map(|c| [c.image_ref, c.image_id, c.image.map(|i| i.image).unwrap_or_default()])
        .collect();
    let now = Instant::now();
    last_used.retain(|id, _| images.iter().any(|i| &i.id == id));
    for image in &images {
        let in_use = names(image).any(|name| used.contains(name));
        let entry = last_used.entry(image.id.clone()).or_insert(now);
        if in_use {
            *entry = now;
        }
    }
    let full = |percent: u8| host::disk(&config.root_dir).is_some_and(|d| d.used_percent() >= u64::from(percent));
    if !full(config.image_gc_high_threshold_percent) {
        return Ok(());
    }
    for image in removable(&images, last_used, now) {
        if !full(config.image_gc_low_threshold_percent) {
            break;
        }
        tracing::info!("removing image {}: the disk is full and no container uses it", image.id);
        cri.remove_image(&image.id).await?;
    }
    Ok(())
}

fn names(image: &cri::Image) -> impl Iterator<Item = &String> {
    std::iter::once(&image.id).chain(&image.repo_tags).chain(&image.repo_digests)
}

/// Least recently used first. Images of the product itself have no registry to come back from.
fn removable<'a>(images: &'a [cri::Image], last_used: &HashMap<String, Instant>, now: Instant) -> Vec<&'a cri::Image> {
    let ours = |image: &cri::Image| names(image).any(|name| name.starts_with("kinstall.local/"));
    let age =
        |image: &cri::Image| last_used.get(&image.id).map_or(Duration::ZERO, |at| now.saturating_duration_since(*at));
    let mut all: Vec<&cri::Image> = images.iter().filter(|i| !i.pinned && !ours(i) && age(i) >= MINIMUM_AGE).collect();
    all.sort_by_key(|image| std::cmp::Reverse(age(image)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unused_foreign_images_go_oldest_first() {
        let image = |id: &str, tag: &str, pinned| cri::Image {
            id: id.into(),
            repo_tags: vec![tag.into()],
            pinned,
            ..Default::default()
        };
        let images = [
            image("new", "a", false),
            image("old", "b", false),
            image("older", "c", false),
            image("pin", "d", true),
            image("own", "kinstall.local/pause:1", false),
        ];
        let now = Instant::now();
        let ago = |s| now.checked_sub(Duration::from_secs(s)).unwrap_or(now);
        let used = HashMap::from([
            ("new".to_string(), now),
            ("old".to_string(), ago(200)),
            ("older".to_string(), ago(300)),
            ("pin".to_string(), ago(300)),
            ("own".to_string(), ago(300)),
        ]);
        let ids: Vec<_> = removable(&images, &used, now).iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids, ["older", "old"]);
    }
}
