//! Every host to its planned state, all at once; but control planes that serve are restarted one after the other.

use futures::future::join_all;
use tokio::sync::Semaphore;

use super::Run;
use super::fleet::{self, Fleet};
use super::progress::{Progress, Work};
use crate::bundle::Bundle;
use crate::host::{Bytes, Done, HostError};

/// How much of a host's state the work holds.
#[derive(Clone, Copy)]
pub enum Extent<'a> {
    /// All of it; what the host lacks comes from this bundle.
    Whole(&'a Bundle),
    /// A part, of which the host has everything or gets it with the state; the rest stays as it is.
    Part,
}

/// What came of the hosts.
#[derive(Default)]
pub struct Brought {
    pub changed: usize,
    /// For each host, in no order.
    pub round_trips: Vec<(String, u32)>,
    pub good: bool,
    /// What has gone of the bundle.
    pub bytes: Bytes,
}

pub async fn bring_all(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    work: Vec<Work<'_>>,
    extent: Extent<'_>,
    progress: &Progress,
) -> Brought {
    let turns = &Semaphore::new(1);
    let peers = fleet.uploads.peers();
    if let Extent::Whole(_) = extent {
        peers.expect(work.iter().map(|work| work.member.host.name.as_str()));
    }
    let bringing = work.into_iter().map(|Work { mut member, state, restarts }| async move {
        let host = member.host;
        let line = run.printer.host(&host.name);
        let turn = if restarts {
            line.doing("waiting for its turn");
            turns.acquire().await.ok()
        } else {
            None
        };
        line.doing("waiting to begin");
        let work = fleet.bounded(host, async {
            line.doing("comparing");
            match extent {
                Extent::Whole(bundle) => {
                    // hosts that wait, and those that are done, need no room for it
                    Box::pin(member.session.apply(&state, bundle, &fleet.uploads, |event| line.seen(event))).await
                }
                Extent::Part => member.session.amend(&state, |event| line.seen(event)).await,
            }
        });
        // who fails goes on to its end: what it says there is the reason
        let result = tokio::select! {
            result = work => result,
            () = progress.hopeless() => {
                Err(HostError::new(&host.name, "wait for the API server", "the control plane did not come up"))
            }
        };
        peers.satisfied(&host.name);
        progress.ended(host, restarts, result.is_ok());
        match (&result, extent) {
            (Ok(Done { changed: 0, .. }), _) => line.done("nothing changed"),
            (Ok(Done { changed, unchanged }), Extent::Whole(_)) => {
                line.done(&format!("{changed} changed, {unchanged} unchanged"));
            }
            (Ok(Done { changed, .. }), Extent::Part) => line.done(&format!("{changed} changed")),
            (Err(error), _) => {
                line.failed(&error.message);
                fleet::tell(run.printer, error);
            }
        }
        drop(line);
        drop(turn);
        if result.is_ok() {
            // others may still get something from this host
            peers.nobody_wants().await;
        }
        let round_trips = Box::pin(member.session.close()).await;
        (host.name.clone(), round_trips, result)
    });
    let mut brought = Brought { changed: 0, round_trips: Vec::new(), good: true, bytes: Bytes::default() };
    for (host, round_trips, result) in join_all(bringing).await {
        brought.round_trips.push((host, round_trips));
        match result {
            Ok(done) => brought.changed += done.changed,
            Err(_) => brought.good = false,
        }
    }
    brought.bytes = peers.bytes();
    brought
}
