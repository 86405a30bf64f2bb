//! Carries every change of etcd into the mirror, in order, for as long as the store is open.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, WatchOptions, WatchResponse};
use tokio::sync::watch;

use super::connection::Members;
use super::load;
use super::translate::{Failure, Offset, failure, is_object, key_of, key_value};
use crate::mirror::{Change, Mirror};
use crate::{Error, Event, EventKind, KeyValue, Revision};

/// Before another member is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a member may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(3);

enum Ended {
    /// The stream broke or its member has no leader: go on elsewhere.
    Broken(String),
    /// What was missed is forgotten: read everything again.
    Compacted,
}

pub async fn run(members: Arc<Members>, mirror: Arc<Mirror>, offset: Offset, newest: watch::Sender<Revision>) {
    let follower = Follower { mirror, offset, newest };
    loop {
        let (index, client) = members.current();
        match follower.follow(client).await {
            Ended::Broken(why) => {
                members.leave(index);
                tracing::warn!(
                    member = members.name(index),
                    "etcd's watch broke, going on with the next member: {why}"
                );
                tokio::time::sleep(PAUSE).await;
            }
            Ended::Compacted => follower.begin_anew(&members).await,
        }
    }
}

struct Follower {
    mirror: Arc<Mirror>,
    offset: Offset,
    newest: watch::Sender<Revision>,
}

impl Follower {
    async fn follow(&self, client: Client) -> Ended {
        let from = self.offset.theirs(self.mirror.revision()) + 1;
        let options = WatchOptions::new().with_all_keys().with_start_revision(from);
        let mut client = client.watch_client().max_decoding_message_size(usize::MAX);
        let mut stream = match tokio::time::timeout(BEGIN, client.watch(Vec::new(), Some(options))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return broken(error),
            Err(_) => return Ended::Broken("it does not begin".into()),
        };
        loop {
            match stream.message().await {
                Ok(Some(response)) if response.compact_revision() > 0 => return Ended::Compacted,
                Ok(Some(response)) if response.canceled() => return Ended::Broken(response.cancel_reason().to_owned()),
                Ok(Some(response)) => self.take(&response),
                Ok(None) => return Ended::Broken("it ended".into()),
                Err(error) => return broken(error),
            }
        }
    }

    /// One response may hold several revisions, and holds each of them whole.
    fn take(&self, response: &WatchResponse) {
        let events = response.events();
        let Some(newest) =
            events.iter().filter_map(etcd_client::Event::kv).map(etcd_client::KeyValue::mod_revision).max()
        else {
            return;
        };
        let newest = self.offset.ours(newest);
        if newest <= self.mirror.revision() {
            return;
        }
        let mut before: std::collections::HashMap<Arc<str>, Option<KeyValue>> = std::collections::HashMap::new();
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            let Some(kv) = event.kv().filter(|kv| is_object(kv.key())) else { continue };
            let Some(key) = key_of(kv) else { continue };
            let previous = before.remove(&key).unwrap_or_else(|| self.mirror.get(&key));
            let now = match event.event_type() {
                EventType::Put => key_value(kv, self.offset),
                EventType::Delete => None,
            };
            changes.extend(change(self.offset.ours(kv.mod_revision()), previous, now.clone()));
            before.insert(key, now);
        }
        let told: Vec<_> = changes.iter().map(|change| change.event.clone()).collect();
        self.mirror.publish(changes, newest);
        self.newest.send_replace(newest);
        self.mirror.wake(&told);
    }

    async fn begin_anew(&self, members: &Members) {
        tracing::warn!("what happened in etcd meanwhile is forgotten there; reading everything again");
        match load::everything(members, self.offset).await {
            Ok(memory) => {
                let revision = memory.revision();
                self.mirror.replace(memory);
                self.newest.send_replace(revision);
            }
            Err(error) => {
                tracing::error!("cannot read etcd: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// `None` for the deletion of what was not there.
fn change(revision: Revision, previous: Option<KeyValue>, now: Option<KeyValue>) -> Option<Change> {
    let value = previous.as_ref().map(|kv| kv.value.clone());
    let (kind, kv) = match now {
        Some(kv) => (EventKind::Put, kv),
        None => (EventKind::Delete, KeyValue { mod_revision: revision, ..previous.clone()? }),
    };
    Some(Change { event: Arc::new(Event { kind, kv, previous: value }), before: previous })
}

fn broken(error: etcd_client::Error) -> Ended {
    match failure(error) {
        Failure::Final(Error::Compacted { .. }) => Ended::Compacted,
        Failure::Final(error) => Ended::Broken(error.to_string()),
        Failure::Passing(why) => Ended::Broken(why),
    }
}
