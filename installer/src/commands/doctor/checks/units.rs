//! systemd's units of a host.

use super::{Found, Sure, found};
use crate::commands::doctor::script::{Probe, Unit};
use crate::commands::doctor::seen::{HostSeen, Seen};

/// Who has begun anew so often, and not long ago, will do so again.
const RESTARTS: u64 = 3;
const LATELY_SECONDS: f64 = 600.0;

/// What a unit says before it ends: what that means, and what helps.
const SIGNS: [(&str, &str, &str); 6] = [
    ("database space exceeded", "etcd's space is used up", "see the finding of `etcd`"),
    ("o space left on device", "the disk is full", "free some space on that host"),
    ("ddress already in use", "another process has its port", "ss -lntup shows whose the port is; stop that one"),
    ("certificate has expired", "a certificate has run out", "kinstall certs renew"),
    ("CertificateExpired", "a certificate has run out", "kinstall certs renew"),
    ("annot allocate memory", "the host's memory is used up", "free shows how much there is; stop something there"),
];

pub fn units(seen: &Seen<'_>) -> Vec<Found> {
    let installed = |host: &HostSeen<'_>| !matches!(host.told, Ok(None));
    let mut list = Vec::new();
    for (host, probe) in seen.probed().filter(|(host, _)| installed(host)) {
        for unit in &probe.units {
            if let Some((sure, state)) = problem(unit, probe) {
                let lines = probe.journals.get(&unit.name).cloned().unwrap_or_default();
                let sign = SIGNS.iter().find(|(words, ..)| lines.iter().any(|line| line.contains(words)));
                let reason = sign.map(|(_, reason, _)| format!(": {reason}")).unwrap_or_default();
                let again = seen.on(host.host, &format!("systemctl restart {}", unit.name));
                let cure = match sign {
                    _ if unit.load == "not-found" => seen.kinstall("up"),
                    Some((_, _, first)) => format!("{first}; then {again}"),
                    None => again,
                };
                let kept = lines.len().saturating_sub(3);
                list.push(
                    found(sure, &host.host.name, format!("{} {state}{reason}", unit.name), cure)
                        .signs(lines.into_iter().skip(kept)),
                );
            }
        }
    }
    list
}

fn problem(unit: &Unit, probe: &Probe) -> Option<(Sure, String)> {
    // a part of a microsecond is no matter
    #[allow(clippy::cast_precision_loss)]
    let active_seconds = probe.up_seconds - unit.since_micros as f64 / 1e6;
    match (unit.load.as_str(), unit.active.as_str(), unit.sub.as_str()) {
        ("not-found", ..) => Some((Sure::Certain, "is not there".to_owned())),
        ("masked", ..) => Some((Sure::Certain, "is masked, so that nothing can start it".to_owned())),
        (_, "failed", _) => Some((Sure::Certain, format!("has failed ({})", unit.result))),
        (_, "inactive", _) => Some((Sure::Certain, "is stopped".to_owned())),
        (_, "activating", "auto-restart") => {
            Some((Sure::Certain, format!("ends again and again ({} restarts, {})", unit.restarts, unit.result)))
        }
        (_, "activating", _) if unit.restarts > 0 => {
            Some((Sure::Certain, format!("does not come up ({} restarts)", unit.restarts)))
        }
        (_, "activating", _) => Some((Sure::Possible, "is starting".to_owned())),
        (_, "active", _) if unit.restarts >= RESTARTS && active_seconds < LATELY_SECONDS => {
            Some((Sure::Likely, format!("has ended {} times, the last time {active_seconds:.0} s ago", unit.restarts)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{cluster, one, well};
    use super::*;

    fn judged(change: impl FnOnce(&mut Unit, &mut Vec<String>)) -> Vec<Found> {
        let cluster = cluster();
        let mut seen = well(&cluster);
        if let Ok(probe) = &mut seen.hosts[1].probe {
            let mut lines = Vec::new();
            if let Some(unit) = probe.units.iter_mut().find(|unit| unit.name == "kinstall-kubelet.service") {
                change(unit, &mut lines);
            }
            probe.journals.insert("kinstall-kubelet.service".into(), lines);
        }
        units(&seen)
    }

    #[test]
    fn units_that_do_not_run_are_told_with_their_last_words() {
        assert!(judged(|_, _| {}).is_empty());
        let stopped = one(judged(|unit, lines| {
            unit.active = "inactive".into();
            lines.extend(["a", "b", "c", "Stopped."].map(str::to_owned));
        }));
        assert_eq!((stopped.sure, stopped.on.as_str()), (Sure::Certain, "h2"));
        assert_eq!(stopped.what, "kinstall-kubelet.service is stopped");
        assert_eq!(stopped.signs, ["b", "c", "Stopped."]);
        assert_eq!(stopped.cure, "kinstall exec --hosts h2 -- systemctl restart kinstall-kubelet.service");
        for (active, sub, words) in
            [("failed", "failed", "has failed"), ("activating", "auto-restart", "again and again")]
        {
            let told = one(judged(|unit, _| (unit.active, unit.sub) = (active.into(), sub.into())));
            assert!(told.what.contains(words) && told.sure == Sure::Certain, "{told:?}");
        }
        assert!(one(judged(|unit, _| unit.load = "not-found".into())).cure.contains("kinstall up"));
        assert!(one(judged(|unit, _| unit.load = "masked".into())).what.contains("masked"));
    }

    #[test]
    fn one_that_began_anew_is_told_only_when_it_will_again() {
        let again = |restarts, since_micros| {
            judged(move |unit, _| (unit.restarts, unit.since_micros) = (restarts, since_micros))
        };
        assert_eq!(one(again(3, 90_000_000)).sure, Sure::Likely);
        assert!(again(2, 90_000_000).is_empty());
        // the fixture's host is up for 100 s, so this is long ago by its clock
        let cluster = cluster();
        let mut seen = well(&cluster);
        if let Ok(probe) = &mut seen.hosts[0].probe {
            probe.up_seconds = 10_000.0;
            probe.units[0].restarts = 9;
        }
        assert!(units(&seen).is_empty());
    }

    #[test]
    fn a_cause_that_is_known_is_told() {
        for (line, cause, cure) in [
            ("write /x: no space left on device", "the disk is full", "free some space"),
            ("bind: address already in use", "has its port", "ss -lntup"),
            ("invalid peer certificate: CertificateExpired", "has run out", "kinstall certs renew"),
        ] {
            let told = one(judged(|unit, lines| {
                unit.active = "failed".into();
                lines.push(line.into());
            }));
            assert!(told.what.contains(cause) && told.cure.starts_with(cure), "{told:?}");
        }
    }
}
