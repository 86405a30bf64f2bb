//! Two hosts, of two releases of Debian, through everything that the lab promises. One test: there is one lab on a machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use lab::{Host, Lab, Options, Release, Size, State, state_dir};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[test]
fn two_hosts_live_and_vanish() {
    let mut lab = Lab::up_with(&Options {
        wait: Duration::from_secs(600),
        keep: false,
        disk: Some(Size::gib(2)),
        releases: vec![Release::Bookworm, Release::Trixie],
        ..Options::new(2)
    })
    .unwrap();
    bare_debian(&lab);
    users_and_keys(&lab);
    networks(&lab);
    limits(&lab);
    power(&lab);
    disk_full(&lab);
    clocks(&lab);
    second_lab_is_refused();
    let third = lab.add(Release::Trixie, None).unwrap();
    assert_eq!(third.ssh_ok("hostname").unwrap(), "h3");
    assert_eq!(third.release().unwrap(), Release::Trixie);
    third.destroy().unwrap();
    assert_ne!(traces(), Vec::<String>::new(), "the search for traces finds nothing while a lab runs");

    let started = Instant::now();
    lab.down().unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "down took {:?}", started.elapsed());
    assert_eq!(traces(), Vec::<String>::new());
}

fn bare_debian(lab: &Lab) {
    let ids: Vec<String> = lab
        .hosts()
        .iter()
        .map(|host| {
            host.exec("systemctl is-system-running --wait").unwrap().ok().unwrap();
            assert_eq!(host.ssh_ok("hostname; cat /proc/1/comm").unwrap(), format!("{}\nsystemd", host.name()));
            let version = if host.number() == 1 { "12." } else { "13." };
            assert!(host.ssh_ok("cat /etc/debian_version").unwrap().starts_with(version));
            host.ssh_ok("cat /etc/machine-id").unwrap()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
    let host = lab.host(1);
    assert_eq!(host.ssh_ok("ls -d /opt/* /etc/kubernetes /etc/kinstall /var/lib/kubelet 2>/dev/null; command -v containerd runc docker kubectl; true").unwrap(), "");
    host.ssh_ok("modprobe overlay && modprobe br_netfilter").unwrap();
    host.ssh_ok("mkdir -p /o/l /o/u /o/w /o/m && mount -t overlay overlay -o lowerdir=/o/l,upperdir=/o/u,workdir=/o/w /o/m && umount /o/m && rm -r /o").unwrap();
}

fn users_and_keys(lab: &Lab) {
    let host = lab.host(1);
    assert!(!host.ssh_as("admin", "sudo -n true").unwrap().success(), "admin's sudo asks for a password");
    assert_eq!(host.ssh_as("admin", "echo admin-password | sudo -S -p '' id -u").unwrap().ok().unwrap(), "0");
    assert_eq!(host.ssh_as("ops", "sudo -n id -u").unwrap().ok().unwrap(), "0");
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    assert_eq!(known.lines().filter(|line| line.starts_with("10.99.0.11 ")).count(), 2);
}

fn networks(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    one.ssh_ok("ping -c 1 -W 2 10.99.0.12").unwrap();
    // a default route, and nothing behind it
    one.ssh_ok("ip route show default | grep 10.99.0.1").unwrap();
    two.cut().unwrap();
    assert!(!one.ssh("ping -c 1 -W 1 10.99.0.12").unwrap().success(), "the cable is pulled");
    two.exec("hostname").unwrap().ok().unwrap();
    two.heal().unwrap();
    one.ssh_ok("ping -c 1 -W 2 10.99.0.12").unwrap();
    assert!(lab::in_network(two, &["ip", "-brief", "address"]).unwrap().contains("10.99.0.12"));
    // what a host writes to the machine's own parameters stays in the host
    let before = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    one.ssh_ok("sysctl -w vm.overcommit_memory=2 kernel.panic=77 net.ipv4.ip_forward=1").unwrap();
    assert_eq!(fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap(), before);
}

fn limits(lab: &Lab) {
    for host in lab.hosts() {
        let run = |limit: &str| {
            host.ssh(&format!("systemd-run --wait --quiet -p MemoryMax={limit} -p MemorySwapMax=0 sh -c 'head -c 60M /dev/zero | tail -c 60M >/dev/null'")).unwrap()
        };
        assert!(run("200M").success());
        assert!(!run("20M").success(), "a memory limit kills on {}", host.name());
    }
}

fn power(lab: &Lab) {
    let host = lab.host(2);
    let boot = || {
        host.ssh_ok("cat /proc/sys/kernel/random/boot_id /run/kept 2>/dev/null; cat /root/kept; cat /root/lost; true")
            .unwrap()
    };
    host.ssh_ok("echo disk > /root/kept; echo memory > /run/kept; sync; echo cache > /root/lost").unwrap();
    assert!(boot().contains("memory") && boot().contains("cache"));
    host.poweroff().unwrap();
    assert_eq!(host.state().unwrap(), State::Stopped);
    host.start().unwrap();
    let said = boot();
    assert!(said.ends_with("disk") && !said.contains("memory"), "what was not synced is gone: {said}");
    host.restart().unwrap();
    assert!(boot().ends_with("disk"));
    // asked for from inside: a reboot comes back by itself, a shutdown does not
    host.ssh_ok("echo memory > /run/kept").unwrap();
    let _ = host.ssh("systemctl reboot");
    let deadline = Instant::now() + Duration::from_secs(120);
    while host.ssh("test ! -e /run/kept").map_or(true, |out| !out.success()) {
        assert!(Instant::now() < deadline, "the host does not come back from its reboot");
        std::thread::sleep(Duration::from_millis(100));
    }
    host.stop().unwrap();
    assert_eq!(host.state().unwrap(), State::Stopped);
    host.start().unwrap();
}

fn disk_full(lab: &Lab) {
    let host = lab.host(1);
    let out = host
        .ssh("fallocate -l 3G /big || (dd if=/dev/zero of=/big bs=1M count=1 2>&1; fallocate -l 3G /big2)")
        .unwrap();
    assert!(out.stderr.contains("No space left on device"), "{out:?}");
    host.ssh_ok("rm -f /big /big2").unwrap();

    let image = state_dir().join("h1/disk.ext4");
    let allocated = || fs::metadata(&image).unwrap().blocks() * 512;
    host.ssh_ok("dd if=/dev/zero of=/big bs=1M count=200 status=none; sync; rm /big; sync").unwrap();
    let before = allocated();
    host.trim();
    assert!(allocated() + (150 << 20) < before, "of {before} bytes {} are still there", allocated());
}

/// A wrong clock is the host's alone, and that of what ran there before as well as of what starts.
fn clocks(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    // bash asks for the time by itself, and with it answers each line
    let mut asked = two
        .ssh_command("root")
        .arg("bash -c 'while read -r; do printf \"%(%s)T\\n\"; done'")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut ask, mut answers) = (asked.stdin.take().unwrap(), BufReader::new(asked.stdout.take().unwrap()).lines());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut ran_before = || {
        let before = now();
        ask.write_all(b"\n").unwrap();
        answers.next().unwrap().unwrap().parse::<i64>().unwrap() - before
    };
    let says = |host: &Host, date: &str| {
        let before = now();
        host.ssh_ok(date).unwrap().parse::<i64>().unwrap() - before
    };
    let starts = |host| says(host, "date +%s");
    let about = |off: i64, wanted: i64| (wanted..wanted + 60).contains(&off);
    assert!(about(ran_before(), 0) && about(starts(two), 0));
    for off in [3600, -600] {
        two.set_clock(off).unwrap();
        let off = i64::from(off);
        assert!(about(ran_before(), off), "what ran before");
        assert!(about(starts(two), off), "what starts");
        assert!(about(says(two, "systemd-run --quiet --pipe --wait date +%s"), off), "what another one starts");
        assert!(about(starts(one), 0), "the other host's is right");
    }
    // who is traced can be stopped and go on
    assert_eq!(two.ssh_ok("sleep 60 & kill -STOP $!; while ! grep -q '^State:.[Tt]' /proc/$!/status; do :; done; kill -CONT $!; while grep -q '^State:.[Tt]' /proc/$!/status; do :; done; kill $!; wait $!; echo $?").unwrap(), "143");
    two.set_clock(0).unwrap();
    assert!(about(ran_before(), 0) && about(starts(two), 0));
    drop(ask);
    assert!(asked.wait().unwrap().success());
}

fn second_lab_is_refused() {
    let error = format!("{:#}", Lab::up(1).err().expect("a second lab was started"));
    assert!(error.contains("another lab is in use by process"), "{error}");
}

/// Everything this lab could leave on the machine; what belongs to another one beside it (`beside.sh`) is none of its own.
fn traces() -> Vec<String> {
    let mut found = Vec::new();
    let mut search = |what: &str, text: &str, word: &str| {
        found.extend(text.lines().filter(|line| line.contains(word)).map(|line| format!("{what}: {line}")));
    };
    let state = state_dir();
    let within = format!("{}/", state.display());
    search("mount", &fs::read_to_string("/proc/self/mountinfo").unwrap(), &within);
    search("link", &names("/sys/class/net"), "klab");
    search("network namespace", &names("/run/netns"), "klab");
    search("state", if state.exists() { &within } else { "" }, &within);
    for entry in fs::read_dir("/sys/block").unwrap() {
        let backing = entry.unwrap().path().join("loop/backing_file");
        search("loop device", &fs::read_to_string(backing).unwrap_or_default(), &within);
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        search("cgroup", &names(hierarchy.unwrap().path()), "klab");
    }
    for entry in fs::read_dir("/proc").unwrap() {
        let line = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        search("process", &String::from_utf8_lossy(&line).replace('\0', " "), &format!("{within}h"));
    }
    found
}

fn names(dir: impl AsRef<Path>) -> String {
    let entries = fs::read_dir(dir).map(|entries| {
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    });
    entries.unwrap_or_default().join("\n")
}
