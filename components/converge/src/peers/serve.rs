//! The side that has a blob.

use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use nix::sys::socket;

use super::{SILENT, WAITING, proof};
use crate::blobs::{Blobs, Passing, Piece};

/// More at once would only make each of them slow; the installer sends fewer.
const MOST: usize = 32;
/// Longest line of a request.
const LINE: u64 = 256;

/// Blobs are passed on until this is dropped.
pub struct Share {
    listener: Arc<TcpListener>,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

impl Share {
    /// Listens at a free port of `address`, which has to be this host's.
    pub fn start(address: IpAddr, token: String, blobs: Arc<Blobs>) -> io::Result<Self> {
        let listener = Arc::new(TcpListener::bind((address, 0))?);
        let port = listener.local_addr()?.port();
        blobs.share();
        let accepting = std::thread::spawn({
            let listener = listener.clone();
            move || accept(&listener, &Arc::new(token), &blobs)
        });
        Ok(Self { listener, port, accepting: Some(accepting) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // wakes who accepts (Linux: EINVAL); those that are being served are cut off with the process
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, token: &Arc<String>, blobs: &Arc<Blobs>) {
    let serving = Arc::new(AtomicUsize::new(0));
    // an error is the end: of this, or of the file descriptors, and then nobody can be served
    while let Ok((stream, _)) = listener.accept() {
        if serving.fetch_add(1, Ordering::Relaxed) >= MOST {
            serving.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (serving, token, blobs) = (serving.clone(), token.clone(), blobs.clone());
        std::thread::spawn(move || {
            // who asked sees the end of the connection, and turns to another one
            let _ = serve(&stream, &token, &blobs);
            let _ = stream.shutdown(Shutdown::Both);
            serving.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn serve(mut stream: &TcpStream, token: &str, blobs: &Blobs) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENT))?;
    stream.set_write_timeout(Some(SILENT))?;
    stream.set_nodelay(true)?;
    let nonce = nonce()?;
    stream.write_all(format!("{nonce}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(form), Some(sha256), Some(said)) = (words.next(), words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if !same(said, &proof(token, &nonce, sha256)) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match form {
        "whole" => {
            let mut file = blobs.whole(sha256).ok_or(io::ErrorKind::NotFound)?;
            io::copy(&mut file, &mut stream).map(drop)
        }
        "framed" => framed(blobs.pass_soon(sha256, SILENT / 2).ok_or(io::ErrorKind::NotFound)?, stream),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn framed(mut passing: Passing<'_>, mut out: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match passing.next(&mut buffer, WAITING)? {
            Piece::Bytes(size) => {
                out.write_all(&u32::try_from(size).map_err(io::Error::other)?.to_be_bytes())?;
                out.write_all(&buffer[..size])?;
            }
            Piece::Waiting => out.write_all(&0_u32.to_be_bytes())?,
            Piece::End => return Ok(()),
        }
    }
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Takes as long wherever they differ.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
