//! SELinux' labels: what kinstall makes gets those that the host's own policy has for its place, as a package's files do.
//!
//! A file inherits the label of its directory, and so an executable below `/opt` would be one that systemd may not start.

use std::fs;

use hoststate::wire::Failure;
use hoststate::{HostState, Resource};

use crate::resources::Context;
use crate::{Root, command};

const PROGRAM: &str = "restorecon";
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// There where the kernel has a policy loaded, whether it is enforced or not: it may be at the next boot.
const LOADED: &str = "/sys/fs/selinux/enforce";
/// So many go into one command line.
const AT_ONCE: usize = 200;

pub fn program_is_there(root: &Root) -> bool {
    FOLDERS.iter().any(|folder| root.path(&format!("{folder}/{PROGRAM}")).exists())
}

/// The paths of a state that have labels; none on a host without SELinux.
pub fn paths(root: &Root, state: &HostState) -> Vec<String> {
    if !root.path(LOADED).exists() || !program_is_there(root) {
        return Vec::new();
    }
    let path = |resource: &Resource| match resource {
        Resource::Directory { path, .. } | Resource::File { path, .. } | Resource::Symlink { path, .. } => {
            Some(path.clone())
        }
        _ => None,
    };
    state.resources.iter().filter_map(path).collect()
}

/// Labels those that are there.
pub fn restore(context: Context<'_>, paths: &[String]) -> Result<(), Failure> {
    let is_there = |path: &&String| fs::symlink_metadata(context.root.path(path)).is_ok();
    let there: Vec<&str> = paths.iter().filter(is_there).map(String::as_str).collect();
    for some in there.chunks(AT_ONCE) {
        command::run_in(context.root, context.sink, "SELinux labels", PROGRAM, &[&["--"], some].concat())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::resource::{ClusterRef, Contents};
    use hoststate::{Content, Resource};

    use super::*;
    use crate::abandon::Abandon;
    use crate::blobs::Blobs;
    use crate::sink::Sink;

    #[test]
    fn what_is_made_is_labelled_where_there_is_selinux_and_nothing_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        let state = HostState {
            cluster: ClusterRef::default(),
            host: "h1".into(),
            version: "0.1.0".into(),
            kubernetes: None,
            resources: vec![
                Resource::Directory { path: "/opt/kinstall".into(), mode: 0o755, contents: Contents::Ours },
                Resource::File {
                    path: "/opt/kinstall/missing".into(),
                    mode: 0o755,
                    content: Content::Inline { text: String::new(), secret: false },
                },
                Resource::Symlink { path: "/opt/kinstall/current".into(), target: "0.1.0".into() },
                Resource::KernelModule { name: "overlay".into() },
            ],
            keeps: Vec::new(),
        };
        for folder in ["opt/kinstall", "usr/sbin", "sys/fs/selinux"] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("0.1.0", root.path("/opt/kinstall/current")).unwrap();
        let program = b"#!/bin/sh\necho \"$@\" >> \"${0%/*}/labelled\"\n".as_slice();
        fs::write(root.path("/restorecon"), program).unwrap();
        // Not by this process: a program that is open for writing cannot be run, and what another test's thread forks in that
        // moment holds it open, too.
        let path = |path: &str| root.path(path).into_os_string();
        let install = ["-m".into(), "755".into(), path("/restorecon"), path("/usr/sbin/restorecon")];
        assert!(std::process::Command::new("install").args(install).status().unwrap().success());
        assert_eq!(paths(&root, &state), Vec::<String>::new(), "no policy is loaded");

        fs::write(root.path(LOADED), "0").unwrap();
        let context = Context {
            root: &root,
            sink: &Sink::new(std::io::sink()),
            blobs: &Blobs::new(directory.path().join("blobs")),
            abandon: &Abandon::default(),
        };
        restore(context, &paths(&root, &state)).unwrap();
        restore(context, &[]).unwrap();
        let labelled = fs::read_to_string(root.path("/usr/sbin/labelled")).unwrap();
        assert_eq!(labelled, "-- /opt/kinstall /opt/kinstall/current\n");
    }
}
