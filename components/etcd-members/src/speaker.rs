//! Asking etcd through whichever member answers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use futures::FutureExt as _;
use futures::future::{join_all, select_ok};
use hoststate::Member;

use crate::Config;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// When a leader is lost nobody answers until there is another one: some 2 s, more where members also restart.
pub const ELECTION: Duration = Duration::from_secs(10);
pub const AGAIN: Duration = Duration::from_millis(500);
/// What a member says that is as well as before: the read has to be asked for once more.
const ANOTHER_LEADER: &str = "etcdserver: leader changed";

pub struct Speakers {
    options: ConnectOptions,
    urls: Vec<String>,
}

impl Speakers {
    pub fn new(config: &Config) -> Result<Self> {
        let read =
            |path: &std::path::Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(&config.ca_file)?))
            .identity(Identity::from_pem(read(&config.cert_file)?, read(&config.key_file)?));
        let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(PATIENCE).with_timeout(PATIENCE);
        Ok(Self { options, urls: config.members.iter().map(|member| member.client_url.clone()).collect() })
    }

    /// The members, and who told. Their health is not looked at: it reads as not healthy. A member's own list may be of the
    /// past, so it is taken after a read that the majority confirmed.
    pub async fn told(&self) -> Result<(Client, Vec<Member>)> {
        let (client, found) = self.ask().await?;
        Ok((client, found.iter().map(|member| as_ours(member, false)).collect()))
    }

    /// The members with their health. Has the patience for an election.
    pub async fn list(&self) -> Result<(Client, Vec<Member>)> {
        let started = Instant::now();
        let (client, found) = loop {
            match self.ask().await {
                Ok(answer) => break answer,
                Err(error) if started.elapsed() > ELECTION => return Err(error),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let looking = found.iter().map(|member| async {
            let healthy = match member.client_urls().first() {
                Some(url) => self.confirmed(url).await.is_ok(),
                // it has never started
                None => false,
            };
            as_ours(member, healthy)
        });
        Ok((client, join_all(looking).await))
    }

    /// Returns when every member that answers knows of its own what the majority has confirmed so far.
    pub async fn everybody_knows(&self) -> Result<()> {
        let (_, found) = self.ask().await?;
        let urls = found.iter().filter_map(|member| member.client_urls().first());
        // who does not answer now is not asked by the one that starts either
        join_all(urls.map(|url| self.confirmed(url))).await;
        Ok(())
    }

    async fn ask(&self) -> Result<(Client, Vec<etcd_client::Member>)> {
        let asking = self.urls.iter().map(|url| self.told_by(url).boxed());
        let (answer, _) =
            select_ok(asking).await.context("no member of etcd answers that sees a majority of the others")?;
        Ok(answer)
    }

    async fn told_by(&self, url: &str) -> Result<(Client, Vec<etcd_client::Member>)> {
        let mut client = self.confirmed(url).await?;
        let members = client.member_list().await?.members().to_vec();
        Ok((client, members))
    }

    /// A connection to a member that answers a read which needs the majority.
    async fn confirmed(&self, url: &str) -> Result<Client> {
        let ask = async {
            let mut client = Client::connect([url], Some(self.options.clone())).await?;
            while let Err(error) = client.get("health", None).await {
                if !error.to_string().contains(ANOTHER_LEADER) {
                    return Err(error.into());
                }
            }
            anyhow::Ok(client)
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(result) => result.with_context(|| format!("{url} does not answer")),
            Err(_) => bail!("{url} does not answer within {} s", PATIENCE.as_secs()),
        }
    }
}

fn as_ours(member: &etcd_client::Member, healthy: bool) -> Member {
    Member {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        learner: member.is_learner(),
        healthy,
    }
}
