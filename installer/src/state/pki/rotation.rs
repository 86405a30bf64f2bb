//! New authorities in place of the old ones, phase by phase: the files of the state directory in each.
//!
//! In every phase the files are such that `up` and `certs renew` do the right thing with them too: `ca.crt` holds all that is to
//! be trusted, `ca.key` is the key of who signs, and leaves that it has not signed are issued anew. What is written for a phase
//! can be written again, so a run that was killed is repeated.

use std::fs;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Folder, Issued};
use crate::state::{StateDir, remove};

const FILE: &str = "rotation.json";

/// Its files, and how it is called in certificates.
const AUTHORITIES: [(&str, &str); 3] =
    [("ca", "kinstall-ca"), ("front-proxy-ca", "kinstall-front-proxy-ca"), ("etcd-ca", "kinstall-etcd-ca")];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The old ones sign, both are trusted
    Trust,
    /// The new ones sign, both are trusted
    Issue,
    /// Only the new ones are trusted
    Finish,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// What is being done; the phases before it are over.
    pub phase: Phase,
    /// RFC 3339, UTC.
    pub started: String,
}

impl Rotation {
    /// The one that is under way.
    pub fn load(state: &StateDir) -> anyhow::Result<Option<Self>> {
        state.read(FILE)
    }

    /// Makes the new authorities, and the new key of service accounts. Nothing trusts them yet.
    pub fn begin(state: &StateDir) -> anyhow::Result<Self> {
        let (folder, now) = (Folder::of(state), OffsetDateTime::now_utc());
        for (name, common_name) in folder.authorities() {
            folder.authority(&next(name), &format!("{common_name}-{}", now.unix_timestamp()))?;
        }
        if !folder.path.join("sa-next.key").exists() {
            let key = certs::generate_service_account_key()?;
            folder.write("sa-next", "pub", &Issued { cert_pem: key.public_pem, key_pem: key.private_pem })?;
        }
        let rotation = Self { phase: Phase::Trust, started: now.format(&Rfc3339)? };
        rotation.save(state)?;
        Ok(rotation)
    }

    /// Makes the files those of this phase.
    pub fn prepare(&self, state: &StateDir) -> anyhow::Result<()> {
        let folder = Folder::of(state);
        for (name, public) in folder.authorities().map(|(name, _)| (name, "crt")).chain([("sa", "pub")]) {
            let read = |name: &str| folder.pair(name, public);
            let (old, new) = (read(name)?, read(&next(name))?);
            folder.write(name, public, &self.pair(&old, &new)).with_context(|| format!("cannot rotate {name}"))?;
        }
        Ok(())
    }

    fn pair(&self, old: &Issued, new: &Issued) -> Issued {
        let known = blocks(&old.cert_pem);
        let others = known.iter().filter(|block| **block != new.cert_pem.trim()).map(|block| format!("{block}\n"));
        match self.phase {
            Phase::Trust => {
                Issued { cert_pem: others.chain([new.cert_pem.clone()]).collect(), key_pem: old.key_pem.clone() }
            }
            Phase::Issue => Issued {
                cert_pem: std::iter::once(new.cert_pem.clone()).chain(others).collect(),
                key_pem: new.key_pem.clone(),
            },
            Phase::Finish => new.clone(),
        }
    }

    /// This phase is over. None: it was the last.
    pub fn advance(self, state: &StateDir) -> anyhow::Result<Option<Self>> {
        let phase = match self.phase {
            Phase::Trust => Phase::Issue,
            Phase::Issue => Phase::Finish,
            Phase::Finish => return self.end(state).map(|()| None),
        };
        let rotation = Self { phase, ..self };
        rotation.save(state)?;
        Ok(Some(rotation))
    }

    fn end(&self, state: &StateDir) -> anyhow::Result<()> {
        // first this: without it the next run would begin another rotation, with it it would miss its files
        remove(&state.path().join(FILE))?;
        let folder = Folder::of(state);
        for name in AUTHORITIES.map(|(name, _)| name).into_iter().chain(["sa"]) {
            for ending in ["crt", "pub", "key"] {
                remove(&folder.path.join(format!("{}.{ending}", next(name))))?;
            }
        }
        Ok(())
    }

    fn save(&self, state: &StateDir) -> anyhow::Result<()> {
        state.write(FILE, self)
    }
}

impl Folder {
    fn of(state: &StateDir) -> Self {
        Self { path: state.path().join("pki") }
    }

    /// Those that this cluster has.
    fn authorities(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let path = self.path.clone();
        AUTHORITIES.into_iter().filter(move |(name, _)| path.join(format!("{name}.key")).exists())
    }

