#![allow(clippy::unwrap_used, clippy::expect_used)]
//! What becomes of a store in etcd when a member's disk does not do: its space quota is used up, its file is damaged.

mod common;

use std::time::Duration;

use common::{all, delete, etcd::Cluster, open, open_at, put};
use etcd_client::{AlarmAction, AlarmType};
use store::{Error, Expect};

/// What etcd may take. It is full after some hundred of these values.
const QUOTA: &str = "8000000";
const VALUE: usize = 50_000;

fn is_told(refused: &Error) {
    let told =
        matches!(refused, Error::Unavailable(why) if why.contains("space quota") && why.contains("delete objects"));
    assert!(told, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_refuses_writes_until_there_is_room() {
    let cluster = Cluster::start_with(1, &[("quota-backend-bytes", QUOTA)]).await;
    let store = open(&cluster, None).await;
    let value = "x".repeat(VALUE);
    let mut written = Vec::new();
    let refused = loop {
        match store.txn(put(&format!("/{:03}", written.len()), &value, Expect::Absent)).await {
            Ok(revision) => written.push(revision),
            Err(error) => break error,
        }
        assert!(written.len() < 500, "the quota must be used up by now");
    };
    is_told(&refused);
    is_told(&store.txn(put("/more", &value, Expect::Absent)).await.unwrap_err());
    let kept = store.range(all("/", None)).await.unwrap().items;
    let revisions: Vec<_> = kept.iter().map(|kv| kv.mod_revision).collect();
    // what etcd finds too much while it writes it is refused and there: `Unavailable` says no more than that nobody knows
    let unknown = kept.len() - written.len();
    assert_eq!(revisions[..written.len()], written, "what was acknowledged is there");
    assert!(unknown <= 1 && kept[written.len()..].iter().all(|kv| *kv.key == *format!("/{:03}", written.len())));
    let again = open(&cluster, None).await;
    assert_eq!(again.range(all("/", None)).await.unwrap().items, kept, "whoever opens it anew reads the same");

    // as the error says
    let half = written.len() / 2;
    for (n, revision) in written.iter().enumerate().skip(half) {
        store.txn(delete(&format!("/{n:03}"), *revision)).await.unwrap();
    }
    is_told(&store.txn(put("/more", &value, Expect::Absent)).await.unwrap_err());
    // what the compactor does
    store.compact(store.revision()).await.unwrap();
    let mut refused = 0;
    for n in half..half + half / 2 {
        loop {
            match store.txn(put(&format!("/{n:03}"), &value, Expect::Absent)).await {
                // there, and refused before
                Ok(_) | Err(Error::Conflict { .. }) => break,
                Err(error) => is_told(&error),
            }
            refused += 1;
            assert!(refused < 100, "there is room again");
            // etcd compacts beside its work, and says nothing when it is done
            tokio::time::sleep(Duration::from_millis(100)).await;
            store.defragment(0).await.unwrap();
        }
    }
    let alarms = cluster.client().await.alarm(AlarmAction::Get, AlarmType::Nospace, None).await.unwrap();
    assert!(alarms.alarms().is_empty(), "the alarm stands");
    let now = store.range(all("/", None)).await.unwrap().items;
    assert_eq!(now[..half], kept[..half], "nothing of the others is lost");
    assert_eq!(now.len(), half + half / 2 + unknown);
    assert!(refused > 0, "not before the alarm was taken back");
    println!("{} writes until the quota was used up, none lost", written.len());
}

/// Whatever of its data a member cannot read: it does not run, the others serve, and it comes back with its file.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_file_is_damaged_ends_and_the_others_serve() {
    let mut cluster = Cluster::start(3).await;
    let store = open_at(&cluster, 1, Some("/nonexistent".as_ref())).await;
    for n in 0..200 {
        store.txn(put(&format!("/{n:03}"), &format!("value {n}"), Expect::Absent)).await.unwrap();
    }
    let before = store.range(all("/", None)).await.unwrap().items;
    cluster.kill(0);
    let file = cluster.database(0);
    let whole = std::fs::read(&file).unwrap();
    // behind bbolt's two pages that say where the others are
    let meta = 2 * 4096;
    assert!(whole.len() > meta + 4096, "{} bytes", whole.len());
    let mut garbage = whole.clone();
    garbage[meta..].fill(0x5a);
    for (what, bytes) in [("garbage", &garbage[..]), ("torn", &whole[..meta])] {
        std::fs::write(&file, bytes).unwrap();
        let said = cluster.last_words(0).await;
        assert!(said.contains("panic:") || said.contains("fatal error:"), "{what}: {said}");
        // its own member first, as on the host of that member
        let own = open_at(&cluster, 0, None).await;
        let read = own.range(all("/", None)).await.unwrap().items;
        assert!(read.starts_with(&before), "{what}: the others serve something else");
        own.txn(put(&format!("/{what}"), "", Expect::Absent)).await.unwrap();
    }
    std::fs::write(&file, &whole).unwrap();
    cluster.restart(0);
    let now = store.range(all("/", None)).await.unwrap().items;
    assert_eq!(now.len(), before.len() + 2);
    cluster.kill(1);
    let own = open_at(&cluster, 0, None).await;
    assert!(own.range(all("/", None)).await.unwrap().items == now, "it has not caught up");
}
