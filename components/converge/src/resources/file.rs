//! Files with a given content and mode, owned by root.

use std::fs;
use std::io;

use hoststate::wire::{Failure, Undo};
use hoststate::{Action, Content, sha256_hex};

use super::{Context, Observation};
use crate::{Root, STATE_DIR, files};

/// Longest diff that a plan carries, in lines.
const DIFF_LINES: usize = 200;

pub fn observe(root: &Root, path: &str, wanted_mode: u32, content: &Content) -> io::Result<Observation> {
    let on_disk = root.path(path);
    let meta = match fs::metadata(&on_disk) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Observation::new(Action::Create, describe(content, wanted_mode), Undo::Remove));
        }
        Err(error) => return Err(error),
    };
    let undo = {
        use std::os::unix::fs::MetadataExt;
        Undo::RestoreFile { backup: backup_path(path), mode: files::mode(&meta), uid: meta.uid(), gid: meta.gid() }
    };
    let same_content = match content {
        Content::Inline { text, .. } => fs::read(&on_disk)? == text.as_bytes(),
        Content::Blob { sha256, size } => meta.len() == *size && files::sha256(&on_disk)? == *sha256,
    };
    if same_content && files::mode(&meta) == wanted_mode {
        return Ok(Observation::new(Action::None, "", undo));
    }
    let detail = match content {
        _ if same_content => format!("mode {:o} → {wanted_mode:o}", files::mode(&meta)),
        Content::Inline { secret: true, .. } => "content changes (secret)".to_owned(),
        Content::Inline { text, .. } => diff(path, &String::from_utf8_lossy(&fs::read(&on_disk)?), text),
        Content::Blob { sha256, .. } => format!("content → sha256 {}", &sha256[..12.min(sha256.len())]),
    };
    Ok(Observation::new(Action::Update, detail, undo))
}

fn describe(content: &Content, mode: u32) -> String {
    match content {
        Content::Inline { text, .. } => {
            format!("{} bytes, mode {mode:o}, sha256 {}", text.len(), &sha256_hex(text.as_bytes())[..12])
        }
        Content::Blob { sha256, size } => {
            format!("{size} bytes, mode {mode:o}, sha256 {}", &sha256[..12.min(sha256.len())])
        }
    }
}

/// Where a file that was there before us is kept.
pub fn backup_path(path: &str) -> String {
    format!("{STATE_DIR}/backup/{}", path.trim_start_matches('/').replace('%', "%25").replace('/', "%2F"))
}

/// Keeps what is at `path`; done once, before the first change.
pub fn back_up(root: &Root, path: &str, backup: &str) -> io::Result<()> {
    let backup = root.path(backup);
    if backup.exists() {
        return Ok(());
    }
    if let Some(dir) = backup.parent() {
        fs::create_dir_all(dir)?;
    }
    files::write_atomic(&backup, 0o600, fs::File::open(root.path(path))?)
}

pub fn apply(context: Context<'_>, step: &str, path: &str, mode: u32, content: &Content) -> Result<(), Failure> {
    let target = context.root.path(path);
    let written = match content {
        Content::Inline { text, .. } => files::write_atomic(&target, mode, text.as_bytes()),
        Content::Blob { sha256, .. } => {
            let blob = context.blobs.wait(sha256).map_err(|why| super::io(step, &io::Error::other(why)))?;
            fs::File::open(blob).and_then(|source| files::write_atomic(&target, mode, source))
        }
    };
    written.map_err(|error| super::io(step, &error))
}

/// A unified diff without context lines: enough to see what changes, short enough for a terminal.
fn diff(path: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let same_end =
        old[same_start..].iter().rev().zip(new[same_start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let removed = &old[same_start..old.len() - same_end];
    let added = &new[same_start..new.len() - same_end];
    let mut out = format!(
        "--- {path}\n+++ {path}\n@@ -{},{} +{},{} @@",
        same_start + 1,
        removed.len(),
        same_start + 1,
        added.len()
    );
    for line in
        removed.iter().map(|l| format!("\n-{l}")).chain(added.iter().map(|l| format!("\n+{l}"))).take(DIFF_LINES)
    {
        out.push_str(&line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_only_what_changes() {
        assert_eq!(diff("/x", "a\nb\nc", "a\nB\nB2\nc"), "--- /x\n+++ /x\n@@ -2,1 +2,2 @@\n-b\n+B\n+B2");
    }
}
