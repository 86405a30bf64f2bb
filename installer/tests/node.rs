//! `kinstall node` from its door: the executable, a real API server, a real SSH server. Kinstall is not on the host, which is the
//! machine that runs the tests: what is seen here is the API's part.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use apiserver::{ApiServer, Config};
use common::Server;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kinstall::cluster::Cluster;
use kinstall::state::StateDir;
use kinstall::state::pki::Pki;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

struct World {
    ssh: Server,
    client: Client,
    _api: ApiServer,
    _api_directory: tempfile::TempDir,
    _alone: std::fs::File,
}

impl World {
    async fn new() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        // what sessions stage is in one place on this machine
        let alone = std::fs::File::create(std::env::temp_dir().join("kinstall-test-stage.lock")).unwrap();
        alone.lock().unwrap();
        let ssh = Server::start();
        let key = std::fs::read_to_string(ssh.path("host_ed25519.pub")).unwrap();
        let known = ["127.0.0.1", "localhost"].map(|name| format!("[{name}]:{} {key}", ssh.port)).concat();
        std::fs::write(ssh.path("known_hosts"), known).unwrap();

        let directory = tempfile::tempdir().unwrap();
        apiserver::testing::prepare(directory.path()).unwrap();
        let api = ApiServer::start(Config::in_dir(directory.path(), 0)).await.unwrap();
        let path = apiserver::testing::kubeconfig(directory.path(), api.address(), "admin").unwrap();
        let kubeconfig = std::fs::read_to_string(path).unwrap();
        let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();

        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let d = ssh.directory.path().display();
        let inventory = format!(
            "cluster: t\nssh: {{user: {}, port: {}, identityFile: {d}/ed25519, knownHostsFile: {d}/known_hosts}}\nhosts:\n\
             - {{name: h1, address: 127.0.0.1, role: controlPlane}}\n\
             - {{name: h2, address: localhost, nodeAddress: 10.0.0.2, role: worker}}\n",
            user.trim(),
            ssh.port
        );
        std::fs::write(ssh.path("inventory.yaml"), &inventory).unwrap();
        let state = StateDir::at(ssh.directory.path(), "t");
        state.create().unwrap();
        state.identity().unwrap();
        Pki::load_or_create(&state, &Cluster::parse(&inventory, "i", ssh.directory.path()).unwrap()).unwrap();
        state.write_bytes("admin.kubeconfig", kubeconfig.as_bytes()).unwrap();
        Self { ssh, client, _api: api, _api_directory: directory, _alone: alone }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinstall"));
        command.args(arguments).arg("-i").arg(self.ssh.path("inventory.yaml"));
        command.env("KINSTALL_CACHE", self.ssh.path("cache")).env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.command(arguments);
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.code().is_some_and(|code| code < 2), "{said}");
        (status.success(), said)
    }

    async fn pod(&self, name: &str, owner: Option<&str>) {
        let owners = owner
            .map(|kind| json!([{"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}]));
        create(
            &self.api::<Pod>(),
            json!({
                "metadata": {"name": name, "labels": {"app": name}, "ownerReferences": owners},
                "spec": {
                    "nodeName": "h2", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                    "containers": [{"name": "c", "image": "i"}],
                },
            }),
        )
        .await;
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        status_of(&self.api::<Pod>(), name, status).await;
    }

    async fn pods(&self) -> Vec<String> {
        let list = self.api::<Pod>().list(&Default::default()).await.unwrap();
        list.items.into_iter().filter_map(|pod| pod.metadata.name).collect()
    }

    async fn h2(&self) -> Option<Node> {
        Api::<Node>::all(self.client.clone()).get_opt("h2").await.unwrap()
    }

    fn keys_of_h2(&self) -> usize {
        let files = std::fs::read_dir(self.ssh.path(".kinstall/t/pki")).unwrap().flatten();
        files.filter(|entry| entry.file_name().to_string_lossy().contains("h2")).count()
    }
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn status_of<K: DeserializeOwned>(api: &Api<K>, name: &str, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_when_its_pods_and_their_budgets_let_it() {
    let world = World::new().await;
    for name in ["h1", "h2"] {
        let nodes = Api::<Node>::all(world.client.clone());
        create(&nodes, json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})).await;
        status_of(&nodes, name, json!({"conditions": [{"type": "Ready", "status": "True"}]})).await;
        // the taint of a node that was never ready is the controllers' to take away
        let untaint = Patch::Merge(json!({"spec": {"taints": null}}));
        nodes.patch(name, &PatchParams::default(), &untaint).await.unwrap();
    }
    if world.api::<ServiceAccount>().get_opt("default").await.unwrap().is_none() {
        create(&world.api::<ServiceAccount>(), json!({"metadata": {"name": "default"}})).await;
    }
    let kubelet = world.kubelet_of_h2().await;
    let applied = json!({"version": "1", "hosts": [{"host": "h2", "address": "localhost", "resources": []}]});
    StateDir::at(world.ssh.directory.path(), "t").write("applied.json", &applied).unwrap();
    let (good, said) = world.run(&["node", "list", "--output", "json"]).await;
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listed = events.iter().find(|event| event["event"] == "nodes").unwrap();
    assert!(good && listed["nodes"][1]["name"] == "h2" && listed["nodes"][1]["ready"] == true, "{said}");
    assert_eq!(listed["nodes"][1]["host"], json!({"reachable": true, "installed": false}));

    // refused before anything is touched
    for (name, words) in [("h1", "kinstall down"), ("nobody", "neither a host")] {
        let (good, said) = world.run(&["node", "remove", name, "--yes"]).await;
        assert!(!good && said.contains(words), "{said}");
    }
    assert!(world.h2().await.unwrap().spec.unwrap_or_default().unschedulable.is_none());

    // a pod that nobody creates again holds up all of them
    world.pod("alone", None).await;
    world.pod("web", Some("ReplicaSet")).await;
    world.pod("agent", Some("DaemonSet")).await;
    let (good, said) = world.run(&["node", "remove", "h2", "--yes"]).await;
    assert!(!good && said.contains("default/alone: no controller") && said.contains("--force"), "{said}");
    assert!(said.contains("stays cordoned"), "{said}");
    assert_eq!((world.pods().await.len(), world.keys_of_h2()), (3, 2));
    assert_eq!(world.h2().await.unwrap().spec.unwrap().unschedulable, Some(true));
    world.api::<Pod>().delete("alone", &DeleteParams::default()).await.unwrap();

    // a budget that does not give way in time is named
    let budgets = world.api::<PodDisruptionBudget>();
    let selector = json!({"matchLabels": {"app": "web"}});
    create(&budgets, json!({"metadata": {"name": "keep-web"}, "spec": {"minAvailable": 1, "selector": selector}}))
        .await;
    let allow = |number: u32| json!({"disruptionsAllowed": number, "observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
    status_of(&budgets, "keep-web", allow(0)).await;
    let (good, said) = world.run(&["node", "remove", "h2", "--yes", "--timeout", "10s"]).await;
    assert!(!good && said.contains("default/web") && said.contains("budget keep-web needs 1"), "{said}");
    assert!(said.contains("--force deletes these pods against their budgets"), "{said}");
    assert_eq!(world.pods().await, ["agent", "web"]);

    // one that does is noticed at once: long before the time is up
    let allowed = async { status_of(&budgets, "keep-web", allow(1)).await };
    let (good, said) = world.run_and_when(&["node", "remove", "h2", "--yes"], "default/web waits", allowed).await;
    assert!(good && said.contains("1 pods went, 1 stay"), "{said}");
    assert_eq!(world.pods().await, ["agent"], "a DaemonSet's pod is not evicted");
    assert!(world.h2().await.is_none());
    assert_eq!(world.keys_of_h2(), 0);

    kubelet.abort();
    // it is not in the inventory any more; again there is nothing to do, but what nobody ever knew is refused
    let inventory = || std::fs::read_to_string(world.ssh.path("inventory.yaml")).unwrap();
    assert!(!inventory().contains("h2") && inventory().contains("- {name: h1, address: 127.0.0.1,"), "{}", inventory());
    let (good, said) = world.run(&["node", "remove", "h2", "--yes"]).await;
    assert!(good && said.contains("h2: nothing is left of it") && said.contains("h2 was removed before"), "{said}");
    let (good, said) = world.run(&["node", "remove", "h2", "h3", "--yes"]).await;
    assert!(!good && said.contains("\"h3\" is neither a host"), "{said}");
}

impl World {
    /// Whose second host is off for SSH and whose node is Ready all the same.
    async fn with_h2_out_of_reach() -> Self {
        let world = Self::new().await;
        let inventory = std::fs::read_to_string(world.ssh.path("inventory.yaml")).unwrap();
        let off = inventory.replace("nodeAddress", "port: 1, nodeAddress");
        std::fs::write(world.ssh.path("inventory.yaml"), off).unwrap();
        create(&world.nodes(), json!({"metadata": {"name": "h2"}})).await;
        status_of(&world.nodes(), "h2", json!({"conditions": [{"type": "Ready", "status": "True"}]})).await;
        if world.api::<ServiceAccount>().get_opt("default").await.unwrap().is_none() {
            create(&world.api::<ServiceAccount>(), json!({"metadata": {"name": "default"}})).await;
        }
        world.pod("alone", None).await;
        let selector = json!({"matchLabels": {"app": "alone"}});
        let budget = json!({"metadata": {"name": "keep"}, "spec": {"minAvailable": 1, "selector": selector}});
        create(&world.api::<PodDisruptionBudget>(), budget).await;
        world
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Runs a command; as soon as it says `words`, `then` happens. Whether it ended well, and what it said.
    async fn run_and_when(
        &self,
        arguments: &[&str],
        words: &'static str,
        then: impl Future<Output = ()>,
    ) -> (bool, String) {
        let mut child = self.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut lines, mut said) = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            for line in lines.by_ref().map_while(Result::ok) {
                said.push(line);
                if said.last().unwrap().contains(words) {
                    break;
                }
            }
            (lines, said)
        })
        .await
        .unwrap();
        assert!(said.last().is_some_and(|line: &String| line.contains(words)), "{said:?}");
        then.await;
        tokio::task::spawn_blocking(move || {
            said.extend(lines.by_ref().map_while(Result::ok));
            (child.wait().unwrap().success(), said.join("\n"))
        })
        .await
        .unwrap()
    }

    /// A kubelet that lives, as the cluster sees it, until the task is aborted.
    async fn kubelet_of_h2(&self) -> tokio::task::JoinHandle<()> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), "kube-node-lease");
        let namespace = serde_json::from_value(json!({"metadata": {"name": "kube-node-lease"}})).unwrap();
        // the server makes it, too
        drop(Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await);
        create(&leases, json!({"metadata": {"name": "h2"}})).await;
        tokio::spawn(async move {
            for second in 0.. {
                let time =
                    format!("2026-01-01T{:02}:{:02}:{:02}.000000Z", second / 3600, second / 60 % 60, second % 60);
                let renewed = Patch::Merge(json!({"spec": {"renewTime": time}}));
                leases.patch("h2", &PatchParams::default(), &renewed).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }
}

/// With budgets that would hold its pods for ever. The command has five minutes, and needs none of them.
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_kubelet_that_falls_silent_are_not_waited_for() {
    const FORCE: [&str; 5] = ["node", "remove", "h2", "--yes", "--force"];
    let unknown = || json!({"conditions": [{"type": "Ready", "status": "Unknown"}]});
    let world = World::with_h2_out_of_reach().await;
    let falls_silent = async { status_of(&world.nodes(), "h2", unknown()).await };
    let (good, said) = world.run_and_when(&FORCE, "waiting for a sign of its kubelet", falls_silent).await;
    assert!(good && said.contains("left to the cluster's garbage collection"), "{said}");
    assert!(!said.contains("default/alone") && world.h2().await.is_none(), "{said}");
    drop(world);

    // it lived when the pods were asked to go
    let world = World::with_h2_out_of_reach().await;
    let kubelet = world.kubelet_of_h2().await;
    let falls_silent = async {
        kubelet.abort();
        status_of(&world.nodes(), "h2", unknown()).await;
    };
    let (good, said) = world.run_and_when(&FORCE, "default/alone waits", falls_silent).await;
    assert!(good && said.contains("left to the cluster's garbage collection"), "{said}");
    assert!(world.h2().await.is_none() && world.pods().await == ["alone"], "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn force_goes_over_budgets_when_the_time_is_up_and_over_hosts_that_are_off() {
    let world = World::with_h2_out_of_reach().await;
    // only the operator's way to it is broken
    let kubelet = world.kubelet_of_h2().await;
    let (good, said) = world.run(&["node", "remove", "h2", "--yes"]).await;
    assert!(!good && said.contains("nothing was changed") && said.contains("--force"), "{said}");
    assert!(world.h2().await.unwrap().spec.unwrap_or_default().unschedulable.is_none());

    let (good, said) = world.run(&["node", "remove", "h2", "--yes", "--force", "--timeout", "10s"]).await;
    assert!(good && said.contains("deleted default/alone against its budget"), "{said}");
    kubelet.abort();
    // the way to its host is still known
    let applied: Value =
        serde_json::from_slice(&std::fs::read(world.ssh.path(".kinstall/t/applied.json")).unwrap()).unwrap();
    let h2 = &applied["hosts"][0];
    assert!(h2["host"] == "h2" && h2["leftBehind"] == true && h2["reach"]["ssh"]["port"] == 1, "{applied}");
    assert!(said.contains("its host was not touched"), "{said}");
    assert!(world.h2().await.is_none() && world.pods().await.is_empty());
}
