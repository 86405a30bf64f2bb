//! OpenSSH's client configuration, as ssh_config(5) describes it: what it says about one host.
//!
//! In: the name that was asked for, the files. Out: [`Settings`]. The first value found for a setting is the one that counts;
//! identities and certificates add up. Only what decides how a host is reached is read; other keywords are passed over.

mod criteria;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::inventory::HostKeyChecking;
pub use criteria::local_user;
pub use words::{Token, expand, expand_path};

/// Includes within includes.
const DEPTH: usize = 16;

/// Who is asked about, as the command line of `ssh` would say it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub host: &'a str,
    pub user: Option<&'a str>,
    pub port: Option<u16>,
}

/// What the files say. Paths and commands are as written, with their tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub host_name: Option<String>,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_files: Vec<String>,
    pub certificate_files: Vec<String>,
    pub identities_only: Option<bool>,
    pub identity_agent: Option<String>,
    pub proxy: Option<Proxy>,
    pub user_known_hosts: Option<Vec<String>>,
    pub global_known_hosts: Option<Vec<String>>,
    pub checking: Option<HostKeyChecking>,
    pub host_key_alias: Option<String>,
    pub family: Option<Family>,
}

/// ProxyJump or ProxyCommand, whichever is written first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    None,
    Jump(String),
    Command(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Any,
    Inet,
    Inet6,
}

/// Something in a file that cannot be understood, or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub file: PathBuf,
    pub line: usize,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file.display(), self.message);
        }
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// A file, the directory that its relative includes start at, and whether it has to be there.
#[derive(Clone, Debug)]
pub struct Source {
    pub file: PathBuf,
    pub base: PathBuf,
    pub required: bool,
}

impl Source {
    /// What `ssh` reads: the user's file, then the system's.
    pub fn usual() -> Vec<Self> {
        let home = std::env::home_dir().unwrap_or_default();
        vec![
            Self { file: home.join(".ssh/config"), base: home.join(".ssh"), required: false },
            Self { file: "/etc/ssh/ssh_config".into(), base: "/etc/ssh".into(), required: false },
        ]
    }

    /// One file instead of these, as `ssh -F` has it.
    pub fn only(file: &Path) -> Vec<Self> {
        let base = std::env::home_dir().unwrap_or_default().join(".ssh");
        vec![Self { file: file.to_path_buf(), base, required: true }]
    }
}

/// What `sources` say about a host.
pub fn lookup(asked: &Asked<'_>, sources: &[Source]) -> Result<Settings, ConfigError> {
    let mut reader = Reader { asked, settings: Settings::default(), last_pass: false, wants_last_pass: false };
    reader.read_all(sources)?;
    if reader.wants_last_pass {
        reader.last_pass = true;
        reader.read_all(sources)?;
    }
    Ok(reader.settings)
}

struct Reader<'a> {
    asked: &'a Asked<'a>,
    settings: Settings,
    /// `Match final` asks for a second reading, in which alone it matches.
    last_pass: bool,
    wants_last_pass: bool,
}

impl Reader<'_> {
    fn read_all(&mut self, sources: &[Source]) -> Result<(), ConfigError> {
        for source in sources {
            if source.required && !source.file.exists() {
                let message = "this file is not there; correct ssh.configFile in the inventory".to_owned();
                return Err(ConfigError { file: source.file.clone(), line: 0, message });
            }
            self.read(&source.file, &source.base, true, 0)?;
        }
        Ok(())
    }

    /// `outer`: whether the block that includes this file applies.
    fn read(&mut self, file: &Path, base: &Path, outer: bool, depth: usize) -> Result<(), ConfigError> {
        let failed = |line: usize, message: String| ConfigError { file: file.to_path_buf(), line, message };
        let text = match std::fs::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(0, format!("cannot be read: {error}"))),
        };
        let mut applies = outer;
        for (index, line) in text.lines().enumerate() {
            let wrong = |message: String| failed(index + 1, message);
            let Some((keyword, rest)) = words::keyword(line) else { continue };
            let arguments = || words::split(rest).map_err(wrong);
            match keyword.as_str() {
                "host" => {
                    let patterns = arguments()?;
                    let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
                    applies = outer && words::matches(&patterns, self.asked.host);
                }
                // criteria may run commands: not where they decide nothing
                "match" => applies = outer && self.meets(&arguments()?).map_err(wrong)?,
                "include" if applies => {
                    if depth == DEPTH {
                        return Err(wrong("too many files include each other".into()));
                    }
                    for pattern in arguments()? {
                        let pattern = expand_path(&pattern, &[]).map_err(wrong)?;
                        for file in words::files(&base.join(pattern)) {
                            self.read(&file, base, true, depth + 1)?;
                        }
                    }
                }
                _ if applies => self.set(&keyword, rest).map_err(wrong)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, keyword: &str, rest: &str) -> Result<(), String> {
        let arguments = || words::split(rest);
        let one = || {
            let first = arguments()?.into_iter().next();
            first.ok_or_else(|| format!("{keyword} needs a value"))
        };
        let settings = &mut self.settings;
        match keyword {
            "hostname" => first(&mut settings.host_name, one()?),
            "user" => first(&mut settings.user, one()?),
            "port" => {
                let port = one()?.parse().ok().filter(|port| *port != 0);
                first(&mut settings.port, port.ok_or("port: expected a number from 1 to 65535")?);
            }
            "identityfile" => add(&mut settings.identity_files, one()?),
            "certificatefile" => add(&mut settings.certificate_files, one()?),
            "identitiesonly" => first(&mut settings.identities_only, switch(keyword, &one()?)?),
            "identityagent" => first(&mut settings.identity_agent, one()?),
            "proxyjump" => {
                let value = one()?;
                let is_none = value.eq_ignore_ascii_case("none");
                first(&mut settings.proxy, if is_none { Proxy::None } else { Proxy::Jump(value) });
            }
            // the rest of the line, for a shell: its quotes are the shell's
            "proxycommand" => {
                let is_none = rest.eq_ignore_ascii_case("none");
                first(&mut settings.proxy, if is_none { Proxy::None } else { Proxy::Command(rest.to_owned()) });
            }
            "userknownhostsfile" => first(&mut settings.user_known_hosts, arguments()?),
            "globalknownhostsfile" => first(&mut settings.global_known_hosts, arguments()?),
            "stricthostkeychecking" => first(&mut settings.checking, checking(&one()?)?),
            "hostkeyalias" => first(&mut settings.host_key_alias, one()?),
            "addressfamily" => {
                let family = match one()?.to_ascii_lowercase().as_str() {
                    "any" => Family::Any,
                    "inet" => Family::Inet,
                    "inet6" => Family::Inet6,
                    other => return Err(format!("addressfamily: expected any, inet or inet6, found {other:?}")),
                };
                first(&mut settings.family, family);
            }
            _ => {}
        }
        Ok(())
    }
}

fn first<T>(setting: &mut Option<T>, value: T) {
    setting.get_or_insert(value);
}

fn add(list: &mut Vec<String>, value: String) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn switch(keyword: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        other => Err(format!("{keyword}: expected yes or no, found {other:?}")),
    }
}

/// `no` accepts unknown keys as `accept-new` does; that it would accept changed ones too is not followed.
fn checking(value: &str) -> Result<HostKeyChecking, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "ask" => Ok(HostKeyChecking::Strict),
        "accept-new" | "no" | "off" | "false" => Ok(HostKeyChecking::AcceptNew),
        other => Err(format!("stricthostkeychecking: expected yes, accept-new, ask or no, found {other:?}")),
    }
}

#[cfg(test)]
mod tests;
