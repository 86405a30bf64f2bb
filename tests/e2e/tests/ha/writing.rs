//! Writes through control planes that live while something happens to another one.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::Story;

/// Between two writes: what happens needs the machine's cores, too.
const PAUSE: Duration = Duration::from_millis(300);

pub struct Written {
    /// The ConfigMaps whose writes were confirmed.
    pub names: Vec<String>,
    /// The longest time between two confirmations.
    pub pause: Duration,
}

/// Writes through these in turn for as long as `work` takes.
pub fn during<T: Send>(
    story: &Story,
    hosts: &[&str],
    prefix: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, Written)> {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut written = Written { names: Vec::new(), pause: Duration::ZERO };
        let mut confirmed = Instant::now();
        for (number, host) in hosts.iter().cycle().enumerate() {
            if working.is_finished() {
                break;
            }
            let name = format!("{prefix}-{number}");
            story.operator.writes_at(host, &name)?;
            written.pause = written.pause.max(confirmed.elapsed());
            confirmed = Instant::now();
            written.names.push(name);
            std::thread::sleep(PAUSE);
        }
        let done = working.join().map_err(|_| anyhow!("a thread panicked"))??;
        Ok((done, written))
    })
}
