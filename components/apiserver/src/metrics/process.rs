//! This process, by the names that Prometheus' client libraries give.

use std::time::UNIX_EPOCH;

use super::text::Text;

/// `USER_HZ`: what times in /proc are counted in, on every architecture.
const TICKS: f64 = 100.0;

pub fn render(out: &mut Text) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // the program's name, in parentheses, may hold spaces
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    // proc(5) counts from 1, and the first two are gone
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", number_after("status", "VmRSS:") * 1024.0),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", field(23)),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            boot() + field(22) / TICKS,
        ),
        ("process_open_fds", "Number of open file descriptors.", open_files()),
        ("process_max_fds", "Maximum number of open file descriptors.", number_after("limits", "Max open files")),
    ];
    let cpu = (field(14) + field(15)) / TICKS;
    out.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.").sample(&[], cpu);
    for (name, help, value) in gauges {
        out.gauge(name, help).sample(&[], value);
    }
}

/// When the machine started, in seconds since the epoch.
fn boot() -> f64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0.0);
    UNIX_EPOCH.elapsed().map_or(0.0, |now| now.as_secs_f64()) - uptime
}

fn open_files() -> f64 {
    std::fs::read_dir("/proc/self/fd").map_or(0.0, |files| files.count() as f64)
}

/// The number that follows a name in a file of /proc/self.
fn number_after(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}
