//! Data of a backup on its way from a host and to it, and the copy of the operator's files.

use std::path::PathBuf;

use hoststate::backup::{Backups, Blob, Placement, Taking};
use hoststate::{Event, Request};
use tokio::io::AsyncReadExt as _;

use super::session::{Done, Session};
use super::staging::{Upload, send_file};
use super::{HostError, Uploads};

/// A file that is sent to a host.
#[derive(Clone, Debug)]
pub struct Payload {
    pub blob: Blob,
    pub path: PathBuf,
}

impl Session {
    /// Gives every piece of data to `take`. Returns how many bytes there were and their SHA-256 as the host knows them; an error
    /// says that what came before it is of no use.
    pub async fn take(
        &mut self,
        what: Taking,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(u64, String), HostError> {
        const STEP: &str = "backup";
        self.transport.round_trips().add();
        self.send(&Request::Take { what }, STEP).await?;
        let mut bytes = Vec::new();
        loop {
            match self.event(STEP).await? {
                Event::Chunk { size } => {
                    bytes.resize(usize::try_from(size).unwrap_or(usize::MAX).min(64 << 20), 0);
                    let read = self.process.stdout.read_exact(&mut bytes).await.and_then(|_| take(&bytes));
                    read.map_err(|error| {
                        HostError::new(&self.host, STEP, format!("what came cannot be kept: {error}"))
                    })?;
                }
                Event::Taken { size, sha256 } => return Ok((size, sha256)),
                Event::Failed(failure) => return Err(HostError::failure(&self.host, failure)),
                _ => {}
            }
        }
    }

    /// Puts a backup's data on the host; see [`hoststate::Request::Place`]. `payloads`: what the placement names.
    pub async fn place(
        &mut self,
        placement: &Placement,
        payloads: &[Payload],
        uploads: &Uploads<'_>,
        mut seen: impl FnMut(&Event),
    ) -> Result<Done, HostError> {
        const STEP: &str = "restore";
        self.transport.round_trips().add();
        self.send(&Request::Place { placement: placement.clone() }, STEP).await?;
        loop {
            let event = self.event(STEP).await?;
            seen(&event);
            match event {
                Event::NeedBlobs { sha256 } => {
                    for payload in payloads.iter().filter(|payload| sha256.contains(&payload.blob.sha256)) {
                        let Ok(_permit) = uploads.acquire().await else { break };
                        self.send_payload(payload, uploads).await.map_err(|error| {
                            HostError::new(
                                &self.host,
                                STEP,
                                format!("{} cannot be sent: {error}", payload.path.display()),
                            )
                        })?;
                    }
                }
                Event::Done { changed, unchanged } => return Ok(Done { changed, unchanged }),
                Event::Failed(failure) => return Err(HostError::failure(&self.host, failure)),
                _ => {}
            }
        }
    }

    /// Keeps the operator's files on the host.
    pub async fn keep(&mut self, text: String) -> Result<(), HostError> {
        self.ask(&Request::Keep { text }, "keep a copy", |event| matches!(event, Event::Done { .. }).then_some(()))
            .await
    }

    /// The operator's files that the host keeps.
    pub async fn kept(&mut self) -> Result<Option<String>, HostError> {
        self.ask(&Request::Kept, "read the copy", |event| match event {
            Event::Kept { text } => Some(text),
            _ => None,
        })
        .await
    }

    /// What the host's timer has made; `None` where none is set up.
    pub async fn backups(&mut self) -> Result<Option<Backups>, HostError> {
        self.ask(&Request::Backups, "list backups", |event| match event {
            Event::Backups { backups } => Some(backups),
            _ => None,
        })
        .await
    }

    async fn send_payload(&mut self, Payload { blob, path }: &Payload, uploads: &Uploads<'_>) -> std::io::Result<()> {
        self.transport.round_trips().add();
        let request = Request::Blob { sha256: blob.sha256.clone(), size: blob.size };
        let mut message = self.speaker.begin(&request).await?;
        let upload = Upload { host: &self.host, what: "a backup's data", onlooker: uploads.onlooker() };
        send_file(path, message.stdin()?, upload, |_| ()).await?;
        message.end().await
    }
}
