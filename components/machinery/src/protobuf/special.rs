//! Types whose JSON is not what their message looks like: times, quantities, numbers or names.

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    DecodeError,
    wire::{self, Raw, Reader},
};
use crate::time as format;

/// `metav1.Time` and `MicroTime`: whole seconds since 1970, and nanoseconds that only the latter uses (to the microsecond).
pub fn put_time(out: &mut Vec<u8>, text: &str, micro: bool) {
    let Some(at) = format::parse(text) else { return };
    wire::put_int(out, 1, at.unix_timestamp());
    let nanos = if micro { i64::from(at.microsecond()) * 1000 } else { 0 };
    wire::put_int(out, 2, nanos);
}

/// `None`: no time at all.
pub fn time(bytes: &[u8], micro: bool) -> Result<Option<Value>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        match (number, raw) {
            (1, Raw::Varint(n)) => seconds = signed(n),
            (2, Raw::Varint(n)) => nanos = signed(n),
            _ => {}
        }
    }
    let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else { return Err(DecodeError::Overflow) };
    if !micro {
        return Ok(Some(format::rfc3339(at).into()));
    }
    let at = u32::try_from(nanos).ok().and_then(|n| at.replace_nanosecond(n).ok()).ok_or(DecodeError::Overflow)?;
    Ok(Some(format::rfc3339_micro(at).into()))
}

pub fn signed(varint: u64) -> i64 {
    #[allow(clippy::cast_possible_wrap)]
    let value = varint as i64;
    value
}

/// 32-bit numbers: the rest of the varint is cut off, as Go does.
pub fn signed32(varint: u64) -> i32 {
    #[allow(clippy::cast_possible_truncation)]
    let value = varint as i32;
    value
}

/// `intstr.IntOrString`: which of the two, the number, the text.
pub fn put_int_or_string(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => {
            wire::put_int(out, 1, 1);
            wire::put_bytes(out, 3, text.as_bytes());
        }
        other => {
            wire::put_int(out, 1, 0);
            wire::put_int(out, 2, other.as_i64().unwrap_or(0));
        }
    }
}

pub fn int_or_string(bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((field, raw)) = reader.next()? {
        match (field, raw) {
            (1, Raw::Varint(n)) => is_text = n == 1,
            (2, Raw::Varint(n)) => number = signed32(n),
            (3, Raw::Bytes(b)) => text = std::str::from_utf8(b).map_err(|_| DecodeError::Utf8(name))?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// The bytes under the only field of a message that wraps something.
pub fn wrapped(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let mut found: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if let (1, Raw::Bytes(inner)) = (number, raw) {
            found = inner;
        }
    }
    Ok(found)
}
