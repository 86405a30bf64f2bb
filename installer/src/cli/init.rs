//! The command line of `init`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

#[derive(Clone, Debug, Default, Args)]
pub struct Init {
    /// The hosts: addresses or names, with user and port where they are not root and 22
    #[arg(value_name = "USER@HOST:PORT")]
    pub hosts: Vec<Target>,
    /// The cluster's name
    #[arg(long, default_value = "demo")]
    pub name: String,
    /// How many of the hosts become control planes: 1, 3 or 5 [default: 3 of five hosts and more, else 1]
    #[arg(long, value_name = "NUMBER", value_parser = control_planes)]
    pub control_planes: Option<usize>,
    /// The SSH key's file [default: the usual ones in ~/.ssh]
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Option<PathBuf>,
    /// Let hosts in whose SSH key is not known yet, and remember it
    #[arg(long)]
    pub accept_new: bool,
    /// With the sample application (WordPress)
    #[arg(long)]
    pub sample: bool,
}

/// `user@host:port`, as people write it for ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("{why}; expected user@host:port, of which host is enough"));
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => return refused("IPv6 clusters come with a later version"),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        if host.is_empty() || user == Some("") {
            return refused("something is missing");
        }
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
            return refused("this is neither an address nor a name");
        }
        let port = match port.map(str::parse::<u16>) {
            Some(Err(_) | Ok(0)) => return refused("a port is a number from 1 to 65535"),
            Some(Ok(port)) => Some(port),
            None => None,
        };
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

pub fn control_planes(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("a majority has to be left when one is lost: 1, 3 or 5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_written_as_for_ssh() {
        let target = |user: Option<&str>, host: &str, port| {
            Ok(Target { user: user.map(str::to_owned), host: host.to_owned(), port })
        };
        assert_eq!("10.0.0.1".parse(), target(None, "10.0.0.1", None));
        assert_eq!("admin@h1.example:2222".parse(), target(Some("admin"), "h1.example", Some(2222)));
        assert_eq!("a@b@h1".parse(), target(Some("a@b"), "h1", None), "users of a directory have names such as a@b");
        for text in ["", "@h1", "root@", "h1:", "h1:0", "h1:99999", "h1:ssh", "[::1]:22", "fe80::1", "a b", "h1/24"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
