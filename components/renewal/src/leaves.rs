//! The certificates of a host that are not authorities, how long they are good, and what becomes of their files.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use certs::{Ca, CertificateInfo, Issued};
use converge::own::Change;
use hoststate::certificates::{in_kubeconfig, with_credentials};
use time::{Duration, OffsetDateTime};

/// Texts by path.
pub type Texts = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Due,
    /// Who shows it is refused, so nothing can be asked for with it.
    Expired,
}

/// One certificate with its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Of the certificate, or of the kubeconfig that holds both.
    pub path: String,
    pub cert_pem: String,
    pub info: CertificateInfo,
    /// None in a kubeconfig.
    key_path: Option<String>,
    /// Its key is that of another one.
    torn: bool,
}

/// All of them, by path. What cannot be read as a certificate is none of ours.
pub fn find(texts: &Texts) -> Vec<Leaf> {
    texts.iter().filter_map(|(path, text)| leaf(texts, path, text)).filter(|leaf| !leaf.info.is_ca).collect()
}

fn leaf(texts: &Texts, path: &str, text: &str) -> Option<Leaf> {
    let of = |cert_pem: String, key_path: Option<String>, torn: bool| {
        let info = certs::inspect(&cert_pem).ok()?;
        Some(Leaf { path: path.to_owned(), cert_pem, info, key_path, torn })
    };
    if path.ends_with(".kubeconfig") {
        return of(in_kubeconfig(text).into_iter().next()?, None, false);
    }
    let (key_path, key) = key_of(texts, path)?;
    of(text.to_owned(), Some(key_path), !certs::is_key_of(key, text))
}

fn key_of<'a>(texts: &'a Texts, path: &str) -> Option<(String, &'a str)> {
    let key_path = format!("{}.key", path.strip_suffix(".crt")?);
    let key = texts.get(&key_path)?;
    Some((key_path, key))
}

/// The authorities that can sign on this host.
pub fn authorities(texts: &Texts) -> Vec<Ca> {
    texts.iter().filter_map(|(path, text)| Ca::from_pem(text, key_of(texts, path)?.1).ok()).collect()
}

impl Leaf {
    /// `within`: days.
    pub fn standing(&self, now: OffsetDateTime, within: i64) -> Standing {
        match self.info.not_after - now {
            left if left <= Duration::ZERO => Standing::Expired,
            left if self.torn || left < Duration::days(within) => Standing::Due,
            _ => Standing::Good,
        }
    }

    pub fn is_kubeconfig(&self) -> bool {
        self.key_path.is_none()
    }

