//! The certificates that lie on this host: kinstall's, those in its kubeconfigs, and those that the kubelet asked for.

use std::fs;
use std::io::Read as _;

use hoststate::certificates::{CertificateFile, in_kubeconfig, in_pem};

use crate::Root;

type Find = fn(&str) -> Vec<String>;

/// Folder, how its files' names end, how certificates are found in them.
const PLACES: [(&str, &str, Find); 3] = [
    ("/etc/kinstall/pki", ".crt", in_pem),
    ("/etc/kinstall", ".kubeconfig", in_kubeconfig),
    ("/var/lib/kubelet/pki", ".pem", in_pem),
];

/// Larger files are none of ours.
const LIMIT: u64 = 1 << 20;

pub fn collect(root: &Root) -> Vec<CertificateFile> {
    let mut found = Vec::new();
    for (folder, ending, find) in PLACES {
        // where kinstall is not there is nothing
        for entry in fs::read_dir(root.path(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut text = String::new();
            if !name.ends_with(ending) {
                continue;
            }
            let read = fs::File::open(entry.path()).and_then(|file| file.take(LIMIT).read_to_string(&mut text));
            if read.is_ok() {
                let pem = find(&text).concat();
                found.extend((!pem.is_empty()).then(|| CertificateFile { path: format!("{folder}/{name}"), pem }));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn certificates_are_collected_without_keys() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        assert!(collect(&root).is_empty());
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";
        for (path, text) in [
            ("/etc/kinstall/pki/ca.crt", pem.to_owned()),
            ("/etc/kinstall/pki/ca.key", key.to_owned()),
            ("/var/lib/kubelet/pki/kubelet-client-current.pem", format!("{pem}{key}")),
        ] {
            let path = root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = collect(&root);
        let paths: Vec<_> = found.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/etc/kinstall/pki/ca.crt", "/var/lib/kubelet/pki/kubelet-client-current.pem"]);
        assert!(found.iter().all(|file| file.pem == pem));
    }
}
