//! Is a server ready? It is asked `GET /readyz` every second, over a connection that stays open: its end is noticed at once, and
//! so is, by the kernel's probes, a host that is gone without a word.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pool::Pool;
use crate::server::{Server, State};
use crate::tunnel;

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(1);
/// For an answer, and for TLS: longer than the API server waits for its store before it says no.
const ANSWER: Duration = Duration::from_secs(2);
/// A host that falls silent just after an answer is asked after the one and given up after the other: within three seconds.
const _: () = assert!(PERIOD.as_millis() + ANSWER.as_millis() <= 3000);
/// Most of an answer's body.
const BODY: usize = 64 * 1024;

type Stream = TlsStream<tokio::net::TcpStream>;
type Sender = SendRequest<Empty<Bytes>>;
type Connection = http1::Connection<TokioIo<Stream>, Empty<Bytes>>;

/// How a connection ended.
enum End {
    /// It was good until it was closed: a new one will tell.
    Closed,
    Failed(anyhow::Error),
}

/// Keeps what is known of a server up to date, until it is removed.
pub async fn keep(pool: Arc<Pool>, server: Arc<Server>) {
    let asking = async {
        loop {
            let begun = Instant::now();
            match ask(&pool, &server).await {
                End::Closed if begun.elapsed() > PERIOD => continue,
                End::Closed => {}
                End::Failed(error) => pool.set(&server, State::Lost, &format!("{error:#}")),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = server.doubted.notified() => {}
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = server.removed.cancelled() => {}
    }
}

/// Asks over one connection as long as it lasts.
async fn ask(pool: &Pool, server: &Server) -> End {
    let (mut sender, connection) = match open(server, &pool.ca_file()).await {
        Ok(opened) => opened,
        Err(error) => return End::Failed(error),
    };
    let mut connection = pin!(connection);
    let mut answered = false;
    loop {
        let answer = tokio::select! {
            answer = timeout(ANSWER, readiness(&mut sender, server)) => answer,
            ended = &mut connection => return closed(answered, ended),
        };
        match answer {
            Ok(Ok((state, why))) => pool.set(server, state, &why),
            Ok(Err(error)) if !answered => return End::Failed(error),
            Ok(Err(_)) => return End::Closed,
            Err(_) => return End::Failed(anyhow::anyhow!("no answer to /readyz within {} s", ANSWER.as_secs())),
        }
        answered = true;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = server.doubted.notified() => {}
            ended = &mut connection => return closed(answered, ended),
        }
    }
}

fn closed(answered: bool, ended: hyper::Result<()>) -> End {
    match ended {
        // one that was never any good must not be opened again and again without a pause
        _ if answered => End::Closed,
        Ok(()) => End::Failed(anyhow::anyhow!("the connection was closed before an answer")),
        Err(error) => End::Failed(error.into()),
    }
}

async fn open(server: &Server, ca_file: &Path) -> anyhow::Result<(Sender, Connection)> {
    let stream = tunnel::connect(server).await?;
    let connector = TlsConnector::from(Arc::new(trust(ca_file)?));
    let name = ServerName::from(server.address.ip());
    let stream: Stream =
        timeout(ANSWER, connector.connect(name, stream)).await.context("no answer in TLS")?.context("TLS fails")?;
    Ok(http1::handshake(TokioIo::new(stream)).await?)
}

/// Read for each connection, which are few: so a new authority is known.
fn trust(ca_file: &Path) -> anyhow::Result<ClientConfig> {
    let cannot = || format!("cannot read the authorities in {}", ca_file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).with_context(cannot)? {
        roots.add(certificate.with_context(cannot)?).with_context(cannot)?;
    }
    if roots.is_empty() {
        bail!("{} holds no certificates", ca_file.display());
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

async fn readiness(sender: &mut Sender, server: &Server) -> anyhow::Result<(State, String)> {
    sender.ready().await?;
    let request = Request::get("/readyz").header(header::HOST, server.address.to_string()).body(Empty::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    // the next answer comes after this one's body
    if let Err(error) = Limited::new(answer.into_body(), BODY).collect().await {
        bail!("the answer to /readyz cannot be read: {error}");
    }
    Ok(verdict(status))
}

/// A server that does not tell strangers how it is may be ready: it answers.
fn verdict(status: StatusCode) -> (State, String) {
    match status {
        StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (State::Ready, String::new()),
        other => (State::Unready, format!("/readyz answers {}", other.as_u16())),
    }
}
