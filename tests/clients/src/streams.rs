//! What of kubectl needs a running container: exec, attach, port-forward, cp, logs -f, and the proxy. Older ones speak SPDY,
//! newer ones WebSocket; both must get every byte, in both directions, and the exit code.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout};

use crate::kubectl::Cli;

/// How long a stream may be silent where something has to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any buffer on the way.
const LARGE: usize = 3_000_000;

/// What is tried, for the report.
pub const TRIED: &str = "exec, attach, port-forward, cp, logs -f, proxy";

pub async fn run(cli: &Cli, image: &str) -> Result<()> {
    cli.run(&["create", "-f", "-"], Some(&pod(image))).await?.ok()?;
    cli.has(&["wait", "--for=condition=Ready", "--timeout=120s", "pod/streams"], None, &["condition met"]).await?;
    exec(cli).await.context("exec")?;
    terminal(cli).await.context("exec with a terminal")?;
    attach(cli).await.context("attach")?;
    forward(cli).await.context("port-forward")?;
    copy(cli).await.context("cp")?;
    proxy(cli).await.context("proxy")?;
    follow(cli).await.context("logs -f")
}

/// Serves files of /w, repeats its input, and ends at once.
fn pod(image: &str) -> String {
    let script = format!(
        "mkdir /w; echo page > /w/index.html; head -c {LARGE} /dev/zero | tr '\\0' x > /w/large; httpd -p 8080 -h /w; \
         trap 'exit 0' TERM; while read -r line; do echo got $line; done; while :; do sleep 1; done"
    );
    let container = json!({"name": "main", "image": image, "stdin": true, "command": ["sh", "-c", script],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "streams"},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]}})
    .to_string()
}

async fn exec(cli: &Cli) -> Result<()> {
    let ended = cli.run(&["exec", "streams", "--", "sh", "-c", "echo out; echo problem >&2; exit 7"], None).await?;
    ensure!(ended.code == 7, "exit code {} where the command's was 7: {}", ended.code, ended.stderr);
    ensure!(ended.stdout == "out\n" && ended.stderr.contains("problem"), "{:?} {:?}", ended.stdout, ended.stderr);
    ensure!(!ended.stdout.contains("problem"), "the streams are mixed");
    let through = "0123456789abcdef".repeat(LARGE / 16);
    let back = cli.run(&["exec", "-i", "streams", "--", "cat"], Some(&through)).await?.ok()?;
    ensure!(back == through, "cat gave back {} of {} bytes, or others", back.len(), through.len());
    cli.run(&["exec", "streams", "--", "no-such-program"], None).await?.fails("no-such-program")?;
    cli.run(&["exec", "streams", "-c", "other", "--", "true"], None).await?.fails("other")
}

/// `script` lends kubectl a terminal.
async fn terminal(cli: &Cli) -> Result<()> {
    let kubectl = cli.kubectl.binary.display();
    // the size is sent beside the command, so it may come a moment later
    let inside = "tty; until stty size | grep \"40 123\"; do sleep 0.1; done; exit 3";
    let line = format!("{kubectl} -n {} exec -it streams -- sh -c '{inside}'", cli.namespace);
    let mut command = tokio::process::Command::new("script");
    command
        .args(["-q", "-e", "-c", &format!("stty rows 40 cols 123; {line}"), "/dev/null"])
        .env("KUBECONFIG", &cli.kubectl.kubeconfig)
        .env("HOME", &cli.kubectl.home)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.context("no size within 30 s")??;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(printed.contains("/dev/pts/"), "no terminal in the container: {printed:?}");
    ensure!(printed.contains("40 123"), "the terminal's size did not arrive: {printed:?}");
    ensure!(output.status.code() == Some(3), "exit code {:?}: {printed:?}", output.status.code());
    Ok(())
}

