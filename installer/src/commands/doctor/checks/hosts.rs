//! Hosts themselves: whether they can be entered, what they were made into, what else is on them.

use hoststate::Action;

use super::{Found, Sure, found};
use crate::cluster::Host;
use crate::commands::doctor::seen::Seen;
use crate::host::shell::quoted;
use crate::preflight::{self, Severity, Subject};

pub fn way(seen: &Seen<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for host in &seen.hosts {
        let name = &host.host.name;
        match (&host.probe, &host.told) {
            (Err(error), _) => {
                let cure =
                    error.hint.clone().unwrap_or_else(|| format!("try the same way by hand: {}", by_hand(host.host)));
                let what = format!("it cannot be worked on ({}): {}", error.step, error.message);
                list.push(found(Sure::Certain, name, what, cure).signs(error.stderr.clone()));
            }
            // it lets us in and knows what commands are: something of kinstall's own is broken there
            (Ok(_), Err(error)) => {
                let what = format!("kinstall's own part there does not answer ({}): {}", error.step, error.message);
                list.push(found(Sure::Certain, name, what, seen.kinstall("up")).signs(error.stderr.clone()));
            }
            (Ok(_), Ok(_)) => {}
        }
    }
    list
}

/// As ssh would be told what the inventory says; what it leaves open is ssh_config's for both.
fn by_hand(host: &Host) -> String {
    let mut words = vec!["ssh -v".to_owned()];
    words.extend(host.ssh.identity_files.iter().map(|file| format!("-i {}", quoted(&file.display().to_string()))));
    words.extend(host.ssh.port.map(|port| format!("-p {port}")));
    if let Some(file) = &host.ssh.known_hosts_file {
        words.push(format!("-o UserKnownHostsFile={}", quoted(&file.display().to_string())));
    }
    let hops: Vec<String> = host
        .ssh
        .bastion
        .iter()
        .flatten()
        .map(|hop| {
            let user = hop.ssh.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            let port = hop.ssh.port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{user}{}{port}", hop.address)
        })
        .collect();
    if !hops.is_empty() {
        words.push(format!("-J {}", hops.join(",")));
    }
    words.extend(host.ssh.user.as_ref().map(|user| format!("-l {}", quoted(user))));
    words.push(quoted(&host.address));
    words.join(" ")
}

pub fn installed(seen: &Seen<'_>) -> Vec<Found> {
    if seen.api.is_none() {
        let what = "no cluster was ever installed from this inventory's directory";
        return vec![found(Sure::Certain, &seen.cluster.name, what, seen.kinstall("up"))];
    }
    let mut list = Vec::new();
    for host in &seen.hosts {
        let name = &host.host.name;
        match &host.told {
            Ok(None) => {
                list.push(found(Sure::Certain, name, "kinstall is not installed there", seen.kinstall("up")));
            }
            Ok(Some(told)) => {
                let problem = match &told.facts.manifest {
                    None => Some(("what kinstall made there is not known: its manifest is gone", "up")),
                    Some(manifest) if !manifest.complete => Some(("the last run there did not come to its end", "up")),
                    Some(manifest) if manifest.previous.is_some() => {
                        Some(("an upgrade there did not come to its end", "upgrade"))
                    }
                    Some(_) => None,
                };
                list.extend(problem.map(|(what, command)| found(Sure::Certain, name, what, seen.kinstall(command))));
            }
            Err(_) => {}
        }
    }
    list
}

/// What preflight finds on hosts that are in use is wrong all the same; what it only warns of may be meant so.
pub fn preflight(seen: &Seen<'_>) -> Vec<Found> {
    let subjects: Vec<_> = seen
        .told()
        .map(|(host, told)| Subject {
            cluster: seen.cluster,
            cluster_id: &seen.cluster_id,
            host: host.host,
            facts: &told.facts,
            clock_skew_millis: told.clock_skew_millis,
        })
        .collect();
    let judged = preflight::check(&subjects).into_iter().filter_map(|finding| {
        let sure = match (finding.severity, finding.check) {
            // told with what goes with them
            (_, "disk" | "memory") => return None,
            (Severity::Error, _) => Sure::Certain,
            (Severity::Warning, "kernel parameters") => Sure::Likely,
            (Severity::Warning, "swap" | "resolver" | "firewall" | "SELinux") => Sure::Possible,
            _ => return None,
        };
        Some(found(sure, finding.host, format!("{}: {}", finding.check, finding.message), finding.fix))
    });
    judged.collect()
}

/// Kernel parameters that somebody set otherwise, and what comes of that.
const PARAMETERS: [(&str, &str); 2] = [
    ("net.ipv4.ip_forward", "packets of pods are not forwarded: they reach nobody outside of their host"),
    ("net.ipv4.conf.all.rp_filter", "answers of Services may be dropped on their way back"),
];

