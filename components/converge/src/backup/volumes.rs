//! Local volumes as a compressed tar, with owners, modes and times.
//!
//! Files that are being written meanwhile are copied as they are: each is read to the length that it had when it was reached.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::ASIDE;

const LEVEL: i32 = 3;

/// Writes what is below `base`, if it is there, to `out`.
pub fn pack(base: &Path, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(out, LEVEL)?);
    if base.exists() {
        below(&mut tar, base, Path::new(""))?;
    }
    tar.into_inner()?.finish()?.flush()
}

fn below<W: Write>(tar: &mut tar::Builder<W>, base: &Path, inside: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(base.join(inside))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names.into_iter().filter(|name| !inside.as_os_str().is_empty() || name != ASIDE) {
        let inside = inside.join(name);
        let path = base.join(&inside);
        // what an application has removed meanwhile is gone
        match entry(tar, &path, &inside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result?,
        }
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            below(tar, base, &inside)?;
        }
    }
    Ok(())
}

/// Sockets, pipes and devices are made anew by whoever wants them.
fn entry<W: Write>(tar: &mut tar::Builder<W>, path: &Path, inside: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(found.mode() & 0o7777);
    header.set_uid(found.uid().into());
    header.set_gid(found.gid().into());
    header.set_mtime(found.mtime().max(0).cast_unsigned());
    header.set_size(0);
    if found.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return tar.append_data(&mut header, inside, io::empty());
    }
    if found.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        return tar.append_link(&mut header, inside, fs::read_link(path)?);
    }
    if !found.is_file() {
        return Ok(());
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    header.set_size(size);
    // exactly so many bytes, whatever happens to the file
    tar.append_data(&mut header, inside, file.chain(io::repeat(0)).take(size))
}

/// Brings the volumes of an archive below `base`.
pub fn unpack(archive: &Path, base: &Path) -> io::Result<()> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(File::open(archive)?)?);
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(true);
    tar.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    // refuses names that lead out of it
    tar.unpack(base)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn volumes_come_back_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let (base, back) = (directory.path().join("volumes"), directory.path().join("back"));
        let volume = base.join("default_data_1");
        fs::create_dir_all(volume.join("deep").join("x".repeat(120))).unwrap();
        fs::create_dir_all(base.join(ASIDE)).unwrap();
        fs::write(base.join(ASIDE).join("old"), "old").unwrap();
        fs::write(volume.join("deep/file"), "post").unwrap();
        fs::write(volume.join("deep").join("x".repeat(120)).join("y".repeat(120)), "long name").unwrap();
        fs::set_permissions(volume.join("deep/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        symlink("/etc/passwd", volume.join("link")).unwrap();
        let _socket = UnixListener::bind(volume.join("socket")).unwrap();
        let archive = directory.path().join("volumes.tar.zst");
        pack(&base, File::create(&archive).unwrap()).unwrap();
        fs::create_dir(&back).unwrap();
        unpack(&archive, &back).unwrap();

        let volume = back.join("default_data_1");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read_to_string(volume.join("deep/file")).unwrap(), "post");
        assert_eq!((mode(&volume.join("deep/file")), mode(&volume)), (0o640, 0o777));
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        let long = volume.join("deep").join("x".repeat(120)).join("y".repeat(120));
        assert_eq!(fs::read_to_string(long).unwrap(), "long name");
        assert!(!volume.join("socket").exists() && !back.join(ASIDE).exists());
    }

    #[test]
    fn a_host_without_volumes_gives_an_empty_archive() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("volumes.tar.zst");
        pack(&directory.path().join("none"), File::create(&archive).unwrap()).unwrap();
        unpack(&archive, directory.path()).unwrap();
    }
}
