//! `/containerLogs`: a container's log in the runtime's format, cut and followed as asked.
//!
//! Format: `<RFC 3339 time> <stdout|stderr> <F|P>[:…] <content>\n`; P marks a line that goes on in the
//! next entry. Upstream: `cri-api/pkg/apis/runtime/v1/constants.go`, `pkg/kubelet/kuberuntime/logs`.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use k8s_openapi::jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use crate::cri::Cri;

const CHUNK: usize = 64 * 1024;
/// A follower looks this often whether the container has ended.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a [u8],
    pub stream: &'a [u8],
    pub partial: bool,
    pub content: &'a [u8],
}

/// One entry without its newline; `None` if it is not in the format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let content = parts.next().unwrap_or_default();
    if !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, content })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub limit: Option<u64>,
    pub since: Option<Timestamp>,
    pub stream: Option<String>,
}

impl Options {
    pub fn parse(query: &HashMap<String, String>) -> Result<Options> {
        let flag = |name: &str| query.get(name).is_some_and(|v| matches!(v.as_str(), "true" | "1"));
        let number = |name: &str| -> Result<Option<u64>> {
            let text = query.get(name).filter(|t| !t.is_empty());
            text.map(|t| t.parse().with_context(|| format!("{name} must be a number that is not negative"))).transpose()
        };
        let since_time = query.get("sinceTime").filter(|t| !t.is_empty());
        let since = match (number("sinceSeconds")?, since_time) {
            (Some(seconds), _) => {
                Timestamp::from_second(Timestamp::now().as_second() - i64::try_from(seconds).unwrap_or(i64::MAX / 2))
                    .ok()
            }
            (None, Some(text)) => Some(text.parse().context("sinceTime must be an RFC 3339 time")?),
            (None, None) => None,
        };
        let stream = query.get("stream").map(|s| s.to_lowercase()).filter(|s| s != "all" && !s.is_empty());
        Ok(Options {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            tail: number("tailLines")?,
            limit: number("limitBytes")?,
            since,
            stream,
        })
    }
}

/// Turns entries into what the client asked to see.
pub struct Filter {
    options: Options,
    left: Option<u64>,
    at_line_start: bool,
}

