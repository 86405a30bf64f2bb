//! End-to-end tests: the shipped executables, real SSH, systemd, containerd and kubectl, on hosts of the lab.
//!
//! In: a release build (`target/…/release`), the lab. Out: a list of named, timed scenarios, passed or failed. The scenarios
//! are in `tests/story` (a cluster's first day), `tests/ha` (several control planes), `tests/upgrade` (from one version to the
//! next) and `tests/backup` (a cluster is lost and comes back); this library is what they are written with. Depends on `lab`.

pub mod load;
pub mod operator;
pub mod past;
pub mod scenario;
pub mod snapshot;
pub mod wordpress;
