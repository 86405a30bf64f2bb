//! `kinstall backup` and `kinstall restore`.
//!
//! A restore is `up`'s own way from a host that `down --keep-data` has left: [`restore`] makes hosts into that.

mod create;
pub mod gone;
mod keys;
mod list;
pub mod restore;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context as _;
use archive::{Found, OPERATOR, VOLUMES};

use serde_json::json;

use super::{Ended, Run};
use crate::cli::Global;
use crate::cli::backup::{Backup, BackupSubcommand};
use crate::printer::Printer;

pub async fn run(global: &Global, printer: &Printer, arguments: Backup) -> anyhow::Result<Ended> {
    match arguments.command {
        None => create::run(&Run::locked(global, printer, "backup")?, &arguments.create).await,
        Some(BackupSubcommand::List) => list::run(&Run::reading(global, printer)?).await,
        Some(BackupSubcommand::Keygen(arguments)) => keys::generate(printer, &arguments.file),
        Some(BackupSubcommand::Verify(arguments)) => {
            let unseal = keys::unseal(&arguments.opening)?;
            let found = open(&arguments.file, |input| archive::verify(input, &unseal))?;
            printer.result(
                &describe(&found),
                &json!({"event": "backup", "about": found.about, "contents": found.contents}),
            );
            Ok(Ended::Done)
        }
    }
}

/// Reads a backup; an error names the file.
fn open(path: &Path, read: impl FnOnce(BufReader<File>) -> anyhow::Result<Found>) -> anyhow::Result<Found> {
    let file = File::open(path).with_context(|| format!("cannot open the backup {}", path.display()))?;
    read(BufReader::with_capacity(1 << 20, file))
        .with_context(|| format!("the backup {} cannot be used", path.display()))
}

fn describe(found: &Found) -> String {
    let Found { about, contents } = found;
    let mut text = format!(
        "cluster {} of {} (kinstall {}, made on {})\n",
        about.cluster.name, about.created, about.version, about.made_on
    );
    if let Some(store) = contents.store {
        text.push_str(&format!("  store    {} objects at revision {}\n", store.objects, store.revision));
    }
    let operator = contents.streams.keys().filter(|name| name.starts_with(OPERATOR)).count();
    text.push_str(&format!("  operator {operator} files: inventory, keys and state\n"));
    for (name, stream) in contents.streams.iter().filter(|(name, _)| name.starts_with(VOLUMES)) {
        text.push_str(&format!("  {name} {:.1} MB\n", stream.size as f64 / 1e6));
    }
    if !contents.streams.keys().any(|name| name.starts_with(VOLUMES)) {
        text.push_str("  no volumes\n");
    }
    text + "everything in it is whole"
}
