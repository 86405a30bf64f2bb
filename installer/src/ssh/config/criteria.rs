//! `Match` of ssh_config(5).

use std::process::{Command, Stdio};

use super::Reader;
use super::words::{expand, matches};

impl Reader<'_> {
    /// Whether all criteria of a `Match` line are met.
    pub(super) fn meets(&mut self, words: &[String]) -> Result<bool, String> {
        if words.is_empty() {
            return Err("match needs criteria, such as `host` or `all`".into());
        }
        let mut met = true;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            // OpenSSH also takes criterion=value
            let (word, value) = word.split_once('=').map_or((word.as_str(), None), |(a, b)| (a, Some(b.to_owned())));
            let (negated, criterion) = word.strip_prefix('!').map_or((false, word), |word| (true, word));
            let mut value = || {
                let next = value.clone().or_else(|| words.next().cloned());
                next.ok_or_else(|| format!("match {criterion} needs a value"))
            };
            let one = match criterion.to_ascii_lowercase().as_str() {
                "all" => true,
                // host names are not made canonical here
                "canonical" => false,
                "final" => {
                    self.wants_last_pass = true;
                    self.last_pass
                }
                "host" => fits(&value()?, &self.host_now()?),
                "originalhost" => fits(&value()?, self.asked.host),
                "user" => fits(&value()?, &self.user_now()),
                "localuser" => fits(&value()?, &local_user()),
                "exec" => {
                    let command = value()?;
                    met && self.succeeds(&command)?
                }
                other => {
                    return Err(format!(
                        "kinstall does not know `match {other}`; say in the inventory what it would set, and name a file \
                         without it in ssh.configFile (or `none`)"
                    ));
                }
            };
            met &= one != negated;
        }
        Ok(met)
    }

    /// The host's name after what was read up to here.
    fn host_now(&self) -> Result<String, String> {
        match &self.settings.host_name {
            Some(name) => expand(name, &[('h', self.asked.host)]),
            None => Ok(self.asked.host.to_owned()),
        }
    }

    fn user_now(&self) -> String {
        self.asked.user.map(str::to_owned).or_else(|| self.settings.user.clone()).unwrap_or_else(local_user)
    }

    fn succeeds(&self, command: &str) -> Result<bool, String> {
        let port = self.asked.port.or(self.settings.port).unwrap_or(22).to_string();
        let home = std::env::home_dir().unwrap_or_default().display().to_string();
        let (host, user, local) = (self.host_now()?, self.user_now(), local_user());
        let tokens = [('h', &*host), ('n', self.asked.host), ('p', &port), ('r', &user), ('u', &local), ('d', &home)];
        let command = expand(command, &tokens)?;
        let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let status = Command::new(&shell).arg("-c").arg(&command).stdin(Stdio::null()).stdout(Stdio::null()).status();
        status.map(|status| status.success()).map_err(|error| format!("cannot run {shell} for `match exec`: {error}"))
    }
}

fn fits(patterns: &str, text: &str) -> bool {
    matches(&patterns.split(',').collect::<Vec<_>>(), text)
}

/// Who runs this command.
pub fn local_user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map(|user| user.name).unwrap_or_else(|| std::env::var("USER").unwrap_or_default())
}
