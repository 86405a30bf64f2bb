//! The command line of what looks at hosts or runs something on them: `logs`, `exec`, `doctor`, `report`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::node::{self, NodeRole};

/// Some of the hosts; each condition leaves fewer.
#[derive(Clone, Debug, Default, Args)]
pub struct Chosen {
    /// Only hosts of this role
    #[arg(long, value_enum, value_name = "ROLE")]
    pub role: Option<NodeRole>,
    /// Only hosts of this group of the inventory
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Only these hosts
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    #[command(flatten)]
    pub chosen: Chosen,
    /// Only this unit: one of kinstall's by its short name (kubelet, containerd, control-plane, …) or any other; may be repeated
    /// [default: all of kinstall's]
    #[arg(short, long = "unit", value_name = "UNIT", value_parser = unit)]
    pub units: Vec<String>,
    /// Only what is younger than this (90s, 10m, 2h) or from this time on (YYYY-MM-DD or "YYYY-MM-DD HH:MM[:SS]", UTC)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
    /// Print new lines as they come, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// The last lines of each host [default: 100 without --since, else all; 10 with --follow]
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Only lines with this text in them; capitals only matter where the text has some
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Exec {
    /// Only these hosts, with commas between
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub hosts: Vec<String>,
    #[command(flatten)]
    pub chosen: Chosen,
    /// How long the command may take: 90s, 5m, 1h; then it is ended
    #[arg(long, value_parser = node::duration)]
    pub timeout: Option<Duration>,
    /// The command; one word alone is a line for the shell
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Doctor {
    /// Only this host, and the API; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Print what is looked at, and end
    #[arg(long)]
    pub list: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Report {
    /// The file to write [default: kinstall-report-<cluster>-<time>.tar.zst]
    #[arg(short, long = "out", visible_alias = "output-file", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How far back journals go: 90s, 10m, 24h
    #[arg(long, default_value = "24h", value_name = "AGE", value_parser = node::duration)]
    pub since: Duration,
}

/// From when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago by the host's own clock.
    Ago(Duration),
    /// As journalctl takes it.
    Time(String),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(age) = node::duration(text) {
        return Ok(Since::Ago(age));
    }
    let form = |form: &str| {
        form.len() == text.len()
            && form.bytes().zip(text.bytes()).all(|(form, c)| if form == b'0' { c.is_ascii_digit() } else { form == c })
    };
    match ["0000-00-00", "0000-00-00 00:00", "0000-00-00 00:00:00"].iter().any(|known| form(known)) {
        true => Ok(Since::Time(format!("{text} UTC"))),
        false => Err("expected an age such as 90s, 10m or 2h (168h at most), or a time such as 2026-11-22 or \
                      \"2026-11-22 03:30\" (UTC)"
            .into()),
    }
}

fn unit(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "@._:-*?\\".contains(c);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(good) {
        true => Ok(text.to_owned()),
        false => Err("expected the name of a systemd unit".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn since_is_an_age_or_a_time() {
        assert_eq!(since("10m").unwrap(), Since::Ago(Duration::from_secs(600)));
        for time in ["2026-11-22", "2026-11-22 03:30", "2026-11-22 03:30:59"] {
            assert_eq!(since(time).unwrap(), Since::Time(format!("{time} UTC")));
        }
        for wrong in ["", "0m", "yesterday", "2026-11-22T03:30", "2026-11-22 3:30", "-1h", "$(reboot)"] {
            assert!(since(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }

    #[test]
    fn units_are_names() {
        for good in ["kubelet", "ssh.service", "getty@tty1.service", "kinstall-*"] {
            assert!(unit(good).is_ok(), "{good}");
        }
        for wrong in ["", "-n", "a b", "a;b", "$x"] {
            assert!(unit(wrong).is_err(), "{wrong}");
        }
    }
}
