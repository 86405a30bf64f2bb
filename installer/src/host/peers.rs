//! Who has which blob of the bundle, and who gets it from whom: each goes from here to as few hosts as it must, and on from those
//! to the others, also while it still comes. See `docs/decisions/0029-hosts-pass-the-bundle-on.md`.
//!
//! No network and no host in here: what hosts can do is told, who asks is told where to go.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// So many hosts get the same blob from one at once.
const FANOUT: usize = 4;
/// Fewer failures are no reason to think that hosts cannot reach each other.
const STRIKES: usize = 3;
/// Where nothing goes anywhere for so long nobody waits for others any more.
const STALLED: Duration = Duration::from_secs(15);
/// A host waits no longer than this, whatever goes to others: they may be slow.
const LONGEST: Duration = Duration::from_secs(300);

pub struct Peers {
    token: String,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    stalled: Duration,
    longest: Duration,
}

#[derive(Default)]
struct State {
    on: bool,
    /// In the order in which they came.
    sources: Vec<Source>,
    /// To how many hosts that may become sources a blob is being sent from here.
    sending: HashMap<String, usize>,
    /// Hosts that do not have all yet.
    wanting: HashSet<String>,
    /// Hosts that cannot share.
    unable: usize,
    /// What did not come from another host, and what did.
    failures: usize,
    fetched: usize,
    bytes: Bytes,
}

/// How much has gone to hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From here.
    pub sent: u64,
    /// From one to another.
    pub passed: u64,
}

struct Source {
    host: String,
    address: SocketAddr,
    blobs: HashMap<String, Offer>,
    strikes: usize,
}

#[derive(Default)]
struct Offer {
    /// All of it is there.
    whole: bool,
    /// So many hosts get it from there now.
    getting: usize,
}

/// Where a host gets a blob.
pub enum Origin {
    /// From here, as long as this lives.
    Operator(Sending),
    Peer(Fetching),
}

/// What speaks for a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The executable: nothing of it can be passed on before all of it is there and runs. So that few hosts do not wait for each
    /// other, the first get it from here.
    Executable,
    /// May come from who gets it itself.
    Blob,
    /// It did not come the last time. Only from who has all of it: two that failed must not wait for each other.
    Again,
}

impl Need {
    /// From here to so many hosts before others wait for them.
    fn roots(self) -> usize {
        match self {
            Self::Executable => 3,
            Self::Blob | Self::Again => 1,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Operator,
    Peer(usize),
    Wait,
}

impl State {
    fn choose(&self, host: &str, sha256: &str, need: Need) -> Choice {
        if !self.on {
            return Choice::Operator;
        }
        let has = |source: &Source| {
            let offer = source.blobs.get(sha256).filter(|_| source.host != host)?;
            (need == Need::Blob || offer.whole).then_some(offer.getting)
        };
        let getting: Vec<_> = self.sources.iter().map(has).collect();
        if let Some(index) = getting.iter().position(|getting| getting.is_some_and(|getting| getting < FANOUT)) {
            return Choice::Peer(index);
        }
        let roots = getting.iter().flatten().count() + self.sending.get(sha256).copied().unwrap_or(0);
        if roots < need.roots() { Choice::Operator } else { Choice::Wait }
    }

    fn source(&mut self, host: &str) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.host == host)
    }

    /// Where nothing speaks for it any more everything is sent from here.
    fn judge(&mut self) {
        let nobody_shares = self.unable >= STRIKES && self.sources.is_empty();
        let nothing_comes = self.failures >= STRIKES && self.fetched == 0;
        self.on &= !nobody_shares && !nothing_comes;
    }
}

impl Peers {
    /// `on`: hosts may pass on what they get.
    pub fn new(on: bool) -> Arc<Self> {
        Arc::new(Self::fresh(on))
    }

    fn fresh(on: bool) -> Self {
        let token = hex::encode(rand::random::<[u8; 32]>());
        let state = Mutex::new(State { on, ..State::default() });
        Self { token, state, changed: watch::Sender::new(()), stalled: STALLED, longest: LONGEST }
    }

