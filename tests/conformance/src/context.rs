//! What a test holds: a client, a namespace of its own, and the words tests are written in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use serde_json::{Value, json};

use crate::client::{Answer, Client, JSON, MERGE};
use crate::environment::Environment;
use crate::resource::Res;
use cleanup::Cleanup;

mod cleanup {
    /// Paths of objects outside of the test's namespace, deleted when it ends, the youngest first.
    #[derive(Default)]
    pub struct Cleanup(std::sync::Mutex<Vec<String>>);

    impl Cleanup {
        pub fn push(&self, path: String) {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(path);
        }
        pub fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        }
    }
}

/// How long a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct T {
    pub api: Client,
    /// The test's namespace; also a name nobody else uses, for objects without a namespace.
    pub ns: String,
    pub env: Arc<Environment>,
    cleanup: Cleanup,
}

/// A test that cannot say anything here; the reason stands in it.
#[derive(Debug)]
pub struct NeedsCluster(pub String);

impl std::fmt::Display for NeedsCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for NeedsCluster {}

impl T {
    /// Makes the namespace and waits until pods can be created in it: the ServiceAccount `default` and the cluster's CA.
    pub async fn begin(env: Arc<Environment>, number: usize) -> Result<T> {
        let ns = format!("conf-{number}-{}", random(5));
        let t = T { api: env.client.clone(), ns: ns.clone(), env, cleanup: Cleanup::default() };
        let labels = json!({"conformance": ns, "pod-security.kubernetes.io/enforce": "privileged"});
        t.api
            .post("/api/v1/namespaces", &json!({"metadata": {"name": ns, "labels": labels}}))
            .await
            .context("cannot make the test's namespace")?;
        t.until("the ServiceAccount of the namespace", &Res::SERVICE_ACCOUNT.named(&ns, "default"), |_| true).await?;
        t.until("the ConfigMap kube-root-ca.crt", &Res::CONFIG_MAP.named(&ns, "kube-root-ca.crt"), |_| true).await?;
        Ok(t)
    }

    /// Deletes what the test made; the namespace goes by itself.
    pub async fn end(&self) {
        for path in self.cleanup.take().into_iter().rev() {
            if let Err(error) = self.api.call("DELETE", &path, JSON, &Value::Null).await {
                eprintln!("clean-up: {error:#}");
            }
        }
        let path = format!("/api/v1/namespaces/{}", self.ns);
        if let Err(error) = self.api.call("DELETE", &path, JSON, &Value::Null).await {
            eprintln!("clean-up: {error:#}");
        }
    }

    /// This path is deleted when the test ends.
    pub fn forget(&self, path: impl Into<String>) {
        self.cleanup.push(path.into());
    }

    pub fn path(&self, res: &Res, name: &str) -> String {
        res.named(&self.ns, name)
    }

    pub fn path_of_namespace(&self) -> String {
        Res::NAMESPACE.named("", &self.ns)
    }

    /// Creates in the test's namespace (or in none); `apiVersion` and `kind` are filled in.
    pub async fn make(&self, res: &Res, body: Value) -> Result<Value> {
        let answer = self.try_make(res, body).await?;
        let made = answer.ok()?;
        anyhow::ensure!(answer.status == 201, "{}: a create answers 201, got {}", answer.request, answer.status);
        Ok(made)
    }

    pub async fn try_make(&self, res: &Res, mut body: Value) -> Result<Answer> {
        body["apiVersion"] = json!(res.api_version());
        body["kind"] = json!(res.kind);
        let answer = self.api.call("POST", &res.collection(&self.ns), JSON, &body).await?;
        if !res.namespaced && answer.status == 201 {
            let made = answer.json()?;
            self.forget(res.named("", made["metadata"]["name"].as_str().unwrap_or_default()));
        }
        Ok(answer)
    }

    pub async fn read(&self, res: &Res, name: &str) -> Result<Value> {
        self.api.get(&self.path(res, name)).await
    }

    pub async fn merge(&self, res: &Res, name: &str, patch: &Value) -> Result<Value> {
        self.api.patch(&self.path(res, name), MERGE, patch).await
    }

    pub async fn remove(&self, res: &Res, name: &str) -> Result<Value> {
        self.api.delete(&self.path(res, name), &Value::Null).await
    }

