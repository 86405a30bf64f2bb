//! What the timer's backups have left here.

use std::fs;
use std::io;

use hoststate::Event;
use hoststate::backup::{BackupFile, Backups};
use hoststate::wire::Failure;

use crate::command;
use crate::facts::read;
use crate::resources::{self, Context};

const CONFIG: &str = "/etc/kinstall/backup.yaml";
const SERVICE: &str = "kinstall-backup.service";
const TIMER: &str = "kinstall-backup.timer";
const SUFFIX: &str = ".kinstall-backup";

/// `None` where no backups are scheduled.
pub fn list(context: Context<'_>) -> Result<Event, Failure> {
    let text = read(context.root, CONFIG);
    let directory =
        text.lines().find_map(|line| line.strip_prefix("directory:")).map(|value| value.trim().trim_matches('"'));
    let Some(directory) = directory else { return Ok(Event::Backups { backups: None }) };
    let files = files(context, directory).map_err(|error| resources::io("list backups", &error))?;
    let property = |unit: &str, name: &str| {
        let value = command::look("systemctl", &["show", "-p", name, "--value", "--", unit]).unwrap_or_default();
        value.trim().to_owned()
    };
    let backups = Backups {
        directory: directory.to_owned(),
        files,
        failed: !matches!(property(SERVICE, "Result").as_str(), "success" | ""),
        next: property(TIMER, "NextElapseUSecRealtime"),
    };
    Ok(Event::Backups { backups: Some(backups) })
}

fn files(context: Context<'_>, directory: &str) -> io::Result<Vec<BackupFile>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(context.root.path(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(SUFFIX) {
            files.push(BackupFile { name, size: entry.metadata()?.len() });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
