//! Writing an archive.

use std::io::{self, Write};

use age::stream::StreamWriter;
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::key::{Seal, encryptor};
use crate::layout::{ABOUT, About, CONTENTS, Contents, StoreSummary, Stream, part};

/// A tar wants to know how long a member is before it comes: streams are cut into members of this many bytes.
const PART: usize = 8 << 20;

pub struct Writer<W: Write> {
    tar: tar::Builder<StreamWriter<W>>,
    contents: Contents,
    open: Option<Open>,
}

/// The stream that is being written.
struct Open {
    name: String,
    buffer: Vec<u8>,
    hash: Sha256,
    stream: Stream,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, seal: &Seal, about: &About) -> anyhow::Result<Self> {
        let sealed = encryptor(seal)?.wrap_output(out).context("cannot begin the archive")?;
        let mut writer = Self { tar: tar::Builder::new(sealed), contents: Contents::default(), open: None };
        writer.member(ABOUT, &serde_json::to_vec_pretty(about)?)?;
        Ok(writer)
    }

    /// A small file.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.begin(name);
        self.write_all(bytes)?;
        self.end().map(drop)
    }

    /// What is written from now on until [`Writer::end`] is this stream.
    pub fn begin(&mut self, name: &str) {
        let stream = Stream::default();
        self.open = Some(Open { name: name.to_owned(), buffer: Vec::new(), hash: Sha256::new(), stream });
    }

    /// Gives the stream's size and digest.
    pub fn end(&mut self) -> anyhow::Result<Stream> {
        let mut open = self.open.take().context("no stream is open")?;
        self.flush_part(&mut open)?;
        let Open { name, hash, mut stream, .. } = open;
        stream.sha256 = hex::encode(hash.finalize());
        self.contents.streams.insert(name, stream.clone());
        Ok(stream)
    }

    /// Forgets the stream that is open. False when a part of it is written already: then the archive is of no use any more.
    pub fn forget(&mut self) -> bool {
        self.open.take().is_none_or(|open| open.stream.parts == 0)
    }

    pub fn store(&mut self, summary: StoreSummary) {
        self.contents.store = Some(summary);
    }

    pub fn finish(mut self) -> anyhow::Result<(W, Contents)> {
        let text = serde_json::to_vec_pretty(&self.contents)?;
        self.member(CONTENTS, &text)?;
        let sealed = self.tar.into_inner().context("cannot end the archive")?;
        Ok((sealed.finish().context("cannot end the archive")?, self.contents))
    }

    fn flush_part(&mut self, open: &mut Open) -> io::Result<()> {
        if open.buffer.is_empty() && open.stream.parts > 0 {
            return Ok(());
        }
        self.member(&part(&open.name, open.stream.parts), &open.buffer)?;
        open.stream.parts += 1;
        open.buffer.clear();
        Ok(())
    }

    fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, name, bytes)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(mut open) = self.open.take() else { return Err(io::Error::other("no stream is open")) };
        let taken = bytes.len().min(PART - open.buffer.len());
        let (now, _) = bytes.split_at(taken);
        open.buffer.extend_from_slice(now);
        open.hash.update(now);
        open.stream.size += taken as u64;
        let result = if open.buffer.len() == PART { self.flush_part(&mut open) } else { Ok(()) };
        self.open = Some(open);
        result.map(|()| taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
