//! A conversation with `kinstall-components converge` on one host; [`hoststate::wire`] describes it.

use std::time::Instant;

use hoststate::wire::{ALIVE_EVERY, Change, HostManifest};
use hoststate::{Event, Facts, HostState, Member, Request};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::staging::{Sending, send_file};
use super::{HostError, Uploads};
use crate::bundle::Bundle;
use crate::ssh::{Process, Transport};

pub struct Session {
    pub(super) host: String,
    pub(super) transport: Box<dyn Transport>,
    pub(super) process: Process,
    greeted: bool,
}

/// How an apply or a down ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub changed: usize,
    pub unchanged: usize,
}

type Stdin = Option<Box<dyn AsyncWrite + Send + Unpin>>;

impl Session {
    pub(super) fn new(host: String, transport: Box<dyn Transport>, process: Process) -> Self {
        Self { host, transport, process, greeted: false }
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

    /// What of `state`, which may be a part of the host's, is not so.
    pub async fn plan(&mut self, state: &HostState) -> Result<Vec<Change>, HostError> {
        self.ask(&Request::Plan { state: state.clone() }, "plan", |event| match event {
            Event::Plan { changes, .. } => Some(changes),
            _ => None,
        })
        .await
    }

    /// As [`Session::plan`] of all that the host is to have; behind it what it has besides of us, which goes.
    pub async fn plan_whole(&mut self, state: &HostState) -> Result<Vec<Change>, HostError> {
        self.ask(&Request::Plan { state: state.clone() }, "plan", |event| match event {
            Event::Plan { changes, removed } => Some(changes.into_iter().chain(removed).collect()),
            _ => None,
        })
        .await
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

    /// Brings the host to `state`; blobs it asks for are sent while it already works. Every event goes to `seen`.
    pub async fn apply(
        &mut self,
        state: &HostState,
        bundle: &Bundle,
        uploads: &Uploads<'_>,
        seen: impl FnMut(&Event),
    ) -> Result<Done, HostError> {
        self.bring(state, false, bundle, uploads, seen).await
    }

    /// As [`Session::apply`], and what only the state before has is kept for [`Session::rollback`] until an ordinary apply.
    pub async fn apply_revocably(
        &mut self,
        state: &HostState,
        bundle: &Bundle,
        uploads: &Uploads<'_>,
        seen: impl FnMut(&Event),
    ) -> Result<Done, HostError> {
        self.bring(state, true, bundle, uploads, seen).await
    }

    async fn bring(
        &mut self,
        state: &HostState,
        keep_previous: bool,
        bundle: &Bundle,
        uploads: &Uploads<'_>,
        mut seen: impl FnMut(&Event),
    ) -> Result<Done, HostError> {
        self.transport.round_trips().add();
        self.send(&Request::Apply { state: state.clone(), keep_previous }, "apply").await?;
        let (asked, wanted) = oneshot::channel();
        let mut asked = Some(asked);
        let mut stdin = self.process.stdin.take();
        let host = &self.host.clone();
        let sending = async {
            let Ok(wanted) = wanted.await else { return };
            // what goes wrong here shows on the other side as a connection that ended
            let mut good = send_blobs(host, wanted, bundle, uploads, &mut stdin).await.is_ok();
            while good {
                tokio::time::sleep(ALIVE_EVERY).await;
                good = alive(&mut stdin).await.is_ok();
            }
        };
        let reading = async {
            loop {
                let event = self.event("apply").await?;
                seen(&event);
                match event {
                    Event::NeedBlobs { sha256 } => {
                        if !sha256.is_empty() {
                            self.transport.round_trips().add();
                        }
                        if let Some(asked) = asked.take() {
                            let _ = asked.send(sha256);
                        }
                    }
                    Event::Done { changed, unchanged } => return Ok(Done { changed, unchanged }),
                    Event::Failed(failure) => return Err(HostError::failure(&self.host, failure)),
                    _ => {}
                }
            }
        };
        let result = {
            tokio::pin!(sending, reading);
            tokio::select! {
                result = &mut reading => result,
                () = &mut sending => reading.await,
            }
        };
        self.process.stdin = stdin;
        result
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
    pub async fn close(self) -> u32 {
        let count = self.round_trips();
        // a request that was given up took the way to say goodbye with it: then the end of the connection says it
        if self.process.stdin.is_some() {
            let _ = self.process.finish().await;
        }
        self.transport.close().await;
        count
    }

    pub(super) async fn send(&mut self, request: &Request, step: &str) -> Result<(), HostError> {
        let mut line =
            serde_json::to_vec(request).map_err(|error| HostError::new(&self.host, step, error.to_string()))?;
        line.push(b'\n');
        let write = async {
            let stdin = self.process.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
            stdin.write_all(&line).await?;
            stdin.flush().await
        };
        write
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

    /// converge went away: says with which status and last words.
    async fn ended(&mut self, step: &str) -> HostError {
        let exit = self.process.exited().await;
        HostError::exit(&self.host, step, "the connection to the host ended before its work did", &exit)
            .hint("check that the host is up and reachable, then run the command again: it goes on where it stopped")
    }
}

fn members(event: Event) -> Option<Vec<Member>> {
    match event {
        Event::Members { members } => Some(members),
        _ => None,
    }
}

/// Says that this side is still there.
async fn alive(stdin: &mut Stdin) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Request::Alive)?;
    line.push(b'\n');
    let stdin = stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
    stdin.write_all(&line).await?;
    stdin.flush().await
}

async fn send_blobs(
    host: &str,
    wanted: Vec<String>,
    bundle: &Bundle,
    uploads: &Uploads<'_>,
    stdin: &mut Stdin,
) -> std::io::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let _permit = loop {
        tokio::select! {
            permit = uploads.acquire() => break permit.map_err(std::io::Error::other)?,
            () = tokio::time::sleep(ALIVE_EVERY) => {}
        }
        alive(stdin).await?;
    };
    for sha256 in wanted {
        let path = bundle.blob(&sha256);
        let size = tokio::fs::metadata(&path).await?.len();
        let sending = Sending { host, what: bundle.name(&sha256), onlooker: uploads.onlooker() };
        let mut line = serde_json::to_vec(&Request::Blob { sha256: sha256.clone(), size })?;
        line.push(b'\n');
        stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?.write_all(&line).await?;
        let started = Instant::now();
        send_file(&path, stdin, sending).await?;
        sending.onlooker.took(host, &format!("send {}", sending.what), started);
    }
    Ok(())
}
