//! A socket whose bytes come late, and are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

const CHUNK: usize = 64 * 1024;
/// How much may be under way in each direction: 64 MiB, more than any bandwidth here fills within the delay.
const CHUNKS: usize = 1024;

/// Bytes on the wire, of all connections.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the operator to hosts.
    pub up: AtomicU64,
    pub down: AtomicU64,
}

impl Traffic {
    /// (sent by the operator, received by it).
    pub fn read(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// The other end of `socket`, each direction of which takes half of `round_trip` longer than it does. Only the handshake of TCP
/// itself is not slowed down.
pub fn delayed(socket: TcpStream, round_trip: Duration, traffic: &Arc<Traffic>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(CHUNK * 4);
    let (from_operator, to_operator) = socket.into_split();
    let (from_host, to_host) = tokio::io::split(ours);
    let (up, down) = (traffic.clone(), traffic.clone());
    tokio::spawn(async move { pump(from_operator, to_host, round_trip / 2, &up.up).await });
    tokio::spawn(async move { pump(from_host, to_operator, round_trip / 2, &down.down).await });
    theirs
}

/// Copies until one side ends; ends the other then.
async fn pump(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
    late: Duration,
    count: &AtomicU64,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(CHUNKS);
    let reader = tokio::spawn(async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match from.read_buf(&mut chunk).await {
                Ok(read) if read > 0 => {
                    if sender.send((Instant::now() + late, chunk.freeze())).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    while let Some((due, chunk)) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if to.write_all(&chunk).await.is_err() {
            break;
        }
    }
    reader.abort();
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_takes_a_round_trip_and_every_byte_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (traffic, late) = (Arc::new(Traffic::default()), Duration::from_millis(40));
        let mut server = delayed(listener.accept().await.unwrap().0, late, &traffic);
        let started = Instant::now();
        client.write_all(b"question").await.unwrap();
        let mut buffer = [0; 8];
        server.read_exact(&mut buffer).await.unwrap();
        assert!(started.elapsed() >= late / 2);
        server.write_all(b"answer").await.unwrap();
        client.read_exact(&mut buffer[..6]).await.unwrap();
        assert!(started.elapsed() >= late);
        assert_eq!((&buffer[..6], traffic.read()), (&b"answer"[..], (8, 6)));
        drop(client);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 0, "the end comes through");
    }
}
