//! Who else on this host has to do with containers and packets.

use std::fs;

use hoststate::facts::Neighbours;

use super::system::read;
use crate::{Root, command};

/// Units, and what they are called in findings.
const SERVICES: [(&str, &str); 7] = [
    ("docker.service", "Docker"),
    ("containerd.service", "containerd"),
    ("crio.service", "CRI-O"),
    ("podman.service", "Podman"),
    ("firewalld.service", "firewalld"),
    ("NetworkManager.service", "NetworkManager"),
    (UFW, "ufw"),
];
/// Its unit is active also while it lets everything pass.
const UFW: &str = "ufw.service";
const CNI: &str = "/etc/cni/net.d";
/// What the names of our own tables begin with.
const OURS: &str = "kinstall-";

pub fn collect(root: &Root) -> Neighbours {
    let units: Vec<&str> = SERVICES.iter().map(|(unit, _)| *unit).collect();
    let shown = command::look("systemctl", &[&["show", "-p", "Id,ActiveState", "--"], units.as_slice()].concat());
    let ufw_is_on = is_enabled(&read(root, "/etc/ufw/ufw.conf"));
    let services = active(&shown.unwrap_or_default()).into_iter().filter(|(unit, _)| *unit != UFW || ufw_is_on);
    let dropping = match command::look("nft", &["list", "chains"]) {
        Some(listed) => dropping(&listed),
        None => legacy(&command::look("iptables", &["-S"]).unwrap_or_default()),
    };
    let mut cni_files: Vec<String> = fs::read_dir(root.path(CNI))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| format!("{CNI}/{}", entry.file_name().to_string_lossy()))
        .collect();
    cni_files.sort();
    Neighbours { services: services.map(|(_, name)| name.to_owned()).collect(), dropping, cni_files }
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

/// Chains of others through which packets from or to other hosts pass, and that drop what no rule of theirs accepts: `ip filter
/// FORWARD (forward)`, out of what `nft list chains` prints.
fn dropping(listed: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut table, mut chain) = ("", "");
    for line in listed.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches('{').trim();
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches('{').trim();
        }
        let hook = ["forward", "input"].into_iter().find(|hook| line.contains(&format!(" hook {hook} ")));
        let is_ours = table.split_whitespace().nth(1).is_some_and(|name| name.starts_with(OURS));
        if let Some(hook) = hook
            && line.contains("policy drop")
            && !is_ours
            && ["ip ", "ip6 ", "inet "].iter().any(|family| table.starts_with(family))
        {
            found.push(format!("{table} {chain} ({hook})"));
        }
    }
    found
}

/// The same of `iptables -S`.
fn legacy(listed: &str) -> Vec<String> {
    let policies = [("-P FORWARD DROP", "forward"), ("-P INPUT DROP", "input")];
    let there = policies.into_iter().filter(|(line, _)| listed.lines().any(|its| its.trim() == *line));
    there.map(|(_, hook)| format!("ip filter {} ({hook})", hook.to_uppercase())).collect()
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

    #[test]
    fn other_peoples_chains_that_drop_are_found_and_ours_are_not() {
        let listed = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\tchain DOCKER {\n\t}\n}\ntable inet theirs {\n\tchain in {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\ntable inet kinstall-policy {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\ntable bridge b {\n\tchain f {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n";
        assert_eq!(dropping(listed), ["ip filter FORWARD (forward)", "inet theirs in (input)"]);
        assert_eq!(legacy("-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER\n"), ["ip filter FORWARD (forward)"]);
    }
}
