//! What is here of the cluster's store: an embedded one, or a member of etcd and how far it came.

use hoststate::facts::{Birth, StoreFacts};

use super::system;
use crate::Root;

const EMBEDDED: &str = "/var/lib/kinstall/store/store.db";
const MEMBER: &str = "/var/lib/kinstall/etcd/data/member";
/// Written by `etcd-members joined`.
const JOINED: &str = "/var/lib/kinstall/etcd/joined";
const MEMBERS: &str = "/etc/kinstall/etcd-members.yaml";
const CONTROL_PLANE: &str = "/etc/kinstall/control-plane.yaml";

pub fn collect(root: &Root) -> StoreFacts {
    let there = |path: &str| root.path(path).exists();
    let member = there(MEMBER);
    let line = |path: &str, key: &str| {
        let text = system::read(root, path);
        text.lines().find_map(|line| line.trim().strip_prefix(key).map(|value| value.trim().to_owned()))
    };
    StoreFacts {
        embedded: there(EMBEDDED),
        member,
        joined: member && there(JOINED),
        birth: match line(MEMBERS, "birth:").as_deref() {
            Some("found") => Some(Birth::Found),
            Some("join") => Some(Birth::Join),
            _ => None,
        },
        founder: line(CONTROL_PLANE, "founder:").as_deref() == Some("true"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_member_and_its_way_are_told_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        assert_eq!(collect(&root), StoreFacts::default());
        let write = |path: &str, text: &str| {
            let path = root.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(EMBEDDED, "");
        write(MEMBERS, "name: h1\nbirth: join\n");
        write(CONTROL_PLANE, "apiServer:\n  etcd:\n    founder: true\n");
        // its data is lost: what is written of it says nothing of a member
        write(JOINED, "");
        let lost = StoreFacts { embedded: true, birth: Some(Birth::Join), founder: true, ..StoreFacts::default() };
        assert_eq!(collect(&root), lost);
        write(&format!("{MEMBER}/wal/0"), "");
        assert_eq!(collect(&root), StoreFacts { member: true, joined: true, ..lost });
    }
}
