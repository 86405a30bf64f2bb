//! OpenSSH's known_hosts files: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Plain, wildcard, negated and hashed host patterns,
//! `@cert-authority` and `@revoked` marks.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
}

/// What the files say about a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Known,
    Unknown,
    /// The files hold another key for the host.
    Changed(Place),
    Revoked(Place),
}

/// What the files say about a host's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certified {
    Yes,
    /// No authority for this host made it: the key in it is like any other.
    Stranger,
    /// An authority for this host made it, but it is no good.
    No(String),
    Revoked(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Key,
    Authority,
    Revoked,
}

#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    mark: Mark,
    key: PublicKey,
}

/// The entries that are about one host.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    /// Where new keys go.
    file: PathBuf,
    name: String,
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// A missing file knows nobody. `name`: the host's, as the files write it: `[name]:port` where the port is not 22. An error
    /// says which file cannot be read.
    pub fn read(files: &[PathBuf], name: &str) -> Result<Self, (PathBuf, io::Error)> {
        let mut entries = Vec::new();
        for file in files {
            match std::fs::read(file) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let lines = text.lines().enumerate();
                    entries.extend(lines.filter_map(|(index, line)| entry(line, file, index + 1, name)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((file.clone(), error)),
            }
        }
        let file = files.first().cloned().unwrap_or_else(|| "/dev/null".into());
        Ok(Self { file, name: name.to_owned(), entries })
    }

    pub fn check(&self, key: &PublicKey) -> Verdict {
        if let Some(place) = self.revoked(key.key_data()) {
            return Verdict::Revoked(place);
        }
        if self.marked(Mark::Key).any(|entry| entry.key.key_data() == key.key_data()) {
            return Verdict::Known;
        }
        let same_algorithm = self.marked(Mark::Key).find(|entry| entry.key.algorithm() == key.algorithm());
        let other = same_algorithm.or_else(|| self.marked(Mark::Key).next());
        other.map_or(Verdict::Unknown, |entry| Verdict::Changed(entry.place.clone()))
    }

    /// `name`: the host's without a port. `now`: seconds since 1970.
    pub fn check_certificate(&self, certificate: &Certificate, name: &str, now: u64) -> Certified {
        let authority = certificate.signature_key();
        if let Some(place) = self.revoked(authority).or_else(|| self.revoked(certificate.public_key())) {
            return Certified::Revoked(place);
        }
        if !self.marked(Mark::Authority).any(|entry| entry.key.key_data() == authority) {
            return Certified::Stranger;
        }
        let is_for = |principal: &String| glob(principal.as_bytes(), name.as_bytes());
        let principals = certificate.valid_principals();
        let no = if certificate.cert_type() != CertType::Host {
            "it is a user's, not a host's".into()
        } else if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
            "it is signed with SHA-1".into()
        } else if certificate.validate_at(now, [&authority.fingerprint(HashAlg::Sha256)]).is_err() {
            match certificate.verify_signature() {
                Err(_) => "its signature is wrong".into(),
                Ok(()) if now < certificate.valid_after() => "it is not valid yet".into(),
                Ok(()) => "it has run out".into(),
            }
        } else if !certificate.critical_options().is_empty() {
            "it has critical options".into()
        } else if !(principals.is_empty() || principals.iter().any(is_for)) {
            format!("it is for {}, not for {name}", principals.join(", "))
        } else {
            return Certified::Yes;
        };
        Certified::No(no)
    }

    /// Whether certificates of this host can be judged.
    pub fn has_authorities(&self) -> bool {
        self.marked(Mark::Authority).next().is_some()
    }

    fn marked(&self, mark: Mark) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.mark == mark)
    }

    fn revoked(&self, key: &KeyData) -> Option<Place> {
        let entry = self.marked(Mark::Revoked).find(|entry| entry.key.key_data() == key);
        entry.map(|entry| entry.place.clone())
    }

    /// The algorithms of the host's known keys: asked for first, so that a host with several keys shows one we know.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let mut list = Vec::new();
        for entry in self.marked(Mark::Key) {
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

fn entry(line: &str, file: &Path, number: usize, name: &str) -> Option<Entry> {
    let mut words = line.split_whitespace().peekable();
    let mark = match words.peek()?.strip_prefix('@') {
        Some("revoked") => Mark::Revoked,
        Some("cert-authority") => Mark::Authority,
        Some(_) => return None,
        None => Mark::Key,
    };
    if mark != Mark::Key {
        words.next();
    }
    let patterns = words.next()?;
    if patterns.starts_with('#') || !matches_host(patterns, name) {
        return None;
    }
    let (algorithm, data) = (words.next()?, words.next()?);
    let key = PublicKey::from_openssh(&format!("{algorithm} {data}")).ok()?;
    Some(Entry { place: Place { file: file.to_path_buf(), line: number }, mark, key })
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
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
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

    fn read(file: &Path, name: &str) -> KnownHosts {
        KnownHosts::read(&["/no/such/file".into(), file.to_path_buf()], name).unwrap()
    }

    fn verdict(text: &str, name: &str, key: &str) -> Verdict {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        match read(file.path(), name).check(&PublicKey::from_openssh(key).unwrap()) {
            Verdict::Changed(place) => Verdict::Changed(Place { file: "f".into(), ..place }),
            Verdict::Revoked(place) => Verdict::Revoked(Place { file: "f".into(), ..place }),
            other => other,
        }
    }

    fn line(line: usize) -> Place {
        Place { file: "f".into(), line }
    }

    #[test]
    fn plain_port_wildcard_and_negated_patterns() {
        assert_eq!(verdict(&format!("h1,10.0.0.1 {ONE}\n"), "10.0.0.1", ONE), Verdict::Known);
        assert_eq!(verdict(&format!("h1 {ONE}\n"), "[h1]:2222", ONE), Verdict::Unknown);
        assert_eq!(verdict(&format!("[h1]:2222 {ONE}\n"), "[h1]:2222", ONE), Verdict::Known);
        assert_eq!(verdict(&format!("*.lab,!x.lab {ONE}\n"), "h1.lab", ONE), Verdict::Known);
        assert_eq!(verdict(&format!("*.lab,!x.lab {ONE}\n"), "x.lab", ONE), Verdict::Unknown);
        assert_eq!(verdict(&format!("# h1 {ONE}\n"), "h1", ONE), Verdict::Unknown);
    }

    #[test]
    fn changed_and_revoked_keys_stop_with_their_line() {
        assert_eq!(verdict(&format!("\nh1 {ONE}\n"), "h1", TWO), Verdict::Changed(line(2)));
        assert_eq!(verdict(&format!("h1 {ONE}\n@revoked * {ONE}\n"), "h1", ONE), Verdict::Revoked(line(2)));
    }

    #[test]
    fn authorities_are_no_keys() {
        let text = format!("@cert-authority *.lab {ONE}\n");
        assert_eq!(verdict(&text, "h1.lab", ONE), Verdict::Unknown);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        assert!(read(file.path(), "h1.lab").has_authorities() && !read(file.path(), "h1").has_authorities());
    }

    #[test]
    fn hashed_names() {
        // made by `ssh-keygen -H` would have a random salt; this salt is fixed
        let salt = [7u8; 20];
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash = aws_lc_rs::hmac::sign(&key, b"10.0.0.1");
        let hashed = format!("|1|{}|{} {ONE}\n", STANDARD.encode(salt), STANDARD.encode(hash.as_ref()));
        assert_eq!(verdict(&hashed, "10.0.0.1", ONE), Verdict::Known);
        assert_eq!(verdict(&hashed, "10.0.0.2", ONE), Verdict::Unknown);
    }

    #[test]
    fn remembered_keys_are_known_and_finish_an_unfinished_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("h1 {ONE}")).unwrap();
        let key = PublicKey::from_openssh(TWO).unwrap();
        let h2 = || KnownHosts::read(&[file.path().to_path_buf()], "[h2]:2200").unwrap();
        h2().remember(&key).unwrap();
        assert_eq!(h2().check(&key), Verdict::Known);
        assert_eq!(read(file.path(), "h1").entries.len(), 1);
    }
}
