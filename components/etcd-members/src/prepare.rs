//! Before etcd starts: the member's place, and the configuration that says it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use etcd_client::{Client, MemberAddOptions};
use hoststate::Member;
use hoststate::facts::Birth;

use crate::Config;
use crate::files::Files;
use crate::passing::is_passing;
use crate::place::{Place, place};
use crate::speaker::{AGAIN, ELECTION, Speakers};

/// Members come one after another; this one waits for those before it. systemd allows the whole start 300 s.
const PATIENCE: Duration = Duration::from_secs(200);

pub async fn prepare(config: &Config) -> Result<()> {
    let files = Files(config);
    let founding = founding(config);
    let started = Instant::now();
    loop {
        let here = files.here(&founding);
        // who found etcd need not ask whether there is one
        let asked = match config.birth == Birth::Found && !here.had_vote {
            true => Err(anyhow!("nobody was asked")),
            false => Speakers::new(config)?.told().await,
        };
        let members = asked.as_ref().ok().map(|(_, members)| members.as_slice());
        let (place, anew) = match place(config.birth, here, &config.peer_url, members) {
            Ok(place) => place,
            // they may be on their way up with this one, or without a leader
            Err(_) if members.is_none() && started.elapsed() < patience(config.birth) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(why) => bail!("{why}"),
        };
        if anew {
            files.set_aside()?;
        }
        let initial = match (place, asked) {
            (Place::Keep, _) => None,
            (Place::Found, _) => Some(founding),
            (Place::Added, Ok((_, members))) => Some(joining(config, &members)),
            (Place::Join, Ok((mut client, members))) => {
                if !add(config, &mut client, started).await? {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                // etcd compares its list with that of one of the others, which may not have heard of this one yet
                Speakers::new(config)?.everybody_knows().await?;
                Some(joining(config, &members))
            }
            (Place::Added | Place::Join, Err(error)) => return Err(error),
        };
        tracing::info!("this member's place: {place:?}");
        return files.write_config(initial.as_deref());
    }
}

/// One that founded etcd and has nothing of it any more is refused in any case: others can only say it better.
fn patience(birth: Birth) -> Duration {
    match birth {
        Birth::Join => PATIENCE,
        Birth::Found => ELECTION,
    }
}

/// Adds this member, without a vote. False: not yet, ask again.
async fn add(config: &Config, client: &mut Client, started: Instant) -> Result<bool> {
    let options = MemberAddOptions::new().with_is_learner();
    match client.member_add([config.peer_url.as_str()], Some(options)).await {
        Ok(_) => Ok(true),
        Err(error) if started.elapsed() < PATIENCE && is_passing(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("etcd does not add the member {}", config.name)),
    }
}

fn founding(config: &Config) -> String {
    let members = config.members.iter().map(|member| format!("{}={}", member.name, member.peer_url));
    lines(members, "new", &config.token)
}

/// etcd compares this with who is in the cluster: exactly its members, and this one.
fn joining(config: &Config, members: &[Member]) -> String {
    let others = members.iter().filter(|member| !member.peer_urls.contains(&config.peer_url));
    let others = others.flat_map(|member| {
        let name = if member.name.is_empty() { format!("{:x}", member.id) } else { member.name.clone() };
        member.peer_urls.iter().map(move |url| format!("{name}={url}")).collect::<Vec<_>>()
    });
    lines(others.chain([format!("{}={}", config.name, config.peer_url)]), "existing", &config.token)
}

fn lines(members: impl Iterator<Item = String>, state: &str, token: &str) -> String {
    let members: Vec<_> = members.collect();
    format!("initial-cluster: {}\ninitial-cluster-state: {state}\ninitial-cluster-token: {token}\n", members.join(","))
}
