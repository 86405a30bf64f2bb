//! Applications under constant load while the cluster below them is disturbed: how many requests fail, and for how long.
//!
//! `cluster` is what they live on, `acts` the table of what is done to it, `client` asks through the ingress on the workers'
//! addresses, `report` sums up. The short form looks less long at each.

mod acts;
mod client;
mod cluster;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use acts::{CALM, Course, Disturbance};
use client::{Load, Sample, Target};
use cluster::Cluster;
use report::Borne;

/// What came of one disturbance.
struct Outcome {
    rows: Vec<Value>,
    good: bool,
}

fn disturb(cluster: &Cluster, disturbance: &Disturbance) -> Result<Outcome> {
    let targets = cluster.targets()?;
    let load = Load::start(targets.clone());
    std::thread::sleep(CALM);
    let course = (disturbance.run)(cluster);
    std::thread::sleep(CALM);
    let samples = load.stop()?;
    let course = course.with_context(|| format!("while {}", disturbance.acts[0].name))?;
    let lost = course.lost.map(|host| cluster.lab.host(host).address());
    Ok(judge(disturbance, &course, &targets, &samples, lost.as_deref()))
}

fn judge(
    disturbance: &Disturbance,
    course: &Course,
    targets: &[Target],
    samples: &[Sample],
    lost: Option<&str>,
) -> Outcome {
    let mut outcome = Outcome { rows: Vec::new(), good: true };
    for (index, act) in disturbance.acts.iter().enumerate() {
        // what an act takes away takes the answers with it that were on their way
        let at = |sample: &Sample| disturbance.act_at(course, sample.sent + sample.took);
        let of_act: Vec<_> = samples.iter().filter(|sample| at(sample) == index).collect();
        println!("{} ({:.1} s)", act.name, span(&of_act).as_secs_f64());
        for (number, target) in targets.iter().enumerate() {
            let of_target = || of_act.iter().copied().filter(|sample| sample.target == number);
            let is_lost = |sample: &&Sample| lost.is_some_and(|lost| sample.address.ip().to_string() == lost);
            let aim = if number == 0 { act.stateless } else { act.wordpress };
            let borne = Borne::of(of_target().filter(|sample| !is_lost(sample)));
            // nothing was proven where nothing was sent
            let fine = borne.sent > 0 && aim.is_met(&borne);
            outcome.good &= fine;
            println!("  {} {:24} aim: {aim:11} {borne}", if fine { "ok     " } else { "TOO BAD" }, target.name);
            outcome.rows.push(json!({"act": act.name, "target": target.name, "aim": aim.to_string(), "ok": fine, "borne": borne.to_json()}));
            let at_lost = Borne::of(of_target().filter(is_lost));
            if at_lost.sent > 0 {
                println!("          {:24}                  {at_lost}", "  at the lost address");
                outcome.rows.push(
                    json!({"act": act.name, "target": target.name, "lostAddress": true, "borne": at_lost.to_json()}),
                );
            }
        }
    }
    outcome
}

/// From the first request to the end of the last one that was sent.
fn span(samples: &[&Sample]) -> Duration {
    let (first, last) = (samples.first().map(|sample| sample.sent), samples.last().map(|sample| sample.sent));
    first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first)
}

/// Whether every disturbance was borne as it has to be. Writes what there was to `out`.
pub fn run(short: bool, only: &str, out: &Path) -> Result<bool> {
    let disturbances: Vec<_> = acts::ALL.iter().filter(|disturbance| disturbance.is_called(only)).collect();
    ensure!(!disturbances.is_empty(), "no act is called {only:?}");
    let minutes = if short { 5 } else { 2 * disturbances.len() + 2 };
    println!("load under {} disturbances; that takes about {minutes} minutes", disturbances.len());
    let started = Instant::now();
    let cluster = Cluster::new(short)?;
    println!("a cluster with applications stands after {:.1} s", started.elapsed().as_secs_f64());
    let (mut good, mut rows) = (true, Vec::new());
    for (number, disturbance) in disturbances.iter().enumerate() {
        let outcome = disturb(&cluster, disturbance)?;
        good &= outcome.good;
        rows.extend(outcome.rows);
        if number + 1 < disturbances.len() || !short {
            let mending = Instant::now();
            cluster.mend().with_context(|| format!("after {:?}", disturbance.acts[0].name))?;
            println!("  ready again after {:.1} s", mending.elapsed().as_secs_f64());
        }
    }
    cluster.lab.down()?;
    if let Some(directory) = out.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(out, serde_json::to_vec_pretty(&rows)?)
        .with_context(|| format!("cannot write {}", out.display()))?;
    println!("the figures are in {}; all of it took {:.1} s", out.display(), started.elapsed().as_secs_f64());
    Ok(good)
}