    /// Which of these authorities signed it.
    pub fn authority<'a>(&self, authorities: &'a [Ca]) -> Option<&'a Ca> {
        authorities.iter().find(|authority| authority.has_signed(&self.cert_pem))
    }

    /// The same again, with a new key. None where its authority is not among these.
    pub fn again(&self, authorities: &[Ca]) -> Option<Result<Issued>> {
        let authority = self.authority(authorities)?;
        Some(self.by(authority).with_context(|| format!("cannot issue {} anew", self.path)))
    }

    fn by(&self, authority: &Ca) -> Result<Issued> {
        let usage = self.info.usage.context("it does not say what it may be used for")?;
        let addresses = self.info.ip_addresses.iter().map(ToString::to_string);
        let names = self.info.dns_names.iter().cloned().chain(addresses);
        Ok(authority.issue(&certs::Leaf::new(self.info.subject.clone(), usage).names(names))?)
    }

    /// The files with what was issued in the place of what they have.
    pub fn exchanged(&self, texts: &Texts, issued: &Issued) -> Result<Vec<Change>> {
        let change = |path: &str, new: Option<String>| -> Result<Change> {
            let (old, new) = (texts.get(path).cloned(), new.with_context(|| format!("{path} holds no certificate")));
            Ok(Change { path: path.to_owned(), old: old.with_context(|| format!("{path} is not there"))?, new: new? })
        };
        match &self.key_path {
            Some(key_path) => Ok(vec![
                change(&self.path, Some(issued.cert_pem.clone()))?,
                change(key_path, Some(issued.key_pem.clone()))?,
            ]),
            None => {
                let there = texts.get(&self.path).map_or("", String::as_str);
                Ok(vec![change(&self.path, with_credentials(there, &issued.cert_pem, &issued.key_pem))?])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use certs::{Subject, Usage};

    use super::*;

    const PKI: &str = "/etc/kinstall/pki/";

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
    }

    /// With so many days left.
    fn issue(ca: &Ca, days: i64, usage: Usage) -> Issued {
        let leaf = certs::Leaf::new(Subject::new("someone", &["some"]), usage).names(["h1", "10.0.0.1"]);
        ca.issue(&leaf.valid(now() - Duration::days(300), now() + Duration::days(days))).unwrap()
    }

    fn kubeconfig(issued: &Issued) -> String {
        let text = "users:\n- name: a\n  user:\n    client-certificate-data: x\n    client-key-data: y\n";
        with_credentials(text, &issued.cert_pem, &issued.key_pem).unwrap()
    }

    fn host(ca: &Ca) -> Texts {
        let mut texts = Texts::from([
            (format!("{PKI}ca.crt"), ca.cert_pem().to_owned()),
            (format!("{PKI}ca.key"), ca.key_pem()),
            (format!("{PKI}sa.pub"), "public".into()),
            ("/etc/kinstall/kubelet.yaml".into(), "a: b".into()),
            ("/etc/kinstall/proxy.kubeconfig".into(), kubeconfig(&issue(ca, 89, Usage::Client))),
        ]);
        for (name, days) in [("good", 91), ("due", 89), ("expired", -1)] {
            let issued = issue(ca, days, Usage::Both);
            texts.insert(format!("{PKI}{name}.crt"), issued.cert_pem);
            texts.insert(format!("{PKI}{name}.key"), issued.key_pem);
        }
        texts
    }

    #[test]
    fn due_is_what_ends_soon_but_has_not_ended() {
        let ca = Ca::generate("ca").unwrap();
        let mut texts = host(&ca);
        let standings = |texts: &Texts| -> Vec<_> {
            find(texts).iter().map(|leaf| (leaf.path.clone(), leaf.standing(now(), 90))).collect()
        };
        let expected = |good: Standing| {
            [("due", Standing::Due), ("expired", Standing::Expired), ("good", good)]
                .map(|(name, standing)| (format!("{PKI}{name}.crt"), standing))
                .into_iter()
                .chain([("/etc/kinstall/proxy.kubeconfig".to_owned(), Standing::Due)])
                .collect::<Vec<_>>()
        };
        assert_eq!(standings(&texts), expected(Standing::Good), "authorities are left alone");
        // a run was cut off between its two files
        texts.insert(format!("{PKI}good.key"), issue(&ca, 91, Usage::Both).key_pem);
        assert_eq!(standings(&texts), expected(Standing::Due));
    }

    #[test]
    fn what_comes_is_the_same_but_for_key_and_dates() {
        let ca = Ca::generate("ca").unwrap();
        let texts = host(&ca);
        let authorities = authorities(&texts);
        assert_eq!(authorities.len(), 1);
        for leaf in find(&texts).iter().filter(|leaf| leaf.standing(now(), 90) == Standing::Due) {
            assert!(leaf.again(&[Ca::generate("ca").unwrap()]).is_none(), "an authority of the same name");
            let issued = leaf.again(&authorities).unwrap().unwrap();
            let mut after = texts.clone();
            for Change { path, old, new } in leaf.exchanged(&texts, &issued).unwrap() {
                assert_eq!(after.insert(path, new), Some(old));
            }
            let found = find(&after);
            let new = found.iter().find(|new| new.path == leaf.path).unwrap();
            assert_eq!(new.standing(now(), 364), Standing::Good);
            assert_ne!(new.info.public_key, leaf.info.public_key);
            let same = |info: &CertificateInfo| {
                (info.subject.clone(), info.dns_names.clone(), info.ip_addresses.clone(), info.usage)
            };
            assert_eq!(same(&new.info), same(&leaf.info));
            assert_eq!(found.len(), find(&texts).len());
        }
    }
}
