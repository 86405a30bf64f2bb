//! D-Bus messages as bytes, in this machine's own byte order: what systemd's calls, answers and signals need of them.

use anyhow::{Result, bail};

#[cfg(target_endian = "little")]
const ENDIAN: u8 = b'l';
#[cfg(target_endian = "big")]
const ENDIAN: u8 = b'B';
const VERSION: u8 = 1;
/// Before the header's fields: endianness, kind, flags, version, and the lengths of body and fields with the serial number between.
const FIXED: usize = 16;
/// The specification's.
const LONGEST: usize = 128 << 20;

/// The header's fields by number.
mod field {
    pub const PATH: u8 = 1;
    pub const INTERFACE: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const ERROR: u8 = 4;
    pub const REPLY_TO: u8 = 5;
    pub const DESTINATION: u8 = 6;
    pub const SIGNATURE: u8 = 8;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Call = 1,
    Return,
    Error,
    Signal,
}

#[derive(Debug)]
pub struct Message {
    pub kind: Kind,
    pub member: String,
    pub error: Option<String>,
    pub reply_to: Option<u32>,
    signature: String,
    pub body: Vec<u8>,
}

impl Message {
    /// The first argument, where that is text.
    pub fn text(&self) -> Option<String> {
        self.signature.starts_with('s').then(|| Reader { bytes: &self.body, at: 0 }.text())?
    }

    /// The first argument, where that is true or false.
    pub fn flag(&self) -> Option<bool> {
        self.signature.starts_with('b').then(|| Reader { bytes: &self.body, at: 0 }.number())?.map(|n| n != 0)
    }
}

/// A unit's property as its manager takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
}

