//! Just enough of the Kubernetes API for a client that lists and watches: the test is of the client's loop, not of the API.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;

#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    lists: HashMap<String, Vec<Value>>,
    watchers: HashMap<String, Vec<mpsc::UnboundedSender<Bytes>>>,
}

impl FakeApi {
    /// Sets what a list of this path answers.
    pub fn list(&self, path: &str, items: Vec<Value>) {
        self.0.lock().unwrap().lists.insert(path.into(), items);
    }

    /// Sends a watch event to everyone who watches this path.
    pub fn event(&self, path: &str, kind: &str, object: Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        for watcher in self.0.lock().unwrap().watchers.get(path).into_iter().flatten() {
            drop(watcher.send(Bytes::from(line.clone())));
        }
    }

    pub fn is_watched(&self, path: &str) -> bool {
        self.0.lock().unwrap().watchers.contains_key(path)
    }

    /// Serves, and writes a kubeconfig that leads here.
    pub async fn serve(&self, kubeconfig: &Path) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(kubeconfig, config.to_string()).unwrap();
        let api = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = api.clone();
                let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(api.answer(&request))));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        let path = request.uri().path().to_string();
        let mut inner = self.0.lock().unwrap();
        if request.uri().query().unwrap_or_default().contains("watch=true") {
            let (sender, receiver) = mpsc::unbounded_channel();
            inner.watchers.entry(path).or_default().push(sender);
            let lines = futures::stream::unfold(receiver, |mut r| async move { Some((r.recv().await?, r)) });
            return Response::new(BodyExt::boxed(StreamBody::new(lines.map(|line| Ok(Frame::data(line))))));
        }
        let items = inner.lists.get(&path).cloned().unwrap_or_default();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        Response::new(Full::new(Bytes::from(list.to_string())).boxed())
    }
}
