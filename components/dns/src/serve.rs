//! Takes queries by UDP and TCP and sends answers. The cluster's names are answered at once, others in a task of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use parking_lot::RwLock;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::forward::{Forwarder, Outcome, UDP_SIZE};
use crate::health::Readiness;
use crate::zone::{Answer, Zone};

const CONCURRENT_FORWARDS: usize = 1000;
const CONCURRENT_CONNECTIONS: usize = 250;
const IDLE: Duration = Duration::from_secs(10);

pub struct Server {
    zone: Arc<RwLock<Zone>>,
    forwarder: Forwarder,
    readiness: Readiness,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// A request that was understood, and what can be said at once.
enum Step {
    Done(Message),
    /// The rest of the answer is outside: forward this question.
    Forward {
        request: Message,
        query: Query,
        so_far: Box<Answer>,
    },
}

impl Server {
    pub fn new(zone: Arc<RwLock<Zone>>, forwarder: Forwarder, readiness: Readiness) -> Self {
        let forwards = Arc::new(Semaphore::new(CONCURRENT_FORWARDS));
        Self { zone, forwarder, readiness, forwards, connections: Arc::new(Semaphore::new(CONCURRENT_CONNECTIONS)) }
    }

    /// Serves datagrams forever.
    pub async fn udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // For instance "connection refused" by a client that is gone.
                    tracing::debug!(%error, "cannot receive");
                    continue;
                }
            };
            let Some(step) = self.understand(&buffer[..length]) else { continue };
            match step {
                Step::Done(message) => send(&socket, client, &message).await,
                Step::Forward { request, query, so_far } => {
                    let Ok(permit) = Arc::clone(&self.forwards).try_acquire_owned() else {
                        send(&socket, client, &failure(&request, ResponseCode::ServFail)).await;
                        continue;
                    };
                    let (server, socket) = (Arc::clone(&self), Arc::clone(&socket));
                    tokio::spawn(async move {
                        let message = server.forward(&request, &query, *so_far).await;
                        send(&socket, client, &message).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    /// Serves connections forever.
    pub async fn tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = server.connection(stream).await {
                            tracing::debug!(%error, "a connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Queries one after the other, each with its length before it (RFC 7766).
    async fn connection(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        loop {
            let Ok(Ok(length)) = tokio::time::timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
            let mut buffer = vec![0; length.into()];
            tokio::time::timeout(IDLE, stream.read_exact(&mut buffer)).await??;
            let message = match self.understand(&buffer) {
                None => return Ok(()),
                Some(Step::Done(message)) => message,
                Some(Step::Forward { request, query, so_far }) => self.forward(&request, &query, *so_far).await,
            };
            let bytes = message.to_vec()?;
            let mut framed = u16::try_from(bytes.len())?.to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }

    /// `None`: not a request, or beyond repair.
    fn understand(&self, bytes: &[u8]) -> Option<Step> {
        let request = match Message::from_vec(bytes) {
            Ok(request) => request,
            Err(_) => return malformed(bytes).map(Step::Done),
        };
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        if request.metadata.op_code != OpCode::Query {
            return Some(Step::Done(failure(&request, ResponseCode::NotImp)));
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Some(Step::Done(failure(&request, ResponseCode::BADVERS)));
        }
        let [query] = &request.queries[..] else { return Some(Step::Done(failure(&request, ResponseCode::FormErr))) };
        if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            return Some(Step::Done(failure(&request, ResponseCode::Refused)));
        }
        // Before all lists are complete, "no such name" would be a lie that clients keep.
        let local = self.zone.read().answer(query);
        Some(match local {
            Some(_) if !self.readiness.is_synced() => Step::Done(failure(&request, ResponseCode::ServFail)),
            Some(mut answer) => match answer.continues_at.take() {
                Some(target) => {
                    let query = Query::query(target, query.query_type());
                    Step::Forward { request, query, so_far: Box::new(answer) }
                }
                None => Step::Done(respond(&request, answer)),
            },
            None => {
                let query = query.clone();
                Step::Forward { request, query, so_far: Box::default() }
            }
        })
    }

    async fn forward(&self, request: &Message, query: &Query, so_far: Answer) -> Message {
        match self.forwarder.ask(request, query).await {
            Outcome::Answered(message) => relay(request, query.name(), so_far, message),
            Outcome::Loop => failure(request, ResponseCode::Refused),
            Outcome::Silence => failure(request, ResponseCode::ServFail),
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, message: &Message) {
    match for_udp(message) {
        Ok(bytes) => {
            if let Err(error) = socket.send_to(&bytes, client).await {
                tracing::debug!(%client, %error, "cannot answer");
            }
        }
        Err(error) => tracing::warn!(%client, %error, "cannot encode an answer"),
    }
}

/// An answer longer than the client takes is cut to its question; the client asks again by TCP.
fn for_udp(message: &Message) -> anyhow::Result<Vec<u8>> {
    let limit = message.edns.as_ref().map_or(512, |edns| edns.max_payload().clamp(512, UDP_SIZE));
    let bytes = message.to_vec()?;
    if bytes.len() <= limit.into() { Ok(bytes) } else { Ok(message.truncate().to_vec()?) }
}

fn answer_to(request: &Message) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        // For `for_udp`: how much the client takes. It is the answer's own limit as well.
        edns.set_max_payload(asked.max_payload().clamp(512, UDP_SIZE)).set_version(0);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

fn failure(request: &Message, code: ResponseCode) -> Message {
    let mut message = answer_to(request);
    message.metadata.response_code = code;
    message
}

fn respond(request: &Message, answer: Answer) -> Message {
    let mut message = answer_to(request);
    message.metadata.authoritative = true;
    message.metadata.response_code = answer.code;
    message.add_answers(shuffled(answer.answers));
    message.add_authorities(answer.authorities);
    message.add_additionals(answer.additionals);
    message
}

/// Addresses in random order, so that clients which take the first one spread; aliases stay in front.
fn shuffled(mut records: Vec<Record>) -> Vec<Record> {
    let aliases = records.iter().take_while(|record| record.record_type() == RecordType::CNAME).count();
    records[aliases..].shuffle(&mut rand::rng());
    records
}

fn relay(request: &Message, asked: &Name, so_far: Answer, outside: Message) -> Message {
    let mut message = answer_to(request);
    message.metadata.authoritative = !so_far.answers.is_empty();
    message.metadata.authentic_data = outside.metadata.authentic_data;
    message.metadata.response_code = outside.metadata.response_code;
    message.add_answers(so_far.answers);
    message.add_answers(outside.answers.into_iter().map(|mut record| {
        // The question went out in lower case; clients compare the name as they wrote it.
        if record.name == *asked {
            record.name = asked.clone();
        }
        record
    }));
    message.add_authorities(outside.authorities);
    message.add_additionals(outside.additionals);
    message
}

/// At least the id could be read: say that the rest could not.
fn malformed(bytes: &[u8]) -> Option<Message> {
    let is_query = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
    is_query.then(|| Message::error_msg(u16::from_be_bytes([bytes[0], bytes[1]]), OpCode::Query, ResponseCode::FormErr))
}

#[cfg(test)]
mod tests;
