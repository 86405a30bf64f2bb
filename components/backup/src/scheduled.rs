//! The timer's backup: the same archive that the operator makes, from what this host has. It is sealed to public keys; what opens
//! it is not here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use archive::{About, FORMAT, Origin, STORE, Seal, Writer};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::source::Source;
use crate::take::take;

const SUFFIX: &str = ".kinstall-backup";
const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// `/etc/kinstall/backup.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    pub cluster: Cluster,
    /// This host's name.
    pub host: String,
    /// kinstall's.
    pub version: String,
    /// Public keys of age.
    pub recipients: Vec<String>,
    /// Where archives go; made if it is missing.
    pub directory: PathBuf,
    /// How many of this cluster's archives stay there.
    pub keep: usize,
    pub control_plane_config: PathBuf,
    /// The copy of the operator's files.
    pub operator_copy: PathBuf,
    /// The trial's store is made below this directory.
    pub scratch: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    pub id: String,
}

/// What is used of the copy that `up` keeps here.
#[derive(Deserialize)]
struct Copy {
    cluster: Cluster,
    inventory: String,
    files: BTreeMap<String, String>,
}

/// Writes an archive and removes those that are too many. Gives its path.
pub async fn scheduled(config: Config) -> anyhow::Result<PathBuf> {
    let source = Source::find(&config.control_plane_config).await?;
    tokio::task::spawn_blocking(move || {
        let path = write(&config, source)?;
        let gone = retain(&config)?;
        tracing::info!(file = %path.display(), removed = gone, "the backup is made");
        Ok(path)
    })
    .await?
}

fn write(config: &Config, source: Source) -> anyhow::Result<PathBuf> {
    let copy = copy(config)?;
    let seal = Seal::to(config.recipients.iter().map(String::as_str)).context("recipients")?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.directory)
        .with_context(|| format!("cannot make {}", config.directory.display()))?;
    let (created, path) = free_second(config)?;
    let about = About {
        format: FORMAT,
        cluster: Origin { name: config.cluster.name.clone(), id: config.cluster.id.clone() },
        version: config.version.clone(),
        created: created.format(&Rfc3339)?,
        made_on: config.host.clone(),
    };
    let partial = path.with_extension("part");
    let told = || format!("cannot write {}", partial.display());
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let written = fill(file.with_context(told)?, config, &seal, &about, &copy, source);
    match written {
        Ok(()) => fs::rename(&partial, &path).with_context(told)?,
        Err(error) => {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
    }
    Ok(path)
}

/// The moment of an archive, and its path. A name tells whole seconds, and two runs of the timer may meet in one: the later of them
/// sleeps into the next, since nothing but the clock brings that.
fn free_second(config: &Config) -> anyhow::Result<(OffsetDateTime, PathBuf)> {
    loop {
        let now = OffsetDateTime::now_utc();
        let stamp = now.format(STAMP)?;
        let path = config.directory.join(format!("{}{stamp}{SUFFIX}", prefix(config)));
        if !path.exists() {
            return Ok((now, path));
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.nanosecond().into())));
    }
}

fn copy(config: &Config) -> anyhow::Result<Copy> {
    let path = &config.operator_copy;
    let text = fs::read(path).with_context(|| {
        format!(
            "cannot read {}: a backup without the cluster's keys is of no use; run `kinstall up` to its end",
            path.display()
        )
    })?;
    let copy: Copy = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    if copy.cluster.id != config.cluster.id {
        bail!("{} is of another cluster", path.display());
    }
    Ok(copy)
}

fn fill(file: File, config: &Config, seal: &Seal, about: &About, copy: &Copy, source: Source) -> anyhow::Result<()> {
    let mut archive = Writer::new(file, seal, about)?;
    archive.file(archive::INVENTORY, copy.inventory.as_bytes())?;
    for (name, text) in &copy.files {
        archive.file(&format!("{}{name}", archive::STATE), text.as_bytes())?;
    }
    archive.begin(STORE);
    let summary = take(source, &config.scratch, &mut archive)?;
    archive.end()?;
    archive.store(summary);
    let (file, _) = archive.finish()?;
    file.sync_all().context("cannot write the backup")
}

fn prefix(config: &Config) -> String {
    format!("{}-", config.cluster.name)
}

/// Removes all but the newest archives of this cluster; their names are in the order of their times.
fn retain(config: &Config) -> anyhow::Result<usize> {
    let told = || format!("cannot clear {}", config.directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&config.directory).with_context(told)? {
        let name = entry.with_context(told)?.file_name().to_string_lossy().into_owned();
        let stamp = name.strip_prefix(&prefix(config)).and_then(|name| name.strip_suffix(SUFFIX));
        if stamp.is_some_and(is_stamp) {
            names.push(name);
        }
    }
    names.sort();
    let surplus = names.len().saturating_sub(config.keep.max(1));
    for name in &names[..surplus] {
        fs::remove_file(config.directory.join(name)).with_context(told)?;
    }
    Ok(surplus)
}

