//! Who else on this host has to do with containers and packets.

use std::fs;

use hoststate::facts::Neighbours;

use super::firewalls;
use super::system::read;
use crate::{Root, command};

/// Units, and what they are called in findings.
const SERVICES: [(&str, &str); 8] = [
    ("docker.service", "Docker"),
    ("containerd.service", "containerd"),
    ("crio.service", "CRI-O"),
    ("podman.service", "Podman"),
    ("firewalld.service", FIREWALLD),
    ("NetworkManager.service", "NetworkManager"),
    ("systemd-networkd.service", "systemd-networkd"),
    ("systemd-resolved.service", "systemd-resolved"),
];
const FIREWALLD: &str = "firewalld";
/// Its unit says nothing: it is active also while everything passes, and inactive after `ufw enable` until the next boot.
const UFW: &str = "ufw";
const CNI: &str = "/etc/cni/net.d";

pub fn collect(root: &Root) -> Neighbours {
    let units: Vec<&str> = SERVICES.iter().map(|(unit, _)| *unit).collect();
    let shown =
        command::look_in(root, "systemctl", &[&["show", "-p", "Id,ActiveState", "--"], units.as_slice()].concat());
    let mut services: Vec<_> =
        active(&shown.unwrap_or_default()).into_iter().map(|(_, name)| name.to_owned()).collect();
    if root.path("/usr/sbin/ufw").exists() && is_enabled(&read(root, "/etc/ufw/ufw.conf")) {
        services.push(UFW.to_owned());
    }
    let firewalls::Rules { dropping, trusted, forwarded } =
        firewalls::collect(root, services.iter().any(|name| name == FIREWALLD));
    let mut cni_files: Vec<String> = fs::read_dir(root.path(CNI))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| format!("{CNI}/{}", entry.file_name().to_string_lossy()))
        .collect();
    cni_files.sort();
    Neighbours { services, dropping, trusted, forwarded, cni_files }
}

/// Those that run, out of what `systemctl show` says of each.
fn active(shown: &str) -> Vec<(&'static str, &'static str)> {
    let is_active = |unit: &str| {
        shown.split("\n\n").any(|block| {
            let has = |line: &str| block.lines().any(|its| its == line);
            has(&format!("Id={unit}")) && has("ActiveState=active")
        })
    };
    SERVICES.into_iter().filter(|(unit, _)| is_active(unit)).collect()
}

fn is_enabled(conf: &str) -> bool {
    conf.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_run_are_found_among_those_that_do_not() {
        let shown = "Id=docker.service\nActiveState=inactive\n\nActiveState=active\nId=firewalld.service\n\nId=containerd.service\nActiveState=active\n";
        let names: Vec<_> = active(shown).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["containerd", "firewalld"]);
        assert!(active("").is_empty());
        assert!(is_enabled("# x\nENABLED=yes\n") && !is_enabled("#ENABLED=yes\nENABLED=no"));
    }
}
