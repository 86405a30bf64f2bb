//! The few wire types of protobuf that published documents need.

#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn string(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u32, inner: Message) -> Self {
        self.bytes(field, &inner.0)
    }

    pub fn boolean(mut self, field: u32) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(1);
        self
    }

    pub fn integer(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    pub fn double(mut self, field: u32, value: f64) -> Self {
        const FIXED: u64 = 1;
        self.varint(u64::from(field) << 3 | FIXED);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        const LENGTH_DELIMITED: u64 = 2;
        self.varint(u64::from(field) << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_varints() {
        let bytes = Message::default().string(9, &"x".repeat(300)).into_bytes();
        assert_eq!(&bytes[..3], &[0x4a, 0xac, 0x02]);
        assert_eq!(bytes.len(), 303);
    }
}
