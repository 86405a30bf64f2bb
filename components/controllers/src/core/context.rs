//! What every controller is given: the client, the shared informers, the event recorder and the configuration.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::task::JoinSet;

use super::events::Recorder;
use super::informer::{Informer, Object};
use super::{meta, pods};
use crate::Config;

/// Index number of `meta::owner_index` in every informer that has it.
pub const OWNER: usize = 0;
/// Index number of `pods::node_index` in the pod informer.
pub const NODE: usize = 1;
/// Index number of the Service a slice belongs to, in the slice informer.
pub const SERVICE: usize = 1;

pub const ROOT_CA: &str = "kube-root-ca.crt";
pub const NODE_LEASES: &str = "kube-node-lease";
const SYSTEM: &str = "kube-system";
const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

pub struct Informers {
    pub pods: Arc<Informer<Pod>>,
    pub nodes: Arc<Informer<Node>>,
    pub namespaces: Arc<Informer<Namespace>>,
    pub services: Arc<Informer<Service>>,
    pub endpoints: Arc<Informer<Endpoints>>,
    pub slices: Arc<Informer<EndpointSlice>>,
    pub deployments: Arc<Informer<Deployment>>,
    pub replica_sets: Arc<Informer<ReplicaSet>>,
    pub replication_controllers: Arc<Informer<ReplicationController>>,
    pub stateful_sets: Arc<Informer<StatefulSet>>,
    pub daemon_sets: Arc<Informer<DaemonSet>>,
    pub jobs: Arc<Informer<Job>>,
    pub cron_jobs: Arc<Informer<CronJob>>,
    pub revisions: Arc<Informer<ControllerRevision>>,
    pub claims: Arc<Informer<PersistentVolumeClaim>>,
    pub volumes: Arc<Informer<PersistentVolume>>,
    pub classes: Arc<Informer<StorageClass>>,
    pub service_accounts: Arc<Informer<ServiceAccount>>,
    /// Only the root CA's ConfigMaps.
    pub root_cas: Arc<Informer<ConfigMap>>,
    /// Only the nodes' leases.
    pub leases: Arc<Informer<Lease>>,
    pub csrs: Arc<Informer<CertificateSigningRequest>>,
    pub budgets: Arc<Informer<PodDisruptionBudget>>,
    pub quotas: Arc<Informer<ResourceQuota>>,
    pub cluster_roles: Arc<Informer<ClusterRole>>,
    pub service_cidrs: Arc<Informer<ServiceCIDR>>,
    pub ip_addresses: Arc<Informer<IPAddress>>,
    /// Only bootstrap tokens.
    pub bootstrap_tokens: Arc<Informer<Secret>>,
}

impl Informers {
    pub fn new() -> Self {
        Self {
            pods: Informer::indexed(&[meta::owner_index, pods::node_index]),
            nodes: Informer::new(),
            namespaces: Informer::new(),
            services: Informer::new(),
            endpoints: Informer::new(),
            slices: Informer::indexed(&[meta::owner_index, |slice| {
                let service = meta::label(&slice.metadata, "kubernetes.io/service-name")?;
                Some(format!("{}/{service}", meta::namespace(&slice.metadata)))
            }]),
            deployments: Informer::new(),
            replica_sets: Informer::indexed(&[meta::owner_index]),
            replication_controllers: Informer::new(),
            stateful_sets: Informer::new(),
            daemon_sets: Informer::new(),
            jobs: Informer::indexed(&[meta::owner_index]),
            cron_jobs: Informer::new(),
            revisions: Informer::indexed(&[meta::owner_index]),
            claims: Informer::new(),
            volumes: Informer::new(),
            classes: Informer::new(),
            service_accounts: Informer::new(),
            root_cas: Informer::new(),
            leases: Informer::new(),
            csrs: Informer::new(),
            budgets: Informer::new(),
            quotas: Informer::new(),
            cluster_roles: Informer::new(),
            service_cidrs: Informer::new(),
            ip_addresses: Informer::new(),
            bootstrap_tokens: Informer::new(),
        }
    }

    /// Starts every watch. Handlers must have been registered before.
    pub fn start(&self, client: &Client, tasks: &mut JoinSet<()>) {
        fn all<K: Object>(informer: &Arc<Informer<K>>, client: &Client, tasks: &mut JoinSet<()>) {
            tasks.spawn(informer.clone().run(Api::all(client.clone()), watcher::Config::default()));
        }
        all(&self.pods, client, tasks);
        all(&self.nodes, client, tasks);
        all(&self.namespaces, client, tasks);
        all(&self.services, client, tasks);
        all(&self.endpoints, client, tasks);
        all(&self.slices, client, tasks);
        all(&self.deployments, client, tasks);
        all(&self.replica_sets, client, tasks);
        all(&self.replication_controllers, client, tasks);
        all(&self.stateful_sets, client, tasks);
        all(&self.daemon_sets, client, tasks);
        all(&self.jobs, client, tasks);
        all(&self.cron_jobs, client, tasks);
        all(&self.revisions, client, tasks);
        all(&self.claims, client, tasks);
        all(&self.volumes, client, tasks);
        all(&self.classes, client, tasks);
        all(&self.service_accounts, client, tasks);
        all(&self.csrs, client, tasks);
        all(&self.budgets, client, tasks);
        all(&self.quotas, client, tasks);
        all(&self.cluster_roles, client, tasks);
        all(&self.service_cidrs, client, tasks);
        all(&self.ip_addresses, client, tasks);
        let only_root_ca = watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}"));
        tasks.spawn(self.root_cas.clone().run(Api::all(client.clone()), only_root_ca));
        let only_tokens = watcher::Config::default().fields(&format!("type={BOOTSTRAP_TOKEN}"));
        tasks.spawn(self.bootstrap_tokens.clone().run(Api::namespaced(client.clone(), SYSTEM), only_tokens));
        tasks.spawn(self.leases.clone().run(Api::namespaced(client.clone(), NODE_LEASES), watcher::Config::default()));
    }
}

#[derive(Clone)]
pub struct Ctx {
    pub client: Client,
    pub informers: Arc<Informers>,
    pub events: Recorder,
    pub config: Arc<Config>,
}

impl Ctx {
    pub fn api<K>(&self, ns: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), ns)
    }

    pub fn cluster_api<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }
}
