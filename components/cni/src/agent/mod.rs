//! The node's network agent.

mod cache;
mod config;
pub mod conflist;
pub mod masquerade;
pub mod overlay;
pub mod policy;
mod watch;

pub use config::{Backend, Config};
pub use masquerade::TABLE as MASQUERADE_TABLE;
pub use policy::TABLE as POLICY_TABLE;
pub use watch::run;
