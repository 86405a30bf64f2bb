//! A conversation with `kinstall-components converge` on one host; [`hoststate::wire`] describes it.

use std::net::IpAddr;

use hoststate::wire::{Change, HostManifest};
use hoststate::{Event, Facts, HostState, Member, Request, Resource};

use super::peers::{Sending, Sharing};
use super::speaker::Speaker;
use super::{HostError, Uploads};
use crate::ssh::{Process, Transport};

pub struct Session {
    pub(super) host: String,
    pub(super) transport: Box<dyn Transport>,
    pub(super) process: Process,
    pub(super) speaker: Speaker,
    greeted: bool,
    pub(super) peers: Peering,
    /// What the last plan of a whole state said, if that state may be applied by its name.
    pub(super) planned: Option<Planned>,
}

/// How a host stands to the others of a run.
#[derive(Default)]
pub(super) struct Peering {
    /// Its `converge` knows of others.
    pub able: bool,
    /// Its executable is being sent from here, or was a moment ago.
    pub arriving: Option<Sending>,
    pub sharing: Option<Sharing>,
}

pub(super) struct Planned {
    pub digest: String,
    /// Blobs that the host will ask for.
    pub needs: Vec<String>,
}

/// How an apply or a down ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub changed: usize,
    pub unchanged: usize,
}

impl Session {
    pub(super) fn new(host: String, transport: Box<dyn Transport>, mut process: Process, peers: Peering) -> Self {
        let speaker = Speaker::start(process.stdin.take());
        Self { host, transport, process, speaker, greeted: false, peers, planned: None }
    }

    pub fn round_trips(&self) -> u32 {
        self.transport.round_trips().count()
    }

    pub async fn facts(&mut self) -> Result<Facts, HostError> {
        // asked together with the start of converge: no round trip of its own
        self.answer(&Request::Facts, "facts", |event| match event {
            Event::Facts { facts } => Some(*facts),
            _ => None,
        })
        .await
    }

    /// As [`Session::facts`]; and from now on the host may pass on, at this address, what it has. It has this `executable`.
    pub async fn facts_as_peer(
        &mut self,
        address: IpAddr,
        executable: &str,
        uploads: &Uploads<'_>,
    ) -> Result<Facts, HostError> {
        let peers = uploads.peers();
        if !self.peers.able || !peers.on() {
            return self.facts().await;
        }
        self.send(&Request::Share { address, token: peers.token().to_owned() }, "share").await?;
        let mut port = None;
        let facts = self.answer(&Request::Facts, "facts", |event| match event {
            Event::Sharing { port: its } => {
                port = its;
                None
            }
            Event::Facts { facts } => Some(*facts),
            _ => None,
        });
        let facts = facts.await?;
        match port {
            Some(port) => {
                self.peers.sharing = Some(peers.joins(&self.host, (address, port).into()));
                peers.offers(&self.host, executable, true);
            }
            None => peers.cannot(),
        }
        self.peers.arriving = None;
        Ok(facts)
    }

    /// What of `state`, which may be a part of the host's, is not so.
    pub async fn plan(&mut self, state: &HostState) -> Result<Vec<Change>, HostError> {
        self.planned = None;
        self.ask(&Request::Plan { state: state.clone() }, "plan", |event| match event {
            Event::Plan { changes, .. } => Some(changes),
            _ => None,
        })
        .await
    }

    /// As [`Session::plan`] of all that the host is to have; behind it what it has besides of us, which goes.
    pub async fn plan_whole(&mut self, state: &HostState, uploads: &Uploads<'_>) -> Result<Vec<Change>, HostError> {
        self.planned = None;
        let (changes, needs) = self
            .ask(&Request::Plan { state: state.clone() }, "plan", |event| match event {
                Event::Plan { changes, removed, needs } => {
                    Some((changes.into_iter().chain(removed).collect::<Vec<_>>(), needs))
                }
                _ => None,
            })
            .await?;
        // what it has in its place it can pass on
        let files = state.resources.iter().filter(|resource| matches!(resource, Resource::File { .. }));
        for sha256 in files.filter_map(Resource::blobs).filter(|sha256| !needs.iter().any(|needed| needed == sha256)) {
            uploads.peers().offers(&self.host, sha256, true);
        }
        if self.peers.able {
            self.planned = Some(Planned { digest: digest(state), needs });
        }
        Ok(changes)
    }

    /// What is not as it was made when a state was applied for good the last time; None: none ever was.
    pub async fn drift(&mut self) -> Result<Option<Vec<Change>>, HostError> {
        self.ask(&Request::Drift, "drift", |event| match event {
            Event::Drift { changes } => Some(changes),
            _ => None,
        })
        .await
    }

    pub async fn manifest(&mut self) -> Result<Option<HostManifest>, HostError> {
        self.ask(&Request::Manifest, "manifest", |event| match event {
            Event::Manifest { manifest } => Some(manifest),
            _ => None,
        })
        .await
    }

