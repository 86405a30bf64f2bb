//! Watches of kinds that are only counted: begun when a quota first names one, metadata only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::quota::Kind;
use futures::StreamExt;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};
use crate::resources::Served;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

pub struct Monitors {
    followed: Mutex<BTreeSet<Kind>>,
    begin: mpsc::UnboundedSender<Served>,
}

impl Monitors {
    pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, queue: Arc<WorkQueue>) -> Arc<Self> {
        let (begin, wanted) = mpsc::unbounded_channel();
        tasks.spawn(run(ctx.clone(), queue, wanted));
        Arc::new(Self { followed: Mutex::default(), begin })
    }

    /// Makes sure that deletions of this kind are seen. Kinds with an informer of their own are seen already.
    pub fn follow(&self, kind: &Kind, served: &Served) {
        if !kind.is_measured() && served.can("watch") && self.followed.lock().insert(kind.clone()) {
            // fails only when the controllers stop
            let _ = self.begin.send(served.clone());
        }
    }
}

async fn run(ctx: Ctx, queue: Arc<WorkQueue>, mut wanted: mpsc::UnboundedReceiver<Served>) {
    let mut watches = JoinSet::new();
    while let Some(served) = wanted.recv().await {
        watches.spawn(watch(ctx.client.clone(), ctx.clone(), queue.clone(), served));
    }
    watches.shutdown().await;
}

async fn watch(client: Client, ctx: Ctx, queue: Arc<WorkQueue>, served: Served) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &served.resource);
    let mut stream = watcher::watcher(api, watcher::Config::default()).boxed();
    let recount = |ns: &str| {
        let quotas = ctx.informers.quotas.in_namespace(ns);
        quotas.iter().for_each(|it| queue.add(Key::of(it.as_ref())));
    };
    let mut pause = FIRST_PAUSE;
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Delete(object)) => {
                pause = FIRST_PAUSE;
                recount(meta::namespace(&object.metadata));
            }
            // deletions may have been missed before a new list
            Ok(watcher::Event::InitDone) => {
                pause = FIRST_PAUSE;
                ctx.informers.quotas.list().iter().for_each(|it| queue.add(Key::of(it.as_ref())));
            }
            Ok(_) => pause = FIRST_PAUSE,
            Err(error) => {
                tracing::debug!(resource = served.id(), %error, "watch interrupted; it is resumed");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}
