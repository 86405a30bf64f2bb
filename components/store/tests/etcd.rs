#![allow(clippy::unwrap_used, clippy::expect_used)]
//! What only a store in etcd has: several clients at once, members that die, a store that was embedded before.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{all, delete, etcd::Cluster, number, open, open_at, put};
use futures::StreamExt;
use rand::Rng;
use store::{EmbeddedStore, Error, EtcdConfig, EtcdStore, Expect, Revision, Store, WatchItem};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_wrote_every_other_reads_at_once() {
    let cluster = Cluster::start(1).await;
    let (one, other) = (open(&cluster, None).await, open(&cluster, None).await);
    let mut revision = one.txn(put("/a", "0", Expect::Absent)).await.unwrap();
    for n in 1..200 {
        let (writer, reader) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        revision = writer.txn(put("/a", &n.to_string(), Expect::Revision(revision))).await.unwrap();
        assert_eq!(reader.get("/a").await.unwrap().unwrap().mod_revision, revision, "read {n}");
        let list = reader.range(all("/", None)).await.unwrap();
        assert_eq!(list.items[0].mod_revision, revision, "list {n}");
        assert!(list.revision >= revision);
    }
}

/// One write that was answered, or may have happened.
type Acknowledged = BTreeMap<Revision, (String, Option<String>)>;

