//! What a report has of a host, as a table of files and the commands that say what is in them. Nothing here needs kinstall's own part.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::host::shell::quoted;

/// The name of a file in the report, and the command whose output it is.
const FILES: &[(&str, &str)] = &[
    ("system.txt", "cat /etc/os-release; uname -a; uptime; date -u; cat /proc/cmdline"),
    (
        "units.txt",
        "systemctl --no-pager --all list-units \"kinstall-*\"; systemctl --no-pager --failed; systemctl show \"kinstall-*\" -p Id -p ActiveState -p SubState -p Result -p NRestarts -p ExecMainStatus -p MemoryCurrent -p StateChangeTimestamp",
    ),
    ("timers.txt", "systemctl --no-pager --all list-timers"),
    ("kernel.log", "journalctl -k --no-pager -q -o short-iso -n 500"),
    ("disks.txt", "df -h; df -i; mount"),
    (
        "memory.txt",
        "free -m; cat /proc/pressure/* 2>/dev/null; ps -eo pid,ppid,rss,pcpu,etime,comm --sort=-rss | head -n 60",
    ),
    ("network.txt", "ip -br link; ip -br address; ip route; ip rule; ss -lntu; cat /etc/resolv.conf"),
    ("firewall.txt", "nft list ruleset 2>/dev/null || iptables-save 2>/dev/null"),
    (
        "sysctl.txt",
        "sysctl -a 2>/dev/null | grep -e ip_forward -e rp_filter -e conntrack -e inotify -e file-max -e bridge-nf -e panic -e overcommit",
    ),
    (
        "files.txt",
        "ls -lRn /etc/kinstall /opt/kinstall /var/lib/kinstall/etcd /var/lib/kinstall/store 2>/dev/null | head -n 2000",
    ),
    (
        "images.txt",
        "ctr=/opt/kinstall/current/bin/ctr; [ -x $ctr ] && for what in images containers tasks; do $ctr -a /run/kinstall/containerd.sock -n k8s.io $what ls; done",
    ),
    (
        "config.txt",
        "for file in /etc/kinstall/*.yaml /etc/kinstall/*.toml /etc/kinstall/cni/net.d/* /etc/systemd/system/kinstall-*; do [ -f $file ] && echo \"==> $file\" && cat $file; done",
    ),
    ("manifest.json", "cat /var/lib/kinstall/manifest.json"),
];

/// No file of a host is larger: its end is what counts.
const BYTES: u32 = 4 << 20;
/// Lines of a unit's journal.
const LINES: u32 = 5000;
const MARK: &str = "@@KINSTALL ";

pub fn script(units: &[String], since: Duration) -> String {
    let journals = units.iter().map(|unit| {
        let name = format!("journal/{}.log", unit.trim_end_matches(".service"));
        let seconds = since.as_secs();
        (name, format!("journalctl --no-pager -q -o short-iso -n {LINES} --since=-{seconds}s -u {}", quoted(unit)))
    });
    let fixed = FILES.iter().map(|(name, command)| ((*name).to_owned(), (*command).to_owned()));
    let parts = fixed.chain(journals).map(|(name, command)| {
        // one that hangs must not hold up the others
        format!(
            "echo \"{MARK}{name}\"; timeout 20 sh -c {} 2>&1 | tail -c {BYTES} | base64 -w 0; echo\n",
            quoted(&command)
        )
    });
    format!("export LC_ALL=C\n{}exit 0\n", parts.collect::<String>())
}

/// The files, by their names.
pub fn parse(lines: &[String]) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in lines {
        match line.strip_prefix(MARK) {
            Some(name) => files.push((name.to_owned(), String::new())),
            None => {
                if let (Some((_, text)), Ok(bytes)) = (files.last_mut(), STANDARD.decode(line.trim())) {
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_answers_with_every_file() {
        let script = script(&["kinstall-kubelet.service".to_owned()], Duration::from_secs(60));
        let output = std::process::Command::new("sh").args(["-c", &script]).output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let files = parse(&said.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(files.len(), FILES.len() + 1, "{said}");
        assert!(files.iter().any(|(name, text)| name == "system.txt" && text.contains("Linux")), "{files:?}");
        assert_eq!(files.last().map(|(name, _)| name.as_str()), Some("journal/kinstall-kubelet.log"));
    }
}
