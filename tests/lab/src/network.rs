//! The lab's switch: a bridge in a network namespace of its own, so that the machine's firewall never sees traffic between
//! hosts, and one cable to the machine at 10.99.0.1. Hosts have a default route to there (Service addresses need one), but
//! the machine's end forwards nothing: a host cannot reach the outside.

use crate::command::{self, sh};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

pub const SWITCH: &str = "klab-switch";
const UPLINK: &str = "klab0";
pub const GATEWAY: &str = "10.99.0.1";

pub fn address(n: u32) -> String {
    format!("10.99.0.{}", 10 + n)
}

pub fn mac(n: u32) -> String {
    format!("02:99:00:00:00:{:02x}", 10 + n)
}

pub fn namespace(host: &str) -> String {
    format!("klab-{host}")
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

pub fn up() -> Result<()> {
    if exists(SWITCH) {
        return Ok(());
    }
    sh(&["ip", "netns", "add", SWITCH])?;
    sh(&["ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "uplink", "netns", SWITCH])?;
    for line in ["link add br0 type bridge", "link set br0 up", "link set uplink master br0 up"] {
        command::run(Command::new("ip").args(["-n", SWITCH]).args(line.split(' ')))?;
    }
    let forwarding = format!("/proc/sys/net/ipv4/conf/{UPLINK}/forwarding");
    std::fs::write(forwarding, "0")?;
    sh(&["ip", "address", "add", &format!("{GATEWAY}/24"), "dev", UPLINK])?;
    sh(&["ip", "link", "set", UPLINK, "up"])?;
    Ok(())
}

/// Also takes namespaces of hosts that a killed run left.
pub fn down() -> Result<()> {
    let _ = sh(&["ip", "link", "del", UPLINK]);
    let left = sh(&["ip", "netns", "list"])?;
    for name in left.lines().filter_map(|line| line.split(' ').next()).filter(|name| name.starts_with("klab-")) {
        sh(&["ip", "netns", "del", name])?;
    }
    Ok(())
}

/// Pulls or plugs the host's cable at the switch.
pub fn plug(host: &str, connected: bool) -> Result<()> {
    sh(&["ip", "-n", SWITCH, "link", "set", host, if connected { "up" } else { "down" }])?;
    Ok(())
}