    fn pair(&self, name: &str, public: &str) -> anyhow::Result<Issued> {
        let read = |ending: &str| {
            let path = self.path.join(format!("{name}.{ending}"));
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Issued { cert_pem: read(public)?, key_pem: read("key")? })
    }
}

fn next(name: &str) -> String {
    format!("{name}-next")
}

/// The PEM blocks of a text, without what stands between them.
fn blocks(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        let block = &rest[begin..];
        let Some(end) = block.find("-----END ") else { break };
        let length = block[end..].find('\n').map_or(block.len(), |line| end + line);
        found.push(block[..length].trim());
        rest = &block[length..];
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Pki, authority_of};
    use super::*;
    use crate::cluster::Cluster;
    use certs::Ca;

    const THREE: &str = "cluster: t\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n- {name: h2, address: 10.0.0.2, role: controlPlane}\n- {name: h3, address: 10.0.0.3, role: controlPlane}\n";

    fn trusted(text: &str) -> Vec<String> {
        blocks(text).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn both_are_trusted_until_the_new_one_has_issued_everything() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = Cluster::parse(THREE, "i", directory.path()).unwrap();
        let load = || Pki::load_or_create(&state, &cluster).unwrap();
        let old = load();
        let mut rotation = Rotation::begin(&state).unwrap();
        assert!(load().ca == old.ca && load().admin == old.admin, "nothing trusts it yet");

        // each phase twice, as after a run that was killed
        let run = |rotation: &Rotation| {
            rotation.prepare(&state).unwrap();
            let once = load();
            rotation.prepare(&state).unwrap();
            let twice = load();
            assert!(once.ca == twice.ca && once.admin == twice.admin && once.service_account == twice.service_account);
            once
        };
        let trust = run(&rotation);
        assert_eq!((trust.ca.key_pem.as_str(), trusted(&trust.ca.cert_pem).len()), (old.ca.key_pem.as_str(), 2));
        assert!(trust.admin == old.admin && trust.service_account.key_pem == old.service_account.key_pem);
        assert_eq!(trusted(&trust.service_account.cert_pem).len(), 2);
        assert_eq!(trusted(&trust.etcd.as_ref().unwrap().ca_pem).len(), 2);

        rotation = rotation.advance(&state).unwrap().unwrap();
        assert_eq!(Rotation::load(&state).unwrap().unwrap().phase, Phase::Issue);
        let issue = run(&rotation);
        let new = Ca::from_pem(&issue.ca.cert_pem, &issue.ca.key_pem).unwrap();
        assert!(new.has_signed(&issue.admin.cert_pem) && !new.has_signed(&trust.admin.cert_pem));
        assert!(issue.service_account.key_pem != old.service_account.key_pem);
        let (mut before, mut after) = (trusted(&trust.ca.cert_pem), trusted(&issue.ca.cert_pem));
        assert_eq!(issue.ca.cert_pem.trim().lines().next(), Some("-----BEGIN CERTIFICATE-----"));
        before.sort();
        after.sort();
        assert_eq!(before, after);
        let etcd = issue.etcd.as_ref().unwrap();
        assert!(etcd.members["h2"].peer != old.etcd.as_ref().unwrap().members["h2"].peer);

        rotation = rotation.advance(&state).unwrap().unwrap();
        let finish = run(&rotation);
        assert!(finish.admin == issue.admin && finish.etcd.as_ref().unwrap().client == etcd.client);
        assert_eq!((trusted(&finish.ca.cert_pem).len(), trusted(&finish.service_account.cert_pem).len()), (1, 1));
        assert!(rotation.advance(&state).unwrap().is_none() && Rotation::load(&state).unwrap().is_none());
        let names = fs::read_dir(state.path().join("pki")).unwrap().flatten();
        assert!(names.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("next")));
        assert!(load().ca == finish.ca);
    }

    #[test]
    fn killed_between_two_files_the_key_still_has_its_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = Cluster::parse(THREE, "i", directory.path()).unwrap();
        Pki::load_or_create(&state, &cluster).unwrap();
        let rotation = Rotation::begin(&state).unwrap();
        rotation.prepare(&state).unwrap();
        let folder = Folder::of(&state);
        let (both, new) = (folder.pair("ca", "crt").unwrap(), folder.pair("ca-next", "crt").unwrap());
        // the key is written first
        let half = Issued { cert_pem: both.cert_pem.clone(), key_pem: new.key_pem.clone() };
        folder.write("ca", "crt", &half).unwrap();
        let pki = Pki::load_or_create(&state, &cluster).unwrap();
        let ca = Ca::from_pem(&pki.ca.cert_pem, &pki.ca.key_pem).unwrap();
        assert!(authority_of(&ca) == half && ca.has_signed(&pki.admin.cert_pem));
    }
}
