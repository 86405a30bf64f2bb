//! The text of a new inventory.

use std::collections::HashSet;
use std::net::IpAddr;

use anyhow::bail;

use crate::cli::{Init, Target};
use crate::inventory::edit::{NewHost, Written, scalar};

/// A host as it is to be written.
pub struct Planned {
    pub name: String,
    pub target: Target,
    /// Where SSH dials a name.
    pub node_address: Option<IpAddr>,
    pub roles: &'static [&'static str],
}

/// Three survive the loss of one, but leave hosts enough to work only when there are five.
pub fn usual_control_planes(hosts: usize) -> usize {
    if hosts >= 5 { 3 } else { 1 }
}

/// Names and roles for hosts; `resolve` knows the addresses of names.
pub fn hosts(arguments: &Init, resolve: impl Fn(&str) -> Option<IpAddr>) -> anyhow::Result<Vec<Planned>> {
    let number = arguments.hosts.len();
    let control_planes = arguments.control_planes.unwrap_or_else(|| usual_control_planes(number));
    if control_planes > number {
        bail!("{control_planes} control planes need as many hosts, and there are {number}");
    }
    let mut names = HashSet::new();
    let mut planned = Vec::new();
    for (index, target) in arguments.hosts.iter().enumerate() {
        let roles: &[&str] = match (index < control_planes, control_planes == number) {
            (true, true) => &["controlPlane", "worker"],
            (true, false) => &["controlPlane"],
            (false, _) => &["worker"],
        };
        let node_address =
            if target.host.parse::<IpAddr>().is_ok() { None } else { Some(address(&target.host, &resolve)?) };
        let own = node_address.is_some().then(|| label(&target.host)).flatten();
        let name = own.filter(|name| !names.contains(name)).unwrap_or_else(|| free(&names, index + 1));
        names.insert(name.clone());
        planned.push(Planned { name, target: target.clone(), node_address, roles });
    }
    Ok(planned)
}

/// The address that other hosts reach a name by.
fn address(name: &str, resolve: impl Fn(&str) -> Option<IpAddr>) -> anyhow::Result<IpAddr> {
    match resolve(name) {
        Some(address) if address.is_loopback() => {
            bail!("{name} is {address} here, by which no other host reaches it; give its address instead")
        }
        Some(address) => Ok(address),
        None => bail!("{name} has no IPv4 address that this machine knows; give its address instead"),
    }
}

/// The first part of a host's name, if a node can be called so.
fn label(host: &str) -> Option<String> {
    let label = host.split('.').next()?.to_ascii_lowercase();
    let good = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (1..=63).contains(&label.len());
    good.then_some(label)
}

fn free(taken: &HashSet<String>, from: usize) -> String {
    (from..).map(|number| format!("h{number}")).find(|name| !taken.contains(name)).unwrap_or_default()
}

pub fn inventory(arguments: &Init, hosts: &[Planned]) -> String {
    let mut text = format!(
        "\
# Written by `kinstall init`. inventory.example.yaml explains every field, `kinstall schema` helps editors to.
#
#   kinstall plan       shows what would be done; touches nothing
#   kinstall up         does it; again and again, until everything is as this file says
#   kinstall down       makes the hosts what they were before

# Names the directory .kinstall/<cluster>/ beside this file, too: keys and state, which must not be lost.
cluster: {}

# How hosts are reached; each of these fields can also stand in a host, for that one alone.
ssh:
",
        scalar(&arguments.name)
    );
    let user = common(hosts, |host| host.target.user.clone());
    let port = common(hosts, |host| host.target.port.map(|port| port.to_string()));
    text.push_str(&field("user", user.as_deref(), "root"));
    text.push_str(&field("port", port.as_deref(), "22"));
    let key = arguments.ssh_key.as_ref().map(|path| path.display().to_string());
    text.push_str(&field("identityFile", key.as_deref(), "~/.ssh/id_ed25519"));
    text.push_str(
        "  # accept-new: a host whose key is not known yet is let in and remembered. strict: it is refused.\n",
    );
    text.push_str(&field("hostKeyChecking", arguments.accept_new.then_some("accept-new"), "strict"));
    text.push_str(
        "  # for users other than root, when sudo asks for a password: a file, or an environment variable\n  \
         # sudo: {passwordFile: secrets/sudo-password}\n\n\
         # One, three or five control planes. Of three one may be lost. Hosts may have both roles.\nhosts:\n",
    );
    text.extend(hosts.iter().map(|host| written(host, user.is_none(), port.is_none())));
    text.push_str(
        "\n# What cannot be changed once the cluster stands.\n# network:\n#   podCidr: 10.244.0.0/16\n#   \
         serviceCidr: 10.96.0.0/16\n",
    );
    text.push_str("\n# What is deployed as a proof that everything works.\n");
    text.push_str(match arguments.sample {
        true => "sample:\n  wordpress:\n    host: wordpress.local # the name it answers to\n",
        false => "# sample:\n#   wordpress:\n#     host: wordpress.local\n",
    });
    text
}

/// The value that all hosts have; None also when they have none.
fn common(hosts: &[Planned], of: impl Fn(&Planned) -> Option<String>) -> Option<String> {
    let first = of(hosts.first()?)?;
    hosts.iter().all(|host| of(host).as_ref() == Some(&first)).then_some(first)
}

