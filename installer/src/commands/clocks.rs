//! Clocks that were set wrong after preflight had looked: their hosts take certificates for not valid yet, or for run out, and all that is
//! waited for waits in vain.

use std::time::{Duration, Instant};

use futures::future;
use futures::stream::{self, StreamExt as _};

use super::fleet::skew;
use crate::cluster::{Host, Limits};
use crate::host::{HostError, Shell};
use crate::preflight::CLOCK_TOLERANCE;

/// Who has waited for so long may well want to know. There is nothing to watch; and hosts are asked only while somebody waits.
const EVERY: Duration = Duration::from_secs(20);

/// A host is asked in one of so many rounds, over a connection of its own: a thousand of them would keep the operator busy.
const ROUNDS: usize = 8;
/// So few are asked in every round.
const FEW: usize = 32;

/// Whose clock is wrong by now, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(String);

/// Work that is waited for in vain where the clock of one of these hosts is wrong.
///
/// # Errors
/// A clock was found wrong while the work took its time; hosts that cannot be asked are told elsewhere.
pub async fn unless_wrong<T>(hosts: &[&Host], limits: &Limits, work: impl Future<Output = T>) -> Result<T, Wrong> {
    tokio::select! {
        done = work => Ok(done),
        wrong = wrong(hosts, limits) => Err(wrong),
    }
}

/// Waits until one of them is.
pub async fn wrong(hosts: &[&Host], limits: &Limits) -> Wrong {
    let mut rounds = rounds(hosts);
    loop {
        tokio::time::sleep(EVERY).await;
        let looking = rounds.next().into_iter().flatten().map(|host| async move {
            let off = tokio::time::timeout(EVERY, off(host, limits.connect_timeout)).await.ok()?.ok()??;
            (off.abs() > CLOCK_TOLERANCE).then(|| tell(host, off))
        });
        let told: Vec<_> = stream::iter(looking).buffered(limits.hosts).filter_map(future::ready).collect().await;
        if !told.is_empty() {
            return Wrong(format!(
                "{}, and what is valid here is not so there\n    \
                 remedy: set the clocks, best by an NTP client on every host, and run the same command again",
                told.join(", ")
            ));
        }
    }
}

/// Who is asked in each: control planes always, since all others need them.
fn rounds<'h>(hosts: &[&'h Host]) -> impl Iterator<Item = Vec<&'h Host>> {
    let (control_planes, others): (Vec<_>, Vec<_>) = hosts.iter().partition(|host| host.control_plane);
    let size = others.len().div_ceil(ROUNDS).max(FEW);
    let turns = others.len().div_ceil(size).max(1);
    (0..turns).cycle().map(move |turn| {
        let whose = others.iter().skip(turn * size).take(size);
        control_planes.iter().chain(whose).copied().collect()
    })
}

fn tell(host: &Host, off: i64) -> String {
    let way = if off < 0 { "behind" } else { "ahead of" };
    format!("the clock of {} is {} s {way} this machine's by now", host.name, off.abs())
}

/// Seconds by which the host's clock is ahead of ours; `None` where its answer is none.
async fn off(host: &Host, timeout: Duration) -> Result<Option<i64>, HostError> {
    let shell = Shell::open(host, timeout).await?;
    let (asked, mut said) = (Instant::now(), String::new());
    let ran = shell.run("look at the clock", "date +%s", |line| said.push_str(&line)).await;
    let off = said.trim().parse::<u64>().ok().map(|there| skew(there.saturating_mul(1000), asked.elapsed()) / 1000);
    shell.close().await;
    ran.map(|_| off)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::cluster::Cluster;

    #[test]
    fn everybody_is_asked_in_some_round_and_control_planes_in_each() {
        let text = "cluster: c\nhosts: [{name: h, address: 10.0.0.1, role: controlPlane}]\n";
        let cluster = Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        for (control_planes, workers, most, in_rounds) in
            [(1, 0, 1, 1), (0, 1, 1, 1), (3, 32, 35, 1), (1, 33, 33, 2), (3, 1000, 128, 8)]
        {
            let host = |n: usize| Host {
                name: format!("h{n}"),
                control_plane: n < control_planes,
                ..cluster.hosts[0].clone()
            };
            let hosts: Vec<_> = (0..control_planes + workers).map(host).collect();
            let hosts: Vec<_> = hosts.iter().collect();
            let asked: Vec<_> = rounds(&hosts).take(in_rounds).collect();
            let names: BTreeSet<_> = asked.iter().flatten().map(|host| &host.name).collect();
            assert_eq!(names.len(), hosts.len());
            assert!(asked.iter().all(|round| round.len() <= most));
            assert!(asked.iter().all(|round| round.iter().filter(|host| host.control_plane).count() == control_planes));
        }
    }
}
