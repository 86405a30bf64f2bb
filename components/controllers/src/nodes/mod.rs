//! What the control plane does about nodes: their pod address ranges, their health, the eviction of pods that do not
//! tolerate their taints, and the removal of pods nobody can run any more.

pub mod evict;
pub mod ipam;
pub mod lifecycle;
pub mod podgc;
