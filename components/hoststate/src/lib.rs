//! The data that the installer and a host exchange: what a host shall look like, what it looks like, and what happened.
//!
//! Pure data: no IO, nothing that only Linux has, so that the installer also builds elsewhere. In: a resolved cluster
//! (the installer computes a [`HostState`] from it). Out: JSON, framed by [`wire`]. Depends on no other crate of ours.

pub mod backup;
pub mod bundle;
pub mod certificates;
pub mod facts;
pub mod members;
pub mod resource;
pub mod shown;
pub mod wire;

pub use bundle::BundleManifest;
pub use facts::Facts;
pub use members::Member;
pub use resource::{Content, HostState, ImageSource, Resource};
pub use wire::{Action, Change, Event, HostManifest, Request};

/// Lower-case hexadecimal SHA-256.
pub fn sha256_hex(data: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(data))
}