impl Filter {
    pub fn new(options: Options) -> Filter {
        Filter { left: options.limit, options, at_line_start: true }
    }

    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    pub fn push(&mut self, entry: &[u8], out: &mut BytesMut) {
        let Some(line) = parse(entry) else { return };
        if self.options.stream.as_ref().is_some_and(|s| s.as_bytes() != line.stream) || self.too_old(&line) {
            return;
        }
        let from = out.len();
        if self.options.timestamps && self.at_line_start {
            out.extend_from_slice(line.time);
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(line.content);
        if !line.partial {
            out.extend_from_slice(b"\n");
        }
        self.at_line_start = !line.partial;
        if let Some(left) = &mut self.left {
            let added = u64::try_from(out.len() - from).unwrap_or(u64::MAX);
            let kept = added.min(*left);
            out.truncate(from + usize::try_from(kept).unwrap_or(0));
            *left -= kept;
        }
    }

    fn too_old(&self, line: &Line<'_>) -> bool {
        let Some(since) = self.options.since else { return false };
        let time = std::str::from_utf8(line.time).ok().and_then(|t| t.parse::<Timestamp>().ok());
        time.is_some_and(|time| time < since)
    }
}

/// Sends the log into `out` until its end, or the container's when following.
pub async fn stream(
    cri: Cri,
    id: String,
    path: PathBuf,
    options: Options,
    out: mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    if let Err(error) = send(&cri, &id, &path, options, &out).await {
        tracing::debug!("log of container {id}: {error:#}");
    }
}

async fn send(
    cri: &Cri,
    id: &str,
    path: &Path,
    options: Options,
    out: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<()> {
    let mut file = open_when_there(cri, id, path, options.follow).await?;
    if let Some(lines) = options.tail {
        let start = tail_offset(&mut file, lines).await?;
        file.seek(std::io::SeekFrom::Start(start)).await?;
    }
    let follow = options.follow;
    let mut filter = Filter::new(options);
    let mut pending = BytesMut::new();
    let mut news = News::watch(path);
    loop {
        let ended = follow && !is_running(cri, id).await;
        drain(&mut file, &mut pending, &mut filter, out).await?;
        if filter.is_full() || ended || !follow {
            return Ok(());
        }
        if replaced(&file, path).await {
            file = tokio::fs::File::open(path).await?;
            news = News::watch(path);
            continue;
        }
        tokio::select! {
            () = news.wait() => {}
            () = out.closed() => return Ok(()),
        }
    }
}

async fn open_when_there(cri: &Cri, id: &str, path: &Path, follow: bool) -> Result<tokio::fs::File> {
    loop {
        match tokio::fs::File::open(path).await {
            Ok(file) => return Ok(file),
            Err(_) if follow && is_running(cri, id).await => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        }
    }
}

async fn drain(
    file: &mut tokio::fs::File,
    pending: &mut BytesMut,
    filter: &mut Filter,
    out: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<()> {
    loop {
        pending.reserve(CHUNK);
        if file.read_buf(pending).await? == 0 {
            return Ok(());
        }
        let mut ready = BytesMut::new();
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let entry = pending.split_to(end + 1);
            filter.push(&entry[..end], &mut ready);
        }
        if !ready.is_empty() {
            out.send(Ok(ready.freeze())).await.context("the client has gone")?;
        }
        if filter.is_full() {
            return Ok(());
        }
    }
}

/// Where the last `lines` lines begin, found from the end.
async fn tail_offset(file: &mut tokio::fs::File, lines: u64) -> Result<u64> {
    let size = file.metadata().await?.len();
    if lines == 0 {
        return Ok(size);
    }
    let mut found = 0;
    let mut end = size;
    let mut buffer = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let length = usize::try_from(end - start)?;
        file.seek(std::io::SeekFrom::Start(start)).await?;
        file.read_exact(&mut buffer[..length]).await?;
        for at in (0..length).rev() {
            let position = start + at as u64;
            if buffer[at] == b'\n' && position + 1 != size {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

async fn is_running(cri: &Cri, id: &str) -> bool {
    use k8s_cri::v1::ContainerState;
    let status = cri.container_status(id).await.ok().flatten();
    status.is_some_and(|s| {
        s.state == ContainerState::ContainerRunning as i32 || s.state == ContainerState::ContainerCreated as i32
    })
}

/// The log was rotated: another file has its name.
async fn replaced(file: &tokio::fs::File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata().await, tokio::fs::metadata(path).await) else { return false };
    open.ino() != named.ino()
}

/// Tells when the file has grown; without inotify it is looked at every tenth of a second.
struct News(Option<AsyncFd<Descriptor>>);

struct Descriptor(Inotify);

/// inotify(7) in the runtime's own poller.
#[allow(unsafe_code)]
fn registered(inotify: Inotify) -> Option<AsyncFd<Descriptor>> {
    // SAFETY: the descriptor belongs to the value that is registered and is closed with it
    unsafe { AsyncFd::register(Descriptor(inotify)) }.ok()
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl News {
    fn watch(path: &Path) -> News {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            inotify
                .add_watch(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF)
                .ok()?;
            registered(inotify)
        };
        News(watch())
    }

    async fn wait(&mut self) {
        let Some(inotify) = &self.0 else { return tokio::time::sleep(Duration::from_millis(100)).await };
        if let Ok(Ok(mut guard)) = tokio::time::timeout(LOOK, inotify.readable()).await {
            inotify.get_ref().0.read_events().ok();
            guard.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n2026-01-01T00:00:02.5Z stderr P tw\n\
                       2026-01-01T00:00:03.5Z stderr F o\n2026-01-01T00:00:04.5Z stdout F three\n";

    fn shown(query: &[(&str, &str)]) -> String {
        let query = query.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        let mut filter = Filter::new(Options::parse(&query).unwrap());
        let mut out = BytesMut::new();
        for line in LOG.lines() {
            filter.push(line.as_bytes(), &mut out);
        }
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn entries_become_text() {
        assert_eq!(shown(&[]), "one\ntwo\nthree\n");
        assert_eq!(shown(&[("limitBytes", "5")]), "one\nt");
        assert_eq!(shown(&[("sinceTime", "2026-01-01T00:00:04Z")]), "three\n");
        assert_eq!(shown(&[("stream", "Stderr")]), "two\n");
        assert!(
            shown(&[("timestamps", "true")]).starts_with("2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02.5Z two\n")
        );
    }

    #[tokio::test]
    async fn the_tail_is_found_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut file = tokio::fs::File::open(&path).await.unwrap();
        let offset = tail_offset(&mut file, 1).await.unwrap();
        assert_eq!(&LOG[usize::try_from(offset).unwrap()..], "2026-01-01T00:00:04.5Z stdout F three\n");
        assert_eq!(tail_offset(&mut file, 100).await.unwrap(), 0);
        assert_eq!(tail_offset(&mut file, 0).await.unwrap(), LOG.len() as u64);
    }
}
