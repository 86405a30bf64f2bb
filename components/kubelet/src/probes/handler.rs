//! Doing one probe or hook: exec, HTTP, TCP, gRPC.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::{Surroundings, grpc};
use crate::cri::Cri;

/// An answer longer than this is not read to its end.
const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

#[derive(Debug, Clone)]
pub struct Target {
    pub container_id: String,
    pub ip: String,
}

/// The client of all HTTP probes: no connection is kept, any certificate will do, redirects stay on the host.
pub fn http_client() -> Result<reqwest::Client> {
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let elsewhere = attempt.previous().first().is_some_and(|first| first.host_str() != attempt.url().host_str());
        if elsewhere || attempt.previous().len() > MAX_REDIRECTS { attempt.stop() } else { attempt.follow() }
    });
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(redirects)
        .pool_max_idle_per_host(0)
        .no_proxy()
        .http1_only()
        .build()
        .context("cannot make the probes' HTTP client")
}

pub async fn probe(
    around: &Surroundings,
    target: &Target,
    container: &Container,
    probe: &Probe,
    timeout: Duration,
) -> Result<()> {
    if let Some(exec) = &probe.exec {
        return run(&around.cri, target, exec.command.clone().unwrap_or_default(), timeout).await;
    }
    let attempt = async {
        if let Some(action) = &probe.http_get {
            http(&around.http, target, container, action, "kube-probe/1.37").await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(target, container, action.host.as_deref(), &action.port).await
        } else if let Some(action) = &probe.grpc {
            let port = u16::try_from(action.port).context("the probe's port is out of range")?;
            grpc::check(&target.ip, port, action.service.as_deref().unwrap_or_default()).await
        } else {
            bail!("the probe names no way to probe")
        }
    };
    tokio::time::timeout(timeout, attempt)
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {} s", timeout.as_secs()))?
}

/// A postStart or preStop hook; the caller bounds its time.
pub async fn hook(
    cri: &Cri,
    http_client: &reqwest::Client,
    target: &Target,
    container: &Container,
    handler: &LifecycleHandler,
) -> Result<()> {
    if let Some(exec) = &handler.exec {
        return run(cri, target, exec.command.clone().unwrap_or_default(), Duration::ZERO).await;
    }
    if let Some(action) = &handler.http_get {
        return http(http_client, target, container, action, "kube-lifecycle/1.37").await;
    }
    if let Some(action) = &handler.tcp_socket {
        return tcp(target, container, action.host.as_deref(), &action.port).await;
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}

async fn run(cri: &Cri, target: &Target, command: Vec<String>, timeout: Duration) -> Result<()> {
    let answer = cri.exec_sync(&target.container_id, command, timeout).await?;
    if answer.exit_code == 0 {
        return Ok(());
    }
    let mut output = answer.stdout;
    output.extend(answer.stderr);
    output.truncate(MAX_BODY);
    bail!("command exited with {}: {}", answer.exit_code, String::from_utf8_lossy(&output).trim())
}

async fn http(
    client: &reqwest::Client,
    target: &Target,
    container: &Container,
    action: &HTTPGetAction,
    agent: &str,
) -> Result<()> {
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let port = port(container, &action.port)?;
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::USER_AGENT, http::HeaderValue::from_str(agent)?);
    headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("*/*"));
    headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    let mut first = std::collections::HashSet::new();
    for header in action.http_headers.iter().flatten() {
        let name: http::HeaderName = header.name.parse().with_context(|| format!("bad header {:?}", header.name))?;
        let value: http::HeaderValue =
            header.value.parse().with_context(|| format!("bad value of header {:?}", header.name))?;
        // the probe's own words replace ours; given twice, both are sent
        if first.insert(name.clone()) {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    let url = format!("{scheme}://{host}:{port}{path}");
    let mut answer = client.get(&url).headers(headers).send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let mut body = Vec::new();
    while body.len() < MAX_BODY
        && let Some(chunk) = answer.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    bail!("HTTP probe failed with statuscode: {}", status.as_u16())
}

async fn tcp(target: &Target, container: &Container, host: Option<&str>, port_name: &IntOrString) -> Result<()> {
    let host = host.filter(|h| !h.is_empty()).unwrap_or(&target.ip);
    let port = port(container, port_name)?;
    TcpStream::connect((host, port)).await.with_context(|| format!("dial tcp {host}:{port}"))?;
    Ok(())
}

fn port(container: &Container, port: &IntOrString) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .with_context(|| format!("container {} has no port {port:?}", container.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn action(port: u16) -> HTTPGetAction {
        HTTPGetAction { port: IntOrString::Int(i32::from(port)), path: Some("/x".into()), ..Default::default() }
    }

    async fn answering(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn http_answers_are_judged() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let client = http_client().unwrap();
        let target = Target { container_id: String::new(), ip: "127.0.0.1".into() };
        let ask = async |answer| {
            let port = answering(answer).await;
            http(&client, &target, &Container::default(), &action(port), "kube-probe/1.37").await
        };
        assert!(ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_ok());
        assert!(
            ask("HTTP/1.1 302 Found\r\nlocation: http://elsewhere.invalid/\r\ncontent-length: 0\r\n\r\n").await.is_ok()
        );
        let failed = ask("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await.unwrap_err();
        assert_eq!(failed.to_string(), "HTTP probe failed with statuscode: 500");
    }

    #[test]
    fn named_ports() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 81}]}))
                .unwrap();
        assert_eq!(port(&container, &IntOrString::String("web".into())).unwrap(), 81);
        assert!(port(&container, &IntOrString::String("none".into())).is_err());
    }
}
