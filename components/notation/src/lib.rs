//! How Kubernetes writes names and quantities: what both API machinery and expressions (CEL) must know.
//!
//! Pure; depends on no other crate of ours.

pub mod names;
pub mod quantity;
