//! Taking a dump and trying it: the very bytes that go out are restored into a scratch store, which is then opened and read.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, ensure};
use archive::StoreSummary;
use sha2::{Digest as _, Sha256};
use store::KeyValue;

use crate::place::{decoder, key_value};

/// Writes the compressed dump that `source` gives to `out`, and restores it below `scratch` on the way.
///
/// # Errors
/// When what the restored store holds is not what was dumped; what was written is then of no use.
pub fn take(source: impl Read, scratch: &Path, out: impl Write) -> anyhow::Result<StoreSummary> {
    let trial = tempfile::Builder::new()
        .prefix("backup-trial-")
        .tempdir_in(scratch)
        .with_context(|| format!("cannot make a directory for the trial below {}", scratch.display()))?;
    let records = decoder(Tee { source, out })?;
    let revision = records.revision();
    let mut dumped = Seen::default();
    let objects = records.map(|record| {
        let kv = key_value(record?);
        dumped.add(&kv);
        anyhow::Ok(kv)
    });
    store::create(trial.path(), revision, objects).context("the trial restore failed")?;

    let found = store::contents(trial.path()).context("the trial's store does not open")?;
    let (objects, restored) = found.context("the trial made no store")?;
    let mut found = Seen::default();
    objects.iter().for_each(|kv| found.add(kv));
    ensure!(restored == revision, "the trial's store is at revision {restored}, the dump at {revision}");
    ensure!(
        found == dumped,
        "the trial's store does not hold what was dumped ({} objects of {})",
        found.objects,
        dumped.objects
    );
    Ok(StoreSummary { objects: dumped.objects, revision })
}

/// How many objects, and a digest of all of them that does not depend on their order.
#[derive(Default, PartialEq, Eq)]
struct Seen {
    objects: u64,
    digest: [u8; 32],
}

impl Seen {
    fn add(&mut self, kv: &KeyValue) {
        self.objects += 1;
        let mut hash = Sha256::new();
        hash.update((kv.key.len() as u64).to_le_bytes());
        hash.update(&*kv.key);
        hash.update(kv.create_revision.to_le_bytes());
        hash.update(kv.mod_revision.to_le_bytes());
        hash.update(&kv.value);
        for (sum, byte) in self.digest.iter_mut().zip(hash.finalize()) {
            *sum ^= byte;
        }
    }
}

/// What is read is also written.
struct Tee<R, W> {
    source: R,
    out: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        match count {
            0 => self.out.flush()?,
            _ => self.out.write_all(&buffer[..count])?,
        }
        Ok(count)
    }
}
