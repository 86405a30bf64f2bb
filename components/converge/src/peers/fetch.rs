//! The side that wants a blob.

use std::collections::HashSet;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hoststate::Event;

use super::{SILENT, proof};
use crate::blobs::Blobs;
use crate::sink::Sink;

/// Whom a firewall hides costs so much, once in a session.
const CONNECT: Duration = Duration::from_millis(1500);
/// Who has a blob and takes longer than [`PATIENCE`] for so many bytes is too slow.
const BYTES: u64 = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(8);
/// Who has waited so long for a piece of it will not get it either.
const IDLE: Duration = Duration::from_secs(30);

/// One blob after the other, beside whatever else the session does. Ends when it is dropped, after what it is at.
pub struct Fetcher {
    wanted: mpsc::Sender<(String, u64, SocketAddr)>,
}

impl Fetcher {
    pub fn start(token: String, blobs: Arc<Blobs>, sink: Sink) -> Self {
        let (wanted, receiver) = mpsc::channel::<(String, u64, SocketAddr)>();
        std::thread::spawn(move || {
            let mut unreachable = HashSet::new();
            for (sha256, size, from) in receiver {
                let why = fetch(from, &token, &sha256, size, &blobs, &mut unreachable).err();
                sink.send(&Event::Fetched { sha256, why });
            }
        });
        Self { wanted }
    }

    /// What comes of it is told by [`Event::Fetched`].
    pub fn want(&self, sha256: String, size: u64, from: SocketAddr) {
        // the other end lives as long as this
        let _ = self.wanted.send((sha256, size, from));
    }
}

/// Stores a blob that another host has, if it is that blob. Who could not be reached is not tried again.
pub fn fetch(
    from: SocketAddr,
    token: &str,
    sha256: &str,
    size: u64,
    blobs: &Blobs,
    unreachable: &mut HashSet<IpAddr>,
) -> Result<(), String> {
    let fetched = match connect(from, unreachable).and_then(|stream| ask(stream, token, sha256)) {
        Ok(stream) => blobs.fetch(sha256, &mut Frames::new(stream).take(size)),
        Err(error) => {
            blobs.forget(sha256);
            Err(error.to_string())
        }
    };
    fetched.map_err(|why| format!("{from}: {why}"))
}

fn connect(from: SocketAddr, unreachable: &mut HashSet<IpAddr>) -> io::Result<TcpStream> {
    if unreachable.contains(&from.ip()) {
        return Err(io::Error::other("it could not be reached before"));
    }
    let connected = TcpStream::connect_timeout(&from, CONNECT);
    if connected.is_err() {
        unreachable.insert(from.ip());
    }
    connected
}

fn ask(stream: TcpStream, token: &str, sha256: &str) -> io::Result<BufReader<TcpStream>> {
    stream.set_read_timeout(Some(SILENT))?;
    stream.set_write_timeout(Some(SILENT))?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let mut nonce = String::new();
    (&mut stream).take(128).read_line(&mut nonce)?;
    let proof = proof(token, nonce.trim(), sha256);
    stream.get_mut().write_all(format!("framed {sha256} {proof}\n").as_bytes())?;
    Ok(stream)
}

/// The bytes in the frames. Who is slow although it does not wait itself has ended.
struct Frames<R> {
    from: R,
    /// Of the frame that is being read.
    left: u32,
    /// When there was something in one the last time.
    last: Instant,
    since: Instant,
    read: u64,
    patience: Duration,
    idle: Duration,
}

impl<R: Read> Frames<R> {
    fn new(from: R) -> Self {
        Self { from, left: 0, last: Instant::now(), since: Instant::now(), read: 0, patience: PATIENCE, idle: IDLE }
    }

