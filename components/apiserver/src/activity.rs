//! What happens on a connection, as far as its patience needs to know: nothing, the head of a request, or requests.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use crate::http::{ResponseBody, body::BoxError};

/// How long a connection may stay in a state.
#[derive(Clone, Copy)]
pub struct Patience {
    /// From the first byte of a request's head to its last; also from the beginning to the first request.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
}

#[derive(Clone, Copy)]
enum State {
    /// Nothing has been asked yet: the first head is awaited.
    New,
    /// A head is awaited that should be there soon.
    Head,
    Idle,
    /// So many requests are not answered completely.
    Busy(usize),
}

/// Shared by a connection, its bytes and its requests.
pub struct Activity {
    state: Mutex<(State, Instant)>,
    /// Told when the first request begins.
    first: Notify,
}

impl Activity {
    pub fn new() -> Arc<Self> {
        Arc::new(Activity { state: Mutex::new((State::New, Instant::now())), first: Notify::new() })
    }

    /// When patience ends as things stand; `None` while requests are under way.
    pub fn deadline(&self, patience: Patience) -> Option<Instant> {
        match *self.state.lock() {
            (State::New | State::Head, since) => Some(since + patience.head),
            (State::Idle, since) => Some(since + patience.idle),
            (State::Busy(_), _) => None,
        }
    }

    /// A request began; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Request {
        let mut state = self.state.lock();
        state.0 = match state.0 {
            State::Busy(count) => State::Busy(count + 1),
            State::New => {
                self.first.notify_one();
                State::Busy(1)
            }
            State::Head | State::Idle => State::Busy(1),
        };
        Request(self.clone())
    }

    /// Returns once anything was asked; for one waiter.
    pub async fn asked(&self) {
        if matches!(self.state.lock().0, State::New) {
            self.first.notified().await;
        }
    }

    fn bytes_came(&self) {
        let mut state = self.state.lock();
        if matches!(state.0, State::Idle) {
            *state = (State::Head, Instant::now());
        }
    }
}

/// A request that is not answered completely.
pub struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        *state = match state.0 {
            State::Busy(count) if count > 1 => (State::Busy(count - 1), state.1),
            _ => (State::Idle, Instant::now()),
        };
    }
}

/// The body of an answer: as long as it is there, its request is not done.
pub struct Answer {
    pub body: ResponseBody,
    pub _request: Request,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A byte stream of HTTP/1 that tells when bytes come.
pub struct Watched<S> {
    pub stream: S,
    pub activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_for_clients_that_do_nothing() {
        let patience = Patience { head: Duration::from_secs(1), idle: Duration::from_secs(100) };
        let activity = Activity::new();
        let left = || activity.deadline(patience).map(|at| at.duration_since(Instant::now()).as_secs() > 2);
        assert_eq!(left(), Some(false));
        let (first, second) = (activity.begin(), activity.begin());
        activity.bytes_came();
        assert_eq!(left(), None);
        drop(first);
        assert_eq!(left(), None);
        drop(second);
        assert_eq!(left(), Some(true));
        activity.bytes_came();
        assert_eq!(left(), Some(false));
    }
}
