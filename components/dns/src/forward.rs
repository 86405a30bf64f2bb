//! Asks the host's resolvers about all names that are not the cluster's: UDP first, TCP when the answer is too long, the next resolver
//! when one is silent; answers are kept for a short while.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one resolver may take. Stub resolvers give up after 5 seconds, and a second resolver must get its turn before.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_KEPT: u32 = 30;
const MOST_KEPT: usize = 10_000;
/// The size that passes every network unfragmented (DNS flag day 2020).
pub const UDP_SIZE: u16 = 1232;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    query: Query,
    dnssec: bool,
    checking_disabled: bool,
}

struct Kept {
    message: Arc<Message>,
    since: Instant,
    until: Instant,
}

/// What a question to the outside came to.
#[derive(Debug)]
pub enum Outcome {
    Answered(Message),
    /// The question is one that this process asked: its resolver points back here.
    Loop,
    /// No resolver, or none answered.
    Silence,
}

pub struct Forwarder {
    upstream: Vec<SocketAddr>,
    /// How long one of them may take: [`PATIENCE`], but in tests.
    pub patience: Duration,
    kept: Mutex<HashMap<Question, Kept>>,
    /// (id, question) of what was asked and not answered yet, to know own questions when they come back.
    outstanding: Mutex<HashSet<(u16, Query)>>,
}

impl Forwarder {
    pub fn new(upstream: Vec<SocketAddr>) -> Self {
        Self { upstream, patience: PATIENCE, kept: Mutex::default(), outstanding: Mutex::default() }
    }

    /// The answer to a client's request; its id and flags are the caller's business.
    pub async fn ask(&self, request: &Message, query: &Query) -> Outcome {
        if self.outstanding.lock().contains(&(request.metadata.id, lowercase(query))) {
            tracing::error!(name = %query.name(), "a resolver forwards to this server: give --upstream, or correct the node's resolv.conf");
            return Outcome::Loop;
        }
        let question = Question {
            query: lowercase(query),
            dnssec: request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
        };
        if let Some(message) = self.recall(&question) {
            return Outcome::Answered(message);
        }
        for upstream in &self.upstream {
            match self.exchange(*upstream, &question).await {
                Ok(message) if message.metadata.response_code == ResponseCode::ServFail && self.upstream.len() > 1 => {}
                Ok(message) => {
                    self.keep(question, &message);
                    return Outcome::Answered(message);
                }
                Err(error) => tracing::debug!(%upstream, name = %query.name(), %error, "a resolver did not answer"),
            }
        }
        Outcome::Silence
    }

    async fn exchange(&self, upstream: SocketAddr, question: &Question) -> anyhow::Result<Message> {
        // `Message::query` draws the id at random; the port is random too, since every question has its own socket.
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = question.checking_disabled;
        message.add_query(question.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_SIZE).set_version(0).set_dnssec_ok(question.dnssec);
        message.set_edns(edns);
        let entry = (message.metadata.id, question.query.clone());
        self.outstanding.lock().insert(entry.clone());
        let _forget = Forget { outstanding: &self.outstanding, entry };
        let bytes = message.to_vec()?;
        let answer = tokio::time::timeout(self.patience, by_udp(upstream, &bytes, &message)).await??;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        tokio::time::timeout(self.patience, by_tcp(upstream, &bytes, &message)).await?
    }

    fn recall(&self, question: &Question) -> Option<Message> {
        let kept = self.kept.lock();
        let entry = kept.get(question).filter(|entry| entry.until > Instant::now())?;
        let age = u32::try_from(entry.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        let mut message = Message::clone(&entry.message);
        for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    fn keep(&self, question: Question, message: &Message) {
        let Some(seconds) = keep_for(message) else { return };
        let now = Instant::now();
        let mut kept = self.kept.lock();
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, entry| entry.until > now);
        }
        if kept.len() < MOST_KEPT {
            let until = now + Duration::from_secs(seconds.into());
            kept.insert(question, Kept { message: Arc::new(message.clone()), since: now, until });
        }
    }
}

/// Removes a question from the outstanding ones, also when the client's task is dropped.
struct Forget<'a> {
    outstanding: &'a Mutex<HashSet<(u16, Query)>>,
    entry: (u16, Query),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.outstanding.lock().remove(&self.entry);
    }
}

/// The shortest time to live; of a negative answer, what its SOA says (RFC 2308). Failures are not kept.
fn keep_for(message: &Message) -> Option<u32> {
    let code = message.metadata.response_code;
    if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
        return None;
    }
    let sections = message.answers.iter().chain(&message.authorities);
    let negative = code == ResponseCode::NXDomain || message.answers.is_empty();
    if negative && !message.authorities.iter().any(|record| record.record_type() == RecordType::SOA) {
        return None;
    }
    sections.map(|record| record.ttl).min().map(|ttl| ttl.min(LONGEST_KEPT)).filter(|ttl| *ttl > 0)
}

fn lowercase(query: &Query) -> Query {
    let mut query = query.clone();
    let name = query.name().to_lowercase();
    query.set_name(name);
    query
}

async fn by_udp(upstream: SocketAddr, bytes: &[u8], question: &Message) -> anyhow::Result<Message> {
    let any: IpAddr = if upstream.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is forged or late: keep waiting for the real one.
        if let Some(answer) = Message::from_vec(&buffer[..length]).ok().filter(|answer| answers(answer, question)) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(upstream: SocketAddr, bytes: &[u8], question: &Message) -> anyhow::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let mut framed = u16::try_from(bytes.len())?.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer)?;
    anyhow::ensure!(answers(&answer, question), "the answer is to another question");
    Ok(answer)
}

fn answers(answer: &Message, question: &Message) -> bool {
    let lower = |message: &Message| message.queries.first().map(lowercase);
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == hickory_proto::op::MessageType::Response
        && lower(answer) == lower(question)
}

/// The resolvers of a resolv.conf, without this server itself and without loopback addresses, which mean the node's loopback, not the pod's.
pub fn from_resolv_conf(path: &Path, own: &[IpAddr]) -> Vec<SocketAddr> {
    match std::fs::read_to_string(path) {
        Ok(text) => name_servers(&text, own),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the resolvers: only the cluster's names will be answered");
            Vec::new()
        }
    }
}

fn name_servers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let parsed = named.filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok());
    let usable = parsed.filter(|address| {
        let usable = !address.is_loopback() && !address.is_unspecified() && !own.contains(address);
        if !usable {
            tracing::warn!(%address, "not used as a resolver: it is a loopback address or this server");
        }
        usable
    });
    usable.map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn resolv_conf() {
        let text = "# comment\nsearch lan\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\noptions ndots:5\n";
        let own = ["10.96.0.10".parse().unwrap()];
        let found: Vec<String> = name_servers(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[fe80::1]:53"]);
    }
}