    /// What the hosts of this run, and nobody else, know.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn on(&self) -> bool {
        self.state.lock().on
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.send_replace(());
        result
    }

    /// A host passes on what it has, until what is returned is dropped.
    pub fn joins(self: &Arc<Self>, host: &str, address: SocketAddr) -> Sharing {
        self.change(|state| {
            state.sources.retain(|source| source.host != host);
            state.sources.push(Source { host: host.to_owned(), address, blobs: HashMap::new(), strikes: 0 });
        });
        Sharing { peers: self.clone(), host: host.to_owned() }
    }

    /// It does not.
    pub fn cannot(&self) {
        self.change(|state| {
            state.unable += 1;
            state.judge();
        });
    }

    /// Where `host` gets a blob; waits where that is worth it.
    pub async fn origin(self: &Arc<Self>, host: &str, sha256: &str, need: Need) -> Origin {
        let began = Instant::now();
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(origin) = self.try_origin(host, sha256, need) {
                return origin;
            }
            let before = self.bytes();
            // the sender lives as long as this
            let waited = timeout(self.stalled, changed.changed()).await;
            if (waited.is_err() && self.bytes() == before) || began.elapsed() > self.longest {
                return self.directly();
            }
        }
    }

    /// From here, whatever others have.
    pub fn directly(self: &Arc<Self>) -> Origin {
        Origin::Operator(Sending { peers: self.clone(), sha256: None })
    }

    fn try_origin(self: &Arc<Self>, host: &str, sha256: &str, need: Need) -> Option<Origin> {
        let mut state = self.state.lock();
        match state.choose(host, sha256, need) {
            Choice::Wait => None,
            Choice::Operator => {
                let shares = need == Need::Executable || state.source(host).is_some();
                if shares {
                    *state.sending.entry(sha256.to_owned()).or_default() += 1;
                }
                Some(Origin::Operator(Sending { peers: self.clone(), sha256: shares.then(|| sha256.to_owned()) }))
            }
            Choice::Peer(index) => {
                let source = &mut state.sources[index];
                source.blobs.entry(sha256.to_owned()).or_default().getting += 1;
                let (from, address) = (source.host.clone(), source.address);
                Some(Origin::Peer(Fetching { peers: self.clone(), sha256: sha256.to_owned(), from, address }))
            }
        }
    }

    /// A host that shares has a blob, or gets it now.
    pub fn offers(&self, host: &str, sha256: &str, whole: bool) {
        self.change(|state| {
            if let Some(source) = state.source(host) {
                source.blobs.entry(sha256.to_owned()).or_default().whole = whole;
            }
        });
    }

    /// What it was to get did not come.
    pub fn lacks(&self, host: &str, sha256: &str) {
        self.change(|state| state.source(host).and_then(|source| source.blobs.remove(sha256)));
    }

    /// These hosts are about to be brought what they lack.
    pub fn expect<'h>(&self, hosts: impl Iterator<Item = &'h str>) {
        self.change(|state| state.wanting.extend(hosts.map(str::to_owned)));
    }

    /// A host has all that it lacked, or will not get it.
    pub fn satisfied(&self, host: &str) {
        self.change(|state| state.wanting.remove(host));
    }

    /// Returns when every host that was expected is satisfied.
    pub async fn nobody_wants(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.state.lock().wanting.is_empty() {
                return;
            }
            let _ = changed.changed().await;
        }
    }

    pub fn sent(&self, bytes: u64) {
        self.state.lock().bytes.sent += bytes;
    }

    pub fn bytes(&self) -> Bytes {
        self.state.lock().bytes
    }
}

/// A host that passes blobs on.
pub struct Sharing {
    peers: Arc<Peers>,
    host: String,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.peers.change(|state| state.sources.retain(|source| source.host != self.host));
    }
}

/// A blob is being sent from here. `None`: to a host that does not share.
pub struct Sending {
    peers: Arc<Peers>,
    sha256: Option<String>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        let Some(sha256) = self.sha256.take() else { return };
        self.peers.change(|state| {
            if let Some(count) = state.sending.get_mut(&sha256) {
                *count = count.saturating_sub(1);
            }
        });
    }
}

/// A blob is on its way from another host.
pub struct Fetching {
    peers: Arc<Peers>,
    sha256: String,
    pub from: String,
    pub address: SocketAddr,
}

impl Fetching {
    /// So many bytes have come, and all are right.
    pub fn done(self, bytes: u64) {
        self.peers.change(|state| {
            state.fetched += 1;
            state.bytes.passed += bytes;
        });
    }

