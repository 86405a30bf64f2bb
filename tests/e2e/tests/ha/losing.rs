//! Three control planes from the first moment; one of them is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::operator::both;
use e2e::scenario::until;

use crate::Story;

pub fn born_together(story: &Story) -> Result<()> {
    let said = story.up(&story.inventory)?;
    println!("{}", said.lines().filter(|line| line.contains(" s")).collect::<Vec<_>>().join("\n"));
    for host in ["h1", "h2", "h3"] {
        let nodes = story.operator.kubectl_at(host, &["get", "nodes", "--no-headers"])?;
        ensure!(nodes.lines().filter(|line| line.contains(" Ready ")).count() == 4, "through {host}:\n{nodes}");
    }
    story.all_members_are_well(1)?;
    let endpoints =
        story.operator.kubectl(&["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[*].addresses[*].ip}"])?;
    for address in ["10.99.0.11", "10.99.0.12", "10.99.0.13"] {
        ensure!(endpoints.contains(address), "default/kubernetes names {endpoints}");
    }
    story.operator.kubectl_with(&["apply", "-f", "-"], &deployment(story)?)?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    Ok(())
}

/// The probe's server, from the image that every node has.
fn deployment(story: &Story) -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let image = story.operator.kubectl(&["get", "daemonset", "kinstall-ingress", "-n", "kube-system", "-o", path])?;
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

/// The first of the inventory: whose context is current, who founded the store, who may lead in everything.
pub fn first_loses_power(story: &Story) -> Result<()> {
    let at_h2 = |args: &[&str]| story.operator.kubectl_at("h2", args);
    story.lab.host(1).poweroff()?;
    let lost = Instant::now();
    for host in ["h2", "h3"] {
        let write = ["create", "configmap", &format!("written-at-{host}")];
        let wrote =
            until(Duration::from_secs(20), "a write is confirmed", || story.operator.kubectl_at(host, &write).is_ok())?;
        println!("        a write through {host} after {:.1} s", wrote.as_secs_f64());
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
        ensure!(status(name).contains(" Ready "), "{}", status(name));
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
    let ready = until(Duration::from_secs(90), "the first API server is ready", || {
        story.operator.kubectl_at("h1", &["get", "--raw", "/readyz"]).is_ok()
    })?;
    println!("        its API server was ready {:.1} s after SSH", ready.as_secs_f64());
    until(Duration::from_secs(60), "every member is well", || story.all_members_are_well(2).is_ok())?;
    let written =
        story.operator.kubectl_at("h1", &["get", "configmap", "written-at-h2", "written-at-h3", "-o", "name"])?;
    ensure!(written.lines().count() == 2, "what was written without it: {written}");
    until(Duration::from_secs(90), "every node is Ready", || {
        let nodes = story.operator.kubectl_at("h1", &["get", "nodes", "--no-headers"]).unwrap_or_default();
        nodes.lines().filter(|line| line.contains(" Ready ")).count() == 4
    })?;
    story.operator.ok(&["validate", "-i", "inventory.yaml"]).map(|_| ())
}

pub fn replaced(story: &Story) -> Result<()> {
    story.lab.host(2).replace()?;
    let plan = story.operator.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(both(&plan).contains("the member h2 would be taken out"), "{}", both(&plan));
    let started = Instant::now();
    let said = story.up(&story.inventory)?;
    println!("        a new machine took its place in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(said.contains("works"), "{said}");
    story.all_members_are_well(2)?;
    let written = story.operator.kubectl_at("h2", &["get", "configmap", "written-at-h2", "-o", "name"])?;
    ensure!(written.contains("written-at-h2"), "{written}");
    up_again(story)
}

pub fn down(story: &Story) -> Result<()> {
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes"])?;
    for host in story.lab.hosts() {
        let left = host.ssh_ok("ls -d /etc/kinstall /var/lib/kinstall /opt/kinstall 2>/dev/null; true")?;
        ensure!(left.trim().is_empty(), "{}: {left}", host.name());
    }
    Ok(())
}