    fn begin(&mut self) {
        (self.since, self.read) = (Instant::now(), 0);
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut length = [0; 4];
            match self.from.read_exact(&mut length) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => other?,
            }
            self.left = u32::from_be_bytes(length);
            if self.left == 0 {
                if self.last.elapsed() > self.idle {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it waits for it itself"));
                }
                self.begin();
            }
        }
        self.last = Instant::now();
        if self.since.elapsed() > self.patience {
            if self.read < BYTES {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it is too slow"));
            }
            self.begin();
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(&mut buffer[..most])?;
        self.left -= u32::try_from(read).unwrap_or(self.left);
        self.read += read as u64;
        // a frame that breaks off is the end too: the digest will not be right
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;
    use std::path::Path;

    use hoststate::sha256_hex;

    use super::*;
    use crate::peers::Share;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const BLOB: &[u8] = b"what both have";

    fn blobs(dir: &Path, name: &str) -> Arc<Blobs> {
        Arc::new(Blobs::new(dir.join(name)))
    }

    /// A host that has [`BLOB`], and one that has nothing.
    fn two() -> (tempfile::TempDir, Arc<Blobs>, Arc<Blobs>, String) {
        let dir = tempfile::tempdir().unwrap();
        let (has, wants) = (blobs(dir.path(), "has"), blobs(dir.path(), "wants"));
        let sha256 = sha256_hex(BLOB);
        has.receive(&sha256, BLOB.len() as u64, &mut &BLOB[..]).unwrap();
        (dir, has, wants, sha256)
    }

    fn fetch_once(from: SocketAddr, token: &str, sha256: &str, blobs: &Blobs) -> Result<(), String> {
        fetch(from, token, sha256, BLOB.len() as u64, blobs, &mut HashSet::new())
    }

    fn get(share: &Share, token: &str, sha256: &str, blobs: &Blobs) -> Result<(), String> {
        fetch_once((HERE, share.port()).into(), token, sha256, blobs)
    }

    #[test]
    fn who_knows_the_token_gets_what_is_there_and_nobody_else_anything() {
        let (_dir, has, wants, sha256) = two();
        let share = Share::start(HERE, "secret".into(), has).unwrap();
        assert!(get(&share, "guessed", &sha256, &wants).is_err());
        assert!(get(&share, "secret", &sha256_hex(b"nobody has it"), &wants).is_err());
        assert!(!wants.has(&sha256));
        get(&share, "secret", &sha256, &wants).unwrap();
        assert_eq!(std::fs::read(wants.wait(&sha256).unwrap()).unwrap(), BLOB);
        let port = share.port();
        drop(share);
        assert!(TcpStream::connect((HERE, port)).is_err(), "it has ended with the session");
    }

    #[test]
    fn what_is_asked_is_proven_for_it_and_for_one_time() {
        let (_dir, has, _, sha256) = two();
        let share = Share::start(HERE, "secret".into(), has).unwrap();
        let ask = |line: &dyn Fn(&str) -> String| {
            let mut stream = BufReader::new(TcpStream::connect((HERE, share.port())).unwrap());
            let mut nonce = String::new();
            stream.read_line(&mut nonce).unwrap();
            stream.get_mut().write_all(line(nonce.trim()).as_bytes()).unwrap();
            let mut answer = Vec::new();
            // what is refused may end in a reset
            let _ = stream.read_to_end(&mut answer);
            (nonce, answer)
        };
        let (nonce, answer) = ask(&|nonce| format!("whole {sha256} {}\n", proof("secret", nonce, &sha256)));
        assert_eq!(answer, BLOB);
        let other = sha256_hex(b"other");
        let refused: [&dyn Fn(&str) -> String; 5] = [
            &|_| format!("whole {sha256} {}\n", proof("secret", nonce.trim(), &sha256)),
            &|nonce| format!("whole {sha256} {}\n", proof("secret", nonce, &other)),
            &|nonce| format!("else {sha256} {}\n", proof("secret", nonce, &sha256)),
            &|_| format!("whole {sha256}\n"),
            &|_| "x".repeat(300),
        ];
        for line in refused {
            assert_eq!(ask(line).1, b"");
        }
    }

    /// What another host sends: frames, then the end.
    fn sends(frames: &'static [&'static [u8]]) -> SocketAddr {
        let listener = std::net::TcpListener::bind((HERE, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            stream.get_mut().write_all(b"nonce\n").unwrap();
            stream.read_line(&mut String::new()).unwrap();
            for frame in frames {
                stream.get_mut().write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
                stream.get_mut().write_all(frame).unwrap();
            }
        });
        address
    }

    #[test]
    fn half_a_blob_and_another_one_are_no_blob_and_it_still_may_come() {
        let (_dir, _, wants, sha256) = two();
        let no_good: [&'static [&'static [u8]]; 3] = [&[b"what both", b""], &[b"what neither has"], &[]];
        for frames in no_good {
            let why = fetch_once(sends(frames), "secret", &sha256, &wants).unwrap_err();
            assert!(why.contains("digest"), "{why}");
            assert!(!wants.has(&sha256));
        }
        fetch_once(sends(&[b"what ", b"", b"both have and more"]), "secret", &sha256, &wants).unwrap();
        assert!(wants.has(&sha256));
    }

    #[test]
    fn who_is_slow_has_ended_but_not_who_waits_itself() {
        struct Slow(Vec<u8>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(30));
                let some = self.0.len().min(buffer.len());
                buffer[..some].copy_from_slice(&self.0[..some]);
                self.0.drain(..some);
                Ok(some)
            }
        }
        let frame: &[u8] = &[0, 0, 0, 2, b'h', b'i'];
        let wait: &[u8] = &[0, 0, 0, 0];
        let read = |bytes: Vec<u8>, patience: Duration| {
            let mut frames = Frames { patience, idle: patience, ..Frames::new(Slow(bytes)) };
            let mut text = Vec::new();
            frames.read_to_end(&mut text).map(|_| text)
        };
        let short = Duration::from_millis(300);
        assert_eq!(read(frame.repeat(7), short).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Longer than patience in all, but with a wait after every 150 ms. It ends only where this process stood still,
        // which it does not each time.
        let waits = [frame, frame, wait].concat().repeat(25);
        let text = (0..5).find_map(|_| read(waits.clone(), Duration::from_secs(3)).ok());
        assert_eq!(text, Some(b"hi".repeat(50)));
        assert_eq!(read(wait.repeat(20), short).unwrap_err().kind(), io::ErrorKind::TimedOut, "it waits in vain");
    }

    #[test]
    fn who_cannot_be_reached_is_tried_once() {
        let (_dir, _, wants, sha256) = two();
        let nobody = std::net::TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap();
        let mut unreachable = HashSet::new();
        for _ in 0..2 {
            wants.expect(&sha256);
            assert!(fetch(nobody, "secret", &sha256, 1, &wants, &mut unreachable).is_err());
            assert!(unreachable.contains(&HERE));
            assert!(wants.pass(&sha256).is_none(), "nobody waits for it");
        }
        let (dir, has, _, _) = two();
        let share = Share::start(HERE, "secret".into(), has).unwrap();
        let from = (HERE, share.port()).into();
        let why = fetch(from, "secret", &sha256, BLOB.len() as u64, &wants, &mut unreachable).unwrap_err();
        assert!(why.contains("before"), "{why}");
        drop(dir);
    }
}
