//! exec and attach: channels of one WebSocket to and from streams of one SPDY connection.

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use machinery::request_info::{query_bool, query_pairs};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_tungstenite::tungstenite::Message;

use super::{
    Socket, farewell,
    spdy::{self, Frame, Writer},
};

/// First byte of a message that closes a channel.
const CLOSE: u8 = 255;

/// The streams of a request, in the order in which clients open them, with the channels they are on the WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(Vec<(&'static str, u8)>);

impl Wanted {
    /// From the kubelet's own query.
    pub fn of(path: &str) -> Self {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let flag = |name: &str| query_pairs(query).any(|(k, v)| k == name && query_bool(&v));
        let mut streams = vec![("error", 3)];
        let terminal = flag("tty");
        for (name, wanted, channel) in [
            ("stdin", flag("input"), 0),
            ("stdout", flag("output"), 1),
            // a terminal has one output
            ("stderr", flag("error") && !terminal, 2),
            ("resize", terminal, 4),
        ] {
            if wanted {
                streams.push((name, channel));
            }
        }
        Wanted(streams)
    }

    /// Clients' streams have odd numbers.
    fn stream(&self, channel: u8) -> Option<u32> {
        let at = self.0.iter().position(|(_, own)| *own == channel)?;
        u32::try_from(2 * at + 1).ok()
    }

    fn channel(&self, stream: u32) -> Option<u8> {
        self.0.iter().map(|(_, channel)| *channel).find(|channel| self.stream(*channel) == Some(stream))
    }
}

/// Until the process has ended and its outcome is told, or one side goes away.
pub async fn carry<K>(socket: Socket, kubelet: K, wanted: Wanted) -> anyhow::Result<()>
where
    K: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, mut writer) = tokio::io::split(kubelet);
    let mut frames = Writer::default();
    for (name, channel) in &wanted.0 {
        let stream = wanted.stream(*channel).context("a stream without number")?;
        writer.write_all(&frames.syn_stream(stream, &[("streamtype", name)])).await?;
    }
    writer.flush().await?;
    let (to_client, from_client) = socket.split();
    // frames that answer the kubelet itself go the same way as the client's
    let (pongs, to_answer) = tokio::sync::mpsc::channel(8);
    tokio::select! {
        ended = outward(reader, to_client, &wanted, pongs) => ended,
        ended = inward(from_client, writer, &wanted, to_answer) => ended,
    }
}

type ToClient = futures::stream::SplitSink<Socket, Message>;
type FromClient = futures::stream::SplitStream<Socket>;

/// What the process writes, and how it ended.
async fn outward<K: AsyncRead + AsyncWrite + Unpin>(
    mut kubelet: ReadHalf<K>,
    mut client: ToClient,
    wanted: &Wanted,
    pongs: tokio::sync::mpsc::Sender<Bytes>,
) -> anyhow::Result<()> {
    let mut open: Vec<u8> = wanted.0.iter().map(|(_, channel)| *channel).filter(|c| matches!(c, 1..=3)).collect();
    while !open.is_empty() {
        let Some(frame) = spdy::read(&mut kubelet).await? else { break };
        match frame {
            Frame::Data { stream, bytes, last } => {
                let Some(channel) = wanted.channel(stream) else { continue };
                if !bytes.is_empty() {
                    client.send(Message::Binary(prefixed(channel, &bytes))).await?;
                }
                if last {
                    open.retain(|c| *c != channel);
                }
            }
            Frame::Reset { stream } => open.retain(|c| Some(*c) != wanted.channel(stream)),
            Frame::Ping(frame) => pongs.send(frame).await.context("nobody answers pings any more")?,
            Frame::GoAway => break,
            Frame::Other => {}
        }
    }
    client.send(farewell()).await?;
    client.close().await?;
    Ok(())
}

/// What the client types, the size of its terminal, the end of its input.
async fn inward<K: AsyncRead + AsyncWrite + Unpin>(
    mut client: FromClient,
    mut kubelet: WriteHalf<K>,
    wanted: &Wanted,
    mut pongs: tokio::sync::mpsc::Receiver<Bytes>,
) -> anyhow::Result<()> {
    loop {
        let frame = tokio::select! {
            Some(pong) = pongs.recv() => Some(pong),
            message = client.next() => match message {
                None | Some(Ok(Message::Close(_))) => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Message::Binary(bytes))) => frame(&bytes, wanted),
                // the library answers pings by itself
                Some(Ok(_)) => None,
            },
        };
        if let Some(frame) = frame {
            kubelet.write_all(&frame).await?;
            kubelet.flush().await?;
        }
    }
}

/// The SPDY frame of a message; messages of channels that were not asked for are dropped.
fn frame(message: &[u8], wanted: &Wanted) -> Option<Bytes> {
    match message {
        [CLOSE, channel] => Some(spdy::data(wanted.stream(*channel)?, &[], true)),
        [channel @ (0 | 4), bytes @ ..] => Some(spdy::data(wanted.stream(*channel)?, bytes, false)),
        _ => None,
    }
}

fn prefixed(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.extend_from_slice(&[channel]);
    message.extend_from_slice(bytes);
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_channels() {
        let wanted = Wanted::of("/exec/n/p/c?input=1&output=1&error=1&command=sh");
        assert_eq!(wanted.0, [("error", 3), ("stdin", 0), ("stdout", 1), ("stderr", 2)]);
        assert_eq!((wanted.stream(0), wanted.channel(5), wanted.channel(9)), (Some(3), Some(1), None));
        let terminal = Wanted::of("/exec/n/p/c?output=1&error=1&tty=1");
        assert_eq!(terminal.0, [("error", 3), ("stdout", 1), ("resize", 4)]);
        assert_eq!(Wanted::of("/exec/n/p/c").0, [("error", 3)]);
    }

    #[test]
    fn messages_become_frames() {
        let wanted = Wanted::of("/x?input=1&output=1");
        assert_eq!(frame(&[0, b'a'], &wanted), Some(spdy::data(3, b"a", false)));
        assert_eq!(frame(&[255, 0], &wanted), Some(spdy::data(3, b"", true)));
        assert_eq!((frame(&[4, b'{'], &wanted), frame(&[1, b'x'], &wanted), frame(&[], &wanted)), (None, None, None));
    }
}