    /// Who is in etcd, as this host's member knows.
    pub async fn members(&mut self) -> Result<Vec<Member>, HostError> {
        self.ask(&Request::Members, "ask etcd", members).await
    }

    /// Takes a member out of etcd. Gives those that are left.
    pub async fn remove_member(&mut self, id: u64) -> Result<Vec<Member>, HostError> {
        self.ask(&Request::RemoveMember { id }, "change etcd", members).await
    }

    /// A request and its answer: one round trip. `pick` knows the event that answers it; others are passed over.
    pub(super) async fn ask<T>(
        &mut self,
        request: &Request,
        step: &str,
        pick: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, HostError> {
        self.transport.round_trips().add();
        self.answer(request, step, pick).await
    }

    async fn answer<T>(
        &mut self,
        request: &Request,
        step: &str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, HostError> {
        self.send(request, step).await?;
        loop {
            match self.event(step).await? {
                Event::Failed(failure) => return Err(HostError::failure(&self.host, failure)),
                event => {
                    if let Some(answer) = pick(event) {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// Brings a part of what the host has to `state` and leaves the rest.
    pub async fn amend(&mut self, state: &HostState, seen: impl FnMut(&Event)) -> Result<Done, HostError> {
        self.work(&Request::Amend { state: state.clone() }, "amend", seen).await
    }

    pub async fn down(&mut self, keep_data: bool, seen: impl FnMut(&Event)) -> Result<Done, HostError> {
        self.work(&Request::Down { keep_data }, "down", seen).await
    }

    /// Back to the last state that was applied for good; needs nothing but what the host has.
    pub async fn rollback(&mut self, seen: impl FnMut(&Event)) -> Result<Done, HostError> {
        self.work(&Request::Rollback, "roll back", seen).await
    }

    /// Removes images of versions that are gone, but for those that `keep` names.
    pub async fn tidy(&mut self, keep: &[String]) -> Result<Done, HostError> {
        self.work(&Request::Tidy { keep: keep.to_vec() }, "remove old images", |_| {}).await
    }

    async fn work(&mut self, request: &Request, step: &str, mut seen: impl FnMut(&Event)) -> Result<Done, HostError> {
        self.transport.round_trips().add();
        self.send(request, step).await?;
        loop {
            let event = self.event(step).await?;
            seen(&event);
            match event {
                Event::Done { changed, unchanged } => return Ok(Done { changed, unchanged }),
                Event::Failed(failure) => return Err(HostError::failure(&self.host, failure)),
                _ => {}
            }
        }
    }

    /// Ends the conversation; what was staged is removed by the host.
    pub async fn close(mut self) -> u32 {
        let count = self.round_trips();
        // a request that was given up took the way to say goodbye with it: then the end of the connection says it
        self.process.stdin = self.speaker.take().await;
        if self.process.stdin.is_some() {
            let _ = self.process.finish().await;
        }
        self.transport.close().await;
        count
    }

    pub(super) async fn send(&mut self, request: &Request, step: &str) -> Result<(), HostError> {
        self.speaker
            .say(request)
            .await
            .map_err(|error| HostError::new(&self.host, step, format!("the connection to converge broke: {error}")))
    }

    pub(super) async fn event(&mut self, step: &str) -> Result<Event, HostError> {
        loop {
            match self.process.line().await {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(Event::Hello { .. }) => self.greeted = true,
                    Ok(event) => return Ok(event),
                    Err(error) if self.greeted => {
                        let message = format!("the host sent what this kinstall does not understand: {error}");
                        return Err(HostError::new(&self.host, step, message)
                            .hint("use the kinstall that the bundle was made with"));
                    }
                    Err(_) => {}
                },
                Ok(None) => return Err(self.ended(step).await),
                Err(error) => return Err(HostError::new(&self.host, step, format!("the connection broke: {error}"))),
            }
        }
    }

    /// Waits until the host is not there any more. Nothing is asked of it meanwhile.
    pub async fn lost(&mut self) {
        while let Ok(Some(_)) = self.process.line().await {}
    }

    /// converge went away: says with which status and last words.
    async fn ended(&mut self, step: &str) -> HostError {
        self.process.stdin = self.speaker.take().await;
        let exit = self.process.exited().await;
        HostError::exit(&self.host, step, "the connection to the host ended before its work did", &exit)
            .hint("check that the host is up and reachable, then run the command again: it goes on where it stopped")
    }
}

/// What changes when the state does.
pub(super) fn digest(state: &HostState) -> String {
    // a state always has a form in JSON
    serde_json::to_vec(state).map(|bytes| hoststate::sha256_hex(&bytes)).unwrap_or_default()
}

fn members(event: Event) -> Option<Vec<Member>> {
    match event {
        Event::Members { members } => Some(members),
        _ => None,
    }
}
