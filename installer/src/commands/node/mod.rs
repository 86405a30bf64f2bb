//! `kinstall node`: one file for each subcommand; here is what may be removed at all.

pub mod add;
mod inventory;
pub mod list;
pub mod remove;
pub mod replace;
pub mod volumes;

use crate::cluster::Cluster;

/// Whether the control planes that are left are as many as can decide. Pure.
///
/// # Errors
/// Says why not, and what to do instead.
fn may_be_left(cluster: &Cluster, going: &[String]) -> Result<(), String> {
    let is_going = |name: &str| going.iter().any(|going| going == name);
    let all = cluster.control_planes().count();
    let left = cluster.control_planes().filter(|host| !is_going(&host.name)).count();
    if left == all {
        return Ok(());
    }
    if left == 0 {
        return Err("no control plane would be left; `kinstall down` removes the whole cluster".into());
    }
    if cluster.external_etcd.is_some() || matches!(left, 3 | 5) {
        return Ok(());
    }
    let instead = "use `kinstall node replace`";
    Err(match left {
        1 => format!(
            "one control plane would be left of {all}; it would keep its store by itself, and what is in etcd does not move \
             back; to replace one, {instead}"
        ),
        _ => format!(
            "{left} control planes would be left of {all}, where the loss of one more stops the cluster or gains nothing: \
             three or five decide; to replace one, {instead}"
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cluster(control_planes: usize, more: &str) -> Cluster {
        let host = |index| {
            let role = if index <= control_planes { "controlPlane" } else { "worker" };
            format!("- {{name: h{index}, address: 10.0.0.{index}, role: {role}}}\n")
        };
        let hosts: String = (1..7).map(host).collect();
        Cluster::parse(&format!("cluster: c\nhosts:\n{hosts}{more}"), "i", std::path::Path::new("/")).unwrap()
    }

    #[test]
    fn as_many_control_planes_stay_as_can_decide() {
        const ETCD: &str = "etcd: {endpoints: ['https://e:2379'], caFile: a, certFile: b, keyFile: c}\n";
        for (control_planes, more, going, refused) in [
            (1, "", &["h6"][..], None),
            (1, "", &["h1"], Some("kinstall down")),
            (3, "", &["h3"], Some("2 control planes would be left of 3")),
            (3, "", &["h2", "h3"], Some("does not move back")),
            (3, "", &["h4", "h6"], None),
            (5, "", &["h5"], Some("4 control planes")),
            (5, "", &["h4", "h5"], None),
            // in no inventory: it was replaced
            (3, "", &["old"], None),
            (3, ETCD, &["h3"], None),
            (3, ETCD, &["h1", "h2", "h3"], Some("kinstall down")),
        ] {
            let going: Vec<_> = going.iter().map(|name| (*name).to_owned()).collect();
            let found = may_be_left(&cluster(control_planes, more), &going).err();
            match refused {
                None => assert_eq!(found, None, "{control_planes} without {going:?}"),
                Some(words) => {
                    let found = found.unwrap_or_default();
                    assert!(found.contains(words), "{control_planes} without {going:?}: {found}");
                }
            }
        }
    }
}
