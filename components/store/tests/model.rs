#![allow(clippy::unwrap_used)]
//! What readers and watchers see is what a simple model of the history says, of every kind of store.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Kind, Subject, all, delete, put};
use futures::StreamExt;
use rand::Rng;
use store::{EmbeddedStore, Error, EventKind, Expect, RangeRequest, Revision, Store, WatchItem};

/// One test for each kind of store.
macro_rules! for_every_store {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::common::embedded().await).await })*
        }
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::common::etcd().await).await })*
        }
    };
}

for_every_store!(
    concurrent_histories_are_what_was_acknowledged,
    pages_are_complete_and_of_one_revision,
    a_refused_transaction_leaves_no_trace,
    everything_is_there_after_opening_again,
    compaction_forgets_history_and_keeps_objects,
    a_quiet_watcher_hears_that_the_revision_moved_on,
    what_is_deleted_gives_its_space_back,
);

/// One client that creates, updates and deletes random keys and records what was acknowledged.
async fn client(store: Arc<dyn Store>, id: u32) -> BTreeMap<Revision, (String, Option<String>)> {
    let mut acknowledged = BTreeMap::new();
    for n in 0..200 {
        let key = format!("/pods/a/{}", rand::rng().random_range(0..20));
        let value = format!("{id}-{n}");
        let current = store.get(&key).await.unwrap();
        let (txn, after) = match &current {
            None => (put(&key, &value, Expect::Absent), Some(value)),
            Some(kv) if rand::rng().random_bool(0.3) => (delete(&key, kv.mod_revision), None),
            Some(kv) => (put(&key, &value, Expect::Revision(kv.mod_revision)), Some(value)),
        };
        match store.txn(txn).await {
            Ok(revision) => assert!(acknowledged.insert(revision, (key, after)).is_none()),
            Err(Error::Conflict { actual, .. }) => {
                assert_ne!(actual.map(|kv| kv.mod_revision), current.map(|kv| kv.mod_revision));
            }
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

async fn collect(store: &dyn Store, after: Revision, until: Revision) -> Vec<(Revision, String, Option<String>)> {
    let mut seen = Vec::new();
    if after == until {
        return seen;
    }
    let mut watch = store.watch("/pods/", after).await.unwrap();
    while let Some(item) = watch.next().await {
        if let WatchItem::Event(event) = item.unwrap() {
            let value = String::from_utf8(event.kv.value.to_vec()).unwrap();
            seen.push((
                event.kv.mod_revision,
                event.kv.key.to_string(),
                (event.kind == EventKind::Put).then_some(value),
            ));
            if event.kv.mod_revision >= until {
                break;
            }
        }
    }
    seen
}

async fn concurrent_histories_are_what_was_acknowledged(subject: Subject) {
    let (store, base) = (subject.store.clone(), subject.store.revision());
    let live = tokio::spawn({
        let store = store.clone();
        async move {
            // Reads along while the clients write; ends by the marker.
            let mut watch = store.watch("/pods/", base).await.unwrap();
            let mut revisions = Vec::new();
            while let Some(item) = watch.next().await {
                if let WatchItem::Event(event) = item.unwrap() {
                    if &*event.kv.key == "/pods/z/end" {
                        break;
                    }
                    revisions.push(event.kv.mod_revision);
                }
            }
            revisions
        }
    });
    let clients: Vec<_> = (0..8).map(|id| tokio::spawn(client(store.clone(), id))).collect();
    let mut model = BTreeMap::new();
    for client in clients {
        model.extend(client.await.unwrap());
    }
    let last = store.revision();
    assert_eq!(base + model.len() as u64, last, "every revision belongs to one acknowledged write");
    store.txn(put("/pods/z/end", "", Expect::Absent)).await.unwrap();

    let expected: Vec<_> = model.keys().copied().collect();
    assert_eq!(live.await.unwrap(), expected, "nothing lost, repeated or reordered");

    for after in [base, base + 1, last / 2, last - 1] {
        let seen = collect(&*store, after, last).await;
        let wanted: Vec<_> = model.range(after + 1..=last).map(|(r, (k, v))| (*r, k.clone(), v.clone())).collect();
        assert_eq!(seen.len(), wanted.len());
        for (seen, wanted) in seen.iter().zip(&wanted) {
            assert_eq!((&seen.0, &seen.1, &seen.2), (&wanted.0, &wanted.1, &wanted.2));
        }
    }
    for revision in [base + 1, last / 3, last / 2, last] {
        let mut then = BTreeMap::new();
        for (key, value) in model.range(..=revision).map(|(_, change)| change) {
            match value {
                Some(value) => then.insert(key.clone(), value.clone()),
                None => then.remove(key),
            };
        }
        let read = store.range(all("/pods/a/", Some(revision))).await.unwrap();
        let read: BTreeMap<String, String> =
            read.items.iter().map(|kv| (kv.key.to_string(), String::from_utf8(kv.value.to_vec()).unwrap())).collect();
        assert_eq!(read, then, "the state at revision {revision}");
    }
}

async fn pages_are_complete_and_of_one_revision(subject: Subject) {
    let (store, base) = (subject.store.clone(), subject.store.revision());
    for n in 0..25 {
        store.txn(put(&format!("/a/{n:02}"), "x", Expect::Absent)).await.unwrap();
    }
    store.txn(put("/a-b/0", "x", Expect::Absent)).await.unwrap();
    let first = store.range(RangeRequest { prefix: "/a/".into(), limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!((first.items.len(), first.remaining, first.revision), (10, 15, base + 26));
    store.txn(delete("/a/15", base + 16)).await.unwrap();
    store.txn(put("/a/10x", "new", Expect::Absent)).await.unwrap();
    let mut keys: Vec<String> = first.items.iter().map(|kv| kv.key.to_string()).collect();
    let mut after = keys.last().cloned();
    while keys.len() < 25 {
        let page = store
            .range(RangeRequest { prefix: "/a/".into(), limit: 10, start_after: after, revision: Some(base + 26) })
            .await
            .unwrap();
        assert_eq!(page.revision, base + 26);
        keys.extend(page.items.iter().map(|kv| kv.key.to_string()));
        after = keys.last().cloned();
    }
    assert_eq!(keys, (0..25).map(|n| format!("/a/{n:02}")).collect::<Vec<_>>());
}

async fn a_refused_transaction_leaves_no_trace(subject: Subject) {
    let (store, base) = (subject.store.clone(), subject.store.revision());
    let one = store.txn(put("/a", "1", Expect::Absent)).await.unwrap();
    let mut txn = put("/b", "1", Expect::Absent);
    txn.ops.extend(put("/a", "2", Expect::Revision(one + 7)).ops);
    let refused = store.txn(txn).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { key, actual: Some(kv) } if key == "/a" && kv.mod_revision == one));
    assert_eq!(store.get("/b").await.unwrap(), None);
    assert_eq!((one, store.revision()), (base + 1, base + 1));
}

async fn everything_is_there_after_opening_again(subject: Subject) {
    let (store, base) = (subject.store.clone(), subject.store.revision());
    let a = store.txn(put("/a", "1", Expect::Absent)).await.unwrap();
    store.txn(put("/b", "1", Expect::Absent)).await.unwrap();
    store.txn(put("/a", "2", Expect::Revision(a))).await.unwrap();
    store.txn(delete("/b", base + 2)).await.unwrap();
    if let Kind::Embedded(dir) = &subject.kind {
        let busy = EmbeddedStore::open(dir.path()).err().unwrap();
        assert!(busy.to_string().contains("another process"), "{busy}");
        store.close();
        assert!(matches!(store.txn(put("/c", "", Expect::Absent)).await, Err(Error::Unavailable(_))));
    }
    let subject = subject.reopen().await;
    let store = &subject.store;
    assert_eq!(store.revision(), base + 4);
    let kv = store.get("/a").await.unwrap().unwrap();
    assert_eq!((&kv.value[..], kv.create_revision, kv.mod_revision), (&b"2"[..], base + 1, base + 3));
    assert_eq!(store.range(all("/", None)).await.unwrap().items.len(), 1);
    assert!(matches!(store.watch("/", base + 1).await, Err(Error::Compacted { oldest, .. }) if oldest == base + 4));
}

async fn compaction_forgets_history_and_keeps_objects(subject: Subject) {
    let (store, base) = (subject.store.clone(), subject.store.revision());
    let mut revision = store.txn(put("/a", "0", Expect::Absent)).await.unwrap();
    for n in 1..10 {
        revision = store.txn(put("/a", &n.to_string(), Expect::Revision(revision))).await.unwrap();
    }
    let mut slow = store.watch("/", base + 2).await.unwrap();
    assert!(matches!(slow.next().await, Some(Ok(WatchItem::Event(event))) if event.kv.mod_revision == base + 3));
    store.compact(base + 8).await.unwrap();
    assert!(
        matches!(store.range(all("/", Some(base + 7))).await, Err(Error::Compacted { oldest, .. }) if oldest == base + 8)
    );
    assert_eq!(&store.range(all("/", Some(base + 9))).await.unwrap().items[0].value[..], b"8");
    assert!(matches!(store.range(all("/", Some(base + 99))).await, Err(Error::Future { .. })));
    assert_eq!(&store.get("/a").await.unwrap().unwrap().value[..], b"9");
    // What it had taken before the compaction is still delivered, in order.
    let mut seen = Vec::new();
    while seen.len() < 7 {
        match slow.next().await.unwrap() {
            Ok(WatchItem::Event(event)) => seen.push(event.kv.mod_revision),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (base + 4..=base + 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    for n in 0..200 {
        store.txn(put(&format!("/{n}"), &"x".repeat(500), Expect::Absent)).await.unwrap();
    }
    store.close();
    drop(store);
    let path = dir.path().join("store.db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in bytes.iter_mut().skip(8192).take(4096) {
        *byte = 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let error = EmbeddedStore::open(dir.path()).err().unwrap();
    assert!(matches!(&error, Error::Corrupt(why) if why.contains("store.db")), "{error}");
}

async fn a_quiet_watcher_hears_that_the_revision_moved_on(subject: Subject) {
    let (store, base) = (subject.store.clone(), subject.store.revision());
    let mut watch = store.watch("/pods/", base).await.unwrap();
    let writer = store.clone();
    let revision = writer.txn(put("/leases/a", "", Expect::Absent)).await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Progress(told))) if told == revision));
}

async fn what_is_deleted_gives_its_space_back(subject: Subject) {
    let store = &subject.store;
    let value = "x".repeat(100_000);
    let mut revisions = Vec::new();
    for n in 0..60 {
        revisions.push(store.txn(put(&format!("/{n}"), &value, Expect::Absent)).await.unwrap());
    }
    assert_eq!(store.defragment(0).await.unwrap(), 0, "everything is in use");
    for (n, revision) in revisions.iter().enumerate().skip(5) {
        store.txn(delete(&format!("/{n}"), *revision)).await.unwrap();
    }
    store.compact(store.revision()).await.unwrap();
    let before = store.size().await.unwrap();
    // etcd compacts beside its work and counts what that freed with a later write
    let mut given = 0;
    for n in 0..100 {
        store.txn(put(&format!("/later/{n:03}"), "", Expect::Absent)).await.unwrap();
        given = store.defragment(1_000_000).await.unwrap();
        if given > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(given > 1_000_000, "{given}");
    let after = store.size().await.unwrap();
    assert!(after + 1_000_000 < before, "{before} bytes before, {after} after");
    let kept = store.range(all("/", None)).await.unwrap().items;
    assert_eq!(kept.iter().filter(|kv| kv.value.len() == value.len()).count(), 5);
    assert_eq!(store.defragment(1_000_000).await.unwrap(), 0, "once is enough");
}
