//! A backup's archive: what stands in it, how it is sealed, written and read.
//!
//! An archive is one file encrypted by age (age-encryption.org/v1) to public keys or by a passphrase; inside is a plain tar:
//! `backup.json` ([`About`]) first, then the operator's files and the parts of streams of any length (`store.jsonl.zst.000`, …),
//! and last `contents.json` ([`Contents`]) with the digest of each. Standard tools open it, too: `age -d | tar x`. Reading checks
//! every digest, and a cut or changed file never reads to its end. [`dump`] is the store's form, the same for every store.
//! Depends on no other crate of ours.

pub mod dump;
mod key;
mod layout;
mod read;
mod write;

pub use key::{Key, Seal, Unseal};
pub use layout::{
    About, Contents, FORMAT, INVENTORY, OPERATOR, Origin, STATE, STORE, StoreSummary, Stream, VOLUMES, volumes_of,
};
pub use read::{Found, extract, read, verify};
pub use write::Writer;
