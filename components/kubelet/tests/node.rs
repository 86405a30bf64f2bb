//! The kubelet with a real runtime and a real API server, on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fixture;

use std::time::{Duration, Instant};

use fixture::image::IMAGE;
use fixture::{Cluster, LIMIT, NAMESPACE, NODE, condition, phase};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "command": ["/bin/sh", "-c", script]})
}

/// Ends at once on TERM, as a well-behaved process does.
const IDLE: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait $!; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_node() {
    let mut cluster = Cluster::start().await;
    cluster.start_kubelet();
    eprintln!("node ready after {:?}", cluster.node_ready().await);
    simple_pods_are_quick(&cluster).await;
    tokio::join!(
        everything_a_container_sees(&cluster),
        ends_and_restarts(&cluster),
        probes_restart_and_gate(&cluster),
        inits_and_sidecars(&cluster),
        projects_certificates(&cluster),
    );
    given_up_it_says_that_it_is_there(&cluster).await;
    streams(&cluster).await;
    a_restart_leaves_containers_alone(&mut cluster).await;
    a_lost_sandbox_is_made_again(&cluster).await;
    pods_end_with_grace(&cluster).await;
    cluster.stop().await;
}

async fn simple_pods_are_quick(cluster: &Cluster) {
    let started = Instant::now();
    cluster.create("quick", json!({"containers": [shell("c", IDLE)]})).await;
    let pod = cluster.until_ready("quick").await;
    eprintln!("pod ready after {:?}", started.elapsed());
    let status = pod.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(status.pod_ip.is_some() && status.start_time.is_some());
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    let container = &status.container_statuses.unwrap()[0];
    assert!(container.container_id.as_ref().unwrap().starts_with("containerd://"));
    assert_eq!((container.restart_count, container.started), (0, Some(true)));

    // what the node controller does to pods of a node it takes for dead
    let dead = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady", "message": "late"}]}});
    cluster.pods().patch_status("quick", &PatchParams::default(), &Patch::Strategic(dead)).await.unwrap();
    let pod = cluster.until_ready("quick").await;
    let conditions = pod.status.unwrap().conditions.unwrap();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((&ready.reason, &ready.message), (&None, &None));
}

async fn given_up_it_says_that_it_is_there(cluster: &Cluster) {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    // what the node controller does while the API server hears nothing of the kubelet
    let given_up = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "late"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [given_up]}}));
    nodes.patch_status(NODE, &PatchParams::default(), &patch).await.unwrap();
    eprintln!("node ready again after {:?}", cluster.node_ready().await);
}

