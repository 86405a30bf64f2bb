//! One SSH server for all hosts: which one is meant says the address that was dialled.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use parking_lot::Mutex;
use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::delay::{Traffic, delayed};
use crate::host::Host;
use crate::network;
use crate::trips::{Said, Trips};

pub struct Server {
    pub port: u16,
    pub traffic: Arc<Traffic>,
    /// Of connections that have ended.
    waits: Arc<watch::Sender<Vec<u32>>>,
}

impl Server {
    /// Listens until the runtime ends. `key`: the host key of every host; whoever comes may enter as root.
    pub async fn start(hosts: Vec<Host>, key: PrivateKey, round_trip: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let (port, traffic) = (listener.local_addr()?.port(), Arc::new(Traffic::default()));
        let waits = Arc::new(watch::Sender::new(Vec::new()));
        let config = Arc::new(Config {
            keys: vec![key],
            auth_rejection_time: Duration::ZERO,
            nodelay: true,
            inactivity_timeout: None,
            ..Config::default()
        });
        let hosts: Arc<Vec<Arc<Host>>> = Arc::new(hosts.into_iter().map(Arc::new).collect());
        let server = Self { port, traffic: traffic.clone(), waits: waits.clone() };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Some(host) = dialled(&socket).and_then(|index| hosts.get(index)).cloned() else { continue };
                let _ = socket.set_nodelay(true);
                let stream = delayed(socket, round_trip, &traffic);
                let trips = Arc::new(Mutex::new(Trips::new(round_trip)));
                let login = Login { host, trips: trips.clone(), inputs: HashMap::new() };
                let (config, waits) = (config.clone(), waits.clone());
                tokio::spawn(async move {
                    if let Ok(session) = run_stream(config, stream, login).await {
                        // an operator that goes away is the usual end
                        let _ = session.await;
                    }
                    let count = trips.lock().count();
                    waits.send_modify(|waits| waits.push(count));
                });
            }
        });
        Ok(server)
    }

    /// How often each connection that has ended since this was asked last had to wait, sorted. They end a moment after the command.
    pub async fn take_waits(&self, connections: usize) -> Vec<u32> {
        const MOMENT: Duration = Duration::from_secs(10);
        let mut ended = self.waits.subscribe();
        // those that there are say enough
        let _ = tokio::time::timeout(MOMENT, ended.wait_for(|waits| waits.len() >= connections)).await;
        let mut waits = self.waits.send_replace(Vec::new());
        waits.sort_unstable();
        waits
    }
}

fn dialled(socket: &TcpStream) -> Option<usize> {
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) => network::index(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}

struct Login {
    host: Arc<Host>,
    trips: Arc<Mutex<Trips>>,
    /// Of commands that run; the end of one is the end of its sender.
    inputs: HashMap<ChannelId, Input>,
}

struct Input {
    sender: mpsc::Sender<Bytes>,
    said: Said,
}

impl Handler for Login {
    type Error = anyhow::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(&mut self, _: Channel<Msg>, reply: ChannelOpenHandle, _: &mut Session) -> Result<()> {
        self.trips.lock().hear(Instant::now());
        reply.accept().await;
        self.trips.lock().answer(Instant::now());
        Ok(())
    }

    async fn exec_request(&mut self, channel: ChannelId, line: &[u8], session: &mut Session) -> Result<()> {
        self.trips.lock().hear(Instant::now());
        let (sender, input) = mpsc::channel(64);
        self.inputs.insert(channel, Input { sender, said: Said::default() });
        let line = String::from_utf8_lossy(line).into_owned();
        let answers = Answers { handle: session.handle(), channel, trips: self.trips.clone() };
        tokio::spawn(run(self.host.clone(), line, input, answers));
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<()> {
        if let Some(Input { sender, said }) = self.inputs.get_mut(&channel) {
            match said.asks(data) {
                true => self.trips.lock().hear(Instant::now()),
                false => self.trips.lock().overhear(Instant::now()),
            }
            // a command that has ended takes nothing any more
            let _ = sender.send(Bytes::copy_from_slice(data)).await;
        }
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<()> {
        self.inputs.remove(&channel);
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<()> {
        self.inputs.remove(&channel);
        Ok(())
    }
}

/// The way back to the operator.
#[derive(Clone)]
struct Answers {
    handle: Handle,
    channel: ChannelId,
    trips: Arc<Mutex<Trips>>,
}

impl Answers {
    /// Everything that comes from `from`: as stdout, or as stderr.
    async fn pass(self, mut from: impl AsyncRead + Unpin, stderr: bool) {
        loop {
            let mut chunk = bytes::BytesMut::with_capacity(32 * 1024);
            match from.read_buf(&mut chunk).await {
                Ok(read) if read > 0 => {
                    self.trips.lock().answer(Instant::now());
                    let sent = match stderr {
                        true => self.handle.extended_data(self.channel, 1, chunk.freeze()).await,
                        false => self.handle.data(self.channel, chunk.freeze()).await,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    async fn end(self, status: u32) {
        self.trips.lock().answer(Instant::now());
        // an operator that went away needs no answer
        let _ = self.handle.exit_status_request(self.channel, status).await;
        let _ = self.handle.eof(self.channel).await;
        let _ = self.handle.close(self.channel).await;
    }
}

/// One command from its start to its exit status.
async fn run(host: Arc<Host>, line: String, mut input: mpsc::Receiver<Bytes>, answers: Answers) {
    let mut child = match host.command(&line).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("a simulated host cannot start a command: {error}");
            return answers.end(127).await;
        }
    };
    if let Some(mut stdin) = child.stdin.take() {
        tokio::spawn(async move {
            while let Some(data) = input.recv().await {
                if stdin.write_all(&data).await.is_err() {
                    return;
                }
            }
        });
    }
    let sharing = tokio::spawn(share(host.clone()));
    let stdout = child.stdout.take().map(|out| tokio::spawn(answers.clone().pass(out, false)));
    let stderr = child.stderr.take().map(|err| tokio::spawn(answers.clone().pass(err, true)));
    for passing in [stdout, stderr].into_iter().flatten() {
        let _ = passing.await;
    }
    let status = child.wait().await.ok().and_then(|status| status.code()).unwrap_or(255);
    sharing.abort();
    let _ = tokio::task::spawn_blocking(move || host.share(Duration::ZERO)).await;
    answers.end(u32::try_from(status).unwrap_or(255)).await;
}

/// All hosts may be in conversation until the last one is done.
async fn share(host: Arc<Host>) {
    const EVERY: Duration = Duration::from_secs(2);
    loop {
        tokio::time::sleep(EVERY).await;
        let host = host.clone();
        let _ = tokio::task::spawn_blocking(move || host.share(EVERY / 2)).await;
    }
}
