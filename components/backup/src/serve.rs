//! The API server's side: whoever may open the socket gets the store as it is at this moment.
//!
//! A socket beside the store, and not a way of the API: the embedded store's files can be read by one process only, and what
//! is sealed by encryption at rest is to leave as it is sealed. Only root reaches into the store's directory.

use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use store::{RangeRequest, Store};
use tokio::net::UnixListener;

use crate::source::{SOCKET, dump};

/// Serves until it is dropped. `directory`: of the embedded store, also where there is none.
pub async fn serve(store: Arc<dyn Store>, directory: &Path) -> anyhow::Result<()> {
    let listener = listen(directory)?;
    loop {
        let (stream, _) = listener.accept().await.context("the store's socket broke")?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let store = store.clone();
        tokio::spawn(async move {
            if let Err(error) = send(store, stream).await {
                tracing::warn!("the store could not be sent: {error:#}");
            }
        });
    }
}

fn listen(directory: &Path) -> anyhow::Result<UnixListener> {
    let path = directory.join(SOCKET);
    let told = || format!("cannot listen at {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(told)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(told),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(told)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).with_context(told)?;
    Ok(listener)
}

/// One moment's objects: a single read, so of a single revision.
async fn send(store: Arc<dyn Store>, stream: UnixStream) -> anyhow::Result<()> {
    let all = store.range(RangeRequest::default()).await?;
    tokio::task::spawn_blocking(move || {
        dump(&all.items, all.revision, BufWriter::new(stream))?.flush()?;
        Ok(())
    })
    .await?
}
