//! After etcd has started: this member's vote, and the mark that it had one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::Config;
use crate::files::Files;
use crate::speaker::Speakers;

/// Catching up takes as long as sending the whole store.
const PATIENCE: Duration = Duration::from_secs(280);
const AGAIN: Duration = Duration::from_millis(200);
/// What etcd says until the member has nearly everything.
const BEHIND: &str = "in sync with leader";

pub async fn joined(config: &Config) -> Result<()> {
    let started = Instant::now();
    loop {
        match has_vote(config).await {
            Ok(true) => return Files(config).mark_joined(),
            Ok(false) => {}
            // etcd has found its place: that its majority does not answer now is not this member's fault
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(error) => tracing::info!("not a voting member yet: {error:#}"),
        }
        if started.elapsed() > PATIENCE {
            bail!("this member did not catch up with the others within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Asks for the vote if it is still missing.
async fn has_vote(config: &Config) -> Result<bool> {
    let (mut client, members) = Speakers::new(config)?.told().await?;
    let own = members.iter().find(|member| member.peer_urls.contains(&config.peer_url));
    let own = own.context("etcd does not know this member")?;
    if !own.learner {
        return Ok(true);
    }
    match client.member_promote(own.id).await {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains(BEHIND) => Ok(false),
        Err(error) => Err(error).context("etcd does not give this member its vote"),
    }
}
