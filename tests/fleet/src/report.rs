//! The table.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::operator::Cost;

pub struct Row {
    pub what: String,
    pub hosts: usize,
    pub cost: Cost,
    /// Bytes, by the operator.
    pub sent: u64,
    pub received: u64,
    /// Of each connection, sorted.
    pub waits: Vec<u32>,
    /// CPU that the hosts and the server took, as far as they have ended.
    pub playing: Duration,
}

#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.0.push(row);
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
            "| hosts | command | wall | operator's CPU | peak memory | sent / received a host | waits a host: middle, most | hosts' own CPU |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        self.0.iter().for_each(|row| println!("{}", line(row)));
    }
}

fn line(row: &Row) -> String {
    let of_each = |bytes: u64| bytes as f64 / row.hosts as f64 / 1024.0;
    format!(
        "| {} | {} | {:.2} s | {:.2} s | {:.0} MiB | {:.0} / {:.0} KiB | {}, {} | {:.1} s |",
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
