//! How a store in etcd comes to be: begun empty, or moved over from an embedded one.
//!
//! One key says what stands: `importing` while objects are brought over, then `ready` with the offset of revisions and whose
//! store it is. Objects come in the order of their last changes, each with a revision of its own, so that the order of resourceVersions stays.

use std::path::Path;

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, TxnOp, WatchOptions};

use super::connection::{Attempts, Members};
use super::translate::Offset;
use crate::embedded;
use crate::{Error, KeyValue, Result};

/// Not below `/`, where objects are.
pub const KEY: &str = "kinstall/store";
const OBJECTS: &str = "/";
/// Progress is told every so many objects.
const TELL: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Absent,
    /// Somebody began to bring objects over and did not finish.
    Importing,
    Ready {
        offset: Offset,
        /// The id of the cluster that made it, if it said so.
        cluster: Option<String>,
    },
}

impl State {
    fn parse(text: &[u8]) -> Result<Self> {
        let strange = || Error::Corrupt(format!("the key {KEY} in etcd reads {:?}", String::from_utf8_lossy(text)));
        let text = std::str::from_utf8(text).map_err(|_| strange())?;
        let mut words = text.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("importing"), None, ..) => Ok(Self::Importing),
            (Some("ready"), Some(offset), cluster, None) => {
                let offset = Offset(offset.parse().map_err(|_| strange())?);
                Ok(Self::Ready { offset, cluster: cluster.map(str::to_owned) })
            }
            _ => Err(strange()),
        }
    }

    fn ready(offset: Offset, cluster: Option<&str>) -> String {
        let cluster = cluster.map(|id| format!(" {id}")).unwrap_or_default();
        format!("ready {}{cluster}", offset.0)
    }
}

/// Objects of one cluster mean nothing to another: its tokens, certificates and nodes are others.
fn own(made_by: Option<&str>, cluster: Option<&str>) -> Result<()> {
    match (made_by, cluster) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(Error::Unavailable(format!(
            "etcd holds the objects of another cluster, {theirs}; this is {ours}. give this cluster an etcd of its own, or \
             remove what is below {OBJECTS} and the key {KEY} if nobody needs it any more"
        ))),
        _ => Ok(()),
    }
}

/// The store's offset, once it is made: by this process if it is the founder, otherwise by another.
///
/// # Errors
/// Also when the store is that of a cluster with another id than `cluster`, or when the founder has another one.
pub async fn ensure(members: &Members, founder: Option<&Path>, cluster: Option<&str>) -> Result<Offset> {
    loop {
        match (state(members).await?, founder) {
            (State::Ready { offset, cluster: made_by }, founder) => {
                own(made_by.as_deref(), cluster)?;
                founder.map_or(Ok(()), |dir| no_other(dir, offset))?;
                return Ok(offset);
            }
            (found, Some(dir)) => return make(members, dir, found, cluster).await,
            (_, None) => {
                tracing::info!("the store in etcd is not made yet; waiting for the control plane that makes it");
                changed(members).await;
            }
        }
    }
}

/// The embedded store that became the one in etcd ends at its offset; a kill may have left it. Any other one was put there
/// since: which of both counts is for a person to say.
fn no_other(dir: &Path, offset: Offset) -> Result<()> {
    match embedded::contents(dir)? {
        Some((_, revision)) if revision == offset.0 => embedded::retire(dir),
        Some((_, revision)) => Err(Error::Unavailable(format!(
            "etcd has this cluster's objects, and so has {} (up to revision {revision}), which a restore has put there. to bring \
             that one in, stop kinstall-control-plane on every control plane and remove from etcd what is below {OBJECTS} and the \
             key {KEY}; to stay with what etcd has, move that folder away",
            dir.display()
        ))),
        None => Ok(()),
    }
}

