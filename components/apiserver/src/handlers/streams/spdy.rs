//! As much of SPDY/3.1 as a client needs to open streams and carry bytes (the SPDY draft 3.1 specification).
//!
//! Header blocks are one zlib stream over all frames of a connection. Ours holds stored blocks only, each with the empty block after it
//! that a reader needs to give out what it has; answers' header blocks are not read at all.

use anyhow::{Context, bail};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// Frames carry at most 2^24 − 1 bytes; runtimes send some ten KiB.
const FRAME_LIMIT: usize = 1 << 24;

/// What comes from the other side, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a stream; `last`: no more will come on it.
    Data {
        stream: u32,
        bytes: Bytes,
        last: bool,
    },
    /// A stream was broken off.
    Reset {
        stream: u32,
    },
    /// To be sent back as it is.
    Ping(Bytes),
    GoAway,
    Other,
}

/// Writes frames; keeps what spans them.
#[derive(Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    /// Opens a stream. Clients' streams have odd numbers, each greater than the last.
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let block = self.header_block(headers);
        let mut frame = BytesMut::new();
        control(&mut frame, SYN_STREAM, block.len() + 10);
        frame.put_u32(stream);
        frame.put_u32(0);
        frame.put_u16(0);
        frame.extend_from_slice(&block);
        frame.freeze()
    }

    fn header_block(&mut self, headers: &[(&str, &str)]) -> BytesMut {
        let mut plain = BytesMut::new();
        plain.put_u32(length(headers.len()));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(length(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = BytesMut::new();
        if !std::mem::replace(&mut self.begun, true) {
            block.extend_from_slice(&[0x78, 0x01]);
        }
        stored(&mut block, &plain);
        stored(&mut block, &[]);
        block
    }
}

/// Bytes for a stream.
pub fn data(stream: u32, bytes: &[u8], last: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + bytes.len());
    frame.put_u32(stream & 0x7fff_ffff);
    frame.put_u32(u32::from(if last { FIN } else { 0 }) << 24 | length(bytes.len()));
    frame.extend_from_slice(bytes);
    frame.freeze()
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn control(frame: &mut BytesMut, kind: u16, payload: usize) {
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(length(payload));
}

/// A block of deflate that is not compressed.
fn stored(block: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    block.put_u8(0);
    block.put_u16_le(length);
    block.put_u16_le(!length);
    block.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Reads the next frame; `None` at the end of the connection.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<Frame>> {
    let mut head = [0; 8];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await.context("the connection ended within a frame")?;
    let [first, second] = [word(&head[..4]), word(&head[4..])];
    let size = usize::try_from(second & 0x00ff_ffff)?;
    if size > FRAME_LIMIT {
        bail!("a frame of {size} bytes");
    }
    let mut payload = BytesMut::zeroed(size);
    from.read_exact(&mut payload).await.context("the connection ended within a frame")?;
    let payload = payload.freeze();
    if first & 0x8000_0000 == 0 {
        let last = head[4] & FIN != 0;
        return Ok(Some(Frame::Data { stream: first, bytes: payload, last }));
    }
    let kind = u16::from_be_bytes([head[2], head[3]]);
    Ok(Some(match kind {
        RST_STREAM if size >= 4 => Frame::Reset { stream: word(&payload[..4]) & 0x7fff_ffff },
        PING => {
            let mut frame = BytesMut::from(&head[..]);
            frame.extend_from_slice(&payload);
            Frame::Ping(frame.freeze())
        }
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{Decompress, FlushDecompress};

    #[test]
    fn header_blocks_are_one_zlib_stream() {
        let mut writer = Writer::default();
        let mut inflate = Decompress::new(true);
        for (stream, kind) in [(1, "error"), (3, "stdin")] {
            let frame = writer.syn_stream(stream, &[("streamtype", kind)]);
            assert_eq!(&frame[..4], [0x80, 3, 0, 1]);
            assert_eq!(word(&frame[4..8]) as usize, frame.len() - 8);
            assert_eq!(word(&frame[8..12]), stream);
            let (mut plain, block) = (Vec::with_capacity(256), &frame[18..]);
            let before = inflate.total_in();
            inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(usize::try_from(inflate.total_in() - before).unwrap(), block.len(), "nothing is left over");
            let mut expected = BytesMut::new();
            expected.put_u32(1);
            for text in ["streamtype", kind] {
                expected.put_u32(u32::try_from(text.len()).unwrap());
                expected.extend_from_slice(text.as_bytes());
            }
            assert_eq!(plain, expected);
        }
    }

    #[tokio::test]
    async fn frames_are_read() {
        let mut wire = BytesMut::new();
        wire.extend_from_slice(&data(5, b"hello", true));
        wire.extend_from_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
        wire.extend_from_slice(&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1]);
        let mut wire = &wire[..];
        assert_eq!(
            read(&mut wire).await.unwrap(),
            Some(Frame::Data { stream: 5, bytes: Bytes::from_static(b"hello"), last: true })
        );
        assert!(matches!(read(&mut wire).await.unwrap(), Some(Frame::Ping(bytes)) if bytes.len() == 12));
        assert_eq!(read(&mut wire).await.unwrap(), Some(Frame::Reset { stream: 5 }));
        assert_eq!(read(&mut wire).await.unwrap(), None);
        assert!(read(&mut &[0u8, 0, 0][..]).await.is_err());
    }
}
