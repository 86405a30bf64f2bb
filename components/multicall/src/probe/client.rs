//! The probe's checks: does this name resolve, does this URL answer.

use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Between attempts of one check. What is waited for (rules in the kernel of another host) tells nobody when it is there.
const PAUSE: Duration = Duration::from_millis(200);
/// One attempt; a packet that is dropped must not use up the whole time of the check.
const ATTEMPT: Duration = Duration::from_secs(2);
const BODY_LIMIT: usize = 1 << 20;

pub async fn check(names: &[String], urls: &[String], expect: Option<&str>, timeout: Duration) -> anyhow::Result<()> {
    let mut failed = 0;
    for name in names {
        failed += report("dns", name, repeat(timeout, || resolve(name)).await);
    }
    for url in urls {
        failed += report("get", url, repeat(timeout, || fetch(url, expect)).await);
    }
    ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}

struct Outcome<T> {
    result: anyhow::Result<T>,
    attempts: u32,
    elapsed: Duration,
}

async fn repeat<T, F: Future<Output = anyhow::Result<T>>>(timeout: Duration, attempt: impl Fn() -> F) -> Outcome<T> {
    let started = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let result = match tokio::time::timeout(ATTEMPT, attempt()).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("no answer within {ATTEMPT:?}")),
        };
        if result.is_ok() || started.elapsed() >= timeout {
            return Outcome { result, attempts, elapsed: started.elapsed() };
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints one line of JSON; gives 1 for a failure.
fn report<T: serde::Serialize>(check: &str, target: &str, outcome: Outcome<T>) -> u32 {
    let (ok, answer, error) = match &outcome.result {
        Ok(answer) => (true, serde_json::to_value(answer).unwrap_or_default(), None),
        Err(error) => (false, serde_json::Value::Null, Some(format!("{error:#}"))),
    };
    println!(
        "{}",
        serde_json::json!({
            "check": check, "target": target, "ok": ok, "answer": answer, "error": error,
            "attempts": outcome.attempts, "millis": u64::try_from(outcome.elapsed.as_millis()).unwrap_or(u64::MAX),
        })
    );
    u32::from(!ok)
}

async fn resolve(name: &str) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let resolver = hickory_resolver::TokioResolver::builder_tokio().context("cannot read /etc/resolv.conf")?.build()?;
    let found: Vec<IpAddr> = resolver.lookup_ip(name).await?.iter().collect();
    ensure!(!found.is_empty(), "{name} has no address");
    Ok(found)
}

async fn fetch(url: &str, expect: Option<&str>) -> anyhow::Result<String> {
    let uri: http::Uri = url.parse()?;
    ensure!(uri.scheme_str() == Some("http"), "only http:// URLs can be fetched");
    let host = uri.host().context("the URL names no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let addresses = resolve(host.trim_matches(['[', ']'])).await?;
    let stream =
        TcpStream::connect((addresses[0], port)).await.with_context(|| format!("cannot connect to {host}:{port}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request =
        http::Request::get(path).header(http::header::HOST, format!("{host}:{port}")).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), BODY_LIMIT).collect().await.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
    connection.abort();
    let body = String::from_utf8_lossy(&body).trim().to_owned();
    if !status.is_success() {
        bail!("{status}: {body}");
    }
    if let Some(wanted) = expect {
        ensure!(body.contains(wanted), "{wanted:?} is not in {body:?}");
    }
    Ok(body)
}
