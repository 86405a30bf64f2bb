//! Hooks of the kinds whose rules are few.

mod config;
mod discovery;
mod network;
mod nodes;
mod policy;
mod rbac;
mod signing;

pub(in crate::resources) use config::{config_map, config_map_update, secret, secret_defaults, secret_update};
pub(in crate::resources) use discovery::{endpoints, endpoints_defaults, slice, slice_defaults, slice_update};
pub(in crate::resources) use network::{
    ingress, ingress_class, ingress_class_update, network_policy, network_policy_defaults,
};
pub(in crate::resources) use nodes::{namespace_create, namespace_defaults, node, node_defaults, node_update};
pub(in crate::resources) use policy::{
    controller_revision, controller_revision_update, lease, pdb, pdb_defaults, pdb_status, priority_class,
    priority_class_defaults, priority_class_update, runtime_class, runtime_class_update,
};
pub(in crate::resources) use rbac::{binding, binding_defaults, binding_update, role};
pub(in crate::resources) use signing::{csr, csr_defaults, csr_status_update};
