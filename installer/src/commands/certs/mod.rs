//! `kinstall certs`: one file for each subcommand.

pub mod check;
pub mod renew;
pub mod rotate;
mod workloads;
