//! Three control planes from the first moment; one of them is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::operator::{both, ready};
use e2e::scenario::until;
use e2e::snapshot::left_behind;

use crate::{Story, leading, strangers, writing};

pub fn born_together(story: &Story) -> Result<()> {
    let said = story.up(&story.inventory)?;
    println!("{}", said.lines().filter(|line| line.contains(" s")).collect::<Vec<_>>().join("\n"));
    for host in ["h1", "h2", "h3"] {
        let nodes = story.operator.kubectl_at(host, &["get", "nodes", "--no-headers"])?;
        ensure!(ready(&nodes).len() == 4, "through {host}:\n{nodes}");
    }
    story.all_members_are_well(1)?;
    let endpoints =
        story.operator.kubectl(&["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[*].addresses[*].ip}"])?;
    for address in ["10.99.0.11", "10.99.0.12", "10.99.0.13"] {
        ensure!(endpoints.contains(address), "default/kubernetes names {endpoints}");
    }
    story.operator.kubectl_with(&["apply", "-f", "-"], &deployment(story)?)?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    strangers::get_nothing(story)
}

/// The probe's server, from the image that every node has.
fn deployment(story: &Story) -> Result<String> {
    let image = story.operator.components_image()?;
    Ok(format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: {image}
        command: [/kinstall-components, probe, serve, --port, '8080']
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
"
    ))
}

pub fn up_again(story: &Story) -> Result<()> {
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("nothing changed"), "it does not say so:\n{said}");
    let plan = story.operator.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "plan sees changes:\n{}", both(&plan));
    Ok(())
}

