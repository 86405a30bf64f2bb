//! Constant requests while something else happens: every response is checked, every failure kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::scenario::until_ok;

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(5);

/// How a client treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// A new one for each request.
    Each,
    /// One for all. A server may end it between two answers; what is asked then is asked again on a new one, as clients do.
    Kept,
}

/// One client: `GET /` with this Host header, until the end.
#[derive(Clone, Debug)]
pub struct Client {
    pub name: String,
    pub address: SocketAddr,
    pub host: String,
    pub connections: Connections,
    /// Part of every right answer.
    pub expect: &'static str,
}

/// What came of one client.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub name: String,
    pub requests: usize,
    /// Kept connections that the server ended between two answers.
    pub ended: usize,
    /// Seconds since the start, and what was wrong.
    pub failures: Vec<(f64, String)>,
    /// The longest time without a right answer.
    pub outage: Duration,
}

/// Waits until each of these is answered: proxies and ingress hear of pods a moment after kubectl does. What fails after that is
/// the fault of what is done.
pub fn every_way_leads(clients: &[Client]) -> Result<()> {
    until_ok(Duration::from_secs(30), "every way leads to the application", || {
        let load = Load::start(clients.to_vec());
        std::thread::sleep(Duration::from_millis(100));
        load.all_good().map(drop)
    })
}

pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Outcome>>,
}

impl Load {
    pub fn start(clients: Vec<Client>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |client: Client| {
            let stop = stop.clone();
            std::thread::spawn(move || run(&client, &stop))
        };
        let clients = clients.into_iter().map(start).collect();
        Self { stop, clients }
    }

    /// Ends it; gives each client's outcome.
    pub fn stop(self) -> Result<Vec<Outcome>> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))).collect()
    }

    /// Ends it; nothing may have failed.
    pub fn all_good(self) -> Result<Vec<Outcome>> {
        let outcomes = self.stop()?;
        let failed: Vec<_> = outcomes
            .iter()
            .filter(|outcome| !outcome.failures.is_empty())
            .map(|outcome| {
                let first: Vec<_> =
                    outcome.failures.iter().take(5).map(|(at, why)| format!("{at:.2} s: {why}")).collect();
                format!(
                    "{}: {} of {} failed, longest outage {:.2} s: {}",
                    outcome.name,
                    outcome.failures.len(),
                    outcome.requests,
                    outcome.outage.as_secs_f64(),
                    first.join("; ")
                )
            })
            .collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        ensure!(outcomes.iter().all(|outcome| outcome.requests > 0), "a client has asked for nothing");
        Ok(outcomes)
    }
}

fn run(client: &Client, stop: &AtomicBool) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome { name: client.name.clone(), ..Outcome::default() };
    let mut kept: Option<BufReader<TcpStream>> = None;
    let mut good = started;
    while !stop.load(Ordering::Relaxed) {
        outcome.requests += 1;
        match ask(client, &mut kept) {
            Ok(ended) => {
                outcome.ended += usize::from(ended);
                outcome.outage = outcome.outage.max(good.elapsed());
                good = Instant::now();
            }
            Err(error) => {
                kept = None;
                outcome.failures.push((started.elapsed().as_secs_f64(), format!("{error:#}")));
            }
        }
        std::thread::sleep(PAUSE);
    }
    outcome.outage = outcome.outage.max(good.elapsed());
    outcome
}

/// One request. Whether the kept connection had been ended.
fn ask(client: &Client, kept: &mut Option<BufReader<TcpStream>>) -> Result<bool> {
    if let Some(mut connection) = kept.take() {
        let begun = send(client, &mut connection).and_then(|()| Ok(!connection.fill_buf()?.is_empty()));
        // the server has closed it without having answered anything: it has not begun either
        if begun.unwrap_or(false) {
            return finish(client, connection, kept).map(|()| false);
        }
        return fresh(client, kept).map(|()| true);
    }
    fresh(client, kept).map(|()| false)
}

fn fresh(client: &Client, kept: &mut Option<BufReader<TcpStream>>) -> Result<()> {
    let stream = TcpStream::connect_timeout(&client.address, LIMIT).context("cannot connect")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    send(client, &mut connection)?;
    finish(client, connection, kept)
}

fn send(client: &Client, connection: &mut BufReader<TcpStream>) -> Result<()> {
    let close = if client.connections == Connections::Each { "close" } else { "keep-alive" };
    write!(connection.get_mut(), "GET / HTTP/1.1\r\nHost: {}\r\nConnection: {close}\r\n\r\n", client.host)
        .context("cannot send")
}

fn finish(
    client: &Client,
    mut connection: BufReader<TcpStream>,
    kept: &mut Option<BufReader<TcpStream>>,
) -> Result<()> {
    let Answer { status, body, closes } = response(&mut connection).context("no whole answer")?;
    ensure!(status == 200 && body.contains(client.expect), "status {status}: {:?}", body.trim());
    // a server may say goodbye with an answer
    if client.connections == Connections::Kept && !closes {
        *kept = Some(connection);
    }
    Ok(())
}

struct Answer {
    status: u16,
    body: String,
    /// It is the last on its connection.
    closes: bool,
}

/// An answer with `Content-Length` or in chunks.
fn response(connection: &mut BufReader<TcpStream>) -> Result<Answer> {
    let status = line(connection)?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.with_context(|| format!("the answer begins with {status:?}"))?;
    let (mut length, mut chunked, mut closes) = (None, false, false);
    loop {
        let header = line(connection)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>()?);
        }
        closes |= header.starts_with("connection:") && header.contains("close");
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = usize::from_str_radix(&line(connection)?, 16).context("a chunk without its size")?;
            let start = body.len();
            body.resize(start + size, 0);
            connection.read_exact(&mut body[start..])?;
            line(connection)?;
            if size == 0 {
                break;
            }
        }
    } else {
        body.resize(length.context("an answer without its length")?, 0);
        connection.read_exact(&mut body)?;
    }
    Ok(Answer { status: code, body: String::from_utf8_lossy(&body).into_owned(), closes })
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    ensure!(connection.read_line(&mut line)? > 0, "the connection was closed");
    Ok(line.trim_end().to_owned())
}
