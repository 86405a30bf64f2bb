//! A whole state for a host, and the blobs that it lacks: from here, or from hosts that have them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use hoststate::{Event, HostState, Request};
use tokio::sync::mpsc;

use super::peers::{Fetching, Need, Origin};
use super::session::{Done, Session, digest};
use super::speaker::Speaker;
use super::staging::{Upload, send_file};
use super::{HostError, Uploads};
use crate::bundle::Bundle;

/// Smaller ones are sent sooner than somebody else is asked for them.
const SMALL: u64 = 64 * 1024;
/// A blob that did not come so often is sent from here; and all that goes to a host where so much did not.
const TRIES: usize = 2;

impl Session {
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
        let (words, heard) = mpsc::unbounded_channel();
        let planned = self.planned.take().filter(|planned| planned.digest == digest(state));
        let mut known: HashSet<String> = HashSet::new();
        let request = match planned {
            Some(planned) => {
                known.extend(planned.needs.iter().cloned());
                let _ = words.send(Word::Needs(planned.needs));
                Request::ApplyPlanned { keep_previous }
            }
            None => Request::Apply { state: state.clone(), keep_previous },
        };
        self.send(&request, "apply").await?;
        let speaker = self.speaker.clone();
        let host = &self.host.clone();
        let shares = self.peers.sharing.is_some();
        let sending = async {
            let sender = Sender {
                host,
                shares,
                bundle,
                uploads,
                speaker: &speaker,
                asked: HashSet::new(),
                queue: VecDeque::new(),
                fetching: HashMap::new(),
                in_vain: 0,
            };
            // what goes wrong here shows on the other side as a connection that ended
            let _ = sender.run(heard).await;
        };
        let reading = async {
            loop {
                let event = self.event("apply").await?;
                seen(&event);
                match event {
                    Event::NeedBlobs { sha256 } => {
                        if sha256.iter().any(|sha256| !known.contains(sha256)) {
                            self.transport.round_trips().add();
                        }
                        let _ = words.send(Word::Asks(sha256));
                    }
                    Event::Fetched { sha256, why } => drop(words.send(Word::Fetched { sha256, why })),
                    Event::Done { changed, unchanged } => return Ok(Done { changed, unchanged }),
                    Event::Failed(failure) => return Err(HostError::failure(&self.host, failure)),
                    _ => {}
                }
            }
        };
        to_its_end(reading, sending, speaker.between()).await
    }
}

/// What `reading` comes to, while the other side is sent to. What is half said then is said to its end: something else may be asked of
/// the host afterwards.
async fn to_its_end<T>(
    reading: impl Future<Output = T>,
    sending: impl Future<Output = ()>,
    between: impl Future<Output = ()>,
) -> T {
    tokio::pin!(sending, reading);
    tokio::select! {
        result = &mut reading => {
            tokio::select! {
                () = between => {}
                () = &mut sending => {}
            }
            result
        }
        () = &mut sending => reading.await,
    }
}

/// What the host, or its plan, said of blobs.
enum Word {
    /// It will ask for these.
    Needs(Vec<String>),
    /// It asks for these, and for no others.
    Asks(Vec<String>),
    /// It has one from another host, or why not.
    Fetched { sha256: String, why: Option<String> },
}

/// One host's blobs on their way.
struct Sender<'a> {
    host: &'a str,
    /// Others may get from it what it gets.
    shares: bool,
    bundle: &'a Bundle,
    uploads: &'a Uploads<'a>,
    speaker: &'a Speaker,
    asked: HashSet<String>,
    /// Not on their way yet, and how often that was in vain.
    queue: VecDeque<(String, usize)>,
    /// From other hosts.
    fetching: HashMap<String, Underway>,
    in_vain: usize,
}

struct Underway {
    fetching: Fetching,
    size: u64,
    tries: usize,
    since: Instant,
}

