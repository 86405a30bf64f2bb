//! OpenSSH's known_hosts file: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Plain, wildcard, negated and hashed host patterns,
//! `@revoked` marks. `@cert-authority` lines are left aside: host certificates are not asked for.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::{Algorithm, PublicKey};

/// What the file says about a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Known,
    Unknown,
    /// The file holds another key of this algorithm for the host.
    Changed {
        line: usize,
    },
    Revoked {
        line: usize,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    line: usize,
    revoked: bool,
    key: PublicKey,
}

/// The entries of one file that are about one host.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    file: PathBuf,
    name: String,
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// A missing file knows nobody.
    pub fn read(file: &Path, address: &str, port: u16) -> io::Result<Self> {
        let name = if port == 22 { address.to_owned() } else { format!("[{address}]:{port}") };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let entries = text.lines().enumerate().filter_map(|(index, line)| entry(line, index + 1, &name)).collect();
        Ok(Self { file: file.to_path_buf(), name, entries })
    }

    pub fn check(&self, key: &PublicKey) -> Verdict {
        let same = |entry: &&Entry| entry.key.key_data() == key.key_data();
        if let Some(entry) = self.entries.iter().filter(|entry| entry.revoked).find(same) {
            return Verdict::Revoked { line: entry.line };
        }
        let mut valid = self.entries.iter().filter(|entry| !entry.revoked);
        if valid.clone().any(|entry| same(&entry)) {
            return Verdict::Known;
        }
        match valid.find(|entry| entry.key.algorithm() == key.algorithm()) {
            Some(entry) => Verdict::Changed { line: entry.line },
            None => self
                .entries
                .iter()
                .find(|entry| !entry.revoked)
                .map_or(Verdict::Unknown, |entry| Verdict::Changed { line: entry.line }),
        }
    }

    /// The algorithms of the host's known keys: asked for first, so that a host with several keys shows one we know.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let mut list = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.revoked) {
            let algorithm = entry.key.algorithm();
            if !list.contains(&algorithm) {
                list.push(algorithm);
            }
        }
        list
    }

    /// Appends the host's key.
    pub fn remember(&self, key: &PublicKey) -> io::Result<()> {
        if let Some(parent) = self.file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let text = key.to_openssh().map_err(io::Error::other)?;
        let unfinished = std::fs::read(&self.file).is_ok_and(|bytes| bytes.last().is_some_and(|last| *last != b'\n'));
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.file)?;
        // one write, so that hosts which are accepted at the same time do not mix their lines
        file.write_all(format!("{}{} {}\n", if unfinished { "\n" } else { "" }, self.name, text.trim_end()).as_bytes())
    }
}

fn entry(line: &str, number: usize, name: &str) -> Option<Entry> {
    let mut words = line.split_whitespace().peekable();
    let revoked = match words.peek()?.strip_prefix('@') {
        Some("revoked") => words.next().is_some(),
        Some(_) => return None,
        None => false,
    };
    let patterns = words.next()?;
    if patterns.starts_with('#') || !matches_host(patterns, name) {
        return None;
    }
    let (algorithm, data) = (words.next()?, words.next()?);
    let key = PublicKey::from_openssh(&format!("{algorithm} {data}")).ok()?;
    Some(Entry { line: number, revoked, key })
}

fn matches_host(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return matches_hash(hashed, name);
    }
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if glob(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= glob(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `|1|salt|hash`: HMAC-SHA1 of the name.
fn matches_hash(hashed: &str, name: &str) -> bool {
    use aws_lc_rs::hmac;
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), name.as_bytes(), &hash).is_ok()
}

/// `*` and `?`, as OpenSSH matches them; letters of either case.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => glob(rest, text) || text.split_first().is_some_and(|(_, text)| glob(pattern, text)),
        (Some((b'?', rest)), Some((_, text))) => glob(rest, text),
        (Some((a, rest)), Some((b, text))) => a.eq_ignore_ascii_case(b) && glob(rest, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn verdict(text: &str, address: &str, port: u16, key: &str) -> Verdict {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        KnownHosts::read(file.path(), address, port).unwrap().check(&PublicKey::from_openssh(key).unwrap())
    }

    #[test]
    fn plain_port_wildcard_and_negated_patterns() {
        assert_eq!(verdict(&format!("h1,10.0.0.1 {ONE}\n"), "10.0.0.1", 22, ONE), Verdict::Known);
        assert_eq!(verdict(&format!("h1 {ONE}\n"), "h1", 2222, ONE), Verdict::Unknown);
        assert_eq!(verdict(&format!("[h1]:2222 {ONE}\n"), "h1", 2222, ONE), Verdict::Known);
        assert_eq!(verdict(&format!("*.lab,!x.lab {ONE}\n"), "h1.lab", 22, ONE), Verdict::Known);
        assert_eq!(verdict(&format!("*.lab,!x.lab {ONE}\n"), "x.lab", 22, ONE), Verdict::Unknown);
        assert_eq!(verdict(&format!("# h1 {ONE}\n"), "h1", 22, ONE), Verdict::Unknown);
    }

    #[test]
    fn changed_and_revoked_keys_stop_with_their_line() {
        assert_eq!(verdict(&format!("\nh1 {ONE}\n"), "h1", 22, TWO), Verdict::Changed { line: 2 });
        assert_eq!(verdict(&format!("h1 {ONE}\n@revoked * {ONE}\n"), "h1", 22, ONE), Verdict::Revoked { line: 2 });
    }

    #[test]
    fn hashed_names() {
        // made by `ssh-keygen -H` would have a random salt; this salt is fixed
        let salt = [7u8; 20];
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash = aws_lc_rs::hmac::sign(&key, b"10.0.0.1");
        let line = format!("|1|{}|{} {ONE}\n", STANDARD.encode(salt), STANDARD.encode(hash.as_ref()));
        assert_eq!(verdict(&line, "10.0.0.1", 22, ONE), Verdict::Known);
        assert_eq!(verdict(&line, "10.0.0.2", 22, ONE), Verdict::Unknown);
    }

    #[test]
    fn remembered_keys_are_known_and_finish_an_unfinished_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("h1 {ONE}")).unwrap();
        let key = PublicKey::from_openssh(TWO).unwrap();
        KnownHosts::read(file.path(), "h2", 2200).unwrap().remember(&key).unwrap();
        assert_eq!(KnownHosts::read(file.path(), "h2", 2200).unwrap().check(&key), Verdict::Known);
        assert_eq!(KnownHosts::read(file.path(), "h1", 22).unwrap().entries.len(), 1);
    }
}
