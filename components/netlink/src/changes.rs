//! Tells when something took from the kernel's network what others have made: a route, an address or a link is gone, or an address
//! or a link is back, so that what hangs on it can be restored. IPv4.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};

use crate::rtnl::IFF_UP;
use crate::rtnl::parse::parse_route;
use crate::{Error, Result, wire};

const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV4_ROUTE).cast_unsigned();
const RECEIVE: usize = 64 * 1024;
/// All its flags "change" when a link is new.
const NEW: u32 = u32::MAX;

/// Calls `changed` from a thread of its own, in the namespace of who calls this. What comes at once is told once; who also looks
/// now and then misses nothing should the socket fail.
pub fn watch(changed: impl Fn() + Send + 'static) -> Result<()> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .map_err(Error::Socket)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).map_err(Error::Socket)?;
    let thread = std::thread::Builder::new().name("rtnetlink".into());
    let spawned = thread.spawn(move || listen(&socket, changed));
    spawned.map(drop).map_err(|error| Error::Socket(error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw)))
}

fn listen(socket: &OwnedFd, changed: impl Fn()) {
    let mut buf = vec![0; RECEIVE];
    loop {
        match recv(socket.as_raw_fd(), &mut buf, MsgFlags::empty()) {
            Ok(len) if wire::messages(&buf[..len]).any(|m| matters(m.kind, m.payload)) => changed(),
            Ok(_) | Err(Errno::EINTR) => {}
            // more happened than the socket could hold
            Err(Errno::ENOBUFS) => changed(),
            Err(_) => return,
        }
    }
}

/// Pods come with new links and routes: those are no reason to look.
fn matters(kind: u16, payload: &[u8]) -> bool {
    match kind {
        libc::RTM_DELROUTE => parse_route(payload).is_some(),
        libc::RTM_NEWADDR | libc::RTM_DELADDR | libc::RTM_DELLINK => true,
        // Routes go without a word when their link goes down; they can be set again when it is up.
        libc::RTM_NEWLINK => {
            let (flags, change) = (wire::u32_at(payload, 8), wire::u32_at(payload, 12));
            change.is_some_and(|c| c != NEW && c & IFF_UP != 0) && flags.is_some_and(|f| f & IFF_UP != 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(flags: u32, change: u32) -> Vec<u8> {
        [[0; 8].as_slice(), &flags.to_ne_bytes(), &change.to_ne_bytes()].concat()
    }

    #[test]
    fn links_matter_when_they_are_up_again() {
        assert!(matters(libc::RTM_NEWLINK, &link(IFF_UP, IFF_UP)));
        assert!(!matters(libc::RTM_NEWLINK, &link(IFF_UP, NEW)), "a new one, as every pod has");
        assert!(!matters(libc::RTM_NEWLINK, &link(0, IFF_UP)), "down");
        assert!(!matters(libc::RTM_NEWLINK, &link(IFF_UP, 0)), "another of its properties");
        assert!(!matters(libc::RTM_NEWLINK, &[]));
    }

    #[test]
    fn routes_matter_when_they_go() {
        let head = [2, 16, 0, 0, libc::RT_TABLE_MAIN, 207, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        let route = [&head[..], &8u16.to_ne_bytes(), &libc::RTA_OIF.to_ne_bytes(), &1u32.to_ne_bytes()].concat();
        assert!(matters(libc::RTM_DELROUTE, &route));
        assert!(!matters(libc::RTM_NEWROUTE, &route));
        let mut local = route;
        local[4] = libc::RT_TABLE_LOCAL;
        assert!(!matters(libc::RTM_DELROUTE, &local), "the kernel's own tables follow the addresses");
    }
}
