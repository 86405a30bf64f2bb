//! Where a dump comes from.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use archive::dump::Encoder;
use serde::Deserialize;
use store::{EtcdConfig, EtcdStore, KeyValue, RangeRequest, Store as _};

/// In the directory of the embedded store.
pub const SOCKET: &str = "store.sock";

/// A compressed dump.
pub enum Source {
    /// From the API server that has the store open.
    Server(UnixStream),
    Made(io::Cursor<Vec<u8>>),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Server(stream) => stream.read(buffer),
            Self::Made(bytes) => bytes.read(buffer),
        }
    }
}

/// What concerns the store in `/etc/kinstall/control-plane.yaml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    api_server: ApiServer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiServer {
    data_dir: PathBuf,
    etcd: Option<Etcd>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Etcd {
    endpoints: Vec<String>,
    ca_file: PathBuf,
    cert_file: PathBuf,
    key_file: PathBuf,
    cluster: Option<String>,
}

impl Source {
    /// Asks the API server; where none runs, reads the store's files or etcd.
    pub async fn find(config: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
        let Config { api_server } =
            serde_yaml::from_str(&text).with_context(|| format!("cannot understand {}", config.display()))?;
        if let Ok(stream) = UnixStream::connect(api_server.data_dir.join(SOCKET)) {
            return Ok(Self::Server(stream));
        }
        tracing::info!("no API server runs here: reading the store without one");
        let (objects, revision) = match api_server.etcd {
            Some(etcd) => in_etcd(etcd).await?,
            None => match store::contents(&api_server.data_dir)? {
                Some(found) => found,
                None => bail!("there is no store in {}", api_server.data_dir.display()),
            },
        };
        Ok(Self::Made(io::Cursor::new(dump(&objects, revision, Vec::new())?)))
    }
}

/// Writes these objects, compressed, and gives back what was written to.
pub fn dump<W: io::Write>(objects: &[KeyValue], revision: u64, out: W) -> io::Result<W> {
    let mut encoder = Encoder::new(zstd::Encoder::new(out, 3)?, revision)?;
    for kv in objects {
        encoder.record(&kv.key, &kv.value, kv.create_revision, kv.mod_revision)?;
    }
    encoder.finish()?.finish()
}

async fn in_etcd(etcd: Etcd) -> anyhow::Result<(Vec<KeyValue>, u64)> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let config = EtcdConfig {
        ca: Some(read(&etcd.ca_file)?),
        identity: Some((read(&etcd.cert_file)?, read(&etcd.key_file)?)),
        endpoints: etcd.endpoints,
        founder: None,
        cluster: etcd.cluster,
    };
    let store = EtcdStore::open(&config).await.context("cannot read the store in etcd")?;
    let all = store.range(RangeRequest::default()).await?;
    Ok((all.items, all.revision))
}
