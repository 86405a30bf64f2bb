//! A store that is in use is dumped, and comes back with everything, counting on above all that was ever seen.
#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use backup::{BUMP, SOCKET, place, serve, take};
use bytes::Bytes;
use store::{EmbeddedStore, Error, Expect, Op, RangeRequest, Store, Txn};

async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    let expect = match store.get(key).await.unwrap() {
        Some(kv) => Expect::Revision(kv.mod_revision),
        None => Expect::Absent,
    };
    let value = Bytes::copy_from_slice(value.as_bytes());
    store.txn(Txn { ops: vec![Op::Put { key: key.into(), value, expect }] }).await.unwrap()
}

async fn dump(socket: &Path, scratch: &Path) -> (archive::StoreSummary, Vec<u8>) {
    let (stream, scratch) = (UnixStream::connect(socket).unwrap(), scratch.to_owned());
    let taking = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        (take(stream, &scratch, &mut bytes).unwrap(), bytes)
    });
    taking.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dumped_while_it_changes_comes_back_as_of_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let (live, restored) = (directory.path().join("live"), directory.path().join("restored"));
    let store: Arc<dyn Store> = EmbeddedStore::open(&live).unwrap();
    for index in 0..3000 {
        put(&*store, &format!("/objects/{index:05}"), &format!("value {index}")).await;
    }
    put(&*store, "/objects/00000", "changed").await;
    let serving = tokio::spawn({
        let (store, live) = (store.clone(), live.clone());
        async move { serve(store, &live).await }
    });
    while !live.join(SOCKET).exists() {
        tokio::task::yield_now().await;
    }
    // two keys that are always written together: a dump of two moments would show them apart
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for index in 0..200 {
                let put = |key: &str, at: Option<u64>| Op::Put {
                    key: key.into(),
                    value: Bytes::from(index.to_string()),
                    expect: at.map_or(Expect::Absent, Expect::Revision),
                };
                let at = store.get("/a").await.unwrap().map(|kv| kv.mod_revision);
                store.txn(Txn { ops: vec![put("/a", at), put("/z", at)] }).await.unwrap();
            }
        }
    });
    let (summary, bytes) = dump(&live.join(SOCKET), directory.path()).await;
    writing.await.unwrap();
    let later = put(&*store, "/after", "the backup").await;
    assert!(summary.objects >= 3000 && summary.revision < later, "{summary:?}");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "the trial leaves nothing");

    let file = directory.path().join("dump");
    std::fs::write(&file, bytes).unwrap();
    std::fs::create_dir(&restored).unwrap();
    assert_eq!(place(&file, &restored).unwrap().objects, summary.objects);
    let back = EmbeddedStore::open(&restored).unwrap();
    let all = back.range(RangeRequest::default()).await.unwrap();
    assert_eq!(all.items.len() as u64, summary.objects);
    assert!(back.get("/after").await.unwrap().is_none());
    let value = |key: &'static str| {
        let back = back.clone();
        async move { back.get(key).await.unwrap().map(|kv| kv.value) }
    };
    assert_eq!(value("/objects/00000").await.unwrap(), "changed");
    assert_eq!(value("/a").await, value("/z").await, "of one moment");
    let old = store.get("/objects/00007").await.unwrap().unwrap();
    assert_eq!(back.get("/objects/00007").await.unwrap().unwrap(), old, "what did not change keeps its revisions");

    // nobody gets a revision that was handed out before the restore, and old watches are sent to list again
    assert_eq!(back.revision(), summary.revision + BUMP);
    assert!(put(&*back, "/new", "x").await > later);
    let watch = back.watch("/", later).await;
    assert!(matches!(watch.err(), Some(Error::Compacted { .. })), "a watch from before the restore");
    serving.abort();
}

#[test]
fn a_cut_dump_is_not_called_good() {
    let directory = tempfile::tempdir().unwrap();
    let mut encoder = archive::dump::Encoder::new(Vec::new(), 5).unwrap();
    for index in 0..500 {
        encoder.record(&format!("/{index}"), &[7; 100], 1, 5).unwrap();
    }
    let whole = zstd::encode_all(&encoder.finish().unwrap()[..], 3).unwrap();
    let mut out = Vec::new();
    assert_eq!(take(&whole[..], directory.path(), &mut out).unwrap().objects, 500);
    assert_eq!(out, whole);
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        assert!(take(&whole[..length], directory.path(), std::io::sink()).is_err(), "cut to {length}");
    }
    let file = directory.path().join("dump");
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(place(&file, directory.path()).is_err());
    assert!(!directory.path().join("store.db").exists(), "half a store is none");
}