async fn attach(cli: &Cli) -> Result<()> {
    let mut command = cli.kubectl.command(&["-n", &cli.namespace, "attach", "-i", "streams"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn()?;
    let mut lines = lines(&mut child)?;
    let mut stdin = child.stdin.take().context("no input")?;
    stdin.write_all(b"hello\n").await?;
    until(&mut lines, "got hello").await?;
    stdin.write_all(b"again\n").await?;
    until(&mut lines, "got again").await
}

async fn forward(cli: &Cli) -> Result<()> {
    let mut child = cli.kubectl.command(&["-n", &cli.namespace, "port-forward", "pod/streams", ":8080"]).spawn()?;
    let mut lines = lines(&mut child)?;
    let place = until_found(&mut lines, "Forwarding from 127.0.0.1:").await?;
    let port: u16 =
        place.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context("no port")?.parse()?;
    ensure!(get(port, "/index.html").await?.ends_with(b"page\n"), "another page");
    let several = (0..8).map(|_| get(port, "/large"));
    for body in futures::future::try_join_all(several).await? {
        let bytes = body.iter().rev().take_while(|byte| **byte == b'x').count();
        ensure!(bytes == LARGE, "{bytes} of {LARGE} bytes came through");
    }
    ensure!(get(port, "/index.html").await?.ends_with(b"page\n"), "another page after many");
    ensure!(child.try_wait()?.is_none(), "port-forward has ended by itself");
    Ok(())
}

/// One request; everything until the server closes.
async fn get(port: u16, path: &str) -> Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut body = Vec::new();
        stream.read_to_end(&mut body).await?;
        anyhow::Ok(body)
    };
    tokio::time::timeout(PATIENCE, answer).await.with_context(|| format!("GET {path}: no end"))?
}

async fn copy(cli: &Cli) -> Result<()> {
    let home = &cli.kubectl.home;
    let (there, back) = (home.join("there"), home.join("back"));
    std::fs::create_dir_all(there.join("inner"))?;
    let bytes: Vec<u8> = (0..LARGE).map(|_| rand::random()).collect();
    std::fs::write(there.join("inner/bytes"), &bytes)?;
    std::fs::write(there.join("note"), "hello")?;
    let (local, remote) = (there.display().to_string(), back.display().to_string());
    cli.run(&["cp", &local, "streams:/tmp/copied"], None).await?.ok()?;
    cli.run(&["cp", "streams:/tmp/copied", &remote], None).await?.ok()?;
    ensure!(std::fs::read(back.join("inner/bytes"))? == bytes, "a file came back with other bytes");
    ensure!(std::fs::read_to_string(back.join("note"))? == "hello", "a file came back with another text");
    Ok(())
}

/// A page of the pod through `kubectl proxy` and the API server.
async fn proxy(cli: &Cli) -> Result<()> {
    let mut child = cli.kubectl.command(&["proxy", "--port=0"]).spawn()?;
    let mut lines = lines(&mut child)?;
    let place = until_found(&mut lines, "Starting to serve on 127.0.0.1:").await?;
    let port: u16 = place.rsplit(':').next().context("no port")?.trim().parse()?;
    let pod = format!("/api/v1/namespaces/{}/pods", cli.namespace);
    let page = get(port, &format!("{pod}/streams:8080/proxy/index.html")).await?;
    ensure!(page.ends_with(b"page\n"), "another page: {}", String::from_utf8_lossy(&page));
    let list = get(port, &pod).await?;
    let body = list.windows(4).position(|end| end == b"\r\n\r\n").context("no body")?;
    let list: Value = serde_json::from_slice(&list[body + 4..])?;
    ensure!(list["items"][0]["metadata"]["name"] == "streams", "another list: {list}");
    Ok(())
}

/// Lines arrive as they are written, and the end of the container ends it.
async fn follow(cli: &Cli) -> Result<()> {
    let mut child = cli.kubectl.command(&["-n", &cli.namespace, "logs", "-f", "streams"]).spawn()?;
    let mut lines = lines(&mut child)?;
    until(&mut lines, "got again").await?;
    for text in ["first", "second"] {
        cli.run(&["exec", "streams", "--", "sh", "-c", &format!("echo {text} > /proc/1/fd/1")], None).await?.ok()?;
        until(&mut lines, text).await?;
    }
    cli.has(&["delete", "pod", "streams", "--wait=false"], None, &["deleted"]).await?;
    let status =
        tokio::time::timeout(PATIENCE, child.wait()).await.context("it goes on after the container's end")??;
    ensure!(status.success(), "logs -f ended with {status}");
    Ok(())
}

fn lines(child: &mut Child) -> Result<Lines<BufReader<ChildStdout>>> {
    Ok(BufReader::new(child.stdout.take().context("no output")?).lines())
}

async fn until(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) -> Result<()> {
    until_found(lines, wanted).await.map(drop)
}

/// The first line with this text in it.
async fn until_found(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) -> Result<String> {
    let mut seen = Vec::new();
    let search = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains(wanted) {
                return Ok(line);
            }
            seen.push(line);
        }
        bail!("the output ended")
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(error)) => Err(error.context(format!("no {wanted:?} in {seen:?}"))),
        Err(_) => bail!("no {wanted:?} within {} s in {seen:?}", PATIENCE.as_secs()),
    }
}
