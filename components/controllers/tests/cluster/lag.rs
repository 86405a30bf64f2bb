//! A watch that lags behind the others, as on a machine with more to do than it can.

use std::sync::Arc;

use futures::StreamExt;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;

/// Who watches: the garbage collector wants metadata alone, the others whole objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Metadata,
    Objects,
}

pub struct Lag(Arc<watch::Sender<bool>>);

impl Default for Lag {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Lag {
    /// From now on the watch delivers nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// What was held is delivered, in order.
    pub fn end(&self) {
        self.0.send_replace(false);
    }

    /// A client whose watch of `path` lags.
    pub fn client(&self, inner: Client, of: Of, path: &'static str) -> Client {
        let lagging = self.0.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (inner, lagging) = (inner.clone(), is_watch(&request, of, path).then(|| lagging.subscribe()));
            async move {
                let response = inner.send(request).await?;
                Ok::<_, kube::Error>(response.map(|body| held(body, lagging)))
            }
        });
        Client::new(service, "default")
    }
}

fn is_watch(request: &Request<Body>, of: Of, path: &str) -> bool {
    let accepts = request.headers().get("accept").and_then(|it| it.to_str().ok()).unwrap_or_default();
    request.uri().path() == path
        && request.uri().query().is_some_and(|it| it.contains("watch=true"))
        && accepts.contains("PartialObjectMetadata") == (of == Of::Metadata)
}

/// The body, each part of it only when nothing lags.
fn held(
    body: Body,
    lagging: Option<watch::Receiver<bool>>,
) -> impl http_body::Body<Data = bytes::Bytes, Error = kube::Error> {
    StreamBody::new(body.into_data_stream().then(move |data| {
        let lagging = lagging.clone();
        async move {
            if let Some(mut lagging) = lagging {
                let _ = lagging.wait_for(|it| !it).await;
            }
            data.map(Frame::data)
        }
    }))
}
