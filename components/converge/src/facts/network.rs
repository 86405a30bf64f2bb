//! Addresses, routes, listening sockets, the resolver.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hoststate::facts::{Address, ListeningPort};

use super::system::read;
use crate::Root;

pub fn addresses() -> Vec<Address> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = ip(&interface.address?)?;
            let prefix = match ip(&interface.netmask?)? {
                IpAddr::V4(mask) => u32::from(mask).count_ones(),
                IpAddr::V6(mask) => u128::from(mask).count_ones(),
            };
            Some(Address {
                interface: interface.interface_name,
                address: address.to_string(),
                prefix: u8::try_from(prefix).ok()?,
            })
        })
        .collect()
}

fn ip(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    storage.as_sockaddr_in6().map(|v6| v6.ip().into())
}

pub fn default_route_interface(root: &Root) -> Option<String> {
    read(root, "/proc/net/route").lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")).then(|| fields[0].to_owned())
    })
}

/// Listening TCP and bound UDP sockets with the processes that own them.
pub fn listening(root: &Root) -> Vec<ListeningPort> {
    let owners = socket_owners(root);
    let mut ports = Vec::new();
    for (file, protocol, listening_state) in
        [("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07")]
    {
        for line in read(root, &format!("/proc/net/{file}")).lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.len() < 10 || fields[3] != listening_state {
                continue;
            }
            let Some((address, port)) = socket_address(fields[1]) else { continue };
            ports.push(ListeningPort {
                protocol: protocol.to_owned(),
                address: address.to_string(),
                port,
                process: owners.get(fields[9]).cloned(),
            });
        }
    }
    ports
}

/// `0100007F:1F90`, as /proc/net shows it: 32-bit words in the machine's byte order.
fn socket_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = address
        .as_bytes()
        .chunks(8)
        .filter_map(|chunk| u32::from_str_radix(std::str::from_utf8(chunk).ok()?, 16).ok())
        .map(u32::to_ne_bytes)
        .collect();
    let bytes: Vec<u8> = words.concat();
    let address = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some((address, port))
}

/// Socket inode → the executable of a process that has it open.
fn socket_owners(root: &Root) -> HashMap<String, String> {
    let mut owners = HashMap::new();
    for process in fs::read_dir(root.path("/proc")).into_iter().flatten().flatten() {
        if !process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        for fd in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(link) = fs::read_link(fd.path()) else { continue };
            if let Some(inode) = link.to_string_lossy().strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'))
            {
                let name = fs::read_link(process.path().join("exe")).map_or_else(
                    |_| fs::read_to_string(process.path().join("comm")).unwrap_or_default(),
                    |exe| exe.display().to_string(),
                );
                owners.insert(inode.to_owned(), name.trim().to_owned());
            }
        }
    }
    owners
}

/// Which resolv.conf names real nameservers, and which. systemd-resolved's stub on 127.0.0.53 is of no use inside a pod.
pub fn resolver(root: &Root) -> (String, Vec<String>) {
    const PLAIN: &str = "/etc/resolv.conf";
    const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
    let servers = |path: &str| -> Vec<String> {
        read(root, path)
            .lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    let plain = servers(PLAIN);
    if plain.iter().any(|server| server == "127.0.0.53") && root.path(RESOLVED).exists() {
        return (RESOLVED.to_owned(), servers(RESOLVED));
    }
    (PLAIN.to_owned(), plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_proc_net_are_read() {
        assert_eq!(socket_address("0100007F:1F90").unwrap(), ("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!(socket_address("00000000000000000000000000000000:0016").unwrap(), ("::".parse().unwrap(), 22));
    }

    #[test]
    fn a_socket_of_this_process_is_found_with_its_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = listening(&Root::default()).into_iter().find(|p| p.port == port && p.protocol == "tcp").unwrap();
        assert!(found.process.unwrap().contains("converge"));
    }
}
