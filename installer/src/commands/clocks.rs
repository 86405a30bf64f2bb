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

/// Whose clock is wrong by now, and what to do.
#[derive(Debug, thiserror::Error)]
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

async fn wrong(hosts: &[&Host], limits: &Limits) -> Wrong {
    loop {
        tokio::time::sleep(EVERY).await;
        let looking = hosts.iter().map(|host| async move {
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
