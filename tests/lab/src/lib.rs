//! Bare Linux hosts on one machine, for tests and the demo.
//!
//! In: a number of hosts, and which Debian they are. Out: that many hosts at 10.99.0.11, .12, … that answer SSH, each with systemd as PID 1,
//! its own disk, network namespace, cgroups, machine-id and SSH host keys, and without any container runtime or Kubernetes
//! file. They can lose power or their network, come back with the same disk, and vanish without a trace.
//! Also built here, because only tests need them: OCI archives of the sample application and of tools from Debian's packages
//! ([`images`]), and the container runtime, etcd and kubectl unpacked from Debian's packages ([`tools`]).
//!
//! May depend on no other crate of the project. Needs root, systemd-nspawn, mmdebstrap, e2fsprogs, iproute2 (`deps.sh`).

mod base;
mod cgroup;
mod clock;
mod command;
mod disk;
pub mod filler;
mod host;
pub mod images;
mod lab;
mod network;
mod oci;
mod paths;
mod processes;
mod prune;
mod recipe;
mod release;
mod size;
pub mod tools;
mod trust;

pub use base::host_image;
pub use command::Output;
pub use host::{Host, State, in_network};
pub use lab::{Lab, Options};
pub use paths::{cache_dir, state_dir};
pub use prune::prune;
pub use release::Release;
pub use size::Size;
