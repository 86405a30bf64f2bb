//! A cluster for one test: API server, controllers, and a task that plays scheduler and kubelet.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Identity};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub const NODE: &str = "node-1";
pub const CONTROLLERS: &str = "system:kube-controller-manager";

pub struct Cluster {
    pub client: Client,
    pub server: ApiServer,
    pub dir: tempfile::TempDir,
    tasks: tokio::task::JoinSet<()>,
}

impl Cluster {
    /// Without a kubelet: pods stay pending.
    pub async fn bare() -> Self {
        Self::with_controllers(|server| client_of(server, CONTROLLERS, &[])).await
    }

    /// The same, with a client for the controllers that the test chooses.
    pub async fn with_controllers(client_for: impl FnOnce(&ApiServer) -> Client) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_test_writer()
            .try_init()
            .ok();
        let dir = tempfile::tempdir().unwrap();
        apiserver::testing::prepare(dir.path()).unwrap();
        let server = ApiServer::start(apiserver::Config::in_dir(dir.path(), 0)).await.unwrap();
        let client = client_of(&server, "admin", &["system:masters"]);
        let config = controllers::Config {
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            node_cidr_mask_size: 24,
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            cluster_signing_cert_file: dir.path().join("ca.crt"),
            cluster_signing_key_file: dir.path().join("ca.key"),
            root_ca_file: dir.path().join("ca.crt"),
        };
        let mut tasks = tokio::task::JoinSet::new();
        let controllers = client_for(&server);
        tasks.spawn(async move { controllers::run(controllers, config, std::future::pending::<()>()).await.unwrap() });
        let cluster = Self { client, server, dir, tasks };
        eventually("the default service account", || async {
            cluster.get::<k8s_openapi::api::core::v1::ServiceAccount>("default", "default").await
        })
        .await;
        cluster
    }

    /// With one node whose pods become ready at once, and end at once when deleted.
    pub async fn start() -> Self {
        let mut cluster = Self::bare().await;
        cluster.add_node(NODE).await;
        let client = cluster.client.clone();
        cluster.tasks.spawn(kubelet(client));
        cluster
    }

    pub async fn add_node(&self, name: &str) {
        self.create_global::<Node>(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}))
            .await;
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "addresses": [{"type": "InternalIP", "address": "10.99.0.1"}, {"type": "Hostname", "address": name}]}});
        Api::<Node>::all(self.client.clone())
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }

    pub fn api<K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>>(&self, ns: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), ns)
    }

    pub async fn get<K>(&self, ns: &str, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>(ns).get_opt(name).await.unwrap()
    }

    pub async fn list<K>(&self, ns: &str) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>(ns).list(&Default::default()).await.unwrap().items
    }

    pub async fn create<K>(&self, ns: &str, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + serde::Serialize,
    {
        self.api::<K>(ns).create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    pub async fn create_global<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + serde::Serialize,
    {
        Api::<K>::all(self.client.clone())
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap()
    }

    pub async fn merge<K>(&self, ns: &str, name: &str, patch: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>(ns).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap()
    }
}

pub fn client_of(server: &ApiServer, user: &str, groups: &[&str]) -> Client {
    Client::new(server.handler_as(Identity::new(user, groups.iter().copied())), "default")
}

/// One who has shown a certificate.
pub fn client_with_certificate(server: &ApiServer, user: &str) -> Client {
    let mut identity = Identity::new(user, ["system:authenticated"]);
    let id = ("authentication.kubernetes.io/credential-id".to_owned(), vec!["X509SHA256=00".to_owned()]);
    identity.extra.extend([id]);
    Client::new(server.handler_as(identity), "default")
}

/// Waits for `what`, at most a minute.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn kubelet(client: Client) {
    let mut pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).boxed();
    let mut number = 0;
    while let Some(event) = pods.next().await {
        let (Ok(watcher::Event::Apply(pod)) | Ok(watcher::Event::InitApply(pod))) = event else { continue };
        let (ns, name) = (pod.metadata.namespace.clone().unwrap(), pod.metadata.name.clone().unwrap());
        let api = Api::<Pod>::namespaced(client.clone(), &ns);
        if pod.metadata.deletion_timestamp.is_some() {
            // Gone already is fine: somebody else may have been faster.
            api.delete(&name, &DeleteParams::default().grace_period(0)).await.ok();
        } else if pod.spec.as_ref().unwrap().node_name.is_none() {
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": NODE}});
            api.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding).await.ok();
        } else if pod.status.as_ref().and_then(|it| it.pod_ip.as_ref()).is_none() {
            number += 1;
            let command = pod.spec.as_ref().unwrap().containers[0].command.clone().unwrap_or_default();
            let status = match command.first().map(String::as_str) {
                Some("succeed") => json!({"phase": "Succeeded", "podIP": "10.244.9.9"}),
                Some("fail") => json!({"phase": "Failed", "podIP": "10.244.9.9"}),
                Some("hang") => json!({"phase": "Running", "podIP": "10.244.9.9"}),
                _ => {
                    let ip = format!("10.244.0.{number}");
                    json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
                }
            };
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.ok();
        }
    }
}

/// A pod template with one container.
pub fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

pub fn deployment(app: &str, image: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": app}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template(app, image)}})
}
