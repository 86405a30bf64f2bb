#![allow(clippy::unwrap_used, clippy::expect_used)]
//! What concurrent clients were told can be put into one order that respects real time, of every kind of store.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::history::{Call, Operation, Verdict, check};
use common::{delete, number, open_at, put};
use rand::Rng;
use store::{Error, Expect, Store};

const KEYS: usize = 4;
/// So many operations of each client are enough to judge, however slow the store is.
const ENOUGH: usize = 100;
/// After so long in vain it does not work at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// One client: reads, then writes what expects what was read, now or a while ago.
async fn client(store: Arc<dyn Store>, id: usize, begun: Instant, until: Duration) -> Vec<(String, Operation)> {
    let mut history = Vec::new();
    let mut known: HashMap<String, (String, u64)> = HashMap::new();
    let mut n = 0;
    while begun.elapsed() < until || (history.len() < ENOUGH && begun.elapsed() < until + PATIENCE) {
        n += 1;
        let key = format!("/k/{}", rand::rng().random_range(0..KEYS));
        let started = begun.elapsed();
        if rand::rng().random_bool(0.5) {
            let Ok(found) = store.get(&key).await else { continue };
            let value = found.as_ref().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
            match (&value, &found) {
                (Some(value), Some(kv)) => known.insert(key.clone(), (value.clone(), kv.mod_revision)),
                _ => known.remove(&key),
            };
            history.push((key, Operation { started, ended: Some(begun.elapsed()), call: Call::Read(value) }));
            continue;
        }
        let expected = known.get(&key).cloned();
        let new = (expected.is_none() || rand::rng().random_bool(0.8)).then(|| format!("{id}-{n}"));
        let txn = match (&expected, &new) {
            (None, Some(new)) => put(&key, new, Expect::Absent),
            (Some((_, revision)), Some(new)) => put(&key, new, Expect::Revision(*revision)),
            (Some((_, revision)), None) => delete(&key, *revision),
            (None, None) => continue,
        };
        let from = expected.map(|(value, _)| value);
        let (call, ended) = match store.txn(txn).await {
            Ok(revision) => {
                match &new {
                    Some(new) => known.insert(key.clone(), (new.clone(), revision)),
                    None => known.remove(&key),
                };
                (Call::Swapped { from, to: new }, Some(begun.elapsed()))
            }
            // a refusal shows what stands there: a read
            Err(Error::Conflict { actual, .. }) => {
                let value = actual.as_ref().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
                match (&value, &actual) {
                    (Some(value), Some(kv)) => known.insert(key.clone(), (value.clone(), kv.mod_revision)),
                    _ => known.remove(&key),
                };
                (Call::Read(value), Some(begun.elapsed()))
            }
            Err(Error::Unavailable(_)) => (Call::Unknown { from, to: new }, None),
            Err(other) => panic!("{other}"),
        };
        history.push((key, Operation { started, ended, call }));
    }
    history
}

async fn judge(stores: Vec<Arc<dyn Store>>, until: Duration) -> usize {
    let begun = Instant::now();
    let clients: Vec<_> =
        (0..6).map(|id| tokio::spawn(client(stores[id % stores.len()].clone(), id, begun, until))).collect();
    let mut by_key: HashMap<String, Vec<Operation>> = HashMap::new();
    for client in clients {
        for (key, operation) in client.await.unwrap() {
            by_key.entry(key).or_default().push(operation);
        }
    }
    let count = by_key.values().map(Vec::len).sum();
    for (key, history) in by_key {
        assert_eq!(check(&history), Verdict::Linearizable, "{key}: {history:#?}");
    }
    count
}

/// `KINSTALL_STORE_SECONDS=60` is the long form.
fn seconds(otherwise: usize) -> Duration {
    Duration::from_secs(number("KINSTALL_STORE_SECONDS", otherwise) as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    let subject = common::embedded().await;
    let count = judge(vec![subject.store.clone()], seconds(1)).await;
    println!("{count} operations, one order");
    assert!(count > 500, "{count}");
}

/// Three clients, each with its own member first; every 5 s one of them is killed and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_whose_member_dies() {
    let mut cluster = common::etcd::Cluster::start(3).await;
    let stores = vec![
        open_at(&cluster, 0, Some("/none".as_ref())).await,
        open_at(&cluster, 1, None).await,
        open_at(&cluster, 2, None).await,
    ];
    let until = seconds(5);
    let judged = tokio::spawn(judge(stores, until));
    for victim in (0..3).cycle().take((until.as_secs() / 5).max(1) as usize) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.kill(victim);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cluster.restart(victim);
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
    let count = judged.await.unwrap();
    println!("{count} operations, one order");
    assert!(count > 500, "{count}");
}

/// The checker is worth something only if it finds what is wrong.
#[test]
fn histories_that_cannot_be_are_refused() {
    let at = Duration::from_millis;
    let operation = |started, ended, call| Operation { started: at(started), ended: Some(at(ended)), call };
    let swap =
        |from: Option<&str>, to: Option<&str>| Call::Swapped { from: from.map(Into::into), to: to.map(Into::into) };
    let read = |value: Option<&str>| Call::Read(value.map(Into::into));
    let written = operation(0, 10, swap(None, Some("a")));
    let stale = [written.clone(), operation(11, 12, read(None))];
    assert_eq!(check(&stale), Verdict::Impossible, "a read after a write does not see it");
    let during = [written.clone(), operation(5, 12, read(None))];
    assert_eq!(check(&during), Verdict::Linearizable, "a read beside a write may be before it");
    let twice = [written.clone(), operation(0, 10, swap(None, Some("b")))];
    assert_eq!(check(&twice), Verdict::Impossible, "both created it");
    let back = [written.clone(), operation(11, 12, swap(Some("a"), Some("b"))), operation(13, 14, read(Some("a")))];
    assert_eq!(check(&back), Verdict::Impossible, "time runs backwards");
    let unknown = Operation { started: at(0), ended: None, call: Call::Unknown { from: None, to: Some("a".into()) } };
    for seen in [read(None), read(Some("a"))] {
        assert_eq!(check(&[unknown.clone(), operation(50, 51, seen)]), Verdict::Linearizable, "it happened or not");
    }
    let flickers = [unknown, operation(50, 51, read(Some("a"))), operation(52, 53, read(None))];
    assert_eq!(check(&flickers), Verdict::Impossible, "it happened and then not");
}
