//! Talking to our runtime through its `ctr`.

use hoststate::wire::Failure;

use crate::command;
use crate::sink::Sink;

pub const UNIT: &str = "kinstall-containerd.service";

/// Where it keeps images and containers.
pub const ROOT: &str = "/var/lib/kinstall/containerd";

const CTR: &str = "/opt/kinstall/current/bin/ctr";
/// The namespace in which the CRI keeps its images and containers.
const CONNECTION: [&str; 4] = ["--address", "/run/kinstall/containerd.sock", "--namespace", "k8s.io"];

/// Runs `ctr` with these arguments; a failure is the step's.
pub fn run(sink: &Sink, step: &str, args: &[&str]) -> Result<String, Failure> {
    command::run(sink, step, CTR, &[&CONNECTION, args].concat())
}

/// What `ctr` prints, or nothing when the runtime is down or missing.
pub fn look(args: &[&str]) -> Option<String> {
    command::look(CTR, &[&CONNECTION, args].concat())
}
