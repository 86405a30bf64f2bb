//! An API server's host that goes without a word while it is spoken to: noticed, told, and nobody waits longer.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::{ApiServer, Config};
use kinstall::api::Servers;
use kinstall::api::apply::{Applier, documents};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const OBJECT: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: kinstall-test, namespace: kube-system}
data: {a: b}
";

/// What comes is passed on until the cable is cut; then nothing is, and nobody is told.
async fn cable(listener: TcpListener, to: std::net::SocketAddr, cut: Arc<AtomicBool>) {
    while let Ok((near, _)) = listener.accept().await {
        let far = TcpStream::connect(to).await.unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        for (mut from, mut to) in [(near_read, far_write), (far_read, near_write)] {
            let cut = cut.clone();
            tokio::spawn(async move {
                let mut piece = [0; 16 * 1024];
                while let Ok(count @ 1..) = from.read(&mut piece).await {
                    if cut.load(Ordering::Relaxed) {
                        return std::future::pending().await;
                    }
                    to.write_all(&piece[..count]).await.unwrap();
                }
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_answer_is_told_that_none_comes() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(directory.path()).unwrap();
    let api = ApiServer::start(Config::in_dir(directory.path(), 0)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    tokio::spawn(cable(listener, api.address(), cut.clone()));

    let path = apiserver::testing::kubeconfig(directory.path(), address, "admin").unwrap();
    let servers = Servers::open(&std::fs::read_to_string(path).unwrap()).await.unwrap();
    let server = servers.ready(Duration::from_secs(10)).await.unwrap();
    let wanted = documents(OBJECT).unwrap();
    assert_eq!(Applier::new(server.client.clone()).apply(&wanted).await.unwrap().len(), 1);

    cut.store(true, Ordering::Relaxed);
    let applying = Applier::new(server.client);
    let told = tokio::time::timeout(Duration::from_secs(30), async move { { applying }.apply(&wanted).await });
    told.await.expect("it is noticed").expect_err("nothing answers");
}
