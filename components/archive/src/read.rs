//! Reading an archive: every member is checked, nothing is believed before the end was seen.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::dump::Checker;
use crate::key::{Unseal, decrypt};
use crate::layout::{ABOUT, About, CONTENTS, Contents, FORMAT, STORE, Stream, part};

/// What was found in an archive whose every digest was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub about: About,
    pub contents: Contents,
}

/// Reads all of an archive and checks it, the store's dump record by record.
///
/// # Errors
/// When it cannot be opened with this key, is cut or damaged, or its store is not whole.
pub fn verify(input: impl BufRead, unseal: &Unseal) -> anyhow::Result<Found> {
    let mut checker: Option<zstd::stream::write::Decoder<'static, Checker>> = None;
    let found = read(input, unseal, |name, bytes| {
        if name == STORE {
            if checker.is_none() {
                checker = Some(zstd::stream::write::Decoder::new(Checker::default())?);
            }
            if let Some(checker) = &mut checker {
                checker.write_all(bytes)?;
            }
        }
        Ok(())
    })
    .map_err(damaged)?;
    if let Some(mut checker) = checker {
        checker.flush()?;
        let summary = checker.into_inner().finish().context("the store in it is not whole")?;
        ensure!(found.contents.store == Some(summary), "the store in it is not the one that it names");
    }
    Ok(found)
}

/// As [`verify`], and writes every stream to a file of its name below `directory` (0700, files 0600).
pub fn extract(input: impl BufRead, unseal: &Unseal, directory: &Path) -> anyhow::Result<Found> {
    read(input, unseal, |name, bytes| {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?.write_all(bytes)
    })
    .map_err(damaged)
}

/// Gives each stream's bytes to `take`, part by part in their order.
pub fn read(
    input: impl BufRead,
    unseal: &Unseal,
    mut take: impl FnMut(&str, &[u8]) -> io::Result<()>,
) -> anyhow::Result<Found> {
    let mut about: Option<About> = None;
    let mut contents: Option<Contents> = None;
    let mut seen: BTreeMap<String, (Sha256, Stream)> = BTreeMap::new();
    let mut tar = tar::Archive::new(decrypt(input, unseal)?);
    for member in tar.entries()? {
        let mut member = member?;
        let name = member.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes)?;
        ensure!(contents.is_none(), "something follows its end");
        match (name.as_str(), &about) {
            (ABOUT, None) => about = Some(known(&bytes)?),
            (_, None) => bail!("it does not begin as an archive of kinstall does"),
            (CONTENTS, _) => {
                contents = Some(serde_json::from_slice(&bytes).context("its list of contents is damaged")?)
            }
            _ => {
                let (stream, _) = name.rsplit_once('.').context("a member without a number")?;
                check(stream)?;
                let (hash, known) = seen.entry(stream.to_owned()).or_default();
                ensure!(name == part(stream, known.parts), "the part {name} is out of its place");
                known.parts += 1;
                known.size += bytes.len() as u64;
                hash.update(&bytes);
                take(stream, &bytes).with_context(|| format!("cannot take {stream} out of it"))?;
            }
        }
    }
    // to the seal's very end: what follows the tar's was not written by us
    ensure!(io::copy(&mut tar.into_inner(), &mut io::sink())? < 64 << 10, "something follows its end");
    let (Some(about), Some(contents)) = (about, contents) else { bail!("its end is missing") };
    let seen = seen
        .into_iter()
        .map(|(name, (hash, stream))| (name, Stream { sha256: hex::encode(hash.finalize()), ..stream }));
    ensure!(seen.collect::<BTreeMap<_, _>>() == contents.streams, "it does not hold what its list of contents says");
    Ok(Found { about, contents })
}

fn known(bytes: &[u8]) -> anyhow::Result<About> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } =
        serde_json::from_slice(bytes).context("it does not begin as an archive of kinstall does")?;
    ensure!(
        format == FORMAT,
        "it has format {format}, this kinstall reads format {FORMAT}: use the kinstall that wrote it"
    );
    serde_json::from_slice(bytes).context("what it says of itself is damaged")
}

/// A name that stays below the directory it is put in.
fn check(name: &str) -> anyhow::Result<()> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    ensure!(name.split('/').all(plain), "the name {name:?} leads out of the archive");
    Ok(())
}

/// age says "io error" of a part whose seal is broken.
fn damaged(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other) => {
            anyhow::anyhow!("it is damaged or cut off: {error:#}")
        }
        _ => error,
    }
}
