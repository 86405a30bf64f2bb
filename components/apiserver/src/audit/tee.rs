//! Bodies that tell what went through them, and streams that tell their end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream::BoxStream};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::http::{
    RequestBody,
    body::{BODY_LIMIT, BoxError},
};

struct Tee<F: FnOnce(Bytes)> {
    inner: RequestBody,
    seen: BytesMut,
    then: Option<F>,
}

/// Calls `then` with what was read (no more than the limit of bodies) when nobody reads further.
pub fn tee(inner: RequestBody, then: impl FnOnce(Bytes) + Send + Unpin + 'static) -> RequestBody {
    Tee { inner, seen: BytesMut::new(), then: Some(then) }.boxed_unsync()
}

impl<F: FnOnce(Bytes) + Unpin> Body for Tee<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(piece) = frame.data_ref()
            && self.seen.len() + piece.len() <= BODY_LIMIT
        {
            let piece = piece.clone();
            self.seen.extend_from_slice(&piece);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<F: FnOnce(Bytes)> Drop for Tee<F> {
    fn drop(&mut self) {
        if let Some(then) = self.then.take() {
            then(std::mem::take(&mut self.seen).freeze());
        }
    }
}

struct UntilEnd<F: FnOnce()> {
    inner: BoxStream<'static, Result<Bytes, BoxError>>,
    then: Option<F>,
}

/// Calls `then` when the stream is over or dropped.
pub fn until_end(
    inner: BoxStream<'static, Result<Bytes, BoxError>>,
    then: impl FnOnce() + Send + Unpin + 'static,
) -> BoxStream<'static, Result<Bytes, BoxError>> {
    UntilEnd { inner, then: Some(then) }.boxed()
}

impl<F: FnOnce() + Unpin> Stream for UntilEnd<F> {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl<F: FnOnce()> Drop for UntilEnd<F> {
    fn drop(&mut self) {
        if let Some(then) = self.then.take() {
            then();
        }
    }
}
