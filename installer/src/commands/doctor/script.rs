//! What a host is asked as root, in one go and with nothing of kinstall's, so that it answers also when all of that is broken.

use std::collections::BTreeMap;

use crate::host::shell::quoted;

/// How many lines of a unit's journal are looked at where it is not well.
const LINES: usize = 8;
/// Begins a line that says what follows.
const MARK: &str = "@@KINSTALL ";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    pub units: Vec<Unit>,
    pub up_seconds: f64,
    pub memory_kib: u64,
    pub available_kib: u64,
    /// Lines of the kernel: somebody was killed because the host's memory was used up.
    pub killed: Vec<String>,
    pub filesystems: Vec<Filesystem>,
    /// Of etcd and the control plane: its space is used up.
    pub no_space: Option<String>,
    /// The last lines of units that are not well.
    pub journals: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub load: String,
    pub active: String,
    pub sub: String,
    pub result: String,
    pub restarts: u64,
    /// When it became active, in microseconds of the host's uptime.
    pub since_micros: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    pub path: String,
    pub size_kib: u64,
    pub free_kib: u64,
}

impl Probe {
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }
}

pub fn script(units: &[&str]) -> String {
    let names = units.iter().map(|unit| quoted(unit)).collect::<Vec<_>>().join(" ");
    format!(
        r#"export LC_ALL=C
say() {{ echo; echo "{MARK}$*"; }}
say units
systemctl show -p Id -p LoadState -p ActiveState -p SubState -p Result -p NRestarts -p ActiveEnterTimestampMonotonic {names}
say uptime; cat /proc/uptime
say memory; cat /proc/meminfo
say killed
journalctl -k -q --no-pager -o short-iso --since=-24h 2>/dev/null | grep "Out of memory: Killed process" | tail -n 3
say filesystems
for path in / /var/lib/kubelet /var/lib/kinstall /var/log; do
  [ -d $path ] && df -P -k $path 2>/dev/null | tail -n 1 | sed "s|^|$path |"
done
say nospace
journalctl -q --no-pager -o cat --since=-1h -u kinstall-etcd -u kinstall-control-plane 2>/dev/null \
  | grep -e "alarm.*NOSPACE" -e "database space exceeded" | tail -n 1
for unit in {names}; do
  if [ "$(systemctl is-active $unit)" != active ]; then
    say journal $unit
    journalctl -q --no-pager -o cat -n {LINES} -u $unit 2>/dev/null
  fi
done
exit 0
"#
    )
}

pub fn parse(lines: &[String]) -> Probe {
    let mut probe = Probe::default();
    let mut section: Vec<&str> = Vec::new();
    let mut unit = Unit::default();
    for line in lines {
        if let Some(mark) = line.strip_prefix(MARK) {
            section = mark.split(' ').collect();
            continue;
        }
        match section.as_slice() {
            ["units"] => match line.split_once('=') {
                Some((key, value)) => unit.take(key, value),
                None => probe.units.extend(std::mem::take(&mut unit).finished()),
            },
            ["uptime"] => read(line.split_whitespace().next(), &mut probe.up_seconds),
            ["memory"] => {
                let number = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
                if line.starts_with("MemTotal:") {
                    probe.memory_kib = number(line).unwrap_or(0);
                } else if line.starts_with("MemAvailable:") {
                    probe.available_kib = number(line).unwrap_or(0);
                }
            }
            ["killed"] if !line.is_empty() => probe.killed.push(line.clone()),
            ["filesystems"] => probe.filesystems.extend(filesystem(line)),
            ["nospace"] if !line.is_empty() => probe.no_space = Some(line.clone()),
            ["journal", name] if !line.is_empty() => {
                probe.journals.entry((*name).to_owned()).or_default().push(line.clone());
            }
            _ => {}
        }
    }
    probe
}

fn read<T: std::str::FromStr>(word: Option<&str>, into: &mut T) {
    if let Some(value) = word.and_then(|word| word.parse().ok()) {
        *into = value;
    }
}

impl Unit {
    fn take(&mut self, key: &str, value: &str) {
        let text = match key {
            "Id" => &mut self.name,
            "LoadState" => &mut self.load,
            "ActiveState" => &mut self.active,
            "SubState" => &mut self.sub,
            "Result" => &mut self.result,
            "NRestarts" => return read(Some(value), &mut self.restarts),
            "ActiveEnterTimestampMonotonic" => return read(Some(value), &mut self.since_micros),
            _ => return,
        };
        value.clone_into(text);
    }

    fn finished(self) -> Option<Self> {
        (!self.name.is_empty()).then_some(self)
    }
}

/// The path that was asked for, then a line of `df -P -k`.
fn filesystem(line: &str) -> Option<Filesystem> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [path, _, size, _, free, ..] = words.as_slice() else { return None };
    Some(Filesystem { path: (*path).to_owned(), size_kib: size.parse().ok()?, free_kib: free.parse().ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_host_says_is_read() {
        let said = "\n@@KINSTALL units\nId=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=2\nActiveEnterTimestampMonotonic=5000000\n\nId=b.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=0\nActiveEnterTimestampMonotonic=0\n\n\
            @@KINSTALL uptime\n12.5 20.0\n\n@@KINSTALL memory\nMemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n\n\
            @@KINSTALL killed\n\n@@KINSTALL filesystems\n/ overlay 100 90 10 90% /\n\n@@KINSTALL nospace\n\n@@KINSTALL journal b.service\nno luck\nagain\n";
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let probe = parse(&lines);
        assert_eq!((probe.up_seconds, probe.memory_kib, probe.available_kib), (12.5, 1000, 250));
        assert_eq!(probe.unit("a.service").unwrap().restarts, 2);
        assert_eq!(probe.unit("a.service").unwrap().since_micros, 5_000_000);
        assert_eq!(probe.unit("b.service").unwrap().result, "exit-code");
        assert_eq!(probe.filesystems, [Filesystem { path: "/".into(), size_kib: 100, free_kib: 10 }]);
        assert_eq!(probe.journals["b.service"], ["no luck", "again"]);
        assert!(probe.killed.is_empty() && probe.no_space.is_none());
    }

    #[test]
    fn a_machine_answers_the_script() {
        let output = std::process::Command::new("sh").args(["-c", &script(&["no-such.service"])]).output().unwrap();
        assert!(output.status.success());
        let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        let probe = parse(&lines);
        assert!(probe.memory_kib > 0 && probe.up_seconds > 0.0, "{lines:?}");
        assert!(probe.filesystems.iter().any(|filesystem| filesystem.path == "/" && filesystem.size_kib > 0));
    }
}
