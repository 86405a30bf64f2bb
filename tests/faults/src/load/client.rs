//! A client that asks at a constant rate, whatever the answers take, and checks every one of them.
//!
//! Open loop: requests begin when their time comes, so that a server that stalls is asked as often as one that does not. Connections
//! are kept and used again, as browsers and balancers do; and as they do, what was asked on a kept connection that the server had
//! ended before it answered anything is asked once more on a new one.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Then a person has gone away.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
const BODY_LIMIT: usize = 1 << 20;

/// What is asked, where, and what has to be in the answer.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    /// The `Host` of the requests.
    pub host: String,
    pub path: String,
    pub expected: String,
    /// Asked in turn.
    pub addresses: Vec<SocketAddr>,
    /// Requests a second.
    pub rate: u32,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    pub target: usize,
    pub address: SocketAddr,
    pub sent: Instant,
    pub took: Duration,
    /// The server had ended the connection: it was asked once more.
    pub again: bool,
    /// What was wrong with it.
    pub error: Option<String>,
}

/// Requests that are being sent until [`Load::stop`].
pub struct Load {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

type Http = Client<HttpConnector, Empty<Bytes>>;

#[derive(Clone)]
struct Clients {
    /// Keeps connections.
    kept: Http,
    /// Makes a connection for every request.
    fresh: Http,
}

impl Load {
    pub fn start(targets: Vec<Target>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(send(targets, stopped))
        });
        Self { stop, thread }
    }

    /// Waits for the requests in flight; gives all there were, in the order in which they were sent.
    pub fn stop(self) -> Result<Vec<Sample>> {
        self.stop.send_replace(true);
        let mut samples = self.thread.join().map_err(|_| anyhow!("the client panicked"))??;
        samples.sort_by_key(|sample| sample.sent);
        Ok(samples)
    }
}

async fn send(targets: Vec<Target>, stopped: watch::Receiver<bool>) -> Result<Vec<Sample>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    let kept = Client::builder(TokioExecutor::new()).build(connector.clone());
    let fresh = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let clients = Clients { kept, fresh };
    let mut senders = JoinSet::new();
    for (index, target) in targets.into_iter().enumerate() {
        ensure!(target.rate > 0 && !target.addresses.is_empty(), "{}: nothing to send", target.name);
        senders.spawn(send_to(clients.clone(), index, Arc::new(target), stopped.clone()));
    }
    let mut samples = Vec::new();
    while let Some(sent) = senders.join_next().await {
        samples.extend(sent?);
    }
    Ok(samples)
}

async fn send_to(
    clients: Clients,
    index: usize,
    target: Arc<Target>,
    mut stopped: watch::Receiver<bool>,
) -> Vec<Sample> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / target.rate);
    let (mut running, mut samples) = (JoinSet::new(), Vec::new());
    // comes at once: something is sent also where the end comes at once
    ticks.tick().await;
    for address in target.addresses.iter().copied().cycle() {
        let (clients, target) = (clients.clone(), target.clone());
        running.spawn(async move {
            let (sent, mut again) = (Instant::now(), false);
            let error = match tokio::time::timeout(PATIENCE, ask(&clients, &target, address, &mut again)).await {
                Ok(result) => result.err().map(|error| format!("{error:#}")),
                Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            Sample { target: index, address, sent, took: sent.elapsed(), again, error }
        });
        while let Some(Ok(sample)) = running.try_join_next() {
            samples.push(sample);
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
    }
    while let Some(Ok(sample)) = running.join_next().await {
        samples.push(sample);
    }
    samples
}

async fn ask(clients: &Clients, target: &Target, address: SocketAddr, again: &mut bool) -> Result<()> {
    let request = || {
        Request::get(format!("http://{address}{}", target.path)).header(header::HOST, &target.host).body(Empty::new())
    };
    let mut response = clients.kept.request(request()?).await;
    if response.as_ref().is_err_and(is_ended) {
        *again = true;
        response = clients.fresh.request(request()?).await;
    }
    let response = response.map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        anyhow!("{error}{cause}")
    })?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), BODY_LIMIT).collect().await.map_err(|error| anyhow!("{error}"))?.to_bytes();
    ensure!(status == 200, "status {status}");
    let text = String::from_utf8_lossy(&body);
    ensure!(text.contains(&target.expected), "{:?} is not in the answer of {} bytes", target.expected, body.len());
    Ok(())
}

/// The server has ended the connection, and had not answered anything.
fn is_ended(error: &hyper_util::client::legacy::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(hyper::Error::is_incomplete_message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::iter::{once, repeat};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use tokio::net::TcpSocket;

    use super::*;

    /// For an answer to come: this process may be paused meanwhile.
    const LONG: Duration = Duration::from_secs(60);
    const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nI am fine";

    /// Answers with these, one connection a request, and tells of each.
    fn server(answers: impl Iterator<Item = &'static str> + Send + 'static) -> (SocketAddr, Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
                let _ = tell.send(());
            }
        });
        (address, told)
    }

    fn target(address: SocketAddr) -> Target {
        let text = |text: &str| text.to_owned();
        Target {
            name: text("web"),
            host: text("web.lab"),
            path: text("/"),
            expected: text("fine"),
            addresses: vec![address],
            rate: 100,
        }
    }

    #[test]
    fn every_answer_is_checked() {
        let answers = [
            WELL,
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmeh!",
            "HTTP/1.1 503 Gone\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine",
        ];
        let (address, told) = server(answers.into_iter().cycle());
        let load = Load::start(vec![target(address)]);
        for _ in 0..15 {
            told.recv_timeout(LONG).unwrap();
        }
        let samples = load.stop().unwrap();
        assert!(samples.len() >= 15, "{}", samples.len());
        for words in ["is not in the answer", "status 503"] {
            assert!(samples.iter().any(|s| s.error.as_ref().is_some_and(|error| error.contains(words))), "{words}");
        }
        assert!(samples.iter().any(|sample| sample.error.is_none()));
    }

    #[test]
    fn what_an_ended_connection_did_not_answer_is_asked_once_more() {
        // whichever request gets the first answer, should a pause make several of them
        let (at_first, always) = (server(once("").chain(repeat(WELL))), server(repeat("")));
        for ((address, told), well) in [(at_first, true), (always, false)] {
            let load = Load::start(vec![Target { rate: 1, ..target(address) }]);
            for _ in 0..2 {
                told.recv_timeout(LONG).unwrap();
            }
            let samples = load.stop().unwrap();
            assert!(samples.iter().any(|sample| sample.again));
            assert!(samples.iter().all(|sample| sample.error.is_none() == well), "{samples:?}");
        }
    }

    #[test]
    fn nobody_there_is_a_failure() {
        // nobody listens there, and nobody else gets the port
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let load = Load::start(vec![target(socket.local_addr().unwrap())]);
        let samples = load.stop().unwrap();
        assert!(!samples.is_empty() && samples.iter().all(|sample| sample.error.is_some()));
    }
}
