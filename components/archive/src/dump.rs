//! A store as lines of JSON: first its revision, then every object, last how many there were. The same for every kind of
//! store; values are bytes as the store holds them, sealed where encryption at rest seals them. Compressed by zstd on its way.

use std::io::{self, BufRead, Write};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::layout::StoreSummary;

const FORMAT: u32 = 1;

/// An object with the revisions at which it was made and last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    pub value: Vec<u8>,
    pub created: u64,
    pub modified: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Begin { store: u32, revision: u64 },
    Record { key: String, created: u64, modified: u64, value: String },
    End { objects: u64 },
}

/// Writes a dump.
pub struct Encoder<W: Write> {
    out: W,
    objects: u64,
}

impl<W: Write> Encoder<W> {
    pub fn new(out: W, revision: u64) -> io::Result<Self> {
        let mut encoder = Self { out, objects: 0 };
        encoder.line(&Line::Begin { store: FORMAT, revision })?;
        Ok(encoder)
    }

    pub fn record(&mut self, key: &str, value: &[u8], created: u64, modified: u64) -> io::Result<()> {
        self.objects += 1;
        self.line(&Line::Record { key: key.to_owned(), created, modified, value: STANDARD.encode(value) })
    }

    pub fn finish(mut self) -> io::Result<W> {
        let objects = self.objects;
        self.line(&Line::End { objects })?;
        Ok(self.out)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Follows a dump line by line and knows whether it is whole.
#[derive(Default)]
pub struct Checker {
    partial: Vec<u8>,
    revision: Option<u64>,
    objects: u64,
    ended: bool,
}

impl Checker {
    /// `None` for the first and the last line.
    fn line(&mut self, line: &[u8]) -> anyhow::Result<Option<Record>> {
        ensure!(!self.ended, "something follows its end");
        let line: Line = serde_json::from_slice(line).context("a line of the dump is damaged")?;
        match (line, self.revision) {
            (Line::Begin { store, revision }, None) => {
                ensure!(store == FORMAT, "the dump has format {store}, this version reads format {FORMAT}");
                self.revision = Some(revision);
                Ok(None)
            }
            (Line::Record { key, created, modified, value }, Some(revision)) => {
                ensure!(modified <= revision && created <= modified, "{key} is newer than the store it is of");
                self.objects += 1;
                let value = STANDARD.decode(value).with_context(|| format!("the value of {key} is damaged"))?;
                Ok(Some(Record { key, value, created, modified }))
            }
            (Line::End { objects }, Some(_)) => {
                ensure!(objects == self.objects, "{objects} objects were dumped, {} are here", self.objects);
                self.ended = true;
                Ok(None)
            }
            _ => bail!("the dump's lines are out of order"),
        }
    }

    /// Known from the first line on.
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    pub fn finish(self) -> anyhow::Result<StoreSummary> {
        match self.revision {
            Some(revision) if self.ended && self.partial.is_empty() => {
                Ok(StoreSummary { objects: self.objects, revision })
            }
            _ => bail!("the dump's end is missing"),
        }
    }
}

/// Only looks.
impl Write for Checker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&rest[..at]);
            self.line(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:#}")))?;
            rest = &rest[at + 1..];
        }
        self.partial.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a dump: its revision, and its records one by one. The last item is an error if its end is missing.
pub struct Decoder<R: BufRead> {
    input: R,
    checker: Option<Checker>,
    revision: u64,
}

impl<R: BufRead> Decoder<R> {
    pub fn new(mut input: R) -> anyhow::Result<Self> {
        let mut checker = Checker::default();
        let line = next(&mut input)?.context("the dump is empty")?;
        checker.line(&line)?;
        let revision = checker.revision().context("the dump does not begin with a revision")?;
        Ok(Self { input, checker: Some(checker), revision })
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn record(&mut self) -> anyhow::Result<Option<Record>> {
        let Some(checker) = &mut self.checker else { return Ok(None) };
        while let Some(line) = next(&mut self.input)? {
            if let Some(record) = checker.line(&line)? {
                return Ok(Some(record));
            }
        }
        match self.checker.take() {
            Some(checker) => checker.finish().map(|_| None),
            None => Ok(None),
        }
    }
}

impl<R: BufRead> Iterator for Decoder<R> {
    type Item = anyhow::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.record();
        if record.is_err() {
            self.checker = None;
        }
        record.transpose()
    }
}

fn next(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    line.pop();
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dump() -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), 9).unwrap();
        encoder.record("/a", b"\x00\xff", 3, 9).unwrap();
        encoder.record("/b", b"", 4, 4).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = dump();
        let mut decoder = Decoder::new(&bytes[..]).unwrap();
        assert_eq!(decoder.revision(), 9);
        let first = decoder.next().unwrap().unwrap();
        assert_eq!(first, Record { key: "/a".into(), value: vec![0, 255], created: 3, modified: 9 });
        assert_eq!(decoder.next().unwrap().unwrap().key, "/b");
        assert!(decoder.next().is_none());
        let mut checker = Checker::default();
        for piece in bytes.chunks(7) {
            checker.write_all(piece).unwrap();
        }
        assert_eq!(checker.finish().unwrap(), StoreSummary { objects: 2, revision: 9 });
    }

    #[test]
    fn a_cut_or_changed_dump_is_refused() {
        let bytes = dump();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for wrong in
            [lines[..2].concat(), lines[..3].concat(), [lines[0], lines[1], lines[3]].concat(), lines[1..].concat()]
        {
            let read = Decoder::new(&wrong[..]).and_then(|decoder| decoder.collect::<anyhow::Result<Vec<_>>>());
            assert!(read.is_err(), "{}", String::from_utf8_lossy(&wrong));
        }
    }
}
