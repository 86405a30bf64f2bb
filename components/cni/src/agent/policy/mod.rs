//! NetworkPolicy (networking.k8s.io/v1) in nftables, for the pods of this node.
//!
//! Pods with the same policies share one chain for each direction. A chain is the union of what its policies allow,
//! then a drop; returning from it means "allowed". Traffic between a pod and its own node is always allowed, as the API
//! demands: it never passes the forward hook, the only one used. Answers to allowed connections are allowed.

mod cidr;
mod model;
mod rules;
mod select;
mod table;

pub use model::{Namespace, Peer, Pod, Policy, PolicyRule, PortMatch, PortName, State};
pub use table::{TABLE, desired};
