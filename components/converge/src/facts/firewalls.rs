//! What others' packet filters do to packets of other hosts and of pods.

use crate::{Root, command};

/// What the names of our own tables begin with.
const OURS: &str = "kinstall-";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Chains that drop what none of their rules accepts, with their hook: `ip filter FORWARD (forward)`.
    pub dropping: Vec<String>,
    /// Where everything is accepted from.
    pub trusted: Vec<String>,
    /// What is forwarded whoever sends it, and wherever it comes from.
    pub forwarded: Vec<String>,
}

pub fn collect(root: &Root, firewalld_runs: bool) -> Rules {
    let mut rules = match command::look_in(root, "nft", &["list", "chains"]) {
        Some(listed) => of_nftables(root, &listed),
        None => legacy(&command::look_in(root, "iptables", &["-S"]).unwrap_or_default()),
    };
    if firewalld_runs {
        let ask = |args: &[&str]| command::look_in(root, "firewall-cmd", args).unwrap_or_default();
        let mut sources: Vec<_> =
            ask(&["--zone=trusted", "--list-sources"]).split_whitespace().map(str::to_owned).collect();
        if ask(&["--get-default-zone"]).trim() == "trusted" {
            sources.push("0.0.0.0/0".to_owned());
        }
        rules.trusted.extend(sources.iter().cloned());
        rules.forwarded.extend(sources);
    }
    rules
}

fn of_nftables(root: &Root, chains: &str) -> Rules {
    let dropping = dropping(chains);
    let mut tables: Vec<&str> = dropping.iter().filter_map(|chain| table(chain)).collect();
    tables.dedup();
    let mut accepted = Accepted::default();
    for table in tables {
        let args: Vec<&str> = ["list", "table"].into_iter().chain(table.split(' ')).collect();
        accepted.read(&command::look_in(root, "nft", &args).unwrap_or_default());
    }
    let (trusted, forwarded) = accepted.told();
    Rules { dropping, trusted, forwarded }
}

/// `ip filter` of `ip filter FORWARD (forward)`.
fn table(chain: &str) -> Option<&str> {
    chain.rsplitn(3, ' ').nth(2)
}

/// Chains of others through which packets from or to other hosts pass, and that drop what no rule of theirs accepts, out of what
/// `nft list chains` prints.
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

/// Rules that accept by nothing but the sender's or the receiver's address.
#[derive(Default)]
struct Accepted {
    input: Vec<String>,
    forward_from: Vec<String>,
    forward_to: Vec<String>,
}

impl Accepted {
    /// `nft list table`, with the counters that iptables gives every rule.
    fn read(&mut self, listed: &str) {
        let mut chain = "";
        for line in listed.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ") {
                chain = name.trim_end_matches('{').trim();
            }
            for (word, is_sender) in [("ip saddr ", true), ("ip daddr ", false)] {
                let Some(rule) = line.strip_prefix(word) else { continue };
                let (addresses, rest) = match rule.strip_prefix('{').and_then(|rule| rule.split_once('}')) {
                    Some(set) => set,
                    None => rule.split_once(' ').unwrap_or((rule, "")),
                };
                let words: Vec<&str> = rest.split_whitespace().collect();
                if matches!(words.as_slice(), ["accept"] | ["counter", "packets", _, "bytes", _, "accept"]) {
                    self.add(chain, is_sender, addresses.split(',').map(|it| it.trim().to_owned()));
                }
            }
        }
    }

    /// `iptables -S`.
    fn read_legacy(&mut self, listed: &str) {
        for line in listed.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["-A", chain, "-s", from, "-j", "ACCEPT"] => self.add(chain, true, [(*from).to_owned()]),
                ["-A", chain, "-d", to, "-j", "ACCEPT"] => self.add(chain, false, [(*to).to_owned()]),
                _ => {}
            }
        }
    }

    /// A chain tells by its name what it is for: those of ufw and Docker for people's own rules are no base chains.
    fn add(&mut self, chain: &str, is_sender: bool, addresses: impl IntoIterator<Item = String>) {
        let chain = chain.to_lowercase();
        let forwards = chain.contains("forward") || chain == "docker-user";
        match (forwards, is_sender) {
            (true, true) => self.forward_from.extend(addresses),
            (true, false) => self.forward_to.extend(addresses),
            (false, true) if chain.contains("input") => self.input.extend(addresses),
            (false, _) => {}
        }
    }

    /// Trusted, and forwarded.
    fn told(self) -> (Vec<String>, Vec<String>) {
        let Self { input, forward_from, forward_to } = self;
        (input, forward_from.into_iter().filter(|from| forward_to.contains(from)).collect())
    }
}

/// The same of `iptables -S`.
fn legacy(listed: &str) -> Rules {
    let policies = [("-P FORWARD DROP", "forward"), ("-P INPUT DROP", "input")];
    let there = policies.into_iter().filter(|(line, _)| listed.lines().any(|its| its.trim() == *line));
    let dropping = there.map(|(_, hook)| format!("ip filter {} ({hook})", hook.to_uppercase())).collect();
    let mut accepted = Accepted::default();
    accepted.read_legacy(listed);
    let (trusted, forwarded) = accepted.told();
    Rules { dropping, trusted, forwarded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_peoples_chains_that_drop_are_found_and_ours_are_not() {
        let listed = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\tchain DOCKER {\n\t}\n}\ntable inet theirs {\n\tchain in {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\ntable inet kinstall-policy {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\ntable bridge b {\n\tchain f {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n";
        let found = dropping(listed);
        assert_eq!(found, ["ip filter FORWARD (forward)", "inet theirs in (input)"]);
        let tables: Vec<_> = found.iter().map(|chain| table(chain)).collect();
        assert_eq!(tables, [Some("ip filter"), Some("inet theirs")]);
        assert_eq!(legacy("-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER\n").dropping, ["ip filter FORWARD (forward)"]);
    }

    #[test]
    fn only_what_is_accepted_by_its_address_alone_and_both_ways_is_let_through() {
        let mut accepted = Accepted::default();
        accepted.read(
            "table inet theirs {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy drop;\n\t\tip saddr 10.244.0.0/16 counter packets 7 bytes 9 accept\n\
             \t\tip daddr { 10.1.0.0/16, 10.244.0.0/16 } accept\n\t\tip saddr 10.2.0.0/16 tcp dport 80 accept\n\t}\n\
             \tchain input {\n\t\tip saddr { 10.99.0.12, 10.99.0.13 } accept\n\t\tip saddr 10.3.0.0/16 drop\n\t\ttcp dport 22 accept\n\t}\n\
             \tchain other {\n\t\tip saddr 10.4.0.0/16 accept\n\t}\n}\n",
        );
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(accepted.told(), (owned(&["10.99.0.12", "10.99.0.13"]), owned(&["10.244.0.0/16"])));

        let ufw = legacy(
            "-P INPUT DROP\n-P FORWARD DROP\n-A ufw-user-input -s 10.99.0.12/32 -j ACCEPT\n-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n\
             -A ufw-user-forward -s 10.244.0.0/16 -j ACCEPT\n-A ufw-user-forward -d 10.244.0.0/16 -j ACCEPT\n-A FORWARD -s 10.5.0.0/16 -j ACCEPT\n",
        );
        assert_eq!(
            (ufw.dropping.len(), ufw.trusted, ufw.forwarded),
            (2, owned(&["10.99.0.12/32"]), owned(&["10.244.0.0/16"]))
        );
    }
}
