//! Candidates on several API servers that share a store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config, Identity};
use election::{Candidate, NAMESPACE, Terms};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use store::EmbeddedStore;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const LEASE: &str = "kube-scheduler";

struct Cluster {
    servers: Vec<ApiServer>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start(servers: usize) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        apiserver::testing::prepare(dir.path()).unwrap();
        let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
        let mut started = Vec::new();
        for n in 0..servers {
            let config = Config { name: Some(format!("cp{n}")), ..Config::in_dir(dir.path(), 0) };
            started.push(ApiServer::start_on(store.clone(), config).await.unwrap());
        }
        Cluster { servers: started, _dir: dir }
    }

    /// With the rights of a scheduler; while `cut` is true no request gets through, and none is answered.
    fn client(&self, server: usize, cut: watch::Receiver<bool>) -> Client {
        let handler = self.servers[server].handler_as(Identity::new("system:kube-scheduler", [""; 0]));
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (mut cut, handler) = (cut.clone(), handler.clone());
            async move {
                cut.wait_for(|cut| !cut).await.unwrap();
                handler.oneshot(request).await
            }
        });
        Client::new(service, "default")
    }

    async fn lease(&self) -> Option<Lease> {
        let (_keep, connected) = watch::channel(false);
        Api::namespaced(self.client(0, connected), NAMESPACE).get_opt(LEASE).await.unwrap()
    }

    async fn holder(&self) -> String {
        self.lease().await.unwrap().spec.unwrap().holder_identity.unwrap_or_default()
    }
}

/// What a work says of itself: who, and whether it begins or has ended.
type Said = (&'static str, bool);

/// A candidate whose work is counted while it runs.
struct Standing {
    stop: CancellationToken,
    cut: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Counts those that work, and says goodbye however the work ends.
struct Working(&'static str, mpsc::UnboundedSender<Said>, Arc<AtomicUsize>);

impl Working {
    fn begin(who: &'static str, said: mpsc::UnboundedSender<Said>, at_work: Arc<AtomicUsize>) -> Self {
        assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0, "{who} begins while another works");
        said.send((who, true)).unwrap();
        Working(who, said, at_work)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.2.fetch_sub(1, Ordering::SeqCst);
        self.1.send((self.0, false)).ok();
    }
}

struct Stage {
    cluster: Cluster,
    said: mpsc::UnboundedSender<Said>,
    hear: mpsc::UnboundedReceiver<Said>,
    at_work: Arc<AtomicUsize>,
}

impl Stage {
    async fn new(servers: usize) -> Self {
        let (said, hear) = mpsc::unbounded_channel();
        Stage { cluster: Cluster::start(servers).await, said, hear, at_work: Arc::default() }
    }

    fn stand(&self, server: usize, who: &'static str) -> Standing {
        let (cut, connected) = watch::channel(false);
        let stop = CancellationToken::new();
        let candidate = Candidate::new(self.cluster.client(server, connected), LEASE, who);
        let (said, at_work) = (self.said.clone(), self.at_work.clone());
        let task = tokio::spawn(candidate.lead(stop.clone(), move |ending| {
            let working = Working::begin(who, said.clone(), at_work.clone());
            async move {
                ending.cancelled().await;
                drop(working);
                Ok(())
            }
        }));
        Standing { stop, cut, task }
    }

    async fn next(&mut self, within: Duration) -> Said {
        tokio::time::timeout(within, self.hear.recv()).await.expect("nobody says anything").unwrap()
    }

    async fn quiet(&mut self, time: Duration) {
        if let Ok(said) = tokio::time::timeout(time, self.hear.recv()).await {
            panic!("unexpected: {said:?}");
        }
    }
}

const SOON: Duration = Duration::from_secs(2);
/// What a fail-over may take.
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let mut stage = Stage::new(2).await;
    let first = stage.stand(0, "a");
    assert_eq!(stage.next(SOON).await, ("a", true));
    let second = stage.stand(1, "b");
    // longer than a Lease lasts: it is renewed
    stage.quiet(Duration::from_millis(5500)).await;
    first.stop.cancel();
    assert_eq!(stage.next(SOON).await, ("a", false));
    let ended = Instant::now();
    assert_eq!(stage.next(SOON).await, ("b", true));
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    first.task.await.unwrap().unwrap();
    let spec = stage.cluster.lease().await.unwrap().spec.unwrap();
    assert!(spec.holder_identity.unwrap().starts_with("b_"));
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(4)));
    second.stop.cancel();
    second.task.await.unwrap().unwrap();
    assert_eq!(stage.cluster.holder().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_ends_before_another_begins_and_stands_again() {
    let mut stage = Stage::new(2).await;
    let first = stage.stand(0, "a");
    assert_eq!(stage.next(SOON).await, ("a", true));
    let second = stage.stand(1, "b");
    stage.quiet(Duration::from_millis(1500)).await;
    first.cut.send_replace(true);
    let cut = Instant::now();
    // `Working::begin` fails the test if both work
    assert_eq!(stage.next(LIMIT).await, ("a", false));
    assert_eq!(stage.next(LIMIT).await, ("b", true));
    assert!(cut.elapsed() < LIMIT, "{:?}", cut.elapsed());
    first.cut.send_replace(false);
    stage.quiet(Duration::from_millis(4500)).await;
    second.stop.cancel();
    assert_eq!(stage.next(SOON).await, ("b", false));
    assert_eq!(stage.next(SOON).await, ("a", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_process_is_followed_at_once_on_its_host_and_in_time_by_others() {
    let mut stage = Stage::new(2).await;
    let first = stage.stand(0, "a");
    assert_eq!(stage.next(SOON).await, ("a", true));
    // as by a kill: nothing is given back
    first.task.abort();
    assert_eq!(stage.next(SOON).await, ("a", false));
    let again = stage.stand(0, "a");
    let begun = Instant::now();
    assert_eq!(stage.next(SOON).await, ("a", true));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let _second = stage.stand(1, "b");
    stage.quiet(Duration::from_millis(1200)).await;
    again.task.abort();
    assert_eq!(stage.next(SOON).await, ("a", false));
    let died = Instant::now();
    assert_eq!(stage.next(LIMIT).await, ("b", true));
    assert!(died.elapsed() < LIMIT, "{:?}", died.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_ends_by_itself_ends_the_candidate_and_gives_the_lease_back() {
    let cluster = Cluster::start(1).await;
    let (_keep, connected) = watch::channel(false);
    let candidate = Candidate::with_terms(cluster.client(0, connected), LEASE, "a", Terms::default());
    let ended = candidate.lead(CancellationToken::new(), |_| async { anyhow::bail!("out of work") }).await;
    assert_eq!(ended.unwrap_err().to_string(), "out of work");
    assert_eq!(cluster.holder().await, "");
}
