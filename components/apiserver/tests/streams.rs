//! exec over WebSocket v5 and proxying, by real clients, to a kubelet of the test's own that speaks SPDY.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
    sync::Arc,
};

use certs::{Ca, Leaf, Subject, Usage};
use common::Api;
use flate2::{Decompress, FlushDecompress};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A kubelet whose every process is `cat` with exit code 7.
async fn kubelet(api: &Api) -> SocketAddr {
    let read = |name: &str| std::fs::read_to_string(api.path().join(name)).unwrap();
    let ca = Ca::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
    let leaf = Leaf::new(Subject::new("system:node:n1", &["system:nodes"]), Usage::Server).names(["127.0.0.1"]);
    let issued = ca.issue(&leaf).unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(cat(stream));
        }
    });
    address
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn cat(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let head = read_head(&mut stream).await;
    if !head.to_ascii_lowercase().contains("upgrade: spdy/3.1") {
        let body = format!("asked for {}", head.split(' ').nth(1).unwrap());
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        return stream.write_all(answer.as_bytes()).await.unwrap();
    }
    assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{head}");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n";
    stream.write_all(switch.as_bytes()).await.unwrap();
    let mut inflate = Decompress::new(true);
    let mut streams: HashMap<String, u32> = HashMap::new();
    loop {
        let (first, second) = (stream.read_u32().await.unwrap(), stream.read_u32().await.unwrap());
        let mut payload = vec![0; (second & 0x00ff_ffff) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if first & 0x8000_0000 != 0 {
            assert_eq!(first, 0x8003_0001, "only new streams are expected");
            let id = u32::from_be_bytes(payload[..4].try_into().unwrap());
            let mut plain = Vec::with_capacity(4096);
            inflate.decompress_vec(&payload[10..], &mut plain, FlushDecompress::Sync).unwrap();
            let text = String::from_utf8(plain[18..].to_vec()).unwrap();
            streams.insert(text.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_owned(), id);
            continue;
        }
        assert_eq!(first, streams["stdin"]);
        let data = |id: u32, bytes: &[u8], last: bool| {
            let mut frame = id.to_be_bytes().to_vec();
            frame.extend((u32::from(last) << 24 | u32::try_from(bytes.len()).unwrap()).to_be_bytes());
            frame.extend(bytes);
            frame
        };
        stream.write_all(&data(streams["stdout"], &payload, false)).await.unwrap();
        if second >> 24 == 1 {
            let outcome = json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with non-zero exit code",
                "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}
            });
            stream.write_all(&data(streams["error"], outcome.to_string().as_bytes(), true)).await.unwrap();
            for name in ["stdout", "stderr"] {
                stream.write_all(&data(streams[name], &[], true)).await.unwrap();
            }
            return;
        }
    }
}

async fn with_pod() -> Api {
    let api = Api::start().await;
    let address = kubelet(&api).await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    api.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
    }});
    assert_eq!(api.call("PATCH", "/api/v1/nodes/n1/status", status).await.0, 200);
    let spec =
        json!({"nodeName": "n1", "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 8080}]}]});
    let labels = json!({"app": "p"});
    api.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "p", "labels": labels}, "spec": spec}))
        .await;
    let running = json!({"status": {"phase": "Running"}});
    assert_eq!(api.call("PATCH", "/api/v1/namespaces/default/pods/p/status", running).await.0, 200);
    api
}

/// Newer kubectl, which speak v5, lie beside older ones where Google's SDK is installed.
fn newest_kubectl() -> Option<String> {
    let mut found: Vec<String> = std::fs::read_dir("/usr/lib/google-cloud-sdk/bin")
        .ok()?
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.contains("/kubectl.1."))
        .collect();
    found.sort();
    found.pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_kubectl_runs_a_process_with_input_and_learns_its_exit_code() {
    let api = with_pod().await;
    let Some(program) = newest_kubectl() else {
        println!("not run: this machine has no kubectl that speaks v5.channel.k8s.io");
        return;
    };
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(api.path().join("admin.kubeconfig")).arg("--cache-dir").arg(api.path().join("c"));
    command.args(["exec", "-i", "p", "-v=8", "--", "cat"]).env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (code, out, err) = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"hello\n").unwrap();
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (child.wait().unwrap().code(), out, err)
    })
    .await
    .unwrap();
    assert_eq!((code, out.as_str()), (Some(7), "hello\n"), "{err}");
    assert!(err.contains("v5.channel.k8s.io") && !err.contains("fallback to secondary dialer"), "{err}");
}

