//! Leader election: of several processes that could do a work, the one that holds a Lease does it.
//!
//! In: a Kubernetes client, the name of a Lease in `kube-system`, the name of this host, and the work. Out: the work runs while
//! this process holds the Lease. The rules are those of client-go's `leaderelection`: the holder renews the Lease by
//! compare-and-swap; another takes it when it has not changed for as long as it says it is good for, by the clock of who looks
//! (clocks of different hosts are never compared); the holder ends its work by itself before that. A watch tells of changes, so
//! a Lease that is given back is taken at once. Depends on `client` only for code that kinds share.

mod lease;
mod seen;

use std::pin::{Pin, pin};
use std::time::Duration;

// the code of kinds that others use too comes from there (see client::kinds)
use client as _;
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use seen::Seen;

pub const NAMESPACE: &str = "kube-system";

/// How long things may take. A holder stops `lease - deadline` before anybody else may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A Lease that was not renewed for this long is free. Whole seconds.
    pub lease: Duration,
    /// Between two renewals.
    pub renew: Duration,
    /// Without a renewal for this long, counted from when the last good one was sent, the holder gives up.
    pub deadline: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease: Duration::from_secs(4), renew: Duration::from_secs(1), deadline: Duration::from_secs(3) }
    }
}

/// One who stands for election.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    host: String,
    identity: String,
    terms: Terms,
}

/// The Lease as this process wrote it last, and when that was sent.
struct Held {
    lease: Lease,
    since: Instant,
}

enum Renewal {
    Done,
    /// Not now, but it is still ours.
    Later,
    Lost,
}

enum End {
    Work(anyhow::Result<()>),
    Lost,
    Told,
}

impl Candidate {
    /// `host` must be unique among the hosts and run one candidate at a time: what an earlier process of this host held is taken
    /// over at once.
    pub fn new(client: Client, lease: &str, host: &str) -> Self {
        Self::with_terms(client, lease, host, Terms::default())
    }

    pub fn with_terms(client: Client, lease: &str, host: &str, terms: Terms) -> Self {
        let identity = lease::identity(host);
        Self { leases: Api::namespaced(client, NAMESPACE), name: lease.into(), host: host.into(), identity, terms }
    }