async fn client(store: Arc<dyn Store>, id: usize, stop: Arc<AtomicBool>) -> (Acknowledged, usize) {
    let (mut acknowledged, mut failed, mut n) = (Acknowledged::new(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let key = format!("/pods/{}", rand::rng().random_range(0..12));
        let value = format!("{id}-{n}");
        let Ok(current) = store.get(&key).await else {
            failed += 1;
            continue;
        };
        let (txn, after) = match &current {
            None => (put(&key, &value, Expect::Absent), Some(value)),
            Some(kv) if rand::rng().random_bool(0.2) => (delete(&key, kv.mod_revision), None),
            Some(kv) => (put(&key, &value, Expect::Revision(kv.mod_revision)), Some(value)),
        };
        match store.txn(txn).await {
            Ok(revision) => {
                let twice = acknowledged.insert(revision, (key, after));
                assert!(twice.is_none(), "one revision for two writes: {twice:?}");
            }
            Err(Error::Conflict { .. }) => {}
            // nobody knows whether it happened
            Err(Error::Unavailable(_)) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    (acknowledged, failed)
}

/// Reads all changes until the marker.
async fn record(store: Arc<dyn Store>) -> Acknowledged {
    let mut watch = store.watch("/pods/", store.revision()).await.unwrap();
    let mut seen = Acknowledged::new();
    while let Some(item) = watch.next().await {
        let WatchItem::Event(event) = item.unwrap() else { continue };
        if &*event.kv.key == "/pods/end" {
            break;
        }
        let value = String::from_utf8(event.kv.value.to_vec()).unwrap();
        let last = seen.keys().next_back().copied().unwrap_or(0);
        assert!(event.kv.mod_revision > last, "{} after {last}", event.kv.mod_revision);
        let value = (event.kind == store::EventKind::Put).then_some(value);
        seen.insert(event.kv.mod_revision, (event.kv.key.to_string(), value));
    }
    seen
}

/// Members are killed (-9) in turn while clients with different members write: nothing that was acknowledged is lost, no
/// watch misses, repeats or reorders, and all see the same.
#[tokio::test(flavor = "multi_thread")]
async fn killed_members_lose_nothing_and_watches_go_on() {
    let rounds = number("KINSTALL_STORE_KILLS", 4);
    let mut cluster = Cluster::start(3).await;
    let mut stores = vec![open(&cluster, None).await];
    stores.extend([open_at(&cluster, 1, None).await, open_at(&cluster, 2, None).await]);
    let watchers: Vec<_> = stores.iter().map(|store| tokio::spawn(record(store.clone()))).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6).map(|id| tokio::spawn(client(stores[id % 3].clone(), id, stop.clone()))).collect();
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let victim = round % 3;
        cluster.kill(victim);
        let (killed, before) = (Instant::now(), stores[0].revision());
        tokio::time::sleep(Duration::from_millis(800)).await;
        // however slow the disk is: what is acknowledged is counted below
        while stores[0].revision() < before + 20 {
            assert!(killed.elapsed() < Duration::from_secs(60), "two of three members take no writes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.restart(victim);
        // quorum needs this one before the next one goes
        let mut member = etcd_client::Client::connect([&cluster.endpoints()[victim]], None).await.unwrap();
        let restarted = Instant::now();
        while !matches!(tokio::time::timeout(Duration::from_secs(1), member.get("x", None)).await, Ok(Ok(_))) {
            assert!(restarted.elapsed() < Duration::from_secs(60), "member {victim} does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut failed) = (Acknowledged::new(), 0);
    for client in clients {
        let (writes, failures) = client.await.unwrap();
        failed += failures;
        for (revision, write) in writes {
            assert!(acknowledged.insert(revision, write).is_none(), "revision {revision} twice");
        }
    }
    stores[0].txn(put("/pods/end", "", Expect::Absent)).await.unwrap();
    let mut histories = Vec::new();
    for watcher in watchers {
        let seen = tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("the watch goes on").unwrap();
        histories.push(seen);
    }
    assert!(histories.iter().all(|seen| *seen == histories[0]), "every client saw the same history");
    for (revision, write) in &acknowledged {
        assert_eq!(histories[0].get(revision), Some(write), "the write of revision {revision}");
    }
    println!("{rounds} kills, {} acknowledged writes, none lost; {failed} requests failed", acknowledged.len());
    assert!(acknowledged.len() > rounds * 10, "{} writes", acknowledged.len());
    // how a request ended that was under way with the member may stay unknown, and each of the six clients has one
    assert!(failed <= rounds * 6, "losing one of three members stops nothing, but {failed} requests failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_moves_in_with_the_order_of_its_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(dir.path()).unwrap();
    for n in 0..50 {
        embedded.txn(put(&format!("/objects/{:02}", (n * 7) % 50), &n.to_string(), Expect::Absent)).await.unwrap();
    }
    let third = embedded.get("/objects/03").await.unwrap().unwrap();
    embedded.txn(put("/objects/03", "last", Expect::Revision(third.mod_revision))).await.unwrap();
    let mut before = embedded.range(all("/", None)).await.unwrap();
    embedded.close();
    drop(embedded);

    let cluster = Cluster::start(1).await;
    // one that may not make the store waits for the one that may
    let waits = tokio::spawn({
        let endpoints = cluster.endpoints();
        async move { EtcdStore::open(&EtcdConfig { endpoints, ..Default::default() }).await.unwrap() }
    });
    tokio::task::yield_now().await;
    let moved = open(&cluster, Some(dir.path())).await;
    let other = tokio::time::timeout(Duration::from_secs(20), waits).await.expect("it is told").unwrap();

    let mut after = moved.range(all("/", None)).await.unwrap();
    assert!(after.revision > before.revision);
    assert!(after.items.iter().all(|kv| kv.mod_revision > before.revision), "no revision is given twice");
    before.items.sort_by_key(|kv| kv.mod_revision);
    after.items.sort_by_key(|kv| kv.mod_revision);
    let contents =
        |items: &[store::KeyValue]| -> Vec<_> { items.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect() };
    assert_eq!(contents(&before.items), contents(&after.items), "in the order of their last changes");
    assert!(matches!(moved.watch("/", before.revision - 1).await, Err(Error::Compacted { .. })));
    assert_eq!(other.range(all("/", None)).await.unwrap().items.len(), 50);
    let stale = moved.txn(put("/objects/03", "x", Expect::Revision(third.mod_revision))).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { actual: Some(_), .. }), "{stale}");

    // once is enough: the files are out of the way, and the founder opens what is there
    assert!(!dir.path().join("store.db").exists());
    let again = open(&cluster, Some(dir.path())).await;
    assert_eq!(again.revision(), moved.revision());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_store_beside_another_is_refused_unless_it_is_the_one_that_moved() {
    let dir = tempfile::tempdir().unwrap();
    let write = |key: &str| {
        let embedded = EmbeddedStore::open(dir.path()).unwrap();
        let key = key.to_owned();
        async move {
            embedded.txn(put(&key, "1", Expect::Absent)).await.unwrap();
            embedded.close();
        }
    };
    write("/objects/a").await;
    let file = dir.path().join("store.db");
    let copy = std::fs::read(&file).unwrap();
    let cluster = Cluster::start(1).await;
    drop(open(&cluster, Some(dir.path())).await);
    assert!(!file.exists());

    // killed before it was put out of the way
    std::fs::write(&file, copy).unwrap();
    drop(open(&cluster, Some(dir.path())).await);
    assert!(!file.exists());

    write("/objects/b").await;
    write("/objects/c").await;
    let config = EtcdConfig { endpoints: cluster.endpoints(), founder: Some(dir.path().into()), ..Default::default() };
    let refused = EtcdStore::open(&config).await.err().unwrap().to_string();
    assert!(refused.contains("restore") && refused.contains("kinstall/store"), "{refused}");
    assert!(file.exists(), "nothing is lost");
    let mut raw = cluster.client().await;
    raw.delete("kinstall/store", None).await.unwrap();
    raw.delete("/objects/a", None).await.unwrap();
    let restored = open(&cluster, Some(dir.path())).await;
    let keys: Vec<_> = restored.range(all("/", None)).await.unwrap().items.into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["/objects/b".into(), "/objects/c".into()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_move_begins_again_and_a_foreign_etcd_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(dir.path()).unwrap();
    embedded.txn(put("/objects/a", "1", Expect::Absent)).await.unwrap();
    embedded.close();
    drop(embedded);
    let cluster = Cluster::start(1).await;
    let mut raw = cluster.client().await;
    raw.put("/objects/a", "half", None).await.unwrap();
    raw.put("/objects/stray", "x", None).await.unwrap();

    let config = EtcdConfig { endpoints: cluster.endpoints(), founder: Some(dir.path().into()), ..Default::default() };
    let refused = EtcdStore::open(&config).await.err().unwrap();
    assert!(refused.to_string().contains("another cluster"), "{refused}");
    assert!(dir.path().join("store.db").exists(), "nothing is lost");

    raw.put("kinstall/store", "importing", None).await.unwrap();
    let lost = EtcdConfig { founder: Some("/nonexistent".into()), ..config.clone() };
    let refused = EtcdStore::open(&lost).await.err().unwrap();
    assert!(refused.to_string().contains("backup"), "{refused}");

    let store = EtcdStore::open(&config).await.unwrap();
    let items = store.range(all("/", None)).await.unwrap().items;
    assert_eq!(items.len(), 1);
    assert_eq!(&items[0].value[..], b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_slept_through_a_compaction_reads_everything_again() {
    let mut cluster = Cluster::start(1).await;
    let store = open(&cluster, None).await;
    let a = store.txn(put("/a", "1", Expect::Absent)).await.unwrap();
    let mut watch = store.watch("/", a).await.unwrap();
    // a second client goes on while the first one's watch is broken: the member restarts, compacted
    cluster.restart(0);
    let mut raw = cluster.client().await;
    let mut revision = 0;
    for n in 0..20 {
        let written = loop {
            match raw.put("/b", n.to_string(), None).await {
                Ok(written) => break written,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        revision = written.header().unwrap().revision();
    }
    raw.compact(revision, None).await.unwrap();
    let now = tokio::time::timeout(Duration::from_secs(20), store.get("/b")).await.expect("it comes back").unwrap();
    assert_eq!(&now.unwrap().value[..], b"19");
    // the watch either saw every change or says that it cannot
    let mut seen = 0;
    while seen < 20 {
        match watch.next().await {
            Some(Ok(WatchItem::Event(_))) => seen += 1,
            Some(Ok(WatchItem::Progress(_))) => {}
            Some(Err(Error::Compacted { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_store_is_refused() {
    let cluster = Cluster::start(1).await;
    let of = |id: &str| EtcdConfig {
        endpoints: cluster.endpoints(),
        founder: Some("/nonexistent".into()),
        cluster: Some(id.into()),
        ..Default::default()
    };
    drop(EtcdStore::open(&of("one")).await.unwrap());
    drop(EtcdStore::open(&of("one")).await.unwrap());
    let refused = EtcdStore::open(&of("two")).await.err().unwrap().to_string();
    assert!(refused.contains("another cluster, one;"), "{refused}");
}

#[tokio::test]
async fn without_members_the_error_says_who_does_not_answer() {
    let config = EtcdConfig {
        endpoints: vec!["http://127.0.0.1:1".into()],
        founder: Some(Path::new("/x").into()),
        ..Default::default()
    };
    let refused = EtcdStore::open(&config).await.err().unwrap().to_string();
    assert!(refused.contains("127.0.0.1:1"), "{refused}");
}