/// `20260102T030405Z`: another cluster's name may begin as this one's.
fn is_stamp(text: &str) -> bool {
    let pattern = b"dddddddd_dddddd_";
    let fits = |(byte, kind): (u8, &u8)| match kind {
        b'd' => byte.is_ascii_digit(),
        _ => byte.is_ascii_uppercase(),
    };
    text.len() == pattern.len() && text.bytes().zip(pattern).all(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use store::{EmbeddedStore, Store as _};

    use super::*;

    fn config(directory: &Path, key: &archive::Key) -> Config {
        fs::write(
            directory.join("control-plane.yaml"),
            format!(
                "apiServer: {{dataDir: {0}/store, bindAddress: 0.0.0.0}}\ncontrollers: {{}}\n",
                directory.display()
            ),
        )
        .unwrap();
        let copy =
            r#"{"format":1,"cluster":{"name":"c","id":"1"},"inventory":"cluster: c","files":{"pki/ca.key":"secret"}}"#;
        fs::write(directory.join("operator.json"), copy).unwrap();
        Config {
            cluster: Cluster { name: "c".into(), id: "1".into() },
            host: "h1".into(),
            version: "0".into(),
            recipients: vec![key.public()],
            directory: directory.join("backups"),
            keep: 2,
            control_plane_config: directory.join("control-plane.yaml"),
            operator_copy: directory.join("operator.json"),
            scratch: directory.to_owned(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_archive_is_made_without_a_server_and_only_the_key_opens_it() {
        let directory = tempfile::tempdir().unwrap();
        let key = archive::Key::generate();
        let config = config(directory.path(), &key);
        assert!(scheduled(config.clone()).await.is_err(), "there is no store yet");
        EmbeddedStore::open(&directory.path().join("store")).unwrap().close();
        let path = scheduled(config.clone()).await.unwrap();
        let unseal = archive::Unseal::identities(&key.file()).unwrap();
        let open = std::io::BufReader::new(File::open(&path).unwrap());
        let found = archive::verify(open, &unseal).unwrap();
        assert_eq!((found.about.made_on.as_str(), found.contents.store.map(|store| store.objects)), ("h1", Some(0)));
        assert!(found.contents.streams.contains_key("operator/state/pki/ca.key"));
        assert!(!fs::read(&path).unwrap().windows(6).any(|window| window == b"secret"));

        let other = Config { cluster: Cluster { name: "c".into(), id: "2".into() }, ..config };
        assert!(scheduled(other).await.unwrap_err().to_string().contains("another cluster"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_that_is_taken_is_waited_out() {
        let directory = tempfile::tempdir().unwrap();
        let key = archive::Key::generate();
        let config = config(directory.path(), &key);
        EmbeddedStore::open(&directory.path().join("store")).unwrap().close();
        fs::create_dir(&config.directory).unwrap();
        let now = OffsetDateTime::now_utc();
        let taken = [0, 1].map(|seconds| {
            let moment = now + time::Duration::seconds(seconds);
            let stamp = moment.format(STAMP).unwrap();
            config.directory.join(format!("c-{stamp}{SUFFIX}"))
        });
        for path in &taken {
            fs::write(path, "of the run before").unwrap();
        }
        let path = scheduled(config).await.unwrap();
        assert!(!taken.contains(&path), "{}", path.display());
        assert_eq!(fs::read(&taken[1]).unwrap(), b"of the run before");
        let open = std::io::BufReader::new(File::open(&path).unwrap());
        let found = archive::verify(open, &archive::Unseal::identities(&key.file()).unwrap()).unwrap();
        let second: String = found.about.created.chars().filter(|c| !"-:".contains(*c)).take(15).collect();
        assert!(path.to_string_lossy().contains(&second), "{second} is not in {}", path.display());
    }

    #[test]
    fn only_the_newest_of_this_cluster_stay() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), &archive::Key::generate());
        fs::create_dir(&config.directory).unwrap();
        let theirs = ["c-d-20260101T000000Z.kinstall-backup", "c-notes.txt", "c-20260101T000000Z.part"];
        let ours = ["01", "02", "03", "04"].map(|day| format!("c-202601{day}T000000Z.kinstall-backup"));
        for name in theirs.iter().copied().chain(ours.iter().map(String::as_str)) {
            fs::write(config.directory.join(name), "").unwrap();
        }
        assert_eq!((retain(&config).unwrap(), retain(&config).unwrap()), (2, 0));
        let mut left: Vec<_> = fs::read_dir(&config.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected: Vec<&str> = theirs.to_vec();
        expected.extend([ours[2].as_str(), ours[3].as_str()]);
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
