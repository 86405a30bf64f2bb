#![allow(clippy::unwrap_used)]
//! Many objects are written, listed in pages, counted, watched and read again, in memory that they bound, of every kind of store.

mod common;

use std::time::Instant;

use common::{Subject, delete, number, put};
use futures::StreamExt;
use store::{Error, Expect, RangeRequest, Revision, Store, WatchItem, WatchStream};

const WRITERS: usize = 64;
const PAGE: usize = 500;
/// Of this size so many objects' history is kept whole; of more it may be cut.
const VALUE: usize = 1000;
const WHOLE: usize = 200_000;

/// `KINSTALL_STORE_OBJECTS=150000` is the long form.
fn objects() -> usize {
    number("KINSTALL_STORE_OBJECTS", 3000)
}

fn key(n: usize) -> String {
    format!("/many/{n:08}")
}

fn value(n: usize) -> String {
    format!("{n:0VALUE$}")
}

/// One kind after the other: the memory that is looked at is the process's.
#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_written_listed_counted_watched_and_read_again() {
    hold_many(common::embedded().await, "embedded").await;
    hold_many(common::etcd().await, "etcd").await;
}

async fn hold_many(subject: Subject, kind: &str) {
    let (store, count, begun) = (subject.store.clone(), objects(), Instant::now());
    let (base, memory) = (store.revision(), resident());
    let early = store.watch("/many/", base).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in (writer..count).step_by(WRITERS) {
                    store.txn(put(&key(n), &value(n), Expect::Absent)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let last = store.revision();
    assert_eq!(last, base + count as u64, "each of one revision");
    println!("{kind}: {count} objects written after {:.1?}", begun.elapsed());

    pages_are_of_one_revision(&*store, count, last).await;
    println!("{kind}: listed after {:.1?}", begun.elapsed());

    let seen = follow(early, base, last).await;
    assert!(seen == last || count > WHOLE, "a watch from the start ended at revision {seen} of {last}");
    let middle = base + count as u64 / 2;
    store.compact(middle).await.unwrap();
    let forgotten = store.watch("/many/", base).await.err().unwrap();
    assert!(matches!(forgotten, Error::Compacted { oldest, .. } if oldest >= middle), "{forgotten}");
    if count <= WHOLE {
        let late = store.watch("/many/", middle).await.unwrap();
        assert_eq!(follow(late, middle, last).await, last);
    }
    println!("{kind}: watched after {:.1?}", begun.elapsed());

    // live objects and history share what they hold; the rest is what holds them, and what was freed and is not given back
    let (grown, bound) = (resident().saturating_sub(memory), 3 * count * (VALUE + 256) + (128 << 20));
    println!("{kind}: {} MiB of memory more", grown >> 20);
    assert!(grown < bound, "{} MiB for {count} objects", grown >> 20);

    drop(store);
    let subject = subject.reopen().await;
    let store = &subject.store;
    assert_eq!(store.revision(), last + 2);
    // one went, one came
    let first = store.range(RangeRequest { prefix: "/many/".into(), limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(first.remaining + 1, count);
    assert!(matches!(store.watch("/many/", base).await, Err(Error::Compacted { .. })));
    println!("{kind}: opened again after {:.1?}", begun.elapsed());
}

/// Every object is in the pages of one list, and nothing of what happens between the first page and the others.
async fn pages_are_of_one_revision(store: &dyn Store, count: usize, last: Revision) {
    let mut page =
        store.range(RangeRequest { prefix: "/many/".into(), limit: PAGE, ..Default::default() }).await.unwrap();
    assert_eq!((page.revision, page.items.len() + page.remaining), (last, count), "counted");
    let gone = store.get(&key(count - 1)).await.unwrap().unwrap();
    store.txn(delete(&gone.key, gone.mod_revision)).await.unwrap();
    store.txn(put(&format!("{}-new", key(count - 1)), "", Expect::Absent)).await.unwrap();
    let mut listed = 0;
    loop {
        assert_eq!(page.revision, last);
        for kv in &page.items {
            assert_eq!((&*kv.key, &kv.value[..]), (key(listed).as_str(), value(listed).as_bytes()));
            listed += 1;
        }
        assert_eq!(page.remaining, count - listed);
        if page.remaining == 0 {
            return;
        }
        let after = page.items.last().map(|kv| kv.key.to_string());
        let next = RangeRequest { prefix: "/many/".into(), limit: PAGE, start_after: after, revision: Some(last) };
        page = store.range(next).await.unwrap();
    }
}

/// Reads a watch up to a revision, each of which is one event: nothing is missing, twice, or out of order. Ends earlier, and says
/// where, if the store says that it has forgotten the rest.
async fn follow(mut watch: WatchStream, after: Revision, until: Revision) -> Revision {
    let mut seen = after;
    while seen < until {
        match watch.next().await {
            Some(Ok(WatchItem::Event(event))) => {
                assert_eq!(event.kv.mod_revision, seen + 1);
                seen += 1;
            }
            Some(Ok(WatchItem::Progress(_))) => {}
            Some(Err(Error::Compacted { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
    seen
}

/// This process's memory in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
