//! The balancer with its file, in front of servers that do what tests tell them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::Config;
use certs::{Ca, Leaf, Subject, Usage};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Ready,
    /// As without a quorum.
    Unready,
    /// As with a host that is gone: connections stay, answers do not come.
    Silent,
}

/// An API server that answers every path with its name, and `/readyz` as it is told.
struct Api {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    task: JoinHandle<()>,
}

fn tls(ca: &Ca) -> TlsAcceptor {
    let leaf = ca.issue(&Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server).names(["127.0.0.1"])).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    TlsAcceptor::from(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

impl Api {
    async fn start(ca: &Ca, name: &'static str) -> Self {
        Self::start_at(ca, name, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(ca: &Ca, name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, acceptor, mood) = (listener.local_addr().unwrap(), tls(ca), watch::channel(Mood::Ready).0);
        let moods = mood.clone();
        let task = tokio::spawn(async move {
            // everything ends with this task
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, moods) = (acceptor.clone(), moods.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, name, moods.subscribe()));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Api { address, mood, task }
    }

    fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn answer(
    request: Request<Incoming>,
    name: &'static str,
    mut mood: watch::Receiver<Mood>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let mood = *mood.wait_for(|mood| *mood != Mood::Silent).await.unwrap();
    let refuses = request.uri().path() == "/readyz" && mood == Mood::Unready;
    let status = if refuses { 500 } else { 200 };
    Ok(Response::builder().status(status).body(Full::from(name)).unwrap())
}

struct Stage {
    ca: Ca,
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Stage {
    /// A balancer for these servers.
    async fn start(ca: Ca, servers: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), ca.cert_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stage = Stage { ca, address: listener.local_addr().unwrap(), dir };
        stage.configure(servers);
        let file = stage.file();
        let config = Config::read(&file).unwrap();
        tokio::spawn(async move { balancer::serve(listener, &file, config).await.unwrap() });
        stage
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("balancer.yaml")
    }

    /// As the installer does it: another file takes the place.
    fn configure(&self, servers: &[SocketAddr]) {
        let servers = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let ca_file = self.dir.path().join("ca.crt");
        let text = format!("listen: {}\nservers: [{servers}]\ncaFile: {}\n", self.address, ca_file.display());
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    async fn connect(&self) -> Option<Client> {
        Client::connect(&self.dir.path().join("ca.crt"), self.address).await
    }

    /// Who answers a new connection.
    async fn who(&self) -> Option<String> {
        self.connect().await?.ask().await
    }

    async fn until_everybody_is_sent_to(&self, name: &str) {
        let begun = Instant::now();
        // load balances: several in a row are no chance
        let mut row = 0;
        while row < 6 {
            row = if self.who().await.as_deref() == Some(name) { row + 1 } else { 0 };
            assert!(begun.elapsed() < PATIENCE, "new connections do not all go to {name}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A connection that stays.
struct Client {
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
}

impl Client {
    async fn connect(ca_file: &Path, address: SocketAddr) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Some(Client { sender, connection })
    }

    async fn ask(&mut self) -> Option<String> {
        self.sender.ready().await.ok()?;
        let request = Request::get("/who").header("host", "x").body(Empty::new()).unwrap();
        let answer = self.sender.send_request(request).await.ok()?;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some(String::from_utf8_lossy(&body).into_owned())
    }

    async fn ends(self) {
        let Client { sender, connection } = self;
        tokio::time::timeout(PATIENCE, connection).await.expect("the connection stays").unwrap();
        drop(sender);
    }
}

fn authority() -> Ca {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    Ca::generate("kubernetes").unwrap()
}

/// A connection through a certain server, which may have to be found ready first.
async fn through(stage: &Stage, name: &str) -> Client {
    let begun = Instant::now();
    loop {
        let mut client = stage.connect().await.unwrap();
        if client.ask().await.as_deref() == Some(name) {
            return client;
        }
        assert!(begun.elapsed() < PATIENCE, "no connection goes to {name}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// For what takes a moment: a busy machine may stop these processes for far longer than the balancer takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_a_quorum_are_left_until_they_are_ready_again() {
    let ca = authority();
    let (a, b) = (Api::start(&ca, "a").await, Api::start(&ca, "b").await);
    let stage = Stage::start(ca, &[a.address, b.address]).await;
    let (left, mut stays) = (through(&stage, "a").await, through(&stage, "b").await);
    a.set(Mood::Unready);
    left.ends().await;
    stage.until_everybody_is_sent_to("b").await;
    assert_eq!(stays.ask().await.as_deref(), Some("b"));
    // nobody is ready: who answers is better than nobody, and nothing is closed
    b.set(Mood::Unready);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(stays.ask().await.as_deref(), Some("b"));
    assert!(stage.who().await.is_some());
    a.set(Mood::Ready);
    stays.ends().await;
    stage.until_everybody_is_sent_to("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_is_left_at_once_and_found_again() {
    let ca = authority();
    let (a, b) = (Api::start(&ca, "a").await, Api::start(&ca, "b").await);
    let stage = Stage::start(ca, &[a.address, b.address]).await;
    let left = through(&stage, "a").await;
    a.task.abort();
    left.ends().await;
    // also before anybody has asked: who is refused goes on to the next
    for _ in 0..10 {
        assert_eq!(stage.who().await.as_deref(), Some("b"));
    }
    b.task.abort();
    let again = Api::start_at(&stage.ca, "a", a.address).await;
    stage.until_everybody_is_sent_to("a").await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_is_left_within_three_seconds() {
    let ca = authority();
    let (a, b) = (Api::start(&ca, "a").await, Api::start(&ca, "b").await);
    let stage = Stage::start(ca, &[a.address, b.address]).await;
    let left = through(&stage, "a").await;
    // it has been asked
    tokio::time::sleep(SECOND).await;
    a.set(Mood::Silent);
    // how soon is said by the constants of `health`: to measure it would measure this machine
    left.ends().await;
    stage.until_everybody_is_sent_to("b").await;
    a.set(Mood::Ready);
    drop(through(&stage, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_takes_no_connection_costs_a_second_once() {
    let ca = authority();
    let a = Api::start(&ca, "a").await;
    // a full queue drops what else comes, as a host does that is gone
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let gone = socket.local_addr().unwrap().as_socket().unwrap();
    let _full = TcpStream::connect(gone).await.unwrap();
    let stage = Stage::start(ca, &[gone, a.address]).await;
    for _ in 0..4 {
        let begun = Instant::now();
        assert_eq!(stage.who().await.as_deref(), Some("a"));
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }
    tokio::time::sleep(2 * SECOND).await;
    let mut took = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(stage.who().await.as_deref(), Some("a"));
        took.push(begun.elapsed());
    }
    // whoever still tries the other host, if only in turn with this one, waits a second for it every other time; a pause of the
    // machine makes single ones slow
    took.sort();
    assert!(took[5] < SECOND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_are_taken_over_without_losing_connections() {
    let ca = authority();
    let (a, b) = (Api::start(&ca, "a").await, Api::start(&ca, "b").await);
    let stage = Stage::start(ca, &[a.address]).await;
    let mut first = through(&stage, "a").await;
    stage.configure(&[a.address, b.address]);
    let mut second = through(&stage, "b").await;
    assert_eq!(first.ask().await.as_deref(), Some("a"));
    // what cannot be understood changes nothing
    std::fs::write(stage.file(), "servers: nonsense\n").unwrap();
    stage.configure(&[b.address]);
    stage.until_everybody_is_sent_to("b").await;
    assert_eq!(first.ask().await.as_deref(), Some("a"), "what goes through a removed server ends by itself");
    assert_eq!(second.ask().await.as_deref(), Some("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_somebody_elses_certificate_is_not_chosen() {
    let (ca, other) = (authority(), authority());
    let (a, b) = (Api::start(&other, "a").await, Api::start(&ca, "b").await);
    let stage = Stage::start(ca, &[a.address, b.address]).await;
    stage.until_everybody_is_sent_to("b").await;
}