pub type Property = (&'static str, Value);

/// A call's arguments with their signature.
#[derive(Debug, Default)]
pub struct Body {
    signature: String,
    writer: Writer,
}

impl Body {
    pub fn text(mut self, text: &str) -> Body {
        self.signature.push('s');
        self.writer.text(text);
        self
    }

    pub fn flag(mut self, flag: bool) -> Body {
        self.signature.push('b');
        self.writer.number(flag.into());
        self
    }

    pub fn properties(mut self, properties: &[Property]) -> Body {
        self.signature.push_str("a(sv)");
        self.writer.array(|w| {
            for (name, value) in properties {
                w.pad(8);
                w.text(name);
                w.value(value);
            }
        });
        self
    }

    /// The units that a transient unit brings along: none.
    pub fn no_units(mut self) -> Body {
        self.signature.push_str("a(sa(sv))");
        self.writer.array(|_| ());
        self
    }
}

/// A call of the manager's own methods.
pub fn call(serial: u32, method: &str, body: Body) -> Vec<u8> {
    let fields = [
        (field::PATH, Field::Path("/org/freedesktop/systemd1")),
        (field::INTERFACE, Field::Text("org.freedesktop.systemd1.Manager")),
        (field::MEMBER, Field::Text(method)),
        (field::DESTINATION, Field::Text("org.freedesktop.systemd1")),
        (field::SIGNATURE, Field::Signature(&body.signature)),
    ];
    encode(Kind::Call, serial, &fields, &body.writer.0)
}

enum Field<'a> {
    Path(&'a str),
    Text(&'a str),
    Signature(&'a str),
    #[cfg(test)]
    Number(u32),
}

fn encode(kind: Kind, serial: u32, fields: &[(u8, Field<'_>)], body: &[u8]) -> Vec<u8> {
    let mut w = Writer(vec![ENDIAN, kind as u8, 0, VERSION]);
    w.number(u32::try_from(body.len()).unwrap_or(u32::MAX));
    w.number(serial);
    w.array(|w| {
        for (number, field) in fields {
            w.pad(8);
            w.0.push(*number);
            match field {
                Field::Path(text) => {
                    w.signature("o");
                    w.text(text);
                }
                Field::Text(text) => {
                    w.signature("s");
                    w.text(text);
                }
                Field::Signature(text) => {
                    w.signature("g");
                    w.signature(text);
                }
                #[cfg(test)]
                Field::Number(n) => {
                    w.signature("u");
                    w.number(*n);
                }
            }
        }
    });
    w.pad(8);
    w.0.extend_from_slice(body);
    w.0
}

/// Every value stands where its own size divides its distance from the message's beginning.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn pad(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, n: u32) {
        self.pad(4);
        self.0.extend_from_slice(&n.to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(signature.as_bytes());
        self.0.push(0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Flag(flag) => {
                self.signature("b");
                self.number((*flag).into());
            }
            Value::Number(n) => {
                self.signature("t");
                self.pad(8);
                self.0.extend_from_slice(&n.to_ne_bytes());
            }
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
        }
    }

    /// Of structures: its length does not count what brings the first one to its place.
    fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let length_at = self.0.len() - 4;
        self.pad(8);
        let start = self.0.len();
        elements(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The first message with its length; `None` if it is not all there yet.
pub fn message(received: &[u8]) -> Result<Option<(Message, usize)>> {
    if received.len() < FIXED {
        return Ok(None);
    }
    if received[0] != ENDIAN || received[3] != VERSION {
        bail!("systemd speaks another D-Bus than this machine");
    }
    let size = |at| Reader { bytes: received, at }.number().map_or(LONGEST, |n| n as usize);
    let (body, fields) = (size(4), size(12));
    let start = fields.saturating_add(FIXED).next_multiple_of(8);
    let length = start.saturating_add(body);
    if length > LONGEST {
        bail!("systemd announces a message of {length} bytes");
    }
    let Some(whole) = received.get(..length) else { return Ok(None) };
    let kind = match whole[1] {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        _ => Kind::Signal,
    };
    let mut message = Message {
        kind,
        member: String::new(),
        error: None,
        reply_to: None,
        signature: String::new(),
        body: whole[start..].to_vec(),
    };
    let mut reader = Reader { bytes: &whole[..FIXED + fields], at: FIXED };
    while reader.at < FIXED + fields {
        if reader.field(&mut message).is_none() {
            bail!("systemd's message cannot be read");
        }
    }
    Ok(Some((message, length)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.ended(length)
    }

    fn ended(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Some(text)
    }

    fn field(&mut self, message: &mut Message) -> Option<()> {
        self.at = self.at.next_multiple_of(8);
        let number = self.byte()?;
        match self.signature()?.as_str() {
            "s" | "o" => {
                let text = self.text()?;
                match number {
                    field::MEMBER => message.member = text,
                    field::ERROR => message.error = Some(text),
                    _ => {}
                }
            }
            "g" => {
                let text = self.signature()?;
                if number == field::SIGNATURE {
                    message.signature = text;
                }
            }
            "u" => {
                let n = self.number()?;
                if number == field::REPLY_TO {
                    message.reply_to = Some(n);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// What systemd says, for a manager that tests play.
#[cfg(test)]
mod played {
    use super::super::Answer;
    use super::*;

    pub fn answer(serial: u32, to: u32, answer: &Answer) -> Vec<u8> {
        match answer {
            Answer::Done => encode(Kind::Return, serial, &[(field::REPLY_TO, Field::Number(to))], &[]),
            Answer::Refused(name, text) => {
                let body = Body::default().text(text);
                let fields = [
                    (field::REPLY_TO, Field::Number(to)),
                    (field::ERROR, Field::Text(name)),
                    (field::SIGNATURE, Field::Signature(&body.signature)),
                ];
                encode(Kind::Error, serial, &fields, &body.writer.0)
            }
        }
    }

    pub fn signal(serial: u32, member: &str, flag: bool) -> Vec<u8> {
        let body = Body::default().flag(flag);
        let fields = [
            (field::PATH, Field::Path("/org/freedesktop/systemd1")),
            (field::MEMBER, Field::Text(member)),
            (field::SIGNATURE, Field::Signature(&body.signature)),
        ];
        encode(Kind::Signal, serial, &fields, &body.writer.0)
    }
}

#[cfg(test)]
pub use played::{answer, signal};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Byte for byte as the specification lays it out.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_property_stands_where_it_has_to() {
        let body = Body::default().text("a").properties(&[("CPUWeight", Value::Number(7))]);
        assert_eq!(body.signature, "sa(sv)");
        let expected = [
            &b"\x01\0\0\0a\0\0\0"[..], // a text's length, the text, its end; filled up to 4
            b"\x20\0\0\0\0\0\0\0",     // the array's length; filled up to 8
            b"\x09\0\0\0CPUWeight\0",  // the name
            b"\x01t\0\0\0\0\0\0\0\0",  // the value's type; filled up to 8
            b"\x07\0\0\0\0\0\0\0",     // the value
        ];
        assert_eq!(body.writer.0, expected.concat());
    }

    #[test]
    fn what_is_written_is_read_back_when_all_of_it_is_there() {
        let whole = call(5, "StopUnit", Body::default().text("a.slice").flag(true));
        for cut in 0..whole.len() {
            assert!(message(&whole[..cut]).unwrap().is_none(), "{cut}");
        }
        let (read, length) = message(&[whole.as_slice(), b"more"].concat()).unwrap().unwrap();
        assert_eq!((read.kind, read.member.as_str(), length), (Kind::Call, "StopUnit", whole.len()));
        assert_eq!((read.signature.as_str(), read.text().as_deref(), read.flag()), ("sb", Some("a.slice"), None));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        assert!(message(&[b'x'; 16]).is_err(), "neither byte order");
        let mut endless = call(5, "StopUnit", Body::default());
        endless[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(message(&endless).is_err());
        let whole = call(5, "StopUnit", Body::default().text("a"));
        for at in FIXED..whole.len() {
            let mut broken = whole.clone();
            broken[at] = 0xff;
            // read or refused, but never a panic
            drop(message(&broken));
        }
    }
}
