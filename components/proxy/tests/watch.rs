//! The whole proxy against a (fake) API: what is watched arrives in the kernel. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake_api;

use std::time::{Duration, Instant};

use fake_api::FakeApi;
use netlink::netns::NetNs;
use netlink::rtnl::Rtnl;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "web", "resourceVersion": "1"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
    })
}

fn slice(port: u16, endpoints: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "default", "name": "web-1", "resourceVersion": "2", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is().await {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

async fn connects() -> std::io::Result<()> {
    tokio::time::timeout(Duration::from_secs(1), TcpStream::connect("10.96.0.7:80")).await?.map(drop)
}

async fn story() {
    rustls_provider();
    let dir = tempfile::tempdir().unwrap();
    let api = FakeApi::default();
    let server = TcpListener::bind("10.99.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let ready = json!([{"addresses": ["10.99.0.1"], "conditions": {"ready": true}, "nodeName": "n1"}]);
    api.list(SERVICES, vec![service()]);
    api.list(SLICES, vec![slice(port, ready.clone())]);
    api.serve(&dir.path().join("kubeconfig")).await;
    let config = format!(
        "kubeconfig: {}/kubeconfig\nnodeName: n1\nnodeIp: 10.99.0.1\nclusterCidr: 10.244.0.0/16\nserviceCidr: 10.96.0.0/16\nrouteCheckSeconds: 3600\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("proxy.yaml"), config).unwrap();
    let args = proxy::Args { config: Some(dir.path().join("proxy.yaml")), cleanup: false };
    let running = tokio::spawn(proxy::run(args));

    until("a connection through the Service", async || connects().await.is_ok()).await;
    until("a watch", async || api.is_watched(SLICES)).await;
    api.event(SLICES, "MODIFIED", slice(port, json!([])));
    let refused = async || connects().await.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
    let took = until("a refusal", refused).await;
    api.event(SLICES, "MODIFIED", slice(port, ready));
    let back = until("a connection again", async || connects().await.is_ok()).await;

    // The node's address goes and comes back, as with a DHCP lease; the kernel drops the route meanwhile.
    let routes = || Rtnl::open().unwrap().routes(207).unwrap().len();
    let node_ip = "10.99.0.1/32".parse().unwrap();
    assert_eq!(routes(), 1);
    Rtnl::open().unwrap().delete_address(1, node_ip).unwrap();
    assert_eq!(routes(), 0);
    Rtnl::open().unwrap().add_address(1, node_ip).unwrap();
    until("the route again", async || routes() == 1).await;
    until("a connection after that", async || connects().await.is_ok()).await;
    eprintln!("endpoint gone after {took:?}, back after {back:?}");
    assert!(!running.is_finished());
    running.abort();
}

fn rustls_provider() {
    // kube's client asks for the process's default provider even for plain HTTP.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}

#[test]
fn watched_endpoints_arrive_in_the_kernel() {
    NetNs::anonymous()
        .expect("root")
        .run(|| {
            let mut rt = Rtnl::open().unwrap();
            rt.set_up(1).unwrap();
            rt.add_address(1, "10.99.0.1/32".parse().unwrap()).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story());
        })
        .unwrap();
}
