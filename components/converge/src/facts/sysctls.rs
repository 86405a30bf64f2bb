//! Kernel parameters that the host sets at boot after kinstall's own (sysctl.d(5)): they count more.

use std::collections::BTreeMap;
use std::fs;

use hoststate::facts::LaterSysctl;

use super::system::read;
use crate::Root;

/// Earlier ones win where two files have the same name.
const FOLDERS: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
const OURS: &str = "60-kinstall.conf";
/// Of everything else kinstall sets nothing.
const PREFIX: &str = "net.ipv4.";

/// The last assignment to each key counts.
pub fn collect(root: &Root) -> Vec<LaterSysctl> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.path(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".conf") && name.as_str() > OURS {
                files.entry(name.clone()).or_insert_with(|| format!("{folder}/{name}"));
            }
        }
    }
    let mut last: BTreeMap<String, LaterSysctl> = BTreeMap::new();
    for file in files.into_values() {
        for (key, value) in read(root, &file).lines().filter_map(assignment) {
            last.insert(key.clone(), LaterSysctl { file: file.clone(), key, value });
        }
    }
    last.into_values().collect()
}

/// `net.ipv4.ip_forward = 1`, also with slashes, and with the `-` that makes failures no matter.
fn assignment(line: &str) -> Option<(String, String)> {
    let (key, value) = line.trim().split_once('=')?;
    let key = key.trim().trim_start_matches('-').replace('/', ".");
    key.starts_with(PREFIX).then(|| (key, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_file_by_name_counts_and_those_before_ours_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        for (path, text) in [
            ("/usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.all.rp_filter = 1\n"),
            ("/usr/lib/sysctl.d/99-vendor.conf", "net.ipv4.ip_forward = 1\n"),
            ("/etc/sysctl.d/60-kinstall.conf", "net.ipv4.ip_forward = 1\n"),
            ("/etc/sysctl.d/80-a.conf", "# net.ipv4.x = 1\n-net/ipv4/ip_forward=1\nkernel.panic = 1\n"),
            ("/etc/sysctl.d/99-vendor.conf", "; theirs\n net.ipv4.ip_forward = 0\n"),
            ("/etc/sysctl.d/99-note.txt", "net.ipv4.ip_forward = 3\n"),
        ] {
            let path = root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found: Vec<_> = collect(&root).into_iter().map(|it| (it.file, it.key, it.value)).collect();
        let expected = ("/etc/sysctl.d/99-vendor.conf", "net.ipv4.ip_forward", "0");
        assert_eq!(found, [(expected.0.to_owned(), expected.1.to_owned(), expected.2.to_owned())]);
    }
}
