//! Emptying a node as `kubectl drain` does it: cordon, then every pod that may go is evicted and waited for.
//!
//! [`decide`] says which pods go, which stay and which hold everything up: a pure function. [`drain`] does it, driven by
//! watches of the node, its pods, and the disruption budgets. [`pulse`] says whether a kubelet is there at all. Speaks only the
//! Kubernetes API.

mod decide;
mod eviction;
mod pulse;
mod work;

use std::time::Duration;

pub use decide::{Decision, Obstacle, Stays, decide};
pub use pulse::{Pulse, pulse};
pub use work::{Drained, Stopped, drain};

/// What the operator allows.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pods that nobody will create again go too, and what budgets still hold back when the time is up is deleted.
    pub force: bool,
    /// Pods go although what they keep in emptyDir volumes is lost.
    pub delete_empty_dir_data: bool,
    /// For all of the node's pods together.
    pub timeout: Duration,
}
