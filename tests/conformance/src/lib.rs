//! The required behaviours of Kubernetes v1.37 (areas sig-api-machinery, sig-auth, sig-cli, sig-instrumentation,
//! sig-architecture), one test for each entry of `entries.txt`, against any API server a kubeconfig names.
//!
//! In: a kubeconfig, or the `kinstall-components` to start. Out: a line for each entry, and counts. It is a client like any
//! other: plain HTTP and kubectl, no server crate.

pub mod admission;
pub mod client;
pub mod context;
pub mod environment;
pub mod extension;
pub mod kubeconfig;
pub mod kubectl;
pub mod lifecycle;
pub mod nodes;
pub mod resource;
pub mod runner;
pub mod starter;
pub mod tests;
pub mod watch;

/// rustls needs to be told once which cryptography it uses.
pub fn begin() {
    // a second call finds it installed already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
