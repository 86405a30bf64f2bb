//! A pod's link: a veth pair, an address of its own, and routes. No bridge: everything goes through the host's IP layer.
//!
//! In the pod, `eth0` has its address as /32 and the default route through 169.254.1.1, an address that exists nowhere: a
//! permanent neighbour entry gives it the MAC address of the host's end. On the host, a /32 route and a permanent neighbour
//! lead to the pod. So nobody ever asks by ARP.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, ensure};
use ipnet::Ipv4Net;
use netlink::IgnoreMissing;
use netlink::netns::NetNs;
use netlink::rtnl::{Mac, Neighbour, Route, Rtnl, VethPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::conf::{Attachment, Call, NetConf};
use super::hostport;
use super::ipam::{self, Pool, Reservation};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The host's end of every pair: each is alone on its link, so they may be alike.
const HOST_MAC: Mac = [0xee; 6];
const RTPROT_BOOT: u8 = 3;

pub fn add(conf: &NetConf, call: &Call) -> anyhow::Result<Value> {
    let netns = NetNs::open(&call.netns)
        .with_context(|| format!("cannot open the pod's network namespace {}", call.netns.display()))?;
    let pool = Pool::open(conf)?;
    let reservation = pool.reserve(call, &conf.runtime_config.port_mappings, detach)?;
    match attach(conf, &reservation, &netns) {
        Ok(()) => Ok(result(conf, &reservation)),
        Err(error) => {
            // Leave nothing behind; the first error is the one to tell.
            drop(detach(&reservation));
            drop(pool.release(&reservation));
            Err(error)
        }
    }
}

/// Deletes what ADD made; nothing there is success.
pub fn del(conf: &NetConf, call: &Call) -> anyhow::Result<()> {
    let pool = Pool::open(conf)?;
    match pool.find(&call.attachment)? {
        Some(reservation) => {
            detach(&reservation)?;
            pool.release(&reservation)
        }
        None => delete_link(&call.attachment),
    }
}

pub fn check(conf: &NetConf, call: &Call) -> anyhow::Result<()> {
    let reservation = Pool::open(conf)?.find(&call.attachment)?;
    let reservation =
        reservation.with_context(|| format!("container {} has no address", call.attachment.container_id))?;
    let name = host_name(&call.attachment);
    let link = Rtnl::open()?.link(&name)?.with_context(|| format!("link {name} is missing"))?;
    ensure!(link.up, "link {name} is down");
    let netns = NetNs::open(&call.netns).with_context(|| format!("cannot open {}", call.netns.display()))?;
    let has = Rtnl::open_in(&netns)?.addresses()?.iter().any(|(_, net)| net.addr() == reservation.ip);
    ensure!(has, "the pod does not have its address {}", reservation.ip);
    Ok(())
}

/// Releases what the runtime no longer knows (CNI 1.1).
pub fn gc(conf: &NetConf) -> anyhow::Result<()> {
    let valid = conf.valid_attachments.as_ref().context("GC needs cni.dev/valid-attachments")?;
    let pool = Pool::open(conf)?;
    for reservation in pool.all()?.iter().filter(|r| !valid.contains(&r.attachment)) {
        detach(reservation)?;
        pool.release(reservation)?;
    }
    Ok(())
}

fn host_name(attachment: &Attachment) -> String {
    let digest = Sha256::digest(format!("{}/{}", attachment.container_id, attachment.ifname));
    format!("kin{}", &hex::encode(digest)[..11])
}

/// Locally administered, and the same for the same address.
fn pod_mac(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn host_route(ip: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(ip, 32)
}

fn attach(conf: &NetConf, reservation: &Reservation, netns: &NetNs) -> anyhow::Result<()> {
    let Reservation { ip, attachment, .. } = reservation;
    let name = host_name(attachment);
    let mut host = Rtnl::open()?;
    // Left by an ADD that was cut off.
    host.delete_link(&name).ignore_missing()?;
    let alias = format!("{} {}", crate::ALIAS, attachment.container_id);
    host.add_veth(&VethPair {
        name: &name,
        alias: &alias[..alias.len().min(200)],
        mac: HOST_MAC,
        peer_name: &attachment.ifname,
        peer_mac: pod_mac(*ip),
        peer_netns: netns.as_fd(),
        mtu: conf.mtu,
    })?;
    set_up_pod(netns, reservation)?;
    let dev = host.link(&name)?.with_context(|| format!("link {name} vanished"))?.index;
    host.replace_neighbour(&Neighbour { ip: *ip, mac: pod_mac(*ip), dev })?;
    host.replace_route(&pod_route(*ip, dev, conf.node_ip))?;
    if !reservation.port_mappings.is_empty() {
        hostport::allow_loopback(&name)?;
        hostport::add(*ip, &reservation.port_mappings)?;
    }
    Ok(())
}

/// On the host, to the pod.
fn pod_route(ip: Ipv4Addr, dev: u32, src: Option<Ipv4Addr>) -> Route {
    Route { dst: host_route(ip), via: None, dev, onlink: false, src, proto: RTPROT_BOOT, metric: 0 }
}

/// Gives pods back the routes that went with the node's address, their source; says how many.
pub fn restore_routes(data_dir: &Path, node_ip: Ipv4Addr) -> anyhow::Result<usize> {
    let mut host = Rtnl::open()?;
    let (links, have) = (host.links()?, host.routes(RTPROT_BOOT)?);
    let mut restored = 0;
    for pod in ipam::peek(data_dir) {
        let name = host_name(&pod.attachment);
        let Some(dev) = links.iter().find(|link| link.up && link.name == name).map(|link| link.index) else { continue };
        let wanted = pod_route(pod.ip, dev, Some(node_ip));
        if have.iter().any(|route| (route.dst, route.dev) == (wanted.dst, dev)) {
            continue;
        }
        // A pod that ends meanwhile takes its link along.
        host.replace_route(&wanted).ignore_missing().with_context(|| format!("cannot route {} to its pod", pod.ip))?;
        restored += 1;
    }
    Ok(restored)
}

fn set_up_pod(netns: &NetNs, reservation: &Reservation) -> anyhow::Result<()> {
    let mut pod = Rtnl::open_in(netns)?;
    let name = &reservation.attachment.ifname;
    let dev = pod.link(name)?.with_context(|| format!("the pod's link {name} vanished"))?.index;
    pod.set_up(dev)?;
    pod.add_address(dev, host_route(reservation.ip))?;
    pod.replace_neighbour(&Neighbour { ip: GATEWAY, mac: HOST_MAC, dev })?;
    let route = |dst, via| Route { dst, via, dev, onlink: false, src: None, proto: RTPROT_BOOT, metric: 0 };
    pod.replace_route(&route(host_route(GATEWAY), None))?;
    pod.replace_route(&route(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0), Some(GATEWAY)))?;
    Ok(())
}

/// The routes and neighbours go with the link.
fn detach(reservation: &Reservation) -> anyhow::Result<()> {
    hostport::remove(reservation.ip, &reservation.port_mappings)?;
    delete_link(&reservation.attachment)
}

fn delete_link(attachment: &Attachment) -> anyhow::Result<()> {
    Ok(Rtnl::open()?.delete_link(&host_name(attachment)).ignore_missing()?)
}

fn result(conf: &NetConf, reservation: &Reservation) -> Value {
    let mac = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut ip = json!({"address": format!("{}/32", reservation.ip), "gateway": GATEWAY, "interface": 1});
    if conf.cni_version.starts_with("0.") {
        ip["version"] = json!("4");
    }
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": [
            {"name": host_name(&reservation.attachment), "mac": mac(HOST_MAC)},
            {"name": reservation.attachment.ifname, "mac": mac(pod_mac(reservation.ip)), "sandbox": reservation.netns},
        ],
        "ips": [ip],
        "routes": [{"dst": "0.0.0.0/0", "gw": GATEWAY}],
        "dns": {},
    })
}
