//! Netlink messages as bytes (RFC 3549, `linux/netlink.h`): a header, a family header, then attributes aligned to 4.

pub const HEADER: usize = 16;

pub mod flag {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// Appends messages to one buffer.
#[derive(Default)]
pub struct Writer {
    pub buf: Vec<u8>,
    /// Where the message being written starts.
    start: usize,
}

impl Writer {
    /// Writes one message; the length is filled in once `body` has written its attributes.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, body: impl FnOnce(&mut Self)) {
        self.start = self.buf.len();
        self.buf.extend_from_slice(&0u32.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(&flags.to_ne_bytes());
        self.buf.extend_from_slice(&seq.to_ne_bytes());
        self.buf.extend_from_slice(&0u32.to_ne_bytes());
        body(self);
        let len = (self.buf.len() - self.start) as u32;
        self.buf[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    pub fn attr(&mut self, kind: u16, data: &[u8]) {
        let len = (4 + data.len()) as u16;
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(data);
        self.pad();
    }

    pub fn be16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A string attribute, ended by a zero byte as the kernel's names are.
    pub fn str(&mut self, kind: u16, value: &str) {
        let len = (5 + value.len()) as u16;
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.pad();
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0, 0]);
        self.buf.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let len = (self.buf.len() - start) as u16;
        self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.buf.resize(align(self.buf.len()), 0);
    }
}

/// One received message.
pub struct Message<'a> {
    pub kind: u16,
    pub seq: u32,
    pub payload: &'a [u8],
}

/// Splits a received buffer into messages; stops at the first one that does not fit.
pub fn messages(mut buf: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = buf.get(..HEADER)?;
        let len = u32_at(header, 0)? as usize;
        let whole = buf.get(..len).filter(|whole| whole.len() >= HEADER)?;
        let kind = u16_at(header, 4)?;
        let seq = u32_at(header, 8)?;
        buf = buf.get(align(len)..).unwrap_or_default();
        Some(Message { kind, seq, payload: &whole[HEADER..] })
    })
}

/// Splits a byte string into attributes (type without flag bits, value).
pub fn attrs(mut buf: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(buf, 0)?);
        let kind = u16_at(buf, 2)? & TYPE_MASK;
        let value = buf.get(4..len)?;
        buf = buf.get(align(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub fn attr(buf: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(buf).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

pub fn u16_at(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(buf.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(buf: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(buf.get(at..at + 4)?.try_into().ok()?))
}

/// A zero-ended string.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut w = Writer::default();
        w.message(7, flag::REQUEST, 42, |w| {
            w.raw(&[1, 2, 3, 4]);
            w.str(1, "ab");
            w.nest(2, |w| w.be16(3, 0x1234));
        });
        w.message(8, 0, 43, |_| {});
        let all: Vec<_> = messages(&w.buf).collect();
        assert_eq!((all.len(), all[0].kind, all[0].seq, all[1].seq), (2, 7, 42, 43));
        let body = &all[0].payload[4..];
        assert_eq!(text(attr(body, 1).unwrap()), "ab");
        assert_eq!(attr(attr(body, 2).unwrap(), 3).unwrap(), &[0x12, 0x34]);
    }

    #[test]
    fn truncated_input_ends_the_walk() {
        assert_eq!(messages(&[9, 0, 0]).count(), 0);
        assert_eq!(messages(&[0u8; 32]).count(), 0, "a length below the header is not a message");
        assert_eq!(attrs(&[2, 0, 1, 0]).count(), 0, "a length below the attribute header is not an attribute");
        assert_eq!(attrs(&[40, 0, 1, 0, 5]).count(), 0);
    }
}
