//! Bodies: requests are read whole within a limit, answers are one piece or a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use http_body::Frame;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use machinery::ApiError;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// As upstream's limit for request bodies.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// The body of an answer.
pub enum ResponseBody {
    Full(Option<Bytes>),
    /// Each piece is flushed as it comes (watches, logs).
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
}

impl ResponseBody {
    pub fn empty() -> Self {
        ResponseBody::Full(None)
    }
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> Self {
        ResponseBody::Full(Some(bytes.into()))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            ResponseBody::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ResponseBody::Stream(stream) => stream.as_mut().poll_next(cx).map(|item| item.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ResponseBody::Full(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            ResponseBody::Full(bytes) => http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            ResponseBody::Stream(_) => http_body::SizeHint::default(),
        }
    }
}

/// The whole body, refused when larger than [`BODY_LIMIT`].
pub async fn read(mut body: RequestBody) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad_request(format!("the request's body could not be read: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        if whole.len() + piece.len() > BODY_LIMIT {
            return Err(ApiError::request_entity_too_large(BODY_LIMIT));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