/// A field of `ssh`; what is the default stands there as a comment.
fn field(name: &str, value: Option<&str>, default: &str) -> String {
    match value {
        Some(value) => format!("  {name}: {}\n", scalar(value)),
        None => format!("  # {name}: {default}\n"),
    }
}

/// A host, with user and port where they are not what all have.
fn written(host: &Planned, own_user: bool, own_port: bool) -> String {
    let mut new = NewHost::default().text("name", &host.name).text("address", &host.target.host);
    if let Some(address) = host.node_address {
        new = new.text("nodeAddress", &address.to_string());
    }
    match host.roles {
        [role] => new = new.text("role", role),
        roles => new.fields.push(("roles".into(), Written::List(roles.iter().map(ToString::to_string).collect()))),
    }
    if let Some(user) = host.target.user.as_ref().filter(|_| own_user) {
        new = new.text("user", user);
    }
    if let Some(port) = host.target.port.filter(|_| own_port) {
        new = new.text("port", &port.to_string());
    }
    new.block(2, 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::cluster::Cluster;

    fn resolve(name: &str) -> Option<IpAddr> {
        let addresses =
            [("web.example", "10.0.1.1"), ("web.other", "10.0.1.2"), ("me", "127.0.1.1"), ("_x", "10.0.1.3")];
        addresses.iter().find(|(known, _)| *known == name).map(|(_, address)| address.parse().unwrap())
    }

    fn init(targets: &[&str]) -> Init {
        Init {
            hosts: targets.iter().map(|target| target.parse().unwrap()).collect(),
            name: "demo".into(),
            ..Init::default()
        }
    }

    fn cluster(arguments: &Init) -> (String, Cluster) {
        let text = inventory(arguments, &hosts(arguments, resolve).unwrap());
        let cluster =
            Cluster::parse(&text, "new", Path::new("/work")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (text, cluster)
    }

    #[test]
    fn control_planes_are_as_many_as_leave_hosts_to_work() {
        let several: Vec<String> = (1..=7).map(|number| format!("10.0.0.{number}")).collect();
        let several: Vec<&str> = several.iter().map(String::as_str).collect();
        for (number, asked, control_planes, workers) in
            [(1, None, 1, 1), (2, None, 1, 1), (4, None, 1, 3), (5, None, 3, 2), (7, Some(5), 5, 2), (3, Some(3), 3, 3)]
        {
            let (_, cluster) = cluster(&Init { control_planes: asked, ..init(&several[..number]) });
            let count = |of: fn(&crate::cluster::Host) -> bool| cluster.hosts.iter().filter(|host| of(host)).count();
            assert_eq!(
                (count(|host| host.control_plane), count(|host| host.worker)),
                (control_planes, workers),
                "{number}"
            );
        }
        let few = Init { control_planes: Some(3), ..init(&["10.0.0.1"]) };
        assert!(hosts(&few, resolve).err().unwrap().to_string().contains("3 control planes need as many hosts"));
    }

    #[test]
    fn what_all_hosts_have_stands_once() {
        let (text, all) = cluster(&init(&["admin@10.0.0.1:2222", "admin@10.0.0.2:2222"]));
        assert_eq!(text.matches("admin").count(), 1, "{text}");
        assert!(all.hosts.iter().all(|host| host.ssh.user.as_deref() == Some("admin") && host.ssh.port == Some(2222)));
        let (text, own) = cluster(&init(&["admin@10.0.0.1", "10.0.0.2:2222"]));
        let reached: Vec<_> = own.hosts.iter().map(|host| (host.ssh.user.as_deref(), host.ssh.port)).collect();
        assert_eq!(reached, [(Some("admin"), None), (None, Some(2222))], "{text}");
    }

    #[test]
    fn names_are_resolved_and_become_nodes_names() {
        let (_, cluster) = cluster(&init(&["web.example", "web.other", "10.0.0.3", "_x"]));
        let found: Vec<_> =
            cluster.hosts.iter().map(|host| (host.name.as_str(), host.node_address.to_string())).collect();
        let expected = [("web", "10.0.1.1"), ("h2", "10.0.1.2"), ("h3", "10.0.0.3"), ("h4", "10.0.1.3")];
        assert_eq!(found, expected.map(|(name, address)| (name, address.to_owned())));
        for (name, why) in [("me", "by which no other host reaches it"), ("nobody", "has no IPv4 address")] {
            assert!(hosts(&init(&[name]), resolve).err().unwrap().to_string().contains(why), "{name}");
        }
    }

    #[test]
    fn options_stand_in_the_file() {
        let key = Some("/keys/my key".into());
        let (text, cluster) = cluster(&Init { ssh_key: key, accept_new: true, sample: true, ..init(&["10.0.0.1"]) });
        assert_eq!(cluster.hosts[0].ssh.identity_files, [Path::new("/keys/my key")]);
        assert_eq!(cluster.hosts[0].ssh.host_key_checking, Some(crate::inventory::HostKeyChecking::AcceptNew));
        assert_eq!(cluster.wordpress.unwrap().host, "wordpress.local");
        assert!(text.lines().all(|line| line.len() <= 120));
    }
}
