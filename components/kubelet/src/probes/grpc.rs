//! The gRPC health check (`grpc.health.v1.Health/Check`, KEP-2727), small enough to be written out.

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

const SERVING: u64 = 1;

pub async fn check(host: &str, port: u16, service: &str) -> Result<()> {
    let stream = TcpStream::connect((host, port)).await.with_context(|| format!("dial tcp {host}:{port}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(message(service)))?;
    let result = async {
        let answer = sender.send_request(request).await?;
        let early = answer.headers().get("grpc-status").cloned();
        let collected = answer.into_body().collect().await?;
        let late = collected.trailers().and_then(|t| t.get("grpc-status").cloned());
        judge(early.or(late).as_ref().map(|v| v.as_bytes()), &collected.to_bytes())
    };
    let result = result.await;
    driver.abort();
    result
}

/// Frame header, then field 1 (the service's name).
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        field.put_u8(u8::try_from(length).unwrap_or(0));
        field.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(field.len()).unwrap_or(0));
    frame.put(field);
    frame.freeze()
}

fn judge(code: Option<&[u8]>, body: &[u8]) -> Result<()> {
    match code {
        None | Some(b"0") => {}
        Some(b"12") => bail!("this server does not implement the grpc health protocol"),
        Some(code) => bail!("health rpc probe failed with status {}", String::from_utf8_lossy(code)),
    }
    // field 1, a small number: UNKNOWN is zero and therefore absent
    let status = match body.get(5..) {
        Some([0x08, status, ..]) => u64::from(*status),
        _ => 0,
    };
    if status != SERVING {
        bail!("service unhealthy (responded with status {status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(judge(Some(b"0"), &[0, 0, 0, 0, 2, 8, 1]).is_ok());
        assert!(judge(Some(b"0"), &[0, 0, 0, 0, 2, 8, 2]).is_err());
        assert!(judge(Some(b"5"), &[]).is_err());
    }
}