/// An address of this machine that is not loopback: what is sent there never leaves it.
fn own_address() -> IpAddr {
    let output = Command::new("hostname").arg("-I").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter_map(|a| a.parse().ok()).find(|a: &IpAddr| a.is_ipv4()).expect("an IPv4 address")
}

/// Answers each request with its request line, and `/moved` with a redirect.
async fn web(address: IpAddr) -> u16 {
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_head(&mut stream).await;
            let line = head.lines().next().unwrap();
            let moved =
                if line.contains("/moved") { ("302 Found", "location: /there?x=1\r\n") } else { ("200 OK", "") };
            let seen = if head.contains("authorization") { " with credentials" } else { "" };
            let body = format!("{line}{seen}");
            let answer = format!("HTTP/1.1 {}\r\n{}content-length: {}\r\n\r\n{body}", moved.0, moved.1, body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn pods_services_and_nodes_answer_through_the_proxy() {
    let api = with_pod().await;
    let address = own_address();
    let port = web(address).await;
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
    assert_eq!(api.call("PATCH", "/api/v1/namespaces/default/pods/p/status", status).await.0, 200);
    let pod = format!("/api/v1/namespaces/default/pods/p:{port}/proxy");

    let (code, text) = api.call("GET", &format!("{pod}/a%2Fb/c/?d=e&d=f"), Value::Null).await;
    assert_eq!((code, text), (200, "GET /a%2Fb/c/?d=e&d=f HTTP/1.1".into()));
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let (code, text) = api.call(method, &format!("{pod}/x"), Value::Null).await;
        assert_eq!((code, text), (200, format!("{method} /x HTTP/1.1").into()));
    }
    let there = api.send(common::admin(), "GET", &format!("{pod}?q=1"), "", "").await;
    assert_eq!(
        (there.status().as_u16(), there.headers()["location"].to_str().unwrap()),
        (301, &*format!("{pod}/?q=1"))
    );
    let moved = api.send(common::admin(), "GET", &format!("{pod}/moved"), "", "").await;
    assert_eq!(moved.headers()["location"].to_str().unwrap(), format!("{pod}/there?x=1"));

    let spec = json!({"selector": {"app": "p"}, "ports": [{"name": "web", "port": 80}]});
    api.create("/api/v1/namespaces/default/services", json!({"metadata": {"name": "s"}, "spec": spec})).await;
    let service = "/api/v1/namespaces/default/services/s";
    let (code, error) = api.call("GET", &format!("{service}:web/proxy/"), Value::Null).await;
    assert_eq!((code, error["message"].as_str()), (503, Some("no endpoints available for service \"s\"")));
    let slice = json!({
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "ports": [{"name": "web", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "p"}}],
    });
    api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    for name in ["s", "s:web", "s:80", "http:s:web"] {
        let (code, text) =
            api.call("GET", &format!("/api/v1/namespaces/default/services/{name}/proxy/y"), Value::Null).await;
        assert_eq!((code, text), (200, "GET /y HTTP/1.1".into()), "{name}");
    }

    let (code, text) = api.call("GET", "/api/v1/nodes/n1/proxy/healthz", Value::Null).await;
    assert_eq!((code, text), (200, "asked for /healthz".into()));
}

#[tokio::test]
async fn nothing_is_reached_that_only_this_host_can_reach() {
    let api = with_pod().await;
    let port = web("127.0.0.1".parse().unwrap()).await;
    for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0"] {
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        assert_eq!(api.call("PATCH", "/api/v1/namespaces/default/pods/p/status", status).await.0, 200);
        let (code, error) =
            api.call("GET", &format!("/api/v1/namespaces/default/pods/p:{port}/proxy/"), Value::Null).await;
        assert_eq!((code, error["message"].as_str()), (400, Some("address not allowed")), "{address}");
    }
    let (code, _) = api.call("GET", &format!("/api/v1/nodes/n1:{port}/proxy/"), Value::Null).await;
    assert_eq!(code, 400);
    let (code, error) = api.call("GET", "/api/v1/namespaces/default/pods/ftp:p:1/proxy/", Value::Null).await;
    assert_eq!((code, error["message"].as_str()), (400, Some("invalid pod request \"ftp:p:1\"")));
}
