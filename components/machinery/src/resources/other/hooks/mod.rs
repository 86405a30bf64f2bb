//! Hooks of the kinds whose rules are few.

mod config;
mod discovery;
mod nodes;
mod policy;
mod rbac;

pub(in crate::resources) use config::{config_map, config_map_update, secret, secret_defaults, secret_update};
pub(in crate::resources) use discovery::{
    drop_topology, endpoints, endpoints_defaults, endpoints_update, slice, slice_defaults, slice_update,
};
pub(in crate::resources) use nodes::{
    namespace, namespace_create, namespace_defaults, namespace_finalize, namespace_status, node, node_create,
    node_defaults, node_prepare_status, node_prepare_update, node_status, node_update,
};
pub(in crate::resources) use policy::{
    controller_revision, controller_revision_update, pdb, pdb_defaults, pdb_status, pdb_update,
};
pub(in crate::resources) use rbac::{binding, binding_defaults, binding_update, role};
