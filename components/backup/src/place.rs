//! A dump becomes an embedded store.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context as _;
use archive::StoreSummary;
use archive::dump::{Decoder, Record};
use store::KeyValue;

/// What a restored store's revision is raised by. Clients have seen revisions from after the backup; none of them may ever be
/// handed out again with another meaning. So many writes no cluster makes between two backups; etcd's own tool is told the same
/// number.
pub const BUMP: u64 = 1_000_000_000;

/// Makes a store in `directory` from the dump in a file. Several control planes move it into their etcd from there, as they
/// do with one that they grew out of.
pub fn place(dump: &Path, directory: &Path) -> anyhow::Result<StoreSummary> {
    let file = File::open(dump).with_context(|| format!("cannot open {}", dump.display()))?;
    let decoder = decoder(file)?;
    let revision = decoder.revision() + BUMP;
    let objects = store::create(directory, revision, decoder.map(|record| record.map(key_value)))?;
    tracing::info!(objects, revision, "the store is restored");
    Ok(StoreSummary { objects, revision })
}

pub(crate) fn decoder<R: std::io::Read>(
    compressed: R,
) -> anyhow::Result<Decoder<BufReader<zstd::Decoder<'static, BufReader<R>>>>> {
    Decoder::new(BufReader::new(zstd::Decoder::new(compressed)?)).context("the store's dump cannot be read")
}

pub(crate) fn key_value(record: Record) -> KeyValue {
    let Record { key, value, created, modified } = record;
    KeyValue { key: key.into(), value: value.into(), create_revision: created, mod_revision: modified }
}