pub fn drift(seen: &Seen<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for (host, told) in seen.told() {
        let name = &host.host.name;
        let Some(drift) = &told.drift else { continue };
        let mut others = Vec::new();
        for change in drift {
            let parameter = change
                .resource
                .strip_prefix("sysctl ")
                .and_then(|key| PARAMETERS.iter().find(|(known, _)| *known == key));
            let stopped = change.resource.strip_prefix("unit ").is_some_and(|unit| {
                let is_down = |unit: &crate::commands::doctor::script::Unit| unit.active != "active";
                change.action == Action::Start
                    && host.probe.as_ref().is_ok_and(|probe| probe.unit(unit).is_some_and(is_down))
            });
            match parameter {
                Some((key, effect)) => {
                    let what = format!("{key} is {}, not {}: {effect}", change.found, change.wanted);
                    let cure = seen.on(host.host, &format!("sysctl -w {key}={}", change.wanted));
                    list.push(found(Sure::Certain, name, what, cure));
                }
                // a unit that is down is told as such
                None if stopped => {}
                None => others.push(match change.action {
                    Action::Create => format!("{}: it is gone", change.resource),
                    _ if change.found.is_empty() => change.resource.clone(),
                    _ => format!("{}: {}, not {}", change.resource, change.found, change.wanted),
                }),
            }
        }
        if !others.is_empty() {
            let what = format!("it is not as `up` left it, in {} of its resources", others.len());
            let cure =
                format!("{} shows them in full, {} mends them", seen.kinstall("status --drift"), seen.kinstall("up"));
            list.push(found(Sure::Likely, name, what, cure).signs(others));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use hoststate::facts::LaterSysctl;
    use hoststate::wire::Change;

    use super::super::fixtures::{cluster, edit, one, well};
    use super::*;
    use crate::host::HostError;

    #[test]
    fn a_host_that_cannot_be_entered_is_told_with_the_way_there() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        assert!(way(&seen).is_empty());
        seen.hosts[1].probe = Err(HostError::new("h2", "connect", "cannot connect to 10.0.0.2:22: refused"));
        seen.hosts[1].told = Err(HostError::new("h2", "connect", "the same"));
        let one = one(way(&seen));
        assert_eq!((one.sure, one.on.as_str()), (Sure::Certain, "h2"));
        assert!(one.what.contains("refused") && one.cure.ends_with("ssh -v -p 2222 -l admin 10.0.0.2"), "{one:?}");
        let mut seen = well(&cluster);
        seen.hosts[0].told = Err(HostError::new("h1", "probe", "kinstall was here but its executable is gone"));
        assert!(super::super::fixtures::one(way(&seen)).cure.contains("kinstall up"));
    }

    #[test]
    fn what_was_not_finished_is_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        assert!(installed(&seen).is_empty());
        if let Some(manifest) = &mut edit(&mut seen, 0).facts.manifest {
            manifest.complete = false;
        }
        assert!(one(installed(&seen)).what.contains("did not come to its end"));
        let mut seen = well(&cluster);
        seen.hosts[1].told = Ok(None);
        assert_eq!(one(installed(&seen)).on, "h2");
        seen.api = None;
        assert!(one(installed(&seen)).what.contains("ever installed"));
    }

    #[test]
    fn what_preflight_finds_is_found() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        assert!(preflight(&seen).is_empty(), "{:?}", preflight(&seen));
        edit(&mut seen, 1).facts.swap_bytes = 1 << 30;
        assert_eq!(one(preflight(&seen)).sure, Sure::Possible);
        let mut seen = well(&cluster);
        edit(&mut seen, 1).clock_skew_millis = 9000;
        let judged = preflight(&seen);
        assert!(
            judged.iter().all(|found| found.sure == Sure::Certain && found.what.starts_with("clock")),
            "{judged:?}"
        );
        let mut seen = well(&cluster);
        edit(&mut seen, 1).facts.neighbours.dropping.push("ip filter FORWARD (forward)".into());
        assert!(one(preflight(&seen)).cure.contains("iptables"));
        let mut seen = well(&cluster);
        let line = LaterSysctl {
            file: "/etc/sysctl.d/99-x.conf".into(),
            key: "net.ipv4.ip_forward".into(),
            value: "0".into(),
        };
        edit(&mut seen, 1).facts.later_sysctls.push(line);
        assert_eq!(one(preflight(&seen)).sure, Sure::Likely);
    }

    #[test]
    fn what_was_changed_by_hand_is_told_with_what_it_does() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        assert!(drift(&seen).is_empty());
        let changed = |resource: &str, action, found: &str, wanted: &str| Change {
            found: found.into(),
            wanted: wanted.into(),
            ..Change::new(resource, action, "")
        };
        edit(&mut seen, 1).drift = Some(vec![changed("sysctl net.ipv4.ip_forward", Action::Update, "0", "1")]);
        let forwarding = one(drift(&seen));
        assert_eq!(forwarding.cure, "kinstall exec --hosts h2 -- sysctl -w net.ipv4.ip_forward=1");
        edit(&mut seen, 1).drift = Some(vec![
            changed("file /etc/kinstall/x", Action::Update, "mode 644", "mode 600"),
            changed("symlink /y", Action::Create, "", ""),
        ]);
        let others = one(drift(&seen));
        assert_eq!(others.signs, ["file /etc/kinstall/x: mode 644, not mode 600", "symlink /y: it is gone"]);
        // a unit that is down is told once
        edit(&mut seen, 1).drift =
            Some(vec![changed("unit kinstall-proxy.service", Action::Start, "inactive", "active")]);
        if let Ok(probe) = &mut seen.hosts[1].probe {
            for unit in probe.units.iter_mut().filter(|unit| unit.name == "kinstall-proxy.service") {
                unit.active = "inactive".into();
            }
        }
        assert!(drift(&seen).is_empty());
    }
}
