//! The machine's processes, by proc(5).

use std::fs;

/// State (a letter of proc_pid_stat(5)) and parent of a process or thread; none where it has ended.
pub fn stat(tid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // the name in parentheses may hold anything; state and parent follow the last one
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

pub fn children(parent: u32) -> Vec<u32> {
    numbers("/proc").into_iter().filter(|pid| stat(*pid).is_some_and(|(_, ppid)| ppid == parent)).collect()
}

/// A process and all that descend from it. Who loses its parent is the leader's, where that is a namespace's PID 1.
pub fn tree(leader: u32) -> Vec<u32> {
    let mut others: Vec<(u32, u32)> =
        numbers("/proc").into_iter().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
    let mut found = vec![leader];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(others.extract_if(.., |(_, ppid)| *ppid == parent).map(|(pid, _)| pid));
        next += 1;
    }
    found
}

/// Those of a process that have not ended.
pub fn threads(pid: u32) -> Vec<u32> {
    let alive = |tid: &u32| stat(*tid).is_some_and(|(state, _)| state != 'Z' && state != 'X');
    numbers(&format!("/proc/{pid}/task")).into_iter().filter(alive).collect()
}

/// Entries of a folder that are numbers.
fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