    /// Runs `work` whenever this process leads, until `stop`. The token that the work gets is cancelled when it has to end: soon,
    /// or it is dropped. Work that ends by itself ends this, with its result. The Lease is given back at the end.
    pub async fn lead<W, F>(self, stop: CancellationToken, mut work: W) -> anyhow::Result<()>
    where
        W: FnMut(CancellationToken) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        loop {
            let acquired = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                held = self.acquire() => held,
            };
            let (mut held, ending) = (acquired, CancellationToken::new());
            tracing::info!(lease = self.name, identity = self.identity, "leads");
            let mut work = pin!(work(ending.clone()));
            let end = tokio::select! {
                result = &mut work => End::Work(result),
                () = self.keep(&mut held) => End::Lost,
                () = stop.cancelled() => End::Told,
            };
            ending.cancel();
            match end {
                End::Work(result) => {
                    self.release(held).await;
                    return result;
                }
                End::Told => return self.finish(held, work).await,
                End::Lost => {
                    tracing::warn!(lease = self.name, "lost; ends what it led");
                    let spare = self.terms.lease.saturating_sub(self.terms.deadline) / 2;
                    if let Ok(Err(error)) = timeout(spare, work).await {
                        tracing::warn!(lease = self.name, "what was led ended with an error: {error:#}");
                    }
                }
            }
        }
    }

    /// Keeps the Lease until the work has ended, then gives it back.
    async fn finish<F>(&self, mut held: Held, work: Pin<&mut F>) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        tokio::select! {
            result = work => {
                self.release(held).await;
                result
            }
            () = self.keep(&mut held) => Ok(()),
        }
    }

    /// Returns when this process holds the Lease.
    async fn acquire(&self) -> Held {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut changes = watcher(self.leases.clone(), config).default_backoff().boxed();
        let mut seen = Seen::default();
        loop {
            let wake = match timeout(self.terms.deadline, self.attempt(&mut seen)).await {
                Ok(Ok(Some(held))) => return held,
                Ok(Ok(None)) => self.free_at(&seen),
                Ok(Err(error)) => {
                    tracing::debug!(lease = self.name, "cannot stand for election: {error}");
                    Instant::now() + self.terms.renew
                }
                Err(_) => Instant::now() + self.terms.renew,
            };
            self.until(wake, &mut seen, &mut changes).await;
        }
    }

    /// Waits for a time, or until something is different; what the watch tells in between is noted.
    async fn until<S>(&self, wake: Instant, seen: &mut Seen, changes: &mut S)
    where
        S: futures::Stream<Item = watcher::Result<watcher::Event<Lease>>> + Unpin,
    {
        let mut wake = wake;
        loop {
            let change = tokio::select! {
                () = tokio::time::sleep_until(wake) => return,
                Some(change) = changes.next() => change,
            };
            match change {
                Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => {
                    if !seen.note(lease, Instant::now()) {
                        continue;
                    }
                    if seen.may_be_taken(&self.host, self.terms.lease, Instant::now()) {
                        return;
                    }
                    wake = self.free_at(seen);
                }
                Ok(watcher::Event::Delete(_)) => {
                    seen.gone();
                    return;
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => tracing::debug!(lease = self.name, "watching fails: {error}"),
            }
        }
    }

    /// When to look again if nothing is heard.
    fn free_at(&self, seen: &Seen) -> Instant {
        seen.free_at(self.terms.lease).unwrap_or_else(Instant::now)
    }

    /// Takes the Lease if it is free; `None` if somebody else has it.
    async fn attempt(&self, seen: &mut Seen) -> kube::Result<Option<Held>> {
        if seen.lease().is_none() {
            match self.leases.get_opt(&self.name).await? {
                Some(lease) => drop(seen.note(lease, Instant::now())),
                None => return self.create(seen).await,
            }
        }
        let Some(there) = seen.lease().filter(|_| seen.may_be_taken(&self.host, self.terms.lease, Instant::now()))
        else {
            return Ok(None);
        };
        let (lease, since) = (lease::taken(there, &self.identity, self.terms.lease), Instant::now());
        match self.leases.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(lease) => Ok(Some(Held { lease, since })),
            Err(error) => {
                // whatever it was: what is there now has to be looked at again
                seen.gone();
                match refusal(&error) {
                    Some(404 | 409) => self.look(seen).await,
                    _ => Err(error),
                }
            }
        }
    }

    async fn create(&self, seen: &mut Seen) -> kube::Result<Option<Held>> {
        let (lease, since) = (lease::new(&self.name, &self.identity, self.terms.lease), Instant::now());
        match self.leases.create(&PostParams::default(), &lease).await {
            Ok(lease) => Ok(Some(Held { lease, since })),
            Err(error) if refusal(&error) == Some(409) => self.look(seen).await,
            Err(error) => Err(error),
        }
    }

    /// Notes what is there; somebody was faster.
    async fn look(&self, seen: &mut Seen) -> kube::Result<Option<Held>> {
        if let Some(lease) = self.leases.get_opt(&self.name).await? {
            seen.note(lease, Instant::now());
        }
        Ok(None)
    }

    /// Renews until the Lease is lost.
    async fn keep(&self, held: &mut Held) {
        let mut next = held.since + self.terms.renew;
        loop {
            let deadline = held.since + self.terms.deadline;
            tokio::time::sleep_until(next.min(deadline)).await;
            let begun = Instant::now();
            if begun >= deadline {
                return;
            }
            // an answer that is lost must not cost the Lease: half of the time is left for another attempt
            let patience = (begun + self.terms.deadline / 2).min(deadline);
            next = begun + self.terms.renew;
            match timeout_at(patience, self.renew(held)).await {
                Ok(Renewal::Done) => {}
                Ok(Renewal::Lost) => return,
                Ok(Renewal::Later) | Err(_) => next = begun.max(Instant::now()) + self.terms.renew / 4,
            }
        }
    }

    async fn renew(&self, held: &mut Held) -> Renewal {
        let (lease, since) = (lease::renewed(&held.lease), Instant::now());
        match self.leases.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(lease) => {
                *held = Held { lease, since };
                Renewal::Done
            }
            Err(error) if refusal(&error) == Some(409) => match self.leases.get(&self.name).await {
                // somebody annotated it, or an earlier renewal came through after all
                Ok(lease) if lease::holder(&lease) == self.identity => {
                    held.lease = lease;
                    Renewal::Later
                }
                Ok(_) => Renewal::Lost,
                Err(_) => Renewal::Later,
            },
            Err(error) if refusal(&error) == Some(404) => Renewal::Lost,
            Err(error) => {
                tracing::debug!(lease = self.name, "cannot renew: {error}");
                Renewal::Later
            }
        }
    }

    /// Gives the Lease back, for as long as it is ours; if that fails, it runs out.
    async fn release(&self, held: Held) {
        match timeout_at(held.since + self.terms.lease, self.give_back(held.lease)).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "given back"),
            Ok(Err(error)) => tracing::debug!(lease = self.name, "cannot give back: {error}"),
            Err(_) => tracing::debug!(lease = self.name, "cannot give back: no answer"),
        }
    }

    async fn give_back(&self, mut lease: Lease) -> kube::Result<()> {
        while lease::holder(&lease) == self.identity {
            match self.leases.replace(&self.name, &PostParams::default(), &lease::released(&lease)).await {
                // a renewal came through that nobody waited for any more
                Err(error) if refusal(&error) == Some(409) => lease = self.leases.get(&self.name).await?,
                replaced => return replaced.map(drop),
            }
        }
        Ok(())
    }
}

/// The status of an answer that is a refusal.
fn refusal(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
