//! A full disk refuses writes, loses nothing, and writes go on when there is room again.
//!
//! The test starts itself as a child in a mount namespace of its own, where a small file system is mounted.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use store::{EmbeddedStore, Error, Expect, Op, Store, Txn};

const CHILD: &str = "KINSTALL_STORE_FULL_DISK";

fn main() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(fill_and_free(Path::new(&dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=16m tmpfs \"$KINSTALL_STORE_FULL_DISK\" && exec \"$0\"";
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

async fn fill_and_free(disk: &Path) {
    let store = EmbeddedStore::open(&disk.join("store")).unwrap();
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let mut written = 0_u64;
    let refused = loop {
        match store.txn(put(written)).await {
            Ok(revision) => written = revision,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk must be full by now");
    };
    assert!(matches!(&refused, Error::Unavailable(why) if why.contains("disk is full")), "{refused}");
    assert_eq!(store.revision(), written);
    assert!(store.get(&format!("/{}", written - 1)).await.unwrap().is_some(), "reads go on");
    assert!(store.txn(put(written)).await.is_err(), "and again");

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(store.txn(put(written)).await.unwrap(), written + 1, "there is room again");
    store.close();
    drop(store);
    let store = EmbeddedStore::open(&disk.join("store")).unwrap();
    assert_eq!(store.revision(), written + 1);
    for n in 0..=written {
        assert!(store.get(&format!("/{n}")).await.unwrap().is_some(), "/{n} of {written}");
    }
    println!("{written} writes until the disk was full, none lost");
}

fn put(n: u64) -> Txn {
    Txn { ops: vec![Op::Put { key: format!("/{n}"), value: Bytes::from(vec![b'x'; 8000]), expect: Expect::Absent }] }
}