    /// Reads, changes, writes; again when somebody else wrote in between.
    pub async fn update(&self, path: &str, change: impl Fn(&mut Value)) -> Result<Value> {
        loop {
            let mut object = self.api.get(path).await?;
            change(&mut object);
            let answer = self.api.call("PUT", path, JSON, &object).await?;
            if answer.status != 409 {
                return answer.ok();
            }
        }
    }

    /// Waits, by a watch, until the object at this path is as wanted.
    pub async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let wait = follow(&self.api, path, |seen| {
            last = seen.cloned().unwrap_or(Value::Null);
            seen.is_some_and(&wanted)
        });
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(done) => done.with_context(|| format!("waiting for {what}"))?,
            Err(_) => bail!("no {what} within {} s; last seen: {last}", PATIENCE.as_secs()),
        }
        Ok(last)
    }

    /// Waits, by a watch, until there is no object at this path.
    pub async fn gone(&self, path: &str) -> Result<()> {
        let mut last = Value::Null;
        let wait = follow(&self.api, path, |seen| {
            last = seen.cloned().unwrap_or(Value::Null);
            seen.is_none()
        });
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(done) => done.with_context(|| format!("waiting for the end of {path}")),
            Err(_) => bail!("{path} is still there after {} s: {last}", PATIENCE.as_secs()),
        }
    }

    /// Waits, by a watch, until the items of a collection (path with query) are as wanted.
    pub async fn until_list(&self, what: &str, path: &str, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let list = self.api.get(path).await?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            if wanted(&items) {
                return Ok(items);
            }
            let separator = if path.contains('?') { '&' } else { '?' };
            let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let mut watch = self.api.watch(&format!("{path}{separator}resourceVersion={version}")).await?;
            let left = end.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, watch.next()).await.is_err() {
                bail!("no {what} within {} s; there are {} items: {}", PATIENCE.as_secs(), items.len(), json!(items));
            }
        }
    }

    /// For what has no event: asks every 100 ms until the answer is no error.
    pub async fn eventually<F, Fut, R>(&self, what: &str, mut ask: F) -> Result<R>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<R>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            match ask().await {
                Ok(done) => return Ok(done),
                Err(error) if Instant::now() > end => {
                    return Err(error.context(format!("{what}: not within {} s", PATIENCE.as_secs())));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Ends the test as `needs a cluster` unless real kubelets serve this cluster.
    pub fn needs_cluster(&self, why: &str) -> Result<()> {
        if self.env.real_nodes { Ok(()) } else { Err(NeedsCluster(why.to_owned()).into()) }
    }
}

/// Feeds an object's states (`None`: not there) to `enough`, until it says so.
async fn follow(api: &Client, path: &str, mut enough: impl FnMut(Option<&Value>) -> bool) -> Result<()> {
    let (collection, name) = path.rsplit_once('/').context("no name in the path")?;
    let selected = format!("{collection}?fieldSelector=metadata.name%3D{name}");
    loop {
        let list = api.get(&selected).await?;
        let found = list["items"].as_array().and_then(|items| items.first());
        if enough(found) {
            return Ok(());
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut watch = api.watch(&format!("{selected}&resourceVersion={version}")).await?;
        while let Some(event) = watch.next().await? {
            match event.kind.as_str() {
                "DELETED" if enough(None) => return Ok(()),
                "ADDED" | "MODIFIED" if enough(Some(&event.object)) => return Ok(()),
                "ERROR" => break,
                _ => {}
            }
        }
    }
}

/// Lower-case letters, for names.
pub fn random(length: usize) -> String {
    use rand::Rng;
    (0..length).map(|_| char::from(rand::rng().random_range(b'a'..=b'z'))).collect()
}

/// `ensure!` for two values, with both in the message.
pub fn same<A, B>(what: &str, got: &A, expected: &B) -> Result<()>
where
    A: PartialEq<B> + std::fmt::Debug + ?Sized,
    B: std::fmt::Debug + ?Sized,
{
    if got == expected { Ok(()) } else { bail!("{what}: expected {expected:?}, got {got:?}") }
}

/// The names of a list's items, as the server ordered them.
pub fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}
