//! Which bootstrap certificate there was when a certificate was asked for.
//!
//! The operator's `certs renew` gives every node a new bootstrap certificate, and `certs rotate-ca` one of another authority:
//! either means that the kubelet is to ask anew, although what it has may be good for long. Dates would not tell, since clocks
//! of hosts differ.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::config::Kubeconfig;

use super::write_private;
use crate::config::Config;

fn note(pem: &Path) -> PathBuf {
    pem.with_extension("asked")
}

/// As it stands in the kubeconfig; None where that names a file or is not there.
fn bootstrap_certificate(config: &Config) -> Option<String> {
    let kubeconfig = Kubeconfig::read_from(&config.bootstrap_kubeconfig).ok()?;
    kubeconfig.auth_infos.into_iter().find_map(|user| user.auth_info?.client_certificate_data)
}

/// Writes down that `pem` was asked for now.
pub fn remember(config: &Config, pem: &Path) -> Result<()> {
    match bootstrap_certificate(config) {
        Some(certificate) => write_private(&note(pem), &certificate).context("cannot remember what was asked for"),
        None => Ok(()),
    }
}

/// For a certificate of a version that did not write it down.
pub fn remember_if_unknown(config: &Config, pem: &Path) -> Result<()> {
    if note(pem).exists() { Ok(()) } else { remember(config, pem) }
}

/// Whether there is another bootstrap certificate now.
pub fn is_outdated(config: &Config, pem: &Path) -> bool {
    match (std::fs::read_to_string(note(pem)), bootstrap_certificate(config)) {
        (Ok(then), Some(now)) => then != now,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn another_bootstrap_certificate_means_asking_anew() {
        let directory = tempfile::tempdir().unwrap();
        let bootstrap = directory.path().join("bootstrap.kubeconfig");
        let write = |data: &str| {
            let text = format!("users:\n- name: a\n  user: {{client-certificate-data: {data}}}\n");
            std::fs::write(&bootstrap, text).unwrap();
        };
        let config = Config { bootstrap_kubeconfig: bootstrap.clone(), ..Config::default() };
        let pem = directory.path().join("pki/kubelet-client-current.pem");
        write("AAAA");
        assert!(!is_outdated(&config, &pem), "nothing is known");
        remember_if_unknown(&config, &pem).unwrap();
        assert!(!is_outdated(&config, &pem));
        write("BBBB");
        remember_if_unknown(&config, &pem).unwrap();
        assert!(is_outdated(&config, &pem));
        remember(&config, &pem).unwrap();
        assert!(!is_outdated(&config, &pem));
        std::fs::remove_file(&bootstrap).unwrap();
        assert!(!is_outdated(&config, &pem), "nobody wants anything");
    }
}
