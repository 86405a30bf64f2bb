//! Taking a member out of etcd.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hoststate::members::{Member, may_remove};

use crate::Config;
use crate::passing::is_passing;
use crate::speaker::{AGAIN, Speakers};

/// etcd takes nobody out whom it still holds for connected, unless a majority besides has been connected for 5 s; that a host
/// went away without a word it notices after 5 s (`mayRemoveMember` of its server, `HealthInterval`, rafthttp's
/// `ConnReadTimeout`). Each attempt asks every member first, which takes 4 s where one is silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes a member out of etcd. Gives those that are left.
///
/// # Errors
/// Where that could cost the majority, and where etcd refuses it for longer than it takes to notice who is gone.
pub async fn remove(config: &Config, id: u64) -> Result<Vec<Member>> {
    let speakers = Speakers::new(config)?;
    let started = Instant::now();
    loop {
        let (mut speaker, members) = speakers.list().await?;
        may_remove(&members, id).map_err(anyhow::Error::msg)?;
        match speaker.member_remove(id).await {
            Ok(_) => return speakers.list().await.map(|(_, members)| members),
            Err(error) if started.elapsed() < PATIENCE && is_passing(&error) => {
                tracing::info!("the member {id:x} cannot be taken out yet: {error}");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error).with_context(|| format!("etcd does not remove the member {id:x}")),
        }
    }
}
