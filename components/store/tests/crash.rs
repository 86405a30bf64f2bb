//! kill -9 at any moment loses no acknowledged write.
//!
//! The test starts itself as a child that writes and prints each acknowledged revision, kills it, opens the store and looks.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use rand::Rng;
use store::{EmbeddedStore, Expect, Op, Store, Txn};

const CHILD: &str = "KINSTALL_STORE_CRASH_DIR";

/// `KINSTALL_STORE_KILLS=1000` is the long form.
fn rounds() -> usize {
    std::env::var("KINSTALL_STORE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match std::env::var_os(CHILD) {
        Some(dir) => runtime.block_on(write_for_ever(Path::new(&dir))),
        None => runtime.block_on(kill_and_look()),
    }
}

async fn write_for_ever(dir: &Path) {
    let store = EmbeddedStore::open(dir).unwrap();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    let key = format!("/{:016x}", rand::rng().random::<u64>());
                    let op = Op::Put { key: key.clone(), value: Bytes::from(vec![b'x'; 900]), expect: Expect::Absent };
                    let revision = store.txn(Txn { ops: vec![op] }).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "{key} {revision}").and_then(|()| out.flush()).unwrap();
                }
            })
        })
        .collect();
    futures::future::join_all(writers).await;
}

async fn kill_and_look() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    let rounds = rounds();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stop_after = rand::rng().random_range(1..120);
        for (n, line) in lines.map_while(Result::ok).enumerate() {
            let Some((key, revision)) = line.split_once(' ') else { continue };
            let Ok(revision) = revision.parse() else { continue };
            acknowledged.push((key.to_owned(), revision));
            if n == stop_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        for (key, revision) in &acknowledged {
            let kv = store.get(key).await.unwrap();
            assert_eq!(kv.map(|kv| kv.mod_revision), Some(*revision), "{key} is lost after round {round}");
        }
        store.close();
    }
    assert!(acknowledged.len() >= rounds, "the children wrote something");
    println!("{rounds} kills, {} acknowledged writes, none lost", acknowledged.len());
}
