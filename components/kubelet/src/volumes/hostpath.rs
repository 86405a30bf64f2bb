//! hostPath volumes: the check or the creation their type asks for.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

pub fn prepare(path: &str, type_: &str) -> Result<()> {
    let real = Path::new(path);
    let found = std::fs::metadata(real);
    match type_ {
        "" => return Ok(()),
        "DirectoryOrCreate" if found.is_err() => {
            std::fs::create_dir_all(real).with_context(|| format!("cannot make directory {path}"))?;
            let mode = std::fs::Permissions::from_mode(0o755);
            return std::fs::set_permissions(real, mode).with_context(|| format!("cannot set the mode of {path}"));
        }
        "FileOrCreate" if found.is_err() => {
            std::fs::File::create(real).with_context(|| format!("cannot make file {path}"))?;
            let mode = std::fs::Permissions::from_mode(0o644);
            return std::fs::set_permissions(real, mode).with_context(|| format!("cannot set the mode of {path}"));
        }
        _ => {}
    }
    let kind = found.with_context(|| format!("hostPath type check failed: {path} does not exist"))?.file_type();
    let (fits, what) = match type_ {
        "Directory" | "DirectoryOrCreate" => (kind.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (kind.is_file(), "a file"),
        "Socket" => (kind.is_socket(), "a socket file"),
        "CharDevice" => (kind.is_char_device(), "a character device"),
        "BlockDevice" => (kind.is_block_device(), "a block device"),
        other => bail!("{other} is an invalid volume type"),
    };
    if !fits {
        bail!("hostPath type check failed: {path} is not {what}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_type() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        prepare(&at("d"), "DirectoryOrCreate").unwrap();
        prepare(&at("f"), "FileOrCreate").unwrap();
        prepare(&at("d"), "Directory").unwrap();
        prepare(&at("f"), "File").unwrap();
        prepare("/dev/null", "CharDevice").unwrap();
        prepare(&at("none"), "").unwrap();
        assert!(prepare(&at("f"), "Directory").is_err());
        assert!(prepare(&at("none"), "Directory").is_err());
        assert!(prepare(&at("d"), "Socket").is_err());
        assert!(prepare(&at("d"), "Odd").is_err());
    }
}
