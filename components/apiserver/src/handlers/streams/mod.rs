//! Streams over WebSocket for clients that speak newer protocols than runtimes do (KEP-3396, KEP-4006): what they say is said again in
//! SPDY/3.1 to the kubelet.
//!
//! exec and attach: `v5.channel.k8s.io`, where the client can close its stdin. Port-forward: SPDY itself inside binary messages. Older
//! WebSocket protocols and SPDY pass through to the kubelet as bytes.

mod remote;
mod spdy;
mod tunnel;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    backend::{Backend, streaming},
    http::{Request, Response, ResponseBody},
    kubelet,
};

const REMOTE: &str = "v5.channel.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Larger messages and frames of clients are refused; kubectl's have 32 KiB.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// How a client's WebSocket is carried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    Remote,
    Tunnel,
}

impl Translation {
    fn protocol(self) -> &'static str {
        match self {
            Translation::Remote => REMOTE,
            Translation::Tunnel => TUNNEL,
        }
    }

    /// What the kubelet is asked to speak over SPDY.
    fn backend_protocol(self) -> &'static str {
        match self {
            Translation::Remote => "v4.channel.k8s.io",
            Translation::Tunnel => "portforward.k8s.io",
        }
    }
}

fn words(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

/// The translation that a request needs; `None`: it goes to the kubelet as it is.
pub fn translation(subresource: &str, headers: &HeaderMap) -> Option<Translation> {
    if !words(headers, header::UPGRADE).any(|w| w.eq_ignore_ascii_case("websocket")) {
        return None;
    }
    let wants = |protocol: &str| words(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|w| w == protocol);
    match subresource {
        "exec" | "attach" if wants(REMOTE) => Some(Translation::Remote),
        "portforward" if wants(TUNNEL) => Some(Translation::Tunnel),
        _ => None,
    }
}

/// How a WebSocket ends after everything was said; clients take an end without a code for a broken connection.
fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Switches the kubelet to SPDY, then the client to WebSocket, and carries between them.
pub async fn translate(
    backend: &Backend,
    path: &str,
    translation: Translation,
    mut request: Request,
) -> Result<Response, ApiError> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let key = key.ok_or_else(|| ApiError::bad_request("a WebSocket request needs the header Sec-WebSocket-Key"))?;
    let client = hyper::upgrade::on(&mut request);
    let mut answer =
        backend.send(path, spdy_request(translation)?).await.map_err(|error| kubelet::unreachable(backend, &error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        // the kubelet's own words: the pod is gone, the container does not run
        return Ok(streaming(answer));
    }
    let kubelet = hyper::upgrade::on(&mut answer);
    let wanted = remote::Wanted::of(path);
    tokio::spawn(async move {
        let joined = tokio::try_join!(client, kubelet);
        let (client, kubelet) = match joined {
            Ok((client, kubelet)) => (TokioIo::new(client), TokioIo::new(kubelet)),
            Err(error) => return tracing::debug!(%error, "an upgrade did not happen"),
        };
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT)).max_frame_size(Some(MESSAGE_LIMIT));
        let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
        let ended = match translation {
            Translation::Remote => remote::carry(socket, kubelet, wanted).await,
            Translation::Tunnel => tunnel::carry(socket, kubelet).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a stream ended early");
        }
    });
    switched(&key, translation)
}

fn spdy_request(translation: Translation) -> Result<Request, ApiError> {
    let body = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
    http::Request::builder()
        .method(Method::POST)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("x-stream-protocol-version", translation.backend_protocol())
        .header(header::CONTENT_LENGTH, 0)
        .body(body.boxed_unsync())
        .map_err(ApiError::internal)
}

fn switched(key: &HeaderValue, translation: Translation) -> Result<Response, ApiError> {
    http::Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .header(header::SEC_WEBSOCKET_PROTOCOL, translation.protocol())
        .body(ResponseBody::empty())
        .map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_runtimes_do_not_speak_is_translated() {
        let headers = |upgrade: &'static str, protocols: &'static str| {
            HeaderMap::from_iter([
                (header::UPGRADE, HeaderValue::from_static(upgrade)),
                (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols)),
            ])
        };
        let newest = headers("WebSocket", "v5.channel.k8s.io, v4.channel.k8s.io");
        assert_eq!(translation("exec", &newest), Some(Translation::Remote));
        assert_eq!(translation("exec", &headers("websocket", "v4.channel.k8s.io")), None);
        assert_eq!(translation("exec", &headers("SPDY/3.1", "v5.channel.k8s.io")), None);
        assert_eq!(translation("portforward", &headers("websocket", TUNNEL)), Some(Translation::Tunnel));
        assert_eq!(translation("portforward", &newest), None);
    }
}
