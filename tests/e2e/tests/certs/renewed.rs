//! Hosts renew their certificates by themselves, long before they end; the operator's side leaves them what they have.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::past::{self, Place};
use e2e::scenario::until;
use serde_json::Value;

use crate::{HOSTS, Story, load};

const SERVICE: &str = "kinstall-certs.service";
/// It has days enough.
const LEFT_ALONE: &str = "/etc/kinstall/pki/front-proxy-client.crt";
const DIGESTS: &str = "cat /etc/kinstall/pki/*.crt /etc/kinstall/*.kubeconfig | sha256sum";

/// As after months: the hosts' have 40 days left, the operator's copies less.
fn months_later(place: Place<'_>) -> Option<i64> {
    match place {
        Place::Here("admin") => Some(40),
        Place::Here(_) => Some(25),
        Place::Host(LEFT_ALONE) => Some(120),
        // kubelets renew theirs themselves
        Place::Host(path) if path.starts_with("/var/lib/kubelet") => None,
        Place::Host(_) => Some(40),
    }
}

fn on_all(story: &Story, command: &str) -> Result<()> {
    let starting = |host: &lab::Host| host.ssh_ok(command).map(drop);
    std::thread::scope(|scope| {
        let running: Vec<_> = story.lab.hosts().iter().map(|host| scope.spawn(move || starting(host))).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

pub fn by_themselves(story: &Story) -> Result<()> {
    on_all(story, "systemctl is-enabled kinstall-certs.timer && systemctl is-active kinstall-certs.timer")?;
    past::issue(&story.operator, &story.lab, months_later)?;
    let load = load::start(story)?;
    let started = Instant::now();
    let renewed = on_all(
        story,
        &format!("systemctl start {SERVICE} || {{ journalctl -u {SERVICE} -o cat | tail -n 20 >&2; false; }}"),
    );
    let seconds = started.elapsed().as_secs_f64();
    until(Duration::from_secs(30), "every node is Ready", || story.operator.ready_nodes().len() == HOSTS as usize)?;
    let load = load.all_good();
    renewed?;
    let asked = load?[0].requests;
    println!("        four hosts renewed theirs in {seconds:.1} s; 0 of {asked} requests failed meanwhile");
    ensure!(asked > 20, "only {asked} requests");

    let (rows, code) = story.check()?;
    ensure!(code == 0, "certs check ended with {code}: {rows:?}");
    let days = |row: &Value| row["daysLeft"].as_i64().unwrap_or_default();
    let of_hosts: Vec<_> = rows
        .iter()
        .filter(|row| {
            row["file"].as_str().is_some_and(|file| file.starts_with("/etc/kinstall/") && !file.ends_with("ca.crt"))
        })
        .collect();
    let (alone, renewed): (Vec<_>, Vec<_>) = of_hosts.into_iter().partition(|row| row["file"] == LEFT_ALONE);
    ensure!(renewed.len() == 3 * 9 + 3 && renewed.iter().all(|row| days(row) >= 363), "{renewed:?}");
    ensure!(alone.len() == 3 && alone.iter().all(|row| (118..=120).contains(&days(row))), "{alone:?}");
    let copies = rows.iter().filter(|row| row["standing"] == "superseded").count();
    ensure!(copies > 10, "{copies} copies here are told to be superseded: {rows:?}");

    // the operator makes new ones here, and leaves the hosts what they have
    let plan = story.operator.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "{}", e2e::operator::both(&plan));
    let digest = || story.lab.host(2).ssh_ok(DIGESTS);
    let before = digest()?;
    on_all(story, &format!("systemctl start {SERVICE}"))?;
    ensure!(digest()? == before, "a second run renewed again");
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    ensure!(said.contains("nothing changed") && digest()? == before, "{said}");
    Ok(())
}
