//! `kinstall completions`, `kinstall man` and `kinstall schema`: what other programs read about this one.

use std::fs;
use std::io::Write as _;

use anyhow::Context as _;
use serde_json::json;

use super::Ended;
use crate::cli::{Completions, Manual, ManualFormat};
use crate::manual;
use crate::printer::Printer;

/// The script goes to stdout as it is, whatever `--output` says: a shell reads it.
pub fn completions(arguments: &Completions) -> anyhow::Result<Ended> {
    // a reader that went away is no error of ours
    let _ = std::io::stdout().write_all(&manual::completions(arguments.shell));
    Ok(Ended::Done)
}

pub fn man(arguments: &Manual, printer: &Printer) -> anyhow::Result<Ended> {
    let pages = match arguments.format {
        ManualFormat::Man => manual::man_pages()?,
        ManualFormat::Markdown => manual::markdown::pages(),
    };
    let directory = &arguments.directory;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for (name, text) in &pages {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let text = format!("{} pages in {}", pages.len(), directory.display());
    printer
        .result(&text, &json!({"event": "manual", "directory": directory, "pages": pages.keys().collect::<Vec<_>>()}));
    Ok(Ended::Done)
}

/// As `completions`: whatever `--output` says.
pub fn schema() -> anyhow::Result<Ended> {
    let _ = std::io::stdout().write_all(crate::inventory::schema::text().as_bytes());
    Ok(Ended::Done)
}
