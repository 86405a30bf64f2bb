//! Services of the host that read a file which kinstall puts beside theirs: told when it comes, changes and goes.

use hoststate::wire::Failure;

use crate::command;
use crate::resources::Context;

/// Where a file of ours lies, and who reads it. Whoever reads its files only when it starts is not among them.
const READERS: [(&str, &str); 1] = [("/etc/NetworkManager/conf.d/", "NetworkManager.service")];

/// Nothing happens where the service does not run: it reads the file when it starts.
pub fn tell(context: Context<'_>, step: &str, path: &str) -> Result<(), Failure> {
    let Some((_, service)) = READERS.iter().find(|(folder, _)| path.starts_with(folder)) else { return Ok(()) };
    let args = ["try-reload-or-restart", "--", service];
    command::run_in(context.root, context.sink, step, "systemctl", &args).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use hoststate::Content;
    use hoststate::wire::{ManifestEntry, Undo};

    use super::*;
    use crate::abandon::Abandon;
    use crate::blobs::Blobs;
    use crate::resources::file;
    use crate::sink::Sink;
    use crate::{Root, down};

    #[test]
    fn the_reader_is_told_when_a_file_comes_and_when_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        for folder in ["etc/NetworkManager/conf.d", "etc/kinstall", "usr/bin"] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        let program = b"#!/bin/sh\necho \"$@\" >> \"${0%/*}/told\"\n".as_slice();
        fs::write(root.path("/systemctl"), program).unwrap();
        // Not by this process: a program that is open for writing cannot be run, and what another test's thread forks in that
        // moment holds it open, too.
        let path = |path: &str| root.path(path).into_os_string();
        let install = ["-m".into(), "755".into(), path("/systemctl"), path("/usr/bin/systemctl")];
        assert!(std::process::Command::new("install").args(install).status().unwrap().success());
        let context = Context {
            root: &root,
            sink: &Sink::new(std::io::sink()),
            blobs: &Blobs::new(directory.path().join("blobs")),
            abandon: &Abandon::default(),
        };
        let content = Content::Inline { text: "x".into(), secret: false };
        let ours = "/etc/NetworkManager/conf.d/kinstall.conf";
        for path in [ours, "/etc/kinstall/kubelet.yaml"] {
            file::apply(context, "step", path, 0o644, &content).unwrap();
        }
        let told = || fs::read_to_string(root.path("/usr/bin/told")).unwrap();
        let line = "try-reload-or-restart -- NetworkManager.service\n";
        assert_eq!(told(), line);
        let entry = ManifestEntry {
            resource: format!("file {ours}"),
            kind: "file".into(),
            name: ours.into(),
            undo: Undo::Remove,
        };
        down::undo(context, &entry).unwrap();
        assert!(!root.path(ours).exists());
        assert_eq!(told(), line.repeat(2));
    }
}