impl Sender<'_> {
    /// Until nothing more can be asked.
    async fn run(mut self, mut words: mpsc::UnboundedReceiver<Word>) -> std::io::Result<()> {
        let mut all_asked = false;
        loop {
            while let Ok(word) = words.try_recv() {
                all_asked |= self.hear(word);
            }
            if let Some((sha256, tries)) = self.queue.pop_front() {
                self.bring(sha256, tries).await?;
                continue;
            }
            if all_asked && self.fetching.is_empty() {
                self.uploads.peers().satisfied(self.host);
            }
            match words.recv().await {
                Some(word) => all_asked |= self.hear(word),
                None => return Ok(()),
            }
        }
    }

    /// Whether the host has said all that it wants.
    fn hear(&mut self, word: Word) -> bool {
        match word {
            Word::Needs(blobs) => {
                self.want(blobs);
                false
            }
            Word::Asks(blobs) => {
                self.want(blobs);
                true
            }
            Word::Fetched { sha256, why } => {
                self.fetched(sha256, why);
                false
            }
        }
    }

    fn want(&mut self, blobs: Vec<String>) {
        for sha256 in blobs {
            if self.asked.insert(sha256.clone()) {
                let size = self.bundle.size(&sha256);
                line_up(&mut self.queue, sha256, size);
            }
        }
    }

    fn fetched(&mut self, sha256: String, why: Option<String>) {
        let Some(Underway { fetching, size, tries, since }) = self.fetching.remove(&sha256) else { return };
        let onlooker = self.uploads.onlooker();
        let what = format!("fetch {} from {}", self.bundle.name(&sha256), fetching.from);
        match why {
            None => {
                fetching.done(size);
                self.uploads.peers().offers(self.host, &sha256, true);
                onlooker.took(self.host, &what, since);
            }
            Some(why) => {
                onlooker.note(self.host, &format!("cannot {what}: {why}"));
                fetching.failed();
                self.in_vain += 1;
                self.uploads.peers().lacks(self.host, &sha256);
                // what waits for it waits already
                self.queue.push_front((sha256, tries + 1));
            }
        }
    }

    /// One blob, from wherever it is best; returns when it is on its way.
    async fn bring(&mut self, sha256: String, tries: usize) -> std::io::Result<()> {
        let size = tokio::fs::metadata(self.bundle.blob(&sha256)).await?.len();
        let peers = self.uploads.peers();
        let origin = if size < SMALL || tries >= TRIES || self.in_vain >= TRIES || !self.shares {
            peers.directly()
        } else {
            let need = if tries == 0 { Need::Blob } else { Need::Again };
            peers.origin(self.host, &sha256, need).await
        };
        match origin {
            Origin::Operator(_sending) => self.send(&sha256, size).await,
            Origin::Peer(fetching) => {
                let from = fetching.address;
                self.speaker.say(&Request::Fetch { sha256: sha256.clone(), size, from }).await?;
                peers.offers(self.host, &sha256, false);
                self.fetching.insert(sha256, Underway { fetching, size, tries, since: Instant::now() });
                Ok(())
            }
        }
    }

    async fn send(&mut self, sha256: &str, size: u64) -> std::io::Result<()> {
        let peers = self.uploads.peers();
        let _permit = self.uploads.acquire().await.map_err(std::io::Error::other)?;
        let upload = Upload { host: self.host, what: self.bundle.name(sha256), onlooker: self.uploads.onlooker() };
        let mut message = self.speaker.begin(&Request::Blob { sha256: sha256.to_owned(), size }).await?;
        if size >= SMALL {
            peers.offers(self.host, sha256, false);
        }
        let started = Instant::now();
        send_file(&self.bundle.blob(sha256), message.stdin()?, upload, |bytes| peers.sent(bytes)).await?;
        message.end().await?;
        if size >= SMALL {
            peers.offers(self.host, sha256, true);
        }
        upload.onlooker.took(self.host, &format!("send {}", upload.what), started);
        Ok(())
    }
}

/// What is small does not stay behind what others may have to be waited for.
fn line_up(queue: &mut VecDeque<(String, usize)>, sha256: String, size: Option<u64>) {
    match size.is_some_and(|size| size < SMALL) {
        true => queue.push_front((sha256, 0)),
        false => queue.push_back((sha256, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_half_said_is_said_to_its_end() {
        let late = || tokio::time::sleep(std::time::Duration::from_millis(20));
        // the connection broke: who reads hears of it later
        assert_eq!(
            to_its_end(
                async {
                    late().await;
                    7
                },
                async {},
                std::future::pending()
            )
            .await,
            7
        );
        let said = std::cell::Cell::new(false);
        let sending = async {
            late().await;
            said.set(true);
            std::future::pending().await
        };
        let between = async {
            while !said.get() {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(to_its_end(async { 7 }, sending, between).await, 7);
        assert!(said.get());
        assert_eq!(to_its_end(async { 7 }, std::future::pending(), async {}).await, 7);
    }

    #[test]
    fn what_is_small_goes_first() {
        let mut queue = VecDeque::new();
        for (sha256, size) in [("image", Some(SMALL)), ("script", Some(SMALL - 1)), ("unknown", None)] {
            line_up(&mut queue, sha256.into(), size);
        }
        let order: Vec<_> = queue.iter().map(|(sha256, _)| sha256.as_str()).collect();
        assert_eq!(order, ["script", "image", "unknown"]);
    }
}
