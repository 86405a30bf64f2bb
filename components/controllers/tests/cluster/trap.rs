//! A request caught on its way: it waits until the test says what becomes of it, as if a network or a rival were slow.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;

struct Set {
    method: &'static str,
    path: String,
    caught: oneshot::Sender<Caught>,
}

#[derive(Clone, Default)]
pub struct Trap(Arc<Mutex<Option<Set>>>);

enum Fate {
    Forward,
    Answer(u16),
}

pub struct Caught(oneshot::Sender<Fate>);

impl Caught {
    pub fn forward(self) {
        self.0.send(Fate::Forward).ok();
    }

    /// In the API server's place, which never hears of the request.
    pub fn answer(self, code: u16) {
        self.0.send(Fate::Answer(code)).ok();
    }
}

impl Trap {
    /// Catches the next such request and no other.
    pub fn set(&self, method: &'static str, path: &str) -> impl Future<Output = Caught> + use<> {
        let told = format!("{method} {path}");
        let (sender, receiver) = oneshot::channel();
        *self.0.lock() = Some(Set { method, path: path.to_owned(), caught: sender });
        async move {
            let caught = tokio::time::timeout(Duration::from_secs(60), receiver).await;
            caught.unwrap_or_else(|_| panic!("waited too long for {told}")).unwrap()
        }
    }

    pub fn client(&self, inner: Client) -> Client {
        let trap = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (inner, fate) = (inner.clone(), trap.catch(&request));
            async move {
                match fate.await.unwrap_or(Fate::Forward) {
                    Fate::Forward => inner.send(request).await,
                    Fate::Answer(code) => Ok(refusal(code)),
                }
            }
        });
        Client::new(service, "default")
    }

    /// What becomes of the request, once it is known.
    fn catch(&self, request: &Request<Body>) -> oneshot::Receiver<Fate> {
        let (sender, fate) = oneshot::channel();
        let here = |set: &mut Set| request.method() == set.method && request.uri().path() == set.path;
        match self.0.lock().take_if(here) {
            Some(set) => drop(set.caught.send(Caught(sender))),
            None => Caught(sender).forward(),
        }
        fate
    }
}

fn refusal(code: u16) -> Response<Body> {
    let reason = if code == 409 { "Conflict" } else { "InternalError" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "caught"});
    Response::builder().status(code).body(Body::from(status.to_string().into_bytes())).unwrap()
}
