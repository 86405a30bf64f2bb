//! Pods: one task for each, driven by the API's watch, the runtime and the probes.

pub mod container;
pub mod ending;
pub mod env;
pub mod fields;
pub mod image;
pub mod kill;
pub mod launch;
pub mod logs;
pub mod manager;
pub mod plan;
pub mod publisher;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod status;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::runtime::reflector::Store;

use crate::api::bundles::Bundles;
use crate::api::events::Recorder;
use crate::api::objects::Objects;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::cri::Cri;

/// What the tasks of all pods share.
pub struct Shared {
    pub config: Arc<Config>,
    pub client: kube::Client,
    pub cri: Cri,
    pub objects: Objects,
    pub bundles: Bundles,
    pub services: Store<Service>,
    pub recorder: Recorder,
    pub cgroups: Cgroups,
    pub http: reqwest::Client,
    pub allocatable: Arc<BTreeMap<String, Quantity>>,
    pub node_memory: u64,
    /// The runtime's name, as in `containerd://<id>`.
    pub runtime: String,
}