async fn state(members: &Members) -> Result<State> {
    let mut attempts = Attempts::new();
    loop {
        // members that come up together need a while until they have a leader
        match members.ask("the store's origin", |mut client| async move { client.get(KEY, None).await }).await {
            Ok(found) => return found.kvs().first().map_or(Ok(State::Absent), |kv| State::parse(kv.value())),
            Err(Error::Unavailable(why)) if attempts.again().await => tracing::info!("{why}"),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the key may have changed.
async fn changed(members: &Members) {
    let (index, mut client) = members.current();
    // from the first revision on, so that a change since the last look is not missed
    let options = WatchOptions::new().with_start_revision(1);
    let watched = async {
        let mut stream = client.watch(KEY, Some(options)).await?;
        while let Some(message) = stream.message().await? {
            if message.canceled()
                || message.events().iter().any(|event| event.kv().is_some_and(|kv| kv.value() != b"importing"))
            {
                break;
            }
        }
        Ok::<_, etcd_client::Error>(())
    };
    if let Err(error) = watched.await {
        tracing::info!(member = members.name(index), "etcd's watch broke: {error}");
        members.leave(index);
        let mut attempts = Attempts::new();
        attempts.again().await;
    }
}

async fn make(members: &Members, dir: &Path, found: State, cluster: Option<&str>) -> Result<Offset> {
    let embedded = embedded::contents(dir)?;
    if found == State::Importing {
        if embedded.is_none() {
            return Err(Error::Unavailable(format!(
                "the embedded store was being moved into etcd, but it is not in {} any more; restore it from a backup",
                dir.display()
            )));
        }
        tracing::warn!("an import of the embedded store did not finish; beginning it again");
        let all = DeleteOptions::new().with_prefix();
        members
            .ask("clearing", |mut client| {
                let all = all.clone();
                async move { client.delete(OBJECTS, Some(all)).await }
            })
            .await?;
    } else if holds_objects(members).await? {
        return Err(Error::Unavailable(format!(
            "etcd holds objects below {OBJECTS} but no key {KEY}: another cluster uses it; give this cluster an etcd of its own"
        )));
    }
    let offset = Offset(embedded.as_ref().map_or(0, |(_, revision)| *revision));
    if let Some((objects, revision)) = embedded {
        put(members, KEY, b"importing").await?;
        tracing::info!(objects = objects.len(), revision, "moving the embedded store into etcd");
        import(members, &objects).await?;
    }
    put(members, KEY, State::ready(offset, cluster).as_bytes()).await?;
    embedded::retire(dir)?;
    Ok(offset)
}

async fn holds_objects(members: &Members) -> Result<bool> {
    let options = GetOptions::new().with_prefix().with_count_only();
    let found = members
        .ask("objects", |mut client| {
            let options = options.clone();
            async move { client.get(OBJECTS, Some(options)).await }
        })
        .await?;
    Ok(found.count() > 0)
}

async fn import(members: &Members, objects: &[KeyValue]) -> Result<()> {
    for (done, kv) in objects.iter().enumerate() {
        if done > 0 && done % TELL == 0 {
            tracing::info!(done, of = objects.len(), "moving the embedded store into etcd");
        }
        // created, not overwritten: an attempt that had succeeded unknown must not count twice
        let absent = Compare::create_revision(&*kv.key, CompareOp::Equal, 0);
        let write = etcd_client::Txn::new().when([absent]).and_then([TxnOp::put(&*kv.key, &*kv.value, None)]);
        members
            .ask("import", |mut client| {
                let write = write.clone();
                async move { client.txn(write).await }
            })
            .await?;
    }
    Ok(())
}

async fn put(members: &Members, key: &str, value: &[u8]) -> Result<()> {
    let (key, value) = (key.to_owned(), value.to_vec());
    members
        .ask("the store's origin", |mut client| {
            let (key, value) = (key.clone(), value.clone());
            async move { client.put(key, value, None).await }
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn states_are_read_and_strange_ones_refused() {
        let ready = |cluster: Option<&str>| State::Ready { offset: Offset(1234), cluster: cluster.map(str::to_owned) };
        for cluster in [None, Some("0f-12")] {
            assert_eq!(State::parse(State::ready(Offset(1234), cluster).as_bytes()).unwrap(), ready(cluster));
        }
        assert_eq!(State::parse(b"importing").unwrap(), State::Importing);
        assert!(matches!(State::parse(b"ready 1 a b"), Err(Error::Corrupt(_))));
        assert!(matches!(State::parse(b"ready x"), Err(Error::Corrupt(_))));
        assert!(matches!(State::parse(b""), Err(Error::Corrupt(_))));
    }

    #[test]
    fn a_cluster_takes_no_other_ones_store_but_one_that_says_nothing() {
        assert!(own(Some("a"), Some("a")).is_ok());
        assert!(own(None, Some("a")).is_ok());
        assert!(own(Some("a"), None).is_ok());
        assert!(own(Some("a"), Some("b")).is_err_and(|error| error.to_string().contains("another cluster, a;")));
    }
}
