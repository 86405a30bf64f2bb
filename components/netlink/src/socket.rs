//! One netlink socket: requests with an acknowledgement, dumps, and batches.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::wire::{self, Writer, flag};
use crate::{Error, Result};

/// A dump's answers are at most this long (the kernel's own limit is 32 KiB for a message).
const RECEIVE: usize = 64 * 1024;
/// The kernel answers within the call; this bounds a kernel bug, not a wait.
const ANSWER_SECONDS: i64 = 20;

pub struct Socket {
    fd: OwnedFd,
    seq: u32,
}

impl Socket {
    pub fn open(protocol: SockProtocol) -> Result<Self> {
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(Error::Socket)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(Error::Socket)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS)).map_err(Error::Socket)?;
        Ok(Self { fd, seq: 0 })
    }

    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends one request and waits for the acknowledgement. `action` names the object in the error.
    pub fn request(
        &mut self,
        kind: u16,
        flags: u16,
        action: impl Fn() -> String,
        body: impl FnOnce(&mut Writer),
    ) -> Result<()> {
        let seq = self.next_seq();
        let mut w = Writer::default();
        w.message(kind, flag::REQUEST | flag::ACK | flags, seq, body);
        self.send(&w.buf)?;
        match self.answer(seq, |_, _| Ok(()))? {
            Errno::UnknownErrno => Ok(()),
            errno => Err(Error::Kernel { action: action(), errno }),
        }
    }

    /// Sends one request for a single object and hands its answer to `each`.
    pub fn get(
        &mut self,
        kind: u16,
        flags: u16,
        action: impl Fn() -> String,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(u16, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let seq = self.next_seq();
        let mut w = Writer::default();
        let ack = if flags & flag::DUMP == flag::DUMP { 0 } else { flag::ACK };
        w.message(kind, flag::REQUEST | ack | flags, seq, body);
        self.send(&w.buf)?;
        match self.answer(seq, &mut each)? {
            Errno::UnknownErrno => Ok(()),
            errno => Err(Error::Kernel { action: action(), errno }),
        }
    }

    /// Makes room for a message of `len` bytes: a transaction must reach the kernel in one piece.
    pub fn reserve(&self, len: usize) -> Result<()> {
        // The kernel charges bookkeeping beside the bytes.
        let wanted = len + 64 * 1024;
        setsockopt(&self.fd, sockopt::SndBufForce, &wanted).map_err(Error::Socket)
    }

    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()).map(drop).map_err(Error::Socket)
    }

    /// Reads until the request `seq` is answered. `UnknownErrno` (zero) stands for success.
    fn answer(&self, seq: u32, mut each: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<Errno> {
        let mut buf = vec![0; RECEIVE];
        loop {
            let len = self.receive(&mut buf, MsgFlags::empty())?;
            for message in wire::messages(&buf[..len]).filter(|m| m.seq == seq) {
                match message.kind {
                    wire::NLMSG_ERROR => return errno_of(message.payload),
                    wire::NLMSG_DONE => return Ok(Errno::UnknownErrno),
                    kind => each(kind, message.payload)?,
                }
            }
        }
    }

    /// Reads the answers to a batch whose last message, `last`, asked for an acknowledgement: the first error wins.
    pub fn batch_answer(&self, last: u32) -> Result<Option<(u32, Errno)>> {
        let mut buf = vec![0; RECEIVE];
        let mut first = None;
        let mut flags = MsgFlags::empty();
        loop {
            let len = match self.receive(&mut buf, flags) {
                Err(Error::Socket(Errno::EAGAIN)) if first.is_some() => return Ok(first),
                other => other?,
            };
            for message in wire::messages(&buf[..len]).filter(|m| m.kind == wire::NLMSG_ERROR) {
                match errno_of(message.payload)? {
                    Errno::UnknownErrno if message.seq == last && first.is_none() => return Ok(None),
                    Errno::UnknownErrno => {}
                    errno => first = first.or(Some((message.seq, errno))),
                }
            }
            if first.is_some() {
                // All answers are queued before the send returns, so what is left can be read without waiting.
                flags = MsgFlags::MSG_DONTWAIT;
            }
        }
    }

    fn receive(&self, buf: &mut [u8], flags: MsgFlags) -> Result<usize> {
        loop {
            match recv(self.fd.as_raw_fd(), buf, flags) {
                Err(Errno::EINTR) => {}
                other => return other.map_err(Error::Socket),
            }
        }
    }
}

fn errno_of(payload: &[u8]) -> Result<Errno> {
    let code = wire::u32_at(payload, 0).ok_or(Error::Malformed("an error without a number"))?.cast_signed();
    Ok(Errno::from_raw(-code))
}
