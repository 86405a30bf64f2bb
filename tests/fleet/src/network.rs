//! The fleet's network, in a network namespace of the fleet's own. Nothing leads out of it, so that whatever server, operator or hosts
//! dial stays inside.
//!
//! Operator and server have the namespace itself and speak over its loopback, with the delay. Each host has a namespace of its own
//! with a cable to it, and it passes on what hosts send each other, without a delay. Cables and no common wire: a bridge takes no
//! more than 1,024 ports, and a machine knows no more than 1,024 neighbours, all namespaces taken together, but for those it was told of.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// The namespace's own address: hosts' way to the others.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 76, 0, 1);
/// A host's end of its cable, by name.
const INTERFACE: &str = "eth0";
/// The two ends, by their addresses: of every cable, since nobody sees two.
const ENDS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

/// Goes into a new network namespace. To be called before there are other threads, which would stay outside.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace; the fleet needs root")?;
    // a thousand interfaces that look for IPv6 routers keep the machine busy
    for (setting, value) in [("ipv6/conf/default/disable_ipv6", "1"), ("ipv4/ip_forward", "1")] {
        let file = Path::new("/proc/sys/net").join(setting);
        if file.exists() {
            fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    ip(&format!("link set lo up\naddress add {ROUTER}/32 dev lo\n"))
}

/// Brings a cable to each of these hosts; the second is its first process.
pub fn join(hosts: &[(usize, u32)]) -> Result<()> {
    let [here, there] = ENDS;
    let lines = |(index, process): &(usize, u32)| {
        // not by the host: that of a fleet before this one goes a while after its host
        let (cable, address) = (format!("cable{process}"), inside(*index));
        format!(
            "link add {cable} address {here} type veth peer name {INTERFACE} address {there} netns {process}\n\
             link set {cable} up\nroute replace {address} dev {cable}\nneighbour add {address} lladdr {there} dev {cable}\n"
        )
    };
    ip(&hosts.iter().map(lines).collect::<String>())
}

/// What a host says to `ip` when its cable is there.
pub fn plug(index: usize) -> String {
    let (address, [here, _]) = (inside(index), ENDS);
    format!(
        "link set lo up\naddress add {address}/32 dev {INTERFACE}\nlink set {INTERFACE} up\n\
         route add {ROUTER} dev {INTERFACE}\nroute add {HOSTS} via {ROUTER}\nneighbour add {ROUTER} lladdr {here} dev {INTERFACE}\n"
    )
}

fn ip(lines: &str) -> Result<()> {
    let started = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut ip = started.context("cannot run ip; the fleet needs Debian's iproute2")?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    ensure!(ip.wait()?.success(), "the fleet's network cannot be made");
    Ok(())
}

/// Where the operator dials a host. Every address below 127.0.0.0/8 is this machine without any set-up.
pub fn dialled(index: usize) -> Ipv4Addr {
    numbered([127, 77], index)
}

/// Where hosts reach each other.
pub fn inside(index: usize) -> Ipv4Addr {
    numbered([10, 77], index)
}

/// All that [`inside`] gives.
const HOSTS: &str = "10.77.0.0/16";

fn numbered([first, second]: [u8; 2], index: usize) -> Ipv4Addr {
    let [.., high, low] = u32::try_from(index + 1).unwrap_or(0).to_be_bytes();
    Ipv4Addr::new(first, second, high, low)
}

/// The reverse of [`dialled`].
pub fn index(address: Ipv4Addr) -> Option<usize> {
    let [127, 77, high, low] = address.octets() else { return None };
    usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own_and_is_found_by_it() {
        for at in [0, 1, 254, 255, 256, 999] {
            assert_eq!(index(dialled(at)), Some(at));
        }
        assert_eq!((dialled(0), inside(999)), (Ipv4Addr::new(127, 77, 0, 1), Ipv4Addr::new(10, 77, 3, 232)));
        assert_eq!((index(Ipv4Addr::LOCALHOST), index(Ipv4Addr::new(127, 77, 0, 0))), (None, None));
    }
}
