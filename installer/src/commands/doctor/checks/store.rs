//! etcd, where the control planes run it.

use super::{Found, Sure, found};
use crate::commands::doctor::seen::Seen;
use crate::desired::ETCD;

pub fn etcd(seen: &Seen<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for (host, probe) in seen.probed() {
        if let Some(line) = &probe.no_space {
            let what = "etcd's space is used up: nothing can be written to the cluster any more";
            let cure = "delete objects that nobody needs: that is still taken, and each control plane gives its member's space back \
                        and takes writes again within ten minutes. by hand: `etcdctl compact`, `etcdctl defrag` on every member, \
                        then `etcdctl alarm disarm`";
            list.push(found(Sure::Likely, &host.host.name, what, cure).signs([line.clone()]));
        }
    }
    if !seen.cluster.runs_etcd() {
        return list;
    }
    let answers: Vec<_> = seen.told().filter_map(|(host, told)| Some((host, told.members.as_ref()?))).collect();
    // those that know a majority know who is a member; each of the others only thinks so
    let Some(members) = answers.iter().find_map(|(_, answer)| answer.as_ref().ok()) else {
        if !answers.is_empty() {
            let signs = answers
                .iter()
                .filter_map(|(host, answer)| answer.as_ref().err().map(|why| format!("{}: {why}", host.host.name)));
            let what = "nobody answers for etcd: the API can neither be read nor changed";
            list.push(found(Sure::Certain, &seen.cluster.name, what, bring_back(seen)).signs(signs));
        }
        return list;
    };
    let voters: Vec<_> = members.iter().filter(|member| !member.learner).collect();
    let ill: Vec<_> = voters.iter().filter(|member| !member.healthy).map(|member| member.title()).collect();
    if (voters.len() - ill.len()) * 2 <= voters.len() {
        let what = format!("etcd has no majority: {} of its {} members do not answer", ill.len(), voters.len());
        list.push(found(Sure::Certain, &seen.cluster.name, what, bring_back(seen)).signs(ill));
    } else {
        for title in ill {
            let host = seen.hosts.iter().find(|host| host.host.name == title);
            let cure = match host {
                Some(host) => seen.on(host.host, &format!("systemctl restart {ETCD}")),
                None => seen.kinstall(&format!("node remove {title}")),
            };
            list.push(found(
                Sure::Certain,
                &title,
                "its member of etcd does not answer; the others are a majority",
                cure,
            ));
        }
    }
    for member in members.iter().filter(|member| member.learner) {
        let what = "its member of etcd has no vote yet";
        list.push(found(Sure::Likely, member.title(), what, seen.kinstall("up")));
    }
    for host in seen.cluster.control_planes() {
        let is_member =
            members.iter().any(|member| member.name == host.name || member.peer_urls.contains(&host.etcd_peer_url()));
        if !is_member {
            list.push(found(
                Sure::Certain,
                &host.name,
                "it is a control plane without a member of etcd",
                seen.kinstall("up"),
            ));
        }
    }
    list
}

fn bring_back(seen: &Seen<'_>) -> String {
    let restart = seen.kinstall("exec --role controlPlane");
    format!(
        "bring the control planes back that are away, then {restart} -- systemctl restart {ETCD}; with their data lost: kinstall restore"
    )
}

#[cfg(test)]
mod tests {
    use hoststate::Member;

    use super::super::fixtures::{cluster, edit, ha, one, well};
    use super::*;

    fn members(healthy: &[bool]) -> Vec<Member> {
        let member = |(index, healthy): (usize, &bool)| Member {
            id: index as u64,
            name: format!("h{}", index + 1),
            peer_urls: Vec::new(),
            learner: false,
            healthy: *healthy,
        };
        healthy.iter().enumerate().map(member).collect()
    }

    #[test]
    fn members_that_are_away_are_told_with_what_that_means() {
        let cluster = ha();
        let judged = |answer: Result<Vec<Member>, String>| {
            let mut seen = well(&cluster);
            edit(&mut seen, 0).members = Some(answer);
            etcd(&seen)
        };
        assert!(judged(Ok(members(&[true, true, true]))).is_empty());
        let away = one(judged(Ok(members(&[true, false, true]))));
        assert!(away.on == "h2" && away.cure.contains("restart kinstall-etcd.service"), "{away:?}");
        let lost = one(judged(Ok(members(&[true, false, false]))));
        assert!(lost.what.contains("no majority") && lost.sure == Sure::Certain, "{lost:?}");
        assert!(one(judged(Err("no leader".into()))).signs[0].contains("h1: no leader"));
        assert!(one(judged(Ok(members(&[true, true])))).what.contains("without a member"));
        let mut learner = members(&[true, true, true]);
        learner[2].learner = true;
        assert_eq!(one(judged(Ok(learner))).on, "h3");
    }

    #[test]
    fn space_that_is_used_up_is_told_also_without_etcd_of_ours() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        if let Ok(probe) = &mut seen.hosts[0].probe {
            probe.no_space = Some("mvcc: database space exceeded".into());
        }
        assert_eq!(one(etcd(&seen)).sure, Sure::Likely);
    }
}
