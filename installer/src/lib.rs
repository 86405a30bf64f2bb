//! kinstall: from bare hosts that answer SSH to a working Kubernetes cluster, and back.
//!
//! In: `inventory.yaml`, a bundle. Out: a cluster, events, an exit code. The way of the data: [`inventory`] (as written) →
//! [`cluster`] (resolved) → facts by [`host`] → [`preflight`] → [`desired`] state of each host (pure) → plan and apply by
//! [`host`] → API objects by [`api`] → [`validate`]. Each command of [`cli`] has its file in [`commands`]. May depend on
//! `hoststate`, `certs` and kube; on nothing that only Linux has.

#![allow(
    clippy::result_large_err,
    reason = "errors happen at most once for each host; they tell everything an operator needs"
)]

pub mod api;
pub mod bundle;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod desired;
pub mod distributions;
pub mod drain;
pub mod hooks;
pub mod host;
pub mod inventory;
pub mod manual;
pub mod preflight;
pub mod printer;
pub mod ssh;
pub mod state;
pub mod validate;
