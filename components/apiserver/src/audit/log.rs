//! The audit log: one JSON object a line, put aside when it is large.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use parking_lot::Mutex;
use time::{OffsetDateTime, macros::format_description};

use super::event::Event;
use crate::config;

/// Bytes of bodies that may wait to be written.
const WAITING: usize = 64 * 1024 * 1024;

/// Takes events from requests and writes them in a thread of its own.
pub struct Writer {
    queue: Mutex<Option<SyncSender<Event>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waiting: Arc<AtomicUsize>,
    failures: Arc<AtomicU64>,
}

impl Writer {
    pub fn start(config: &config::Audit) -> anyhow::Result<Self> {
        let mut log = Log::open(config)?;
        let (queue, events) = sync_channel(config.buffer_size.max(1));
        let (waiting, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (waiting, failures) = (waiting.clone(), failures.clone());
            std::thread::Builder::new()
                .name("audit-log".into())
                .spawn(move || write_all(&mut log, &events, &waiting, &failures))
                .context("cannot start the audit log's thread")?
        };
        Ok(Writer { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), waiting, failures })
    }

    /// `false`: too much waits, the event is lost.
    pub fn submit(&self, event: Event) -> bool {
        let weight = event.weight();
        if self.waiting.load(Ordering::Relaxed) + weight > WAITING {
            return false;
        }
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        let taken = self.queue.lock().as_ref().is_some_and(|queue| queue.try_send(event).is_ok());
        if !taken {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
        }
        taken
    }

    /// Events that could not be written.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Writes what waits; later events are lost.
    pub fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            // its panic has been printed
            let _ = thread.join();
        }
    }
}

fn write_all(log: &mut Log, events: &Receiver<Event>, waiting: &AtomicUsize, failures: &AtomicU64) {
    while let Ok(first) = events.recv() {
        let mut next = Some(first);
        // a burst is written as one piece
        while let Some(event) = next {
            waiting.fetch_sub(event.weight(), Ordering::Relaxed);
            if let Err(error) = log.write(&event)
                && failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000)
            {
                tracing::error!(error = format!("{error:#}"), "the audit log cannot be written");
            }
            next = events.try_recv().ok();
        }
        if let Err(error) = log.file.flush() {
            failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
    max_size: u64,
    max_backup: usize,
    max_age: Option<Duration>,
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot write the audit log {}", path.display()))
}

impl Log {
    fn open(config: &config::Audit) -> anyhow::Result<Self> {
        let path = config.log_path.clone();
        let file = open(&path)?;
        let size = file.metadata().map(|m| m.len()).unwrap_or(0);
        Ok(Log {
            path,
            file: BufWriter::with_capacity(64 * 1024, file),
            size,
            max_size: config.log_max_size.max(1) * 1024 * 1024,
            max_backup: config.log_max_backup,
            max_age: (config.log_max_age > 0).then(|| Duration::from_secs(config.log_max_age * 24 * 3600)),
        })
    }

    fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&event.to_value())?;
        line.push(b'\n');
        let length = line.len() as u64;
        if self.size + length > self.max_size && self.size > 0 {
            self.rotate()?;
        }
        self.file.write_all(&line)?;
        self.size += length;
        Ok(())
    }

    /// `audit.log` becomes `audit-2026-11-21T05-30-00.000.log`.
    fn rotate(&mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        let format = format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");
        let stamp = OffsetDateTime::now_utc().format(&format)?;
        let (prefix, suffix) = self.name_parts();
        fs::rename(&self.path, self.path.with_file_name(format!("{prefix}{stamp}{suffix}")))?;
        self.file = BufWriter::with_capacity(64 * 1024, open(&self.path)?);
        self.size = 0;
        self.clean();
        Ok(())
    }

    /// What names of logs put aside begin and end with.
    fn name_parts(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        (format!("{}-", part(self.path.file_stem())), extension)
    }

    /// Deletes logs put aside that are too many or too old.
    fn clean(&self) {
        let (prefix, suffix) = self.name_parts();
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(entries) = fs::read_dir(folder) else { return };
        let mut aside: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| {
                let name = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                name.len() > prefix.len() + suffix.len() && name.starts_with(&prefix) && name.ends_with(&suffix)
            })
            .collect();
        // the time in the name sorts them; newest first
        aside.sort();
        aside.reverse();
        let too_old = |path: &PathBuf| {
            let written = fs::metadata(path).and_then(|m| m.modified()).ok();
            let age = written.and_then(|at| SystemTime::now().duration_since(at).ok());
            self.max_age.is_some_and(|max| age.is_some_and(|age| age > max))
        };
        for (index, path) in aside.iter().enumerate() {
            let too_many = self.max_backup > 0 && index >= self.max_backup;
            if (too_many || too_old(path)) && fs::remove_file(path).is_err() {
                tracing::warn!(path = %path.display(), "an old audit log cannot be deleted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_large_log_is_put_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let config = serde_json::json!({"policyFile": "x", "logPath": path, "logMaxBackup": 2});
        let mut log = Log::open(&serde_json::from_value(config).unwrap()).unwrap();
        for name in ["audit-2001-01-01T00-00-00.000.log", "audit-2002-01-01T00-00-00.000.log", "other.log"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        log.file.write_all(b"{}\n").unwrap();
        log.rotate().unwrap();
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names[0] == "audit-2002-01-01T00-00-00.000.log" && names[1].starts_with("audit-20"), "{names:?}");
        assert_eq!(fs::read(dir.path().join(&names[1])).unwrap(), b"{}\n");
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}
