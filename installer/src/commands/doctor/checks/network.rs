//! Who does not reach whom.

use super::{Found, Sure, found};
use crate::commands::doctor::connect::{Answer, Reach, Way};
use crate::commands::doctor::seen::{HostSeen, Seen};
use crate::inventory::Backend;

pub fn reaches(seen: &Seen<'_>) -> Vec<Found> {
    seen.hosts.iter().flat_map(|host| host.reaches.iter().filter_map(|reach| problem(seen, host, reach))).collect()
}

fn problem(seen: &Seen<'_>, host: &HostSeen<'_>, Reach { target, answer }: &Reach) -> Option<Found> {
    let name = &host.host.name;
    let to = format!("{} of {} ({}:{})", target.what, target.host, target.address, target.port);
    let there = seen.hosts.iter().find(|other| other.host.name == target.host);
    // who is away answers nobody, which is told as such
    if target.way != Way::Service && there.is_some_and(|there| there.probe.is_err()) {
        return None;
    }
    let udp = matches!(seen.cluster.network.backend, Backend::Vxlan);
    Some(match (target.way, answer) {
        (_, Answer::Open | Answer::Unknown) => return None,
        // a unit that does not run, which is told as such
        (Way::Host, Answer::Refused) => return None,
        (Way::Pod, Answer::Refused) => return None,
        (Way::Host, Answer::Silent) => {
            let what = format!("its packets to {to} are dropped on the way");
            let cure = format!("open tcp port {} in the firewall of {} and between the two", target.port, target.host);
            found(Sure::Likely, name, what, cure)
        }
        (Way::Host, Answer::NoRoute) => {
            let what = format!("it has no way to {to}");
            found(
                Sure::Certain,
                name,
                what,
                format!("{} shows what it knows", seen.on(host.host, &format!("ip route get {}", target.address))),
            )
        }
        (Way::Pod, _) => {
            let what = format!("it does not reach pods of {}: {} does not answer", target.host, to);
            let reason = if udp {
                "udp port 8472 (the pod network) must be open between the two"
            } else {
                "the network between the two must let packets of pods pass"
            };
            let cure = format!(
                "{reason}; then {}",
                seen.kinstall(&format!(
                    "exec --hosts {name},{} -- systemctl restart kinstall-cni-agent.service",
                    target.host
                ))
            );
            found(Sure::Likely, name, what, cure)
        }
        (Way::Service, _) => {
            let what = format!(
                "Services cannot be reached from it: {} ({}:{}) does not answer",
                target.what, target.address, target.port
            );
            found(Sure::Likely, name, what, seen.on(host.host, "systemctl restart kinstall-proxy.service"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{cluster, one, well};
    use super::*;
    use crate::commands::doctor::connect::Target;
    use crate::host::HostError;

    #[test]
    fn what_is_not_reached_is_told_with_what_is_in_the_way() {
        let cluster = cluster();
        let judged = |way, answer, dead: bool| {
            let mut seen = well(&cluster);
            let target = Target { way, host: "h2".into(), what: "kubelet", address: "10.0.0.2".into(), port: 10250 };
            seen.hosts[0].reaches = vec![Reach { target, answer }];
            if dead {
                seen.hosts[1].probe = Err(HostError::new("h2", "connect", "away"));
            }
            reaches(&seen)
        };
        assert!(judged(Way::Host, Answer::Open, false).is_empty());
        assert!(judged(Way::Host, Answer::Refused, false).is_empty(), "its unit is told");
        assert!(judged(Way::Host, Answer::Silent, true).is_empty(), "the host is told");
        assert!(judged(Way::Pod, Answer::Unknown, false).is_empty());
        let dropped = one(judged(Way::Host, Answer::Silent, false));
        assert!(dropped.on == "h1" && dropped.cure.contains("tcp port 10250"), "{dropped:?}");
        assert!(one(judged(Way::Host, Answer::NoRoute, false)).cure.contains("ip route get 10.0.0.2"));
        assert!(one(judged(Way::Pod, Answer::Silent, false)).cure.contains("8472"));
        assert!(one(judged(Way::Service, Answer::Refused, false)).cure.contains("kinstall-proxy"));
    }
}
