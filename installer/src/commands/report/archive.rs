//! The report's file: written beside its place, for nobody else to read, and renamed when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub struct Archive {
    /// Everything lies in one folder of this name.
    folder: String,
    path: PathBuf,
    temporary: PathBuf,
    builder: tar::Builder<zstd::Encoder<'static, File>>,
    pub files: usize,
}

impl Archive {
    pub fn create(path: &Path, folder: &str) -> anyhow::Result<Self> {
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let open = || -> io::Result<_> {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            Ok(tar::Builder::new(zstd::Encoder::new(file, 6)?))
        };
        let builder = open().with_context(|| format!("cannot write {}", temporary.display()))?;
        Ok(Self { folder: folder.to_owned(), path: path.to_owned(), temporary, builder, files: 0 })
    }

    pub fn add(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(0);
        let path = format!("{}/{name}", self.folder);
        self.builder
            .append_data(&mut header, path, text.as_bytes())
            .with_context(|| format!("cannot write {}", self.temporary.display()))?;
        self.files += 1;
        Ok(())
    }

    /// Gives the file's size.
    pub fn finish(self) -> anyhow::Result<u64> {
        let Self { path, temporary, builder, .. } = self;
        let end = || -> io::Result<u64> {
            let file = builder.into_inner()?.finish()?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            file.metadata().map(|metadata| metadata.len())
        };
        let ended = end();
        if ended.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        ended.with_context(|| format!("cannot write {}", path.display()))
    }
}
