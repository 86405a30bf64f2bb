//! `/health` (the process answers) and `/ready` (it knows the whole cluster and stays).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Ready when everything waited for has happened and nobody said that the end is near.
#[derive(Clone, Default)]
pub struct Readiness(Arc<State>);

#[derive(Default)]
struct State {
    registered: AtomicUsize,
    waiting: AtomicUsize,
    leaving: AtomicBool,
}

impl Readiness {
    /// Ready only after the returned function was called.
    pub fn wait_for_one_more(&self) -> impl FnOnce() + use<> {
        self.0.registered.fetch_add(1, Ordering::SeqCst);
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(&self.0);
        move || {
            state.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::SeqCst);
    }

    pub fn is_synced(&self) -> bool {
        self.0.registered.load(Ordering::SeqCst) > 0 && self.0.waiting.load(Ordering::SeqCst) == 0
    }

    pub fn is_ready(&self) -> bool {
        self.is_synced() && !self.0.leaving.load(Ordering::SeqCst)
    }
}

/// Answers probes forever.
pub async fn serve(listener: TcpListener, readiness: Readiness) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let readiness = readiness.clone();
                tokio::spawn(tokio::time::timeout(Duration::from_secs(5), async move {
                    // A prober that went away needs no answer.
                    let _ = answer(stream, &readiness).await;
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a probe");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, readiness: &Readiness) -> std::io::Result<()> {
    let mut request = Vec::new();
    while request.len() < 8192 && !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let path = String::from_utf8_lossy(line).split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, text) = match path.as_str() {
        "/health" | "/healthz" => ("200 OK", "ok"),
        "/ready" | "/readyz" if readiness.is_ready() => ("200 OK", "ok"),
        "/ready" | "/readyz" => ("503 Service Unavailable", "not ready"),
        _ => ("404 Not Found", "try /health or /ready"),
    };
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.lines().next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn ready_after_everything_and_until_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::default();
        let (one, two) = (readiness.wait_for_one_more(), readiness.wait_for_one_more());
        tokio::spawn(serve(listener, readiness.clone()));
        one();
        assert!(get(address, "/ready").await.contains("503"));
        assert!(get(address, "/health").await.contains("200"));
        two();
        assert!(get(address, "/ready").await.contains("200"));
        readiness.leave();
        assert!(get(address, "/ready").await.contains("503"));
        assert!(get(address, "/x").await.contains("404"));
    }
}
