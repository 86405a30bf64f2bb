//! A real server in a folder of its own, and ways to talk to it.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

pub mod converter;
pub mod faulty;
pub mod kubectls;
pub mod late;

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use apiserver::{ApiServer, Config, Handler, Identity, ResponseBody};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use store::Store;
use tower::ServiceExt;

pub struct Api {
    pub server: Option<ApiServer>,
    pub dir: tempfile::TempDir,
}

pub fn admin() -> Identity {
    Identity::new("admin", ["system:masters"])
}

impl Api {
    pub async fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        apiserver::testing::prepare(dir.path()).unwrap();
        let server = ApiServer::start(Config::in_dir(dir.path(), 0)).await.unwrap();
        apiserver::testing::kubeconfig(dir.path(), server.address(), "admin").unwrap();
        Api { server: Some(server), dir }
    }

    /// A server whose configuration is not the ordinary one; `change` may put files into the folder.
    pub async fn start_with(change: impl FnOnce(&mut Config, &Path)) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        apiserver::testing::prepare(dir.path()).unwrap();
        let mut config = Config::in_dir(dir.path(), 0);
        change(&mut config, dir.path());
        let server = ApiServer::start(config).await.unwrap();
        apiserver::testing::kubeconfig(dir.path(), server.address(), "admin").unwrap();
        Api { server: Some(server), dir }
    }

    /// One of several servers on a store, with the PKI of `dir` (which is made if it is empty).
    pub async fn start_on(store: Arc<dyn Store>, dir: &Path, change: impl FnOnce(&mut Config)) -> ApiServer {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        apiserver::testing::prepare(dir).unwrap();
        let mut config = Config::in_dir(dir, 0);
        change(&mut config);
        ApiServer::start_on(store, config).await.unwrap()
    }

    /// A client over the wire; `certificate` names a pair of files in the folder, or is empty.
    pub fn wire(&self, certificate: &str) -> reqwest::Client {
        self.wire_with(certificate, |builder| builder)
    }

    pub fn wire_with(
        &self,
        certificate: &str,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> reqwest::Client {
        let read = |name: String| std::fs::read(self.path().join(name)).unwrap();
        let ca = reqwest::Certificate::from_pem(&read("ca.crt".into())).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([ca]);
        if !certificate.is_empty() {
            let pair = [read(format!("{certificate}.crt")), read(format!("{certificate}.key"))].concat();
            builder = builder.identity(reqwest::Identity::from_pem(&pair).unwrap());
        }
        change(builder).build().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server().address())
    }

    pub async fn restart(&mut self) {
        self.server.take().unwrap().shutdown().await;
        let server = ApiServer::start(Config::in_dir(self.dir.path(), 0)).await.unwrap();
        apiserver::testing::kubeconfig(self.dir.path(), server.address(), "admin").unwrap();
        self.server = Some(server);
    }

    pub fn server(&self) -> &ApiServer {
        self.server.as_ref().unwrap()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn send(
        &self,
        who: Identity,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl ToString,
    ) -> http::Response<ResponseBody> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let handler: Handler = self.server().handler_as(who);
        handler.oneshot(request).await.unwrap()
    }

    pub async fn call_as(&self, who: Identity, method: &str, path: &str, body: Value) -> (u16, Value) {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.send(who, method, path, content_type, body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(admin(), method, path, body).await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, Value::Null).await.1
    }

    /// Must succeed.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.call("POST", path, body).await;
        assert_eq!(status, 201, "{value}");
        value
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let response = self.send(admin(), "GET", path, "", "").await;
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), buffer: Vec::new() }
    }

    /// Runs kubectl (`KINSTALL_KUBECTL`, or the one on the PATH) as a user of `testing::kubeconfig`; what it printed.
    pub async fn kubectl(&self, user: &str, args: &[&str], stdin: &str) -> (bool, String) {
        let program = std::env::var("KINSTALL_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        self.run_kubectl(Path::new(&program), user, args, stdin).await
    }

    /// Runs one of several kubectls.
    pub async fn run_kubectl(&self, program: &Path, user: &str, args: &[&str], stdin: &str) -> (bool, String) {
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(self.path().join(format!("{user}.kubeconfig")))
            .arg("--cache-dir")
            .arg(self.path().join("cache"));
        command
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let stdin = stdin.to_owned();
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut child = command.spawn().expect("kubectl must be installed");
            child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            (
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
            )
        })
        .await
        .unwrap()
    }

    pub async fn kubectl_ok(&self, args: &[&str], stdin: &str) -> String {
        let (ok, text) = self.kubectl("admin", args, stdin).await;
        assert!(ok, "kubectl {args:?}: {text}");
        text
    }
}

/// A request within one of several servers; status and body, which is a text where it is no JSON.
pub async fn within(server: &ApiServer, who: Identity, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = server.handler_as(who).oneshot(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
}

pub struct Watch {
    body: ResponseBody,
    buffer: Vec<u8>,
}

impl Watch {
    pub async fn of(server: &ApiServer, path: &str) -> Self {
        let request = http::Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let response = server.handler_as(admin()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event, as (type, object); panics after a minute.
    pub async fn next(&mut self) -> (String, Value) {
        tokio::time::timeout(Duration::from_secs(60), self.line())
            .await
            .expect("no event came")
            .expect("the watch ended")
    }

    pub async fn quiet(&mut self) {
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(150), self.line()).await {
            panic!("unexpected {event:?}");
        }
    }

    pub async fn line(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].clone()));
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}
