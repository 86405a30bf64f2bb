//! Candidates on several API servers that share a store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apiserver::{ApiServer, Config, Identity};
use election::{Candidate, NAMESPACE, Terms};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
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

    fn leases(&self) -> Api<Lease> {
        // it is never cut: a value that is there already is not waited for
        let (_, connected) = watch::channel(false);
        Api::namespaced(self.client(0, connected), NAMESPACE)
    }

    async fn lease(&self) -> Option<Lease> {
        self.leases().get_opt(LEASE).await.unwrap()
    }

    async fn holder(&self) -> String {
        self.lease().await.unwrap().spec.unwrap().holder_identity.unwrap_or_default()
    }

    /// Returns when this host has renewed the Lease three times, and nobody else has held it meanwhile.
    async fn renewed(&self, host: &str) {
        let renewals = async {
            let mut times = BTreeSet::new();
            while times.len() <= 3 {
                let spec = self.lease().await.unwrap().spec.unwrap();
                let holder = spec.holder_identity.unwrap();
                assert_eq!(holder.split('_').next(), Some(host), "{holder} holds it");
                times.insert(spec.renew_time);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, renewals).await.expect("the Lease is not renewed");
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

    fn stand(&self, server: usize, who: &'static str, terms: Terms) -> Standing {
        let (cut, connected) = watch::channel(false);
        let stop = CancellationToken::new();
        let candidate = Candidate::with_terms(self.cluster.client(server, connected), LEASE, who, terms);
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

    /// What else is said before is passed over: who stood still may have ended, and begun again.
    async fn until(&mut self, awaited: Said) {
        let heard = async { while self.hear.recv().await.unwrap() != awaited {} };
        tokio::time::timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("nobody says {awaited:?}"));
    }
}

/// When a wait is given up.
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than anybody waits here: who follows within the limit has not waited for the end of such a Lease.
const LASTING: Terms =
    Terms { lease: Duration::from_secs(300), renew: Duration::from_millis(200), deadline: Duration::from_secs(200) };
/// Runs out within the limit. Between its deadline and its end lie more than the ten seconds that a process may stand still:
/// it may lose the Lease by that, but the other does not begin before it has noticed.
const SHORT: Terms =
    Terms { lease: Duration::from_secs(20), renew: Duration::from_millis(500), deadline: Duration::from_secs(8) };

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let mut stage = Stage::new(2).await;
    let first = stage.stand(0, "a", LASTING);
    stage.until(("a", true)).await;
    let second = stage.stand(1, "b", LASTING);
    stage.cluster.renewed("a").await;
    first.stop.cancel();
    stage.until(("a", false)).await;
    stage.until(("b", true)).await;
    first.task.await.unwrap().unwrap();
    let spec = stage.cluster.lease().await.unwrap().spec.unwrap();
    assert!(spec.holder_identity.unwrap().starts_with("b_"));
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(300)));
    second.stop.cancel();
    second.task.await.unwrap().unwrap();
    assert_eq!(stage.cluster.holder().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_ends_before_another_begins_and_stands_again() {
    let mut stage = Stage::new(2).await;
    let first = stage.stand(0, "a", SHORT);
    stage.until(("a", true)).await;
    let second = stage.stand(1, "b", SHORT);
    stage.cluster.renewed("a").await;
    first.cut.send_replace(true);
    // `Working::begin` fails the test if both work
    stage.until(("a", false)).await;
    stage.until(("b", true)).await;
    first.cut.send_replace(false);
    stage.cluster.renewed("b").await;
    second.stop.cancel();
    stage.until(("b", false)).await;
    stage.until(("a", true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_process_is_followed_at_once_on_its_host_and_in_time_by_others() {
    let mut stage = Stage::new(2).await;
    let first = stage.stand(0, "a", LASTING);
    stage.until(("a", true)).await;
    // as by a kill: nothing is given back
    first.task.abort();
    stage.until(("a", false)).await;
    let again = stage.stand(0, "a", SHORT);
    stage.until(("a", true)).await;
    let _second = stage.stand(1, "b", SHORT);
    stage.cluster.renewed("a").await;
    again.task.abort();
    stage.until(("a", false)).await;
    stage.until(("b", true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_ends_by_itself_ends_the_candidate_and_gives_the_lease_back() {
    let cluster = Cluster::start(1).await;
    let (_keep, connected) = watch::channel(false);
    let candidate = Candidate::with_terms(cluster.client(0, connected), LEASE, "a", LASTING);
    let ended = candidate.lead(CancellationToken::new(), |_| async { anyhow::bail!("out of work") }).await;
    assert_eq!(ended.unwrap_err().to_string(), "out of work");
    assert_eq!(cluster.holder().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_has_changed_is_given_back_too() {
    let cluster = Cluster::start(1).await;
    let (_keep, connected) = watch::channel(false);
    let candidate = Candidate::with_terms(cluster.client(0, connected), LEASE, "a", LASTING);
    let ended = candidate.lead(CancellationToken::new(), |_| async {
        let mut lease = cluster.lease().await.unwrap();
        lease.metadata.annotations.get_or_insert_default().insert("a".into(), "note".into());
        cluster.leases().replace(LEASE, &PostParams::default(), &lease).await?;
        Ok(())
    });
    ended.await.unwrap();
    assert_eq!(cluster.holder().await, "");
}
