//! Connections: accepted, TLS, HTTP/1 or HTTP/2, cut when their clients only hold them.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    activity::{Activity, Answer, Patience, Watched},
    authn::x509::Peer,
    connection::Connection,
    core::Core,
    http::body::BoxError,
    pipeline,
};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams a client may open and reset before anything is done for them, and so for nothing.
const RESET_STREAMS: usize = 100;
/// Seconds of silence after which a connection is asked whether it lives.
const PROBE_SECONDS: u32 = 180;

/// Takes connections until the server stops.
pub async fn accept(core: Arc<Core>, listener: TcpListener, acceptor: TlsAcceptor, connections: TaskTracker) {
    let places = Arc::new(Semaphore::new(core.config.limits.max_connections));
    loop {
        let place = tokio::select! {
            () = core.stopping.cancelled() => return,
            place = places.clone().acquire_owned() => place,
        };
        let (stream, address) = tokio::select! {
            () = core.stopping.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of file descriptors: others must end first
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let serving = connection(core.clone(), stream, address, acceptor.clone());
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

/// Small writes go at once; the far end of a silent connection is asked now and then.
fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &PROBE_SECONDS);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_SECONDS);
}

async fn connection(core: Arc<Core>, stream: TcpStream, address: SocketAddr, acceptor: TlsAcceptor) {
    set_options(&stream);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let session = tls.get_ref().1;
    let chain = session.peer_certificates();
    let about = Arc::new(Connection::of(&core, address.ip(), chain));
    // who is refused may only have come before its time, or our clock was set since
    let refused = about.peer.as_ref().is_some_and(Peer::is_refused).then(|| chain.map(<[_]>::to_vec)).flatten();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let activity = Activity::new();
    let service = {
        let (core, activity) = (core.clone(), activity.clone());
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (core, underway) = (core.clone(), activity.begin());
            let about = match &refused {
                Some(chain) => Arc::new(Connection::of(&core, address.ip(), Some(chain))),
                None => about.clone(),
            };
            async move {
                let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
                let answer = pipeline::serve(core, Some(about), request).await;
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _request: underway }))
            }
        })
    };
    // the protocol is what TLS agreed on: telling it from the first bytes would wait for them without a limit
    let limits = &core.config.limits;
    let ended = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_max_streams_per_connection)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .keep_alive_interval(Duration::from_secs(30));
        let serving = builder.serve_connection(TokioIo::new(tls), service);
        run(&core, serving, |it| it.graceful_shutdown(), &activity).await
    } else {
        let mut builder = http1::Builder::new();
        // a head that does not come is our own affair: between requests patience is longer than within one
        let most = limits.max_header_bytes.max(8192);
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(most).max_header_size(most);
        let io = TokioIo::new(Watched { stream: tls, activity: activity.clone() });
        let serving = builder.serve_connection(io, service).with_upgrades();
        run(&core, serving, |it| it.graceful_shutdown(), &activity).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Drives a connection to its end, which comes early for a client that asks for nothing.
async fn run<C: Future<Output = hyper::Result<()>>>(
    core: &Core,
    serving: C,
    stop: impl FnOnce(Pin<&mut C>),
    activity: &Activity,
) -> hyper::Result<()> {
    let patience = core.config.limits.patience();
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = async {
            core.stopping.cancelled().await;
            // who is answered with an end before the first request has nobody to ask again: it looks like an error
            let _ = tokio::time::timeout(FIRST_REQUEST, activity.asked()).await;
        } => {}
        () = exhausted(activity, patience) => {
            tracing::debug!("a client held its connection and asked for nothing");
            if !core.stopping.is_cancelled() {
                stop(serving.as_mut());
                // whoever does not even read the goodbye is left
                return tokio::time::timeout(FAREWELL, serving).await.unwrap_or(Ok(()));
            }
        }
    }
    stop(serving.as_mut());
    serving.await
}

/// Whoever has just connected did so for a request, and may bring it while the server stops.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How long a client may take to hear that its connection ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Returns when patience is over. A change of state is seen at the next look, not at once: nothing is woken for a request.
async fn exhausted(activity: &Activity, patience: Patience) {
    let rhythm = patience.head.min(patience.idle);
    loop {
        let now = Instant::now();
        let next = match activity.deadline(patience) {
            Some(deadline) if deadline <= now => return,
            Some(deadline) => deadline.min(now + rhythm),
            None => now + rhythm,
        };
        tokio::time::sleep_until(next).await;
    }
}