    /// They have not. Who fails several is not asked any more.
    pub fn failed(self) {
        self.peers.change(|state| {
            if let Some(source) = state.source(&self.from) {
                source.strikes += 1;
            }
            state.sources.retain(|source| source.strikes < STRIKES);
            state.failures += 1;
            state.judge();
        });
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.peers.change(|state| {
            let source = state.source(&self.from).and_then(|source| source.blobs.get_mut(&self.sha256));
            if let Some(offer) = source {
                offer.getting = offer.getting.saturating_sub(1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const BLOB: &str = "blob";

    fn at(index: u8) -> SocketAddr {
        ([10, 0, 0, index], 1).into()
    }

    fn name(index: u8) -> String {
        format!("h{index}")
    }

    /// `None`: it has to wait.
    fn origin(peers: &Arc<Peers>, host: u8, need: Need) -> Option<Origin> {
        peers.try_origin(&name(host), BLOB, need)
    }

    fn from(origin: &Option<Origin>) -> &str {
        match origin {
            Some(Origin::Operator(_)) => "here",
            Some(Origin::Peer(fetching)) => &fetching.from,
            None => "later",
        }
    }

    #[test]
    fn a_blob_goes_from_here_once_and_on_from_who_gets_it() {
        let peers = Peers::new(true);
        let sharing: Vec<_> = (0..100).map(|index| peers.joins(&name(index), at(index))).collect();
        let mut ways = Vec::new();
        for host in 0..100 {
            let way = origin(&peers, host, Need::Blob);
            peers.offers(&name(host), BLOB, false);
            ways.push((from(&way).to_owned(), way));
        }
        assert_eq!(ways.iter().filter(|(from, _)| from == "here").count(), 1);
        assert_eq!(ways[1..=4].iter().filter(|(from, _)| from == "h0").count(), FANOUT);
        assert_eq!(ways[5].0, "h1");
        drop(sharing);
        assert_eq!(from(&origin(&peers, 0, Need::Blob)), "later", "one that is sent may be passed on soon");
        drop(ways);
        assert_eq!(from(&origin(&peers, 0, Need::Blob)), "here");
    }

    #[test]
    fn the_first_get_the_executable_from_here_and_the_others_when_one_has_it() {
        let peers = Peers::new(true);
        let mut first: Vec<_> = (0..3).map(|host| origin(&peers, host, Need::Executable)).collect();
        assert!(first.iter().all(|way| from(way) == "here"));
        assert_eq!(from(&origin(&peers, 3, Need::Executable)), "later");
        let _sharing = peers.joins("h0", at(0));
        peers.offers("h0", BLOB, true);
        first.remove(0);
        let others: Vec<_> = (3..9).map(|host| origin(&peers, host, Need::Executable)).collect();
        assert_eq!(others.iter().map(from).collect::<Vec<_>>(), ["h0", "h0", "h0", "h0", "later", "later"]);
        first.clear();
        assert_eq!(from(&origin(&peers, 9, Need::Executable)), "here", "two more may get it from here");
    }

    #[test]
    fn who_failed_gets_it_only_from_who_has_all_of_it() {
        let peers = Peers::new(true);
        let _sharing: Vec<_> = (0..3).map(|index| peers.joins(&name(index), at(index))).collect();
        let root = origin(&peers, 0, Need::Blob);
        peers.offers("h0", BLOB, false);
        let Some(Origin::Peer(fetching)) = origin(&peers, 1, Need::Blob) else { panic!("from h0") };
        peers.offers("h1", BLOB, false);
        let _behind = origin(&peers, 2, Need::Blob);
        peers.offers("h2", BLOB, false);
        fetching.failed();
        peers.lacks("h1", BLOB);
        assert_eq!(from(&origin(&peers, 1, Need::Again)), "later", "it is still being sent to h0");
        peers.offers("h0", BLOB, true);
        assert_eq!(from(&origin(&peers, 1, Need::Again)), "h0");
        drop(root);
    }

    #[test]
    fn hosts_that_cannot_reach_each_other_are_sent_all_from_here() {
        let peers = Peers::new(true);
        for _ in 0..STRIKES {
            peers.cannot();
        }
        assert!(!peers.on());
        let peers = Peers::new(true);
        for round in 0..STRIKES {
            let sharing = peers.joins("h0", at(0));
            peers.offers("h0", BLOB, true);
            let Some(Origin::Peer(fetching)) = origin(&peers, 1, Need::Blob) else { panic!("round {round}") };
            drop(sharing);
            fetching.failed();
        }
        assert_eq!(from(&origin(&peers, 1, Need::Again)), "here");
        // those to hosts that do not share do not make others wait
        let _one = origin(&peers, 1, Need::Blob);
        assert_eq!(from(&origin(&peers, 2, Need::Blob)), "here");
        assert_eq!(from(&origin(&Peers::new(false), 1, Need::Executable)), "here");
    }

    #[tokio::test]
    async fn who_waits_in_vain_gets_it_from_here() {
        // how long h1 waits for what is being sent to h0
        let waits = async |peers: &Arc<Peers>| {
            let _sharing = peers.joins("h0", at(0));
            let _hangs = peers.origin("h0", BLOB, Need::Blob).await;
            let began = Instant::now();
            assert_eq!(from(&Some(peers.origin("h1", BLOB, Need::Blob).await)), "here");
            began.elapsed()
        };
        let (stalled, hour) = (Duration::from_millis(50), Duration::from_secs(3600));
        let peers = Arc::new(Peers { stalled, longest: hour, ..Peers::fresh(true) });
        let waited = timeout(Duration::from_secs(60), waits(&peers)).await;
        assert!(waited.as_ref().is_ok_and(|waited| *waited >= stalled), "nothing went anywhere: {waited:?}");

        let longest = Duration::from_millis(300);
        let peers = Arc::new(Peers { stalled, longest, ..Peers::fresh(true) });
        let sends = async {
            loop {
                peers.sent(1);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            // in this order something goes on after every look, however late the next one is
            biased;
            waited = waits(&peers) => assert!(waited >= longest, "something went on: {waited:?}"),
            () = sends => {}
        }
    }

    #[test]
    fn who_has_all_stays_until_the_others_have_too() {
        let peers = Peers::new(true);
        assert!(peers.nobody_wants().now_or_never().is_some());
        peers.expect(["h0", "h1"].into_iter());
        peers.satisfied("h0");
        assert!(peers.nobody_wants().now_or_never().is_none());
        peers.satisfied("h1");
        assert!(peers.nobody_wants().now_or_never().is_some());
    }
}
