//! A command that runs on a host, as streams.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use russh::ChannelMsg;
use russh::client::Msg;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::io::StreamReader;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How much of a command's stderr is kept: enough for its last lines.
const STDERR_LIMIT: usize = 64 * 1024;

pub struct Process {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub stdout: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// Everything that came by stderr up to now (its end, if it is long).
    pub stderr: watch::Receiver<String>,
    exit: oneshot::Receiver<(Option<u32>, Option<String>)>,
    /// What is no word of the command itself, such as a prompt: left out of [`Exit::stderr`].
    hidden: Option<&'static str>,
    /// The beginning of a line whose end has not come yet; kept here so that [`Process::line`] may be cancelled.
    partial: Vec<u8>,
    /// How it ended, once that is known.
    ended: Option<(Option<u32>, Option<String>)>,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// `None`: killed by a signal or the connection broke.
    pub status: Option<u32>,
    pub signal: Option<String>,
    pub stderr: String,
}

impl Exit {
    pub fn ok(&self) -> bool {
        self.status == Some(0)
    }

    /// The last lines of stderr, for reports.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let lines: Vec<_> = self.stderr.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
    }
}

impl Process {
    /// Splits a channel on which a command was started into streams; a task passes its messages on until it closes.
    pub fn from_channel(channel: russh::Channel<Msg>) -> Self {
        let (mut read, write) = channel.split();
        let ended = CancellationToken::new();
        let stdin = Stdin { inner: write.make_writer(), ended: Box::pin(ended.clone().cancelled_owned()) };
        let (out, out_receiver) = mpsc::channel::<std::io::Result<Bytes>>(64);
        let (err, stderr) = watch::channel(String::new());
        let (done, exit) = oneshot::channel();
        tokio::spawn(async move {
            let (mut status, mut signal) = (None, None);
            while let Some(message) = read.wait().await {
                match message {
                    // a reader that went away does not stop the command
                    ChannelMsg::Data { data } => drop(out.send(Ok(data)).await),
                    ChannelMsg::ExtendedData { data, ext: 1 } => err.send_modify(|text| {
                        text.push_str(&String::from_utf8_lossy(&data));
                        if text.len() > STDERR_LIMIT {
                            let half = text.len() - STDERR_LIMIT / 2;
                            let cut = (half..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(half);
                            text.drain(..cut);
                        }
                    }),
                    ChannelMsg::ExitStatus { exit_status } => {
                        status = Some(exit_status);
                        ended.cancel();
                    }
                    ChannelMsg::ExitSignal { signal_name, .. } => {
                        signal = Some(format!("{signal_name:?}"));
                        ended.cancel();
                    }
                    _ => {}
                }
            }
            ended.cancel();
            // keeps the channel's write half until the end; it closes when the last half goes
            drop(write);
            let _ = done.send((status, signal));
        });
        let stdout: Box<dyn AsyncRead + Send + Unpin> = Box::new(StreamReader::new(tokio_stream_from(out_receiver)));
        Self {
            stdin: Some(Box::new(stdin)),
            stdout: BufReader::with_capacity(8 * 1024, stdout),
            stderr,
            exit,
            hidden: None,
            partial: Vec::new(),
            ended: None,
        }
    }

    /// Leaves `text` out of what is reported of stderr.
    pub fn hide(&mut self, text: &'static str) {
        self.hidden = Some(text);
    }

    /// The next line of stdout without its end; `None` when there is no more.
    pub async fn line(&mut self) -> std::io::Result<Option<String>> {
        if self.stdout.read_until(b'\n', &mut self.partial).await? == 0 && self.partial.is_empty() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.partial);
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// Closes stdin and waits for the end.
    pub async fn finish(mut self) -> Exit {
        self.exited().await
    }

    /// As [`Process::finish`], but the process can be asked again.
    pub async fn exited(&mut self) -> Exit {
        use tokio::io::AsyncWriteExt as _;
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.shutdown().await;
        }
        while let Ok(length @ 1..) = self.stdout.fill_buf().await.map(<[u8]>::len) {
            self.stdout.consume(length);
        }
        let (status, signal) = match self.ended.take() {
            Some(ended) => ended,
            None => (&mut self.exit).await.unwrap_or_default(),
        };
        self.ended = Some((status, signal.clone()));
        let said = self.stderr.borrow().clone();
        let stderr = self.hidden.map_or_else(|| said.clone(), |hidden| said.replace(hidden, ""));
        Exit { status, signal, stderr }
    }
}

/// What is written at once. russh gathers what several writes leave to it in one buffer and keeps that as long as the connection
/// lives: with whole packets of 32 KiB a megabyte for every host that something was sent to.
const PIECE: usize = 8 * 1024;

/// A command's stdin. What is written to a command that has ended fails: the channel's window is never opened again, and the
/// writer would wait for ever.
struct Stdin<W> {
    inner: W,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<W: AsyncWrite + Unpin> Stdin<W> {
    fn check(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match self.ended.as_mut().poll(cx) {
            Poll::Ready(()) => Err(std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the command has ended")),
            Poll::Pending => Ok(()),
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Stdin<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        let piece = bytes.len().min(PIECE);
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..piece])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.check(cx).is_err() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn tokio_stream_from(
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Unpin {
    Box::pin(futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}
