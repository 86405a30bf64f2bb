//! The wire format: tags, varints, lengths.

use super::DecodeError;

pub const VARINT: u8 = 0;
pub const FIXED64: u8 = 1;
pub const BYTES: u8 = 2;
pub const FIXED32: u8 = 5;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;

/// One field as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Reads the fields of one message, in order.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            // the tenth byte has room for one bit only
            if i == 9 && *byte > 1 {
                return Err(DecodeError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() >= 10 { DecodeError::Overflow } else { DecodeError::Truncated })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next field; `None` at the end. Groups, which no Kubernetes type has, are skipped as unknown.
    pub fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, DecodeError> {
        loop {
            if self.is_empty() {
                return Ok(None);
            }
            let (number, wire) = self.tag()?;
            if wire == START_GROUP {
                self.skip_group()?;
                continue;
            }
            return Ok(Some((number, self.payload(wire)?)));
        }
    }

    fn tag(&mut self) -> Result<(u32, u8), DecodeError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| DecodeError::Overflow)?;
        if number == 0 {
            return Err(DecodeError::Tag);
        }
        #[allow(clippy::cast_possible_truncation)]
        Ok((number, (tag & 7) as u8))
    }

    fn payload(&mut self, wire: u8) -> Result<Raw<'a>, DecodeError> {
        Ok(match wire {
            VARINT => Raw::Varint(self.varint()?),
            FIXED64 => Raw::Fixed64(u64::from_le_bytes(self.array()?)),
            FIXED32 => Raw::Fixed32(u32::from_le_bytes(self.array()?)),
            BYTES => {
                let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
                Raw::Bytes(self.take(length)?)
            }
            other => return Err(DecodeError::WireType(other)),
        })
    }

    /// Everything up to the end of the group that has just begun.
    fn skip_group(&mut self) -> Result<(), DecodeError> {
        let mut open = 1;
        while open > 0 {
            match self.tag()?.1 {
                START_GROUP => open += 1,
                END_GROUP => open -= 1,
                wire => drop(self.payload(wire)?),
            }
        }
        Ok(())
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_tag(out, number, VARINT);
    // negative numbers take ten bytes, also 32-bit ones
    #[allow(clippy::cast_sign_loss)]
    put_varint(out, value as u64);
}

pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_tag(out, number, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A message written by `write`; its length is put before it afterwards.
pub fn put_message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, number, BYTES);
    let start = out.len();
    write(out);
    let end = out.len();
    put_varint(out, (end - start) as u64);
    let width = out.len() - end;
    out[start..].rotate_right(width);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_come_back() {
        let mut out = Vec::new();
        put_int(&mut out, 1, -1);
        put_message(&mut out, 300, |m| put_bytes(m, 2, &[7; 200]));
        put_double(&mut out, 3, 1.5);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.next().unwrap(), Some((1, Raw::Varint(u64::MAX))));
        let Some((300, Raw::Bytes(inner))) = reader.next().unwrap() else { unreachable!() };
        assert_eq!(Reader::new(inner).next().unwrap(), Some((2, Raw::Bytes(&[7; 200]))));
        assert_eq!(reader.next().unwrap(), Some((3, Raw::Fixed64(1.5f64.to_bits()))));
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn groups_are_skipped_and_bad_bytes_refused() {
        // group 1 { group 2 { } varint 3 } then field 4
        let mut reader = Reader::new(&[0x0b, 0x13, 0x14, 0x18, 0x05, 0x0c, 0x20, 0x01]);
        assert_eq!(reader.next().unwrap(), Some((4, Raw::Varint(1))));
        for bad in [
            &[0x0b][..],
            &[0x0c],
            &[0x0a, 0x05, 1],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x08],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x00, 0x01],
            &[0x09, 1, 2],
            &[0x0f],
        ] {
            assert!(Reader::new(bad).next().is_err(), "{bad:?}");
        }
    }
}
