//! The kernel's network tables, spoken to directly: nftables (`nftables`), links, addresses, routes and neighbours
//! (`rtnl`) and what happens to them (`changes`), connection tracking (`conntrack`), network namespaces (`netns`).
//!
//! Goes in: desired tables as data (`nftables::Table`) and single link or route operations. Comes out: one atomic
//! transaction for each change, or a typed error naming the object. Everything is synchronous, because each call is one
//! short exchange with the kernel; there is no runtime to start, so the network plugin costs a process start and little
//! more. No executable (`nft`, `ip`) is needed on the host.
//!
//! May depend on nothing of ours: it is shared by `proxy`, `cni` and whoever cleans up after them.

pub mod changes;
pub mod conntrack;
mod error;
pub mod netns;
pub mod nftables;
pub mod rtnl;
mod socket;
mod wire;

pub use error::{Error, IgnoreMissing, Result};
