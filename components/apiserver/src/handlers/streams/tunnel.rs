//! Port-forward: the client's SPDY connection lies inside the binary messages of its WebSocket (KEP-4006).

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::{Socket, farewell};

const CHUNK: usize = 32 * 1024;

/// Until one side ends.
pub async fn carry<K>(socket: Socket, kubelet: K) -> anyhow::Result<()>
where
    K: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(kubelet);
    let (mut to_client, mut from_client) = socket.split();
    let outward = async {
        let mut chunk = BytesMut::new();
        loop {
            chunk.reserve(CHUNK);
            if reader.read_buf(&mut chunk).await? == 0 {
                to_client.send(farewell()).await?;
                return anyhow::Ok(());
            }
            to_client.send(Message::Binary(chunk.split().freeze())).await?;
        }
    };
    let inward = async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Binary(bytes) => {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    }
}