async fn everything_a_container_sees(cluster: &Cluster) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let map = json!({"metadata": {"name": "cm"}, "data": {"key": "one", "other": "x"}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"pass": "word"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let script = "echo env=$FROM_CM,$FROM_SECRET,$NAME,$LIMIT,$EXPANDED; echo files=$(cat /cm/key),$(cat /s/pass),$(cat /down/labels); \
        echo sub=$(cat /sub); echo mode=$(stat -c %a /s/..data/pass),$(stat -c %a /empty),$(stat -f -c %T /mem); \
        echo ids=$(id -u),$(id -G); echo token=$(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace); \
        head -1 /etc/hosts; grep nameserver /etc/resolv.conf; touch /empty/x && echo writable; \
        while [ \"$(cat /cm/key)\" != two ]; do sleep 0.2; done; echo changed; printf bye > /dev/termination-log";
    let mut container = shell("c", script);
    container["env"] = json!([
        {"name": "FROM_CM", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "key"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pass"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "EXPANDED", "value": "<$(NAME)>"}]);
    container["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "500m"}});
    container["volumeMounts"] = json!([
        {"name": "cm", "mountPath": "/cm"}, {"name": "s", "mountPath": "/s"}, {"name": "down", "mountPath": "/down"},
        {"name": "empty", "mountPath": "/empty"}, {"name": "mem", "mountPath": "/mem"},
        {"name": "cm", "mountPath": "/sub", "subPath": "other"}]);
    cluster
        .create("sees", json!({"restartPolicy": "Never", "containers": [container],
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000},
            "volumes": [{"name": "cm", "configMap": {"name": "cm"}},
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 256}},
                {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "empty", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}))
        .await;
    // only what was read already may change
    until_logged(cluster, "/containerLogs/default/sees/c", "writable").await;
    maps.patch("cm", &PatchParams::default(), &Patch::Merge(json!({"data": {"key": "two"}}))).await.unwrap();
    let pod = cluster.until("sees", "ended", |p| matches!(phase(p), Some("Succeeded" | "Failed"))).await.unwrap();
    let log = get(cluster, "/containerLogs/default/sees/c").await;
    for line in [
        "env=one,word,sees,64,<sees>",
        "files=one,word,app=\"sees\"",
        "sub=x",
        "mode=440,2777,tmpfs",
        "ids=1000,1000 2000",
        "token=default",
        "# Kubernetes-managed hosts file.",
        "nameserver 10.96.0.10",
        "writable",
        "changed",
    ] {
        assert!(log.lines().any(|l| l == line), "{line:?} is not in the log:\n{log}");
    }
    let state = pod.status.unwrap().container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((state.reason.as_deref(), state.message.as_deref()), (Some("Completed"), Some("bye")));
    assert_eq!(get(cluster, "/containerLogs/default/sees/c?tailLines=1").await, "changed\n");
}

/// A key, its certificate and trust bundles are files; bundles follow their objects; a denied pod does not start.
async fn projects_certificates(cluster: &Cluster) {
    let anchor = |name: &str| certs::Ca::generate(name).unwrap().cert_pem().to_owned();
    let (first, second) = (anchor("first"), anchor("second"));
    let bundles: Api<ClusterTrustBundle> = Api::all(cluster.client.clone());
    let bundle = json!({"metadata": {"name": "anchors"}, "spec": {"trustBundle": first}});
    bundles.create(&PostParams::default(), &serde_json::from_value(bundle).unwrap()).await.unwrap();
    let wants = |signer: &str| {
        json!({"podCertificate": {"signerName": signer, "keyType": "ECDSAP256", "credentialBundlePath": "bundle",
        "keyPath": "key", "certificateChainPath": "chain"}})
    };
    let mut container = shell(
        "c",
        "cat /c/key /c/chain > /tmp/joined; test \"$(cat /tmp/joined)\" = \"$(cat /c/bundle)\" && echo joined; cat /c/chain; \
         echo mode=$(stat -Lc %a /c/key); old=$(cat /c/trust); cat /c/trust; test -e /c/none && test ! -s /c/none && echo empty; \
         while [ \"$(cat /c/trust)\" = \"$old\" ]; do sleep 0.2; done; cat /c/trust",
    );
    container["volumeMounts"] = json!([{"name": "c", "mountPath": "/c"}, {"name": "tmp", "mountPath": "/tmp"}]);
    let sources = json!([wants("example.com/yes"), {"clusterTrustBundle": {"name": "anchors", "path": "trust"}},
        {"clusterTrustBundle": {"name": "missing", "path": "none", "optional": true}}]);
    let volumes = json!([{"name": "c", "projected": {"sources": sources}}, {"name": "tmp", "emptyDir": {}}]);
    cluster.create("certified", json!({"restartPolicy": "Never", "containers": [container], "volumes": volumes})).await;
    let denied = json!([{"name": "c", "projected": {"sources": [wants("example.com/no")]}}]);
    cluster.create("denied", json!({"containers": [shell("c", IDLE)], "volumes": denied})).await;
    // it says so when it has read the first bundle: only then may that change
    until_logged(cluster, "/containerLogs/default/certified/c", "empty").await;
    let both = json!({"spec": {"trustBundle": format!("{first}{second}")}});
    bundles.patch("anchors", &PatchParams::default(), &Patch::Merge(both)).await.unwrap();
    let ended = cluster.until("certified", "ended", |p| matches!(phase(p), Some("Succeeded" | "Failed"))).await;
    assert_eq!(phase(ended.as_ref()), Some("Succeeded"));
    let log = get(cluster, "/containerLogs/default/certified/c").await;
    for line in ["joined", "mode=644", "empty"] {
        assert!(log.lines().any(|l| l == line), "{line:?} is not in the log:\n{log}");
    }
    let leaf = certs::inspect(&log).unwrap();
    assert_eq!(leaf.uris, ["spiffe://test/certified"]);
    assert_eq!((log.matches(first.trim()).count(), log.matches(second.trim()).count()), (2, 1), "{log}");
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let config = watcher::Config::default().fields("reason=Denied");
    let mut stream = watcher::watcher(events, config).applied_objects().boxed();
    let told = tokio::time::timeout(LIMIT, stream.try_next()).await.expect("nothing tells of the denial");
    let told = told.unwrap().unwrap();
    assert_eq!(told.involved_object.name.as_deref(), Some("denied"));
    assert!(told.message.as_deref().unwrap().contains("reason=\"Test\" message=\"by the test\""), "{:?}", told.message);
    cluster.until("denied", "waiting", |p| phase(p) == Some("Pending")).await;
}

async fn ends_and_restarts(cluster: &Cluster) {
    cluster
        .create("fails", json!({"restartPolicy": "Never", "containers": [shell("c", "echo last words; exit 3")]}))
        .await;
    let mut missing = shell("c", "true");
    missing["image"] = json!("kinstall.local/none:1");
    missing["imagePullPolicy"] = json!("Never");
    cluster.create("no-image", json!({"containers": [missing]})).await;
    let mut needy = shell("c", IDLE);
    needy["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    cluster.create("needy", json!({"containers": [needy]})).await;
    let created = Instant::now();
    cluster.create("crashes", json!({"containers": [shell("c", "exit 1")]})).await;

    let pod = cluster.until("crashes", "in back-off", |p| waiting(p) == Some("CrashLoopBackOff")).await.unwrap();
    let container = &pod.status.unwrap().container_statuses.unwrap()[0];
    // the first restart comes at once, each further one after ten seconds or more: who stood still may see that, too
    let most = if created.elapsed() < Duration::from_secs(10) { 1 } else { i32::MAX };
    assert!((1..=most).contains(&container.restart_count), "{container:?}");
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    let pod = cluster.until("fails", "failed", |p| phase(p) == Some("Failed")).await.unwrap();
    let state = pod.status.unwrap().container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((state.exit_code, state.reason.as_deref()), (3, Some("Error")));
    cluster.until("no-image", "ErrImageNeverPull", |p| waiting(p) == Some("ErrImageNeverPull")).await;
    cluster.until("needy", "waiting for its map", |p| waiting(p) == Some("CreateContainerConfigError")).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let late = json!({"metadata": {"name": "late"}, "data": {"A": "b"}});
    maps.create(&PostParams::default(), &serde_json::from_value(late).unwrap()).await.unwrap();
    cluster.until_ready("needy").await;
}

fn waiting(pod: Option<&Pod>) -> Option<&str> {
    pod?.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

async fn probes_restart_and_gate(cluster: &Cluster) {
    let mut container = shell("c", &format!("touch /tmp/live /tmp/ready 2>/dev/null; {IDLE}"));
    container["volumeMounts"] = json!([{"name": "t", "mountPath": "/tmp"}]);
    // an answer that a busy machine keeps for seconds is none the worse
    let exists =
        |file: &str| json!({"exec": {"command": ["test", "-f", file]}, "periodSeconds": 1, "timeoutSeconds": 60});
    container["readinessProbe"] = exists("/tmp/ready");
    container["livenessProbe"] = exists("/tmp/live");
    container["livenessProbe"]["failureThreshold"] = json!(1);
    container["startupProbe"] = exists("/tmp/live");
    cluster.create("probed", json!({"containers": [container], "terminationGracePeriodSeconds": 1, "volumes": [{"name": "t", "emptyDir": {}}]})).await;
    let pod = cluster.until_ready("probed").await;
    let directory = cluster.config.pod_dir(&pod.uid().unwrap()).join("volumes/kubernetes.io~empty-dir/t");
    std::fs::remove_file(directory.join("ready")).unwrap();
    cluster.until("probed", "unready", |p| condition(p, "Ready") == Some("False")).await;
    std::fs::remove_file(directory.join("live")).unwrap();
    let restarted = |p: Option<&Pod>| {
        let statuses = p.and_then(|p| p.status.as_ref()).and_then(|s| s.container_statuses.as_ref());
        statuses.is_some_and(|s| s[0].restart_count == 1) && condition(p, "Ready") == Some("True")
    };
    cluster.until("probed", "restarted and ready", restarted).await;
}

async fn inits_and_sidecars(cluster: &Cluster) {
    let mut sidecar = shell("side", IDLE);
    sidecar["restartPolicy"] = json!("Always");
    let share = |mut container: Value| {
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        container
    };
    cluster
        .create("ordered", json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 2,
            "initContainers": [share(shell("first", "echo 1 >> /v/order")), sidecar, share(shell("second", "echo 2 >> /v/order"))],
            "containers": [share(shell("c", "echo 3 >> /v/order; cat /v/order"))], "volumes": [{"name": "v", "emptyDir": {}}]}))
        .await;
    let pod = cluster.until("ordered", "succeeded", |p| phase(p) == Some("Succeeded")).await.unwrap();
    assert_eq!(get(cluster, "/containerLogs/default/ordered/c").await, "1\n2\n3\n");
    let inits = pod.status.unwrap().init_container_statuses.unwrap();
    assert!(inits.iter().all(|s| s.state.as_ref().unwrap().terminated.is_some()), "{inits:?}");
}

async fn streams(cluster: &Cluster) {
    let output = exec(cluster, "/exec/default/quick/c?command=echo&command=hello&output=1&error=1").await;
    assert!(output.contains("hello"), "{output:?}");
    let pods: Value = serde_json::from_str(&get(cluster, "/pods").await).unwrap();
    assert!(pods["items"].as_array().unwrap().iter().any(|p| p["metadata"]["name"] == "quick"));
    let summary: Value = serde_json::from_str(&get(cluster, "/stats/summary").await).unwrap();
    assert_eq!(summary["node"]["nodeName"], "node-1");
    assert!(summary["pods"].as_array().unwrap().iter().any(|p| p["podRef"]["name"] == "quick"));
    assert!(get(cluster, "/metrics").await.contains("kubelet_running_pods"));
    let anonymous = http_client(cluster, false).get(url(cluster, "/pods")).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
}

async fn a_restart_leaves_containers_alone(cluster: &mut Cluster) {
    let id = |pod: Pod| pod.status.unwrap().container_statuses.unwrap()[0].container_id.clone();
    let before = id(cluster.pods().get("quick").await.unwrap());
    cluster.stop_kubelet().await;
    cluster.start_kubelet();
    cluster.create("after", json!({"containers": [shell("c", IDLE)]})).await;
    cluster.until_ready("after").await;
    let pod = cluster.pods().get("quick").await.unwrap();
    assert_eq!(condition(Some(&pod), "Ready"), Some("True"));
    assert_eq!(id(pod), before);
}

/// As after a reboot: everything of the pod has ended behind the kubelet's back.
async fn a_lost_sandbox_is_made_again(cluster: &Cluster) {
    let pod = cluster.pods().get("after").await.unwrap();
    let (uid, ip) = (pod.uid().unwrap(), pod.status.unwrap().pod_ip);
    let cri = kubelet::cri::Cri::new(cluster.config.runtime_socket()).unwrap();
    let lost = cri.sandboxes(Some(&uid)).await.unwrap().remove(0).id;
    cri.stop_sandbox(&lost).await.unwrap();
    // the kubelet may see the container end before the sandbox and restart it once in vain: then there is a back-off
    let restarted = |p: Option<&Pod>| {
        let status = p.and_then(|p| p.status.as_ref());
        let statuses = status.and_then(|s| s.container_statuses.as_ref());
        let anew = status.is_some_and(|s| s.pod_ip != ip);
        anew && statuses.is_some_and(|s| s[0].restart_count >= 1) && condition(p, "Ready") == Some("True")
    };
    let pod = cluster.until("after", "up again", restarted).await.unwrap();
    let restarts = pod.status.unwrap().container_statuses.unwrap()[0].restart_count;
    assert!(restarts <= 2, "{restarts} restarts");
    eprintln!("restarts after a lost sandbox: {restarts}");
}

async fn pods_end_with_grace(cluster: &Cluster) {
    let mut container = shell("c", "trap 'echo got TERM; exit 0' TERM; while true; do sleep 1 & wait $!; done");
    container["lifecycle"] =
        json!({"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo stopping > /proc/1/fd/1"]}}});
    cluster.create("graceful", json!({"containers": [container]})).await;
    let pod = cluster.until_ready("graceful").await;
    let directory = cluster.config.pod_dir(&pod.uid().unwrap());
    assert!(directory.exists());
    let started = Instant::now();
    for pod in cluster.pods().list(&Default::default()).await.unwrap() {
        cluster.pods().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    for name in [
        "graceful",
        "quick",
        "after",
        "sees",
        "crashes",
        "no-image",
        "probed",
        "ordered",
        "needy",
        "fails",
        "certified",
        "denied",
    ] {
        cluster.until(name, "gone", |p| p.is_none()).await;
    }
    eprintln!("pods gone after {:?}", started.elapsed());
    assert!(!directory.exists());
    let cri = kubelet::cri::Cri::new(cluster.config.runtime_socket()).unwrap();
    for _ in 0..600 {
        if cri.sandboxes(None).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("sandboxes are left: {:?}", cri.sandboxes(None).await.unwrap());
}

fn url(cluster: &Cluster, path: &str) -> String {
    format!("https://127.0.0.1:{}{path}", cluster.config.port)
}

fn http_client(cluster: &Cluster, identified: bool) -> reqwest::Client {
    let read = |name: &str| std::fs::read(cluster.dir.join("api").join(name)).unwrap();
    let mut builder = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&read("ca.crt")).unwrap()])
        .no_proxy();
    if identified {
        let mut pem = read("apiserver-kubelet-client.crt");
        pem.extend(read("apiserver-kubelet-client.key"));
        builder = builder.identity(reqwest::Identity::from_pem(&pem).unwrap());
    }
    builder.build().unwrap()
}

async fn get(cluster: &Cluster, path: &str) -> String {
    let answer = http_client(cluster, true).get(url(cluster, path)).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    text
}

/// Waits until a container that starts has logged this line.
async fn until_logged(cluster: &Cluster, path: &str, line: &str) {
    let logged = async {
        loop {
            let follow = url(cluster, &format!("{path}?follow=true"));
            let mut answer = http_client(cluster, true).get(follow).send().await.unwrap();
            let mut text = String::new();
            while let Ok(Some(chunk)) = answer.chunk().await {
                text.push_str(&String::from_utf8_lossy(&chunk));
                if text.lines().any(|l| l == line) {
                    return;
                }
            }
            // not there yet: the kubelet refuses
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, logged).await.unwrap_or_else(|_| panic!("{path}: no line {line:?}"));
}

/// exec over a WebSocket, read to its end.
async fn exec(cluster: &Cluster, path: &str) -> String {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let file = |name: &str| cluster.dir.join("api").join(name);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.crt")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(file("apiserver-kubelet-client.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("apiserver-kubelet-client.key")).unwrap();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", cluster.config.port)).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls)).connect(name, stream).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("exec did not end").ok();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    text
}
