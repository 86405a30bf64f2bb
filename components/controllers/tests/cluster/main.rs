//! The controllers against the real API server, in process, with a fake scheduler and kubelet.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lag;
mod support;
mod trap;

mod certificates;
mod collection;
mod kinds;
mod network;
mod nodes;
mod volumes;
mod workloads;
