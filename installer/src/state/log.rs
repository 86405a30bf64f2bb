//! One log file for each run: every event and every command run on hosts. Secrets never get this far: hosts redact them.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use parking_lot::Mutex;
use time::OffsetDateTime;
use time::macros::format_description;

pub struct RunLog {
    pub path: PathBuf,
    file: Mutex<File>,
}

impl RunLog {
    pub fn create(state_directory: &Path, command: &str) -> anyhow::Result<Self> {
        let stamp =
            OffsetDateTime::now_utc().format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let path = state_directory.join("logs").join(format!("{stamp}-{command}-{}.log", std::process::id()));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot create the log file {}", path.display()))?;
        Ok(Self { path, file: Mutex::new(file) })
    }

    /// One line, with the time. A log that cannot be written (full disk) stops nothing.
    pub fn line(&self, text: &str) {
        let stamp = OffsetDateTime::now_utc()
            .format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
            .unwrap_or_default();
        let _ = self.file.lock().write_all(format!("{stamp} {}\n", text.replace('\n', "\n    ")).as_bytes());
    }
}
