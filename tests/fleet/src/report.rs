//! The table.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::operator::Cost;

pub struct Row {
    pub what: String,
    pub hosts: usize,
    /// So many of them failed.
    pub failed: usize,
    pub cost: Cost,
    /// Bytes, by the operator.
    pub sent: u64,
    pub received: u64,
    /// `None`: it does not say.
    pub bundle: Option<Bundle>,
    /// Of each connection, sorted.
    pub waits: Vec<u32>,
    /// CPU that the hosts and the server took, as far as they have ended.
    pub playing: Duration,
}

/// Bytes of it that have gone to hosts, by the summary of `up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub sent: u64,
    /// From one host to another.
    pub passed: u64,
}

impl Bundle {
    /// Out of a run's JSON lines.
    pub fn of(said: &str) -> Option<Self> {
        let summary = said.lines().rfind(|line| line.contains(r#""event":"summary""#))?;
        let (_, bytes) = summary.split_once(r#""bytes":{"#)?;
        let number = |name: &str| {
            let (_, rest) = bytes.split_once(&format!("\"{name}\":"))?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        Some(Self { sent: number("sent")?, passed: number("passed")? })
    }
}

#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.0.push(row);
    }

    pub fn failed(&self) -> usize {
        self.0.iter().map(|row| row.failed).sum()
    }

    /// What is not as it should be.
    pub fn missed(&self) -> Vec<String> {
        self.0.iter().filter_map(Row::missed).collect()
    }

    pub fn print(&self, latency: u64) {
        let now = time::OffsetDateTime::now_utc();
        println!(
            "\n{:04}-{:02}-{:02} {:02}:{:02} UTC, {}, {latency} ms there and back\n",
            now.year(),
            u8::from(now.month()),
            now.day(),
            now.hour(),
            now.minute(),
            machine()
        );
        println!(
            "| hosts | command | wall | operator's CPU | peak memory | sent / received a host | of the bundle: sent, passed on | waits a host: middle, most | hosts' own CPU |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        self.0.iter().for_each(|row| println!("{}", line(row)));
    }
}

/// After connecting and logging in.
const WAITS: u32 = 6;

impl Row {
    /// Up to 300 MiB with a thousand hosts; the executable and what it has to know of a cluster are in the first part.
    fn memory(&self) -> f64 {
        60.0 + 0.24 * self.hosts as f64
    }

    fn missed(&self) -> Option<String> {
        let most = self.waits.last().copied().unwrap_or(0);
        let (mib, aim) = (self.cost.peak_mib, self.memory());
        let alone = |bundle: Bundle| bundle.sent > 0 && bundle.passed == 0;
        let checks = [
            (self.waits.len() != self.hosts, format!("{} connections instead of one a host", self.waits.len())),
            (most > WAITS, format!("a host waited {most} times, not {WAITS} at most")),
            (mib > aim, format!("the operator took {mib:.0} MiB, not {aim:.0} at most")),
            (self.bundle.is_some_and(alone), "hosts passed nothing of the bundle on".to_owned()),
        ];
        let (_, what) = checks.into_iter().find(|(missed, _)| *missed)?;
        Some(format!("{} hosts, {}: {what}", self.hosts, self.what))
    }
}

fn line(row: &Row) -> String {
    let failed = if row.failed == 0 { String::new() } else { format!(" ({} failed)", row.failed) };
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let bundle = row
        .bundle
        .map_or_else(|| "–".to_owned(), |Bundle { sent, passed }| format!("{:.0}, {:.0} MiB", mib(sent), mib(passed)));
    let of_each = |bytes: u64| bytes as f64 / row.hosts as f64 / 1024.0;
    format!(
        "| {} | {}{failed} | {:.2} s | {:.2} s | {:.0} MiB | {:.0} / {:.0} KiB | {bundle} | {}, {} | {:.1} s |",
        row.hosts,
        row.what,
        row.cost.wall.as_secs_f64(),
        row.cost.cpu.as_secs_f64(),
        row.cost.peak_mib,
        of_each(row.sent),
        of_each(row.received),
        row.waits.get(row.waits.len() / 2).copied().unwrap_or(0),
        row.waits.last().copied().unwrap_or(0),
        row.playing.as_secs_f64(),
    )
}

/// CPU of this process and of its children that have ended and were waited for; kinstall's is among them.
pub fn own_cpu() -> Duration {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(|usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
        .map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
        .sum()
}

/// Processor, cores and memory, by the kernel's account.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {cores} cores")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misses_its_aim_is_told() {
        let row = |waits: &[u32], peak_mib, passed| Row {
            what: "`up`".into(),
            hosts: 2,
            failed: 0,
            cost: Cost { code: Some(0), wall: Duration::ZERO, cpu: Duration::ZERO, peak_mib },
            sent: 0,
            received: 0,
            bundle: Some(Bundle { sent: 5, passed }),
            waits: waits.to_vec(),
            playing: Duration::ZERO,
        };
        assert_eq!(row(&[5, 6], 50.0, 1).missed(), None);
        for (row, says) in [
            (row(&[5], 50.0, 1), "1 connections"),
            (row(&[5, 7], 50.0, 1), "waited 7"),
            (row(&[5, 6], 61.0, 1), "61 MiB"),
            (row(&[5, 6], 50.0, 0), "nothing"),
        ] {
            assert!(row.missed().is_some_and(|told| told.contains(says)), "{says}");
        }
    }

    #[test]
    fn what_up_says_of_the_bundle_is_read() {
        let said = "{\"event\":\"host\"}\n{\"bytes\":{\"passed\":7,\"sent\":12},\"event\":\"summary\",\"ok\":false}\n";
        assert_eq!(Bundle::of(said), Some(Bundle { sent: 12, passed: 7 }));
        assert_eq!(Bundle::of("{\"event\":\"plan\"}"), None);
    }
}
