//! exec, attach and port-forward: the runtime serves the stream, we carry its bytes.
//!
//! The CRI answers `Exec`, `Attach` and `PortForward` with a URL on loopback. The client's upgrade request
//! (SPDY or WebSocket) is repeated there and both connections are joined.

use anyhow::{Context, Result, bail};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::{Body, full};
use crate::cri::Cri;

/// What the query of an exec or attach request asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Streams {
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    pub ports: Vec<i32>,
}

impl Streams {
    pub fn parse(query: &[(String, String)]) -> Streams {
        let mut streams = Streams::default();
        for (name, value) in query {
            let on = matches!(value.as_str(), "1" | "true");
            match name.as_str() {
                "command" => streams.command.push(value.clone()),
                "input" | "stdin" => streams.stdin |= on,
                "output" | "stdout" => streams.stdout |= on,
                "error" | "stderr" => streams.stderr |= on,
                "tty" => streams.tty |= on,
                "port" => streams.ports.extend(value.split(',').filter_map(|p| p.parse::<i32>().ok())),
                _ => {}
            }
        }
        // a terminal has one output
        streams.stderr &= !streams.tty;
        streams
    }

    pub fn check(&self) -> Result<()> {
        if !self.stdin && !self.stdout && !self.stderr {
            bail!("you must specify at least 1 of stdin, stdout, stderr");
        }
        Ok(())
    }
}

pub async fn exec_url(cri: &Cri, container: &str, streams: &Streams) -> Result<String> {
    let request = cri::ExecRequest {
        container_id: container.into(),
        cmd: streams.command.clone(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let answer = cri.runtime.clone().exec(request).await;
    Ok(answer.context("the runtime refused exec")?.into_inner().url)
}

pub async fn attach_url(cri: &Cri, container: &str, streams: &Streams) -> Result<String> {
    let request = cri::AttachRequest {
        container_id: container.into(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let answer = cri.runtime.clone().attach(request).await;
    Ok(answer.context("the runtime refused attach")?.into_inner().url)
}

pub async fn port_forward_url(cri: &Cri, sandbox: &str, streams: &Streams) -> Result<String> {
    let request = cri::PortForwardRequest { pod_sandbox_id: sandbox.into(), port: streams.ports.clone() };
    let answer = cri.runtime.clone().port_forward(request).await;
    Ok(answer.context("the runtime refused port forwarding")?.into_inner().url)
}

/// Repeats the request at `url` and, once both sides have switched protocols, joins them.
pub async fn join(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>> {
    let url: http::Uri = url.parse().context("the runtime gave an unusable stream address")?;
    let authority = url.authority().context("the runtime's stream address has no host")?.clone();
    let stream = TcpStream::connect(authority.as_str()).await.context("the runtime's stream server does not answer")?;
    stream.set_nodelay(true).ok();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let mut onward = Request::new(Empty::<bytes::Bytes>::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = url.path_and_query().map_or("/", |p| p.as_str()).parse()?;
    *onward.headers_mut() = forwarded(request.headers());
    onward.headers_mut().insert(header::HOST, authority.as_str().parse()?);
    let mut answer = sender.send_request(onward).await.context("the runtime's stream server broke off")?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let mut response = Response::from_parts(parts, full(bytes));
        response.headers_mut().remove(header::CONNECTION);
        response.headers_mut().remove(header::TRANSFER_ENCODING);
        return Ok(response);
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let downstream = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match tokio::try_join!(upstream, downstream) {
            Ok((up, down)) => {
                copy_bidirectional(&mut TokioIo::new(up), &mut TokioIo::new(down)).await.ok();
            }
            Err(error) => tracing::debug!("a stream did not begin: {error}"),
        }
    });
    let (parts, _) = answer.into_parts();
    Ok(Response::from_parts(parts, full(bytes::Bytes::new())))
}

/// Everything about the upgrade; nothing about who asks.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut onward = headers.clone();
    for name in [header::AUTHORIZATION, header::CONTENT_LENGTH, header::COOKIE, header::HOST] {
        onward.remove(name);
    }
    onward
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = [("command", "/bin/sh"), ("command", "-c"), ("output", "1"), ("error", "1"), ("tty", "1")];
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        let streams = Streams::parse(&query);
        assert_eq!(streams.command, ["/bin/sh", "-c"]);
        assert!(streams.stdout && streams.tty && !streams.stderr && streams.check().is_ok());
        assert!(Streams::default().check().is_err());
    }
}
