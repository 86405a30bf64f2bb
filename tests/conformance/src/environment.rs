//! What all tests of a run share.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::client::Client;
use crate::kubeconfig::Kubeconfig;
use crate::kubectl::{self, Kubectl};
use crate::nodes::{self, FakeNodes};

/// What the command line says about the run's surroundings.
#[derive(Clone, Debug, clap::Args)]
pub struct Surroundings {
    /// The address webhooks and other servers of the harness listen on; the API server must reach it
    #[arg(long, default_value = "127.0.0.1")]
    pub address: String,
    /// kubectl; the newest of this machine if not given
    #[arg(long)]
    pub kubectl: Option<PathBuf>,
    /// An image whose default command runs for ever; pods of tests run it
    #[arg(long, default_value = "registry.k8s.io/pause:3.10")]
    pub image: String,
    /// An image with busybox and openssl (tests/lab/images/tools), for entries that need a running container
    #[arg(long, default_value = "kinstall.local/tools:1")]
    pub shell_image: String,
}

pub struct Environment {
    pub client: Client,
    pub anonymous: Client,
    pub config: Kubeconfig,
    pub surroundings: Surroundings,
    pub kubectl: Option<Kubectl>,
    /// Real kubelets serve this cluster.
    pub real_nodes: bool,
    pub scratch: tempfile::TempDir,
}

impl Environment {
    /// Makes fake nodes too, where there are no real ones.
    pub async fn new(config: Kubeconfig, surroundings: Surroundings) -> Result<(Self, Option<FakeNodes>)> {
        let client = Client::new(&config)?;
        let anonymous = Client::anonymous(&config)?;
        client.get("/version").await.with_context(|| format!("{} does not answer", config.server))?;
        let scratch = tempfile::tempdir()?;
        let kubectl = surroundings.kubectl.clone().or_else(kubectl::newest).map(|binary| Kubectl {
            binary,
            kubeconfig: config.path.clone(),
            home: scratch.path().to_owned(),
        });
        let real_nodes = nodes::real_nodes(&client).await?;
        let fake = if real_nodes { None } else { Some(FakeNodes::start(client.clone(), &surroundings.address).await?) };
        Ok((Environment { client, anonymous, config, surroundings, kubectl, real_nodes, scratch }, fake))
    }
}