/// The first of the inventory: whose context is current, who founded the store, and who leads in everything.
pub fn first_loses_power(story: &Story) -> Result<()> {
    let at_h2 = |args: &[&str]| story.operator.kubectl_at("h2", args);
    leading::hand_to(story, "h1")?;
    let lost = Instant::now();
    leading::is_followed(story, "h1", "h2", || story.lab.host(1).poweroff())?;
    for host in ["h2", "h3"] {
        story.operator.writes_at(host, &format!("written-at-{host}"))?;
    }
    at_h2(&["scale", "deployment/web", "--replicas=3"])?;
    at_h2(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    println!(
        "        scaled by controllers, scheduler and kubelet {:.1} s after the loss",
        lost.elapsed().as_secs_f64()
    );
    let pods = at_h2(&["get", "pods", "-l", "app=web", "-o", "wide", "--no-headers"])?;
    ensure!(pods.lines().filter(|line| line.contains("Running") && !line.contains(" h1 ")).count() == 3, "{pods}");
    let status = |name: &str| at_h2(&["get", "node", name, "--no-headers"]).unwrap_or_default();
    let noticed = until(Duration::from_secs(60), "h1 is NotReady", || status("h1").contains("NotReady"))?;
    println!("        h1 NotReady after another {:.1} s", noticed.as_secs_f64());
    for name in ["h2", "h3", "h4"] {
        until(Duration::from_secs(20), &format!("{name} is Ready"), || status(name).contains(" Ready "))?;
    }
    // what an operator does next
    let kubeconfig = story.operator.ok(&["kubeconfig", "-i", "inventory.yaml"])?;
    let current = kubeconfig.lines().find(|line| line.starts_with("current-context")).context("no current context")?;
    ensure!(!current.contains("h1"), "{current}");
    let status = story.operator.run(&["status", "-i", "inventory.yaml"])?;
    let said = both(&status);
    ensure!(said.contains("h1") && said.contains("unreachable") && said.contains("h4"), "{said}");
    story.operator.fails_saying(
        &["up", "-i", "inventory.yaml", "--yes", "--ignore-preflight", "--no-validate"],
        &["h1", "cannot connect", "h2: nothing changed", "h4: nothing changed"],
    )?;
    Ok(())
}

pub fn first_comes_back(story: &Story) -> Result<()> {
    story.lab.host(1).start()?;
    let after = until(Duration::from_secs(90), "the first API server is ready", || {
        story.operator.kubectl_at("h1", &["get", "--raw", "/readyz"]).is_ok()
    })?;
    println!("        its API server was ready {:.1} s after SSH", after.as_secs_f64());
    story.all_members_are_well(2)?;
    let written =
        story.operator.kubectl_at("h1", &["get", "configmap", "written-at-h2", "written-at-h3", "-o", "name"])?;
    ensure!(written.lines().count() == 2, "what was written without it: {written}");
    until(Duration::from_secs(90), "every node is Ready", || {
        let nodes = story.operator.kubectl_at("h1", &["get", "nodes", "--no-headers"]);
        nodes.is_ok_and(|nodes| ready(&nodes).len() == 4)
    })?;
    story.operator.ok(&["validate", "-i", "inventory.yaml"]).map(|_| ())
}

/// Whoever leads: it has to give up by itself what it cannot keep, and whoever follows must not wait for its word.
pub fn leader_is_cut_off(story: &Story) -> Result<()> {
    let leader = leading::leader(story, "h1")?;
    let others: Vec<_> = ["h1", "h2", "h3"].into_iter().filter(|host| *host != leader).collect();
    ensure!(others.len() == 2, "{leader:?} leads");
    leading::hand_to(story, &leader)?;
    let host = story.lab.find(&leader)?;
    leading::is_followed(story, &leader, others[0], || host.cut())?;
    for other in &others {
        story.operator.writes_at(other, &format!("without-the-leader-at-{other}"))?;
    }
    host.heal()?;
    let healed = until(Duration::from_secs(60), "it serves what was written without it", || {
        let names = others.iter().map(|other| format!("without-the-leader-at-{other}")).collect::<Vec<_>>();
        let args = [vec!["get", "configmap"], names.iter().map(String::as_str).collect()].concat();
        story.operator.kubectl_at(&leader, &args).is_ok()
    })?;
    println!("        {leader} served again {:.1} s after it was connected", healed.as_secs_f64());
    story.all_members_are_well(1)?;
    story.operator.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=90s"]).map(drop)
}

/// An election takes 1 to 2 s, and twice that when votes are split; who asked the lost member asks the next one after 3 s, and the
/// write is tried again. The machine has two cores, of which a new machine's disk and `up` take what they can.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// It founded the store, is the inventory's first, and comes back as any other. The others lose nothing that they have confirmed.
pub fn replaced(story: &Story) -> Result<()> {
    let replace = || -> Result<()> {
        story.lab.host(1).replace()?;
        let plan = story.operator.run(&["plan", "-i", "inventory.yaml"])?;
        ensure!(both(&plan).contains("the member h1 would be taken out"), "{}", both(&plan));
        let started = Instant::now();
        let said = story.up(&story.inventory)?;
        println!("        a new machine took its place in {:.1} s", started.elapsed().as_secs_f64());
        ensure!(said.contains("works"), "{said}");
        Ok(())
    };
    let ((), written) = writing::during(story, &["h2", "h3"], "without-the-founder", replace)?;
    println!(
        "        {} writes through h2 and h3 meanwhile, the longest pause {:.1} s",
        written.names.len(),
        written.pause.as_secs_f64()
    );
    ensure!(written.names.len() > 10, "only {:?} were written", written.names);
    ensure!(written.pause < LONGEST_PAUSE, "nothing was confirmed for {:.1} s", written.pause.as_secs_f64());
    story.all_members_are_well(2)?;
    let written: Vec<String> =
        written.names.into_iter().chain(["written-at-h2", "written-at-h3"].map(str::to_owned)).collect();
    let lost = story.operator.lacks(Some("h1"), &written)?;
    ensure!(lost.is_empty(), "h1 does not have what was confirmed: {lost:?}");
    up_again(story)
}

pub fn down(story: &Story) -> Result<()> {
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes"])?;
    for host in story.lab.hosts() {
        let left = left_behind(host)?;
        ensure!(left.trim().is_empty(), "{}: {left}", host.name());
    }
    Ok(())
}
