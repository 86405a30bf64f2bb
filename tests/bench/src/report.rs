//! The table, and what it was measured on.

use std::fs;

/// Rows of (what, value), printed as Markdown.
#[derive(Default)]
pub struct Table(Vec<(String, String)>);

impl Table {
    pub fn row(&mut self, what: impl Into<String>, value: impl Into<String>) {
        let (what, value) = (what.into(), value.into());
        eprintln!("{what}: {value}");
        self.0.push((what, value));
    }

    pub fn print(&self) {
        println!("\n{} on {}\n", today(), machine());
        println!("| what | value |\n| --- | --- |");
        for (what, value) in &self.0 {
            println!("| {what} | {value} |");
        }
    }
}

fn today() -> String {
    let now = time::OffsetDateTime::now_utc();
    format!("{:04}-{:02}-{:02} {:02}:{:02} UTC", now.year(), u8::from(now.month()), now.day(), now.hour(), now.minute())
}

/// Processor, cores and memory, by the kernel's account.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = kibibytes(&memory, "MemTotal:") / 1024 / 1024;
    format!("{model}, {cores} cores, {memory} GiB")
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Resident MiB of a process; `None` if it is gone.
pub fn resident(pid: u32) -> Option<f64> {
    of_status(pid, "VmRSS:")
}

/// The most MiB that were ever resident; `None` if it is gone.
pub fn peak(pid: u32) -> Option<f64> {
    of_status(pid, "VmHWM:")
}

fn of_status(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // a process that has ended and was not waited for has no memory
    status.contains(name).then(|| kibibytes(&status, name) as f64 / 1024.0)
}
