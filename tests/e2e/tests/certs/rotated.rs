//! New authorities while a Deployment answers; the run is killed once and goes on.

use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::scenario::until;

use crate::{HOSTS, Story};

const ROTATE: [&str; 6] = ["certs", "rotate-ca", "-i", "inventory.yaml", "--yes", "--verbose"];

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: IMAGE
        command: [/kinstall-components, probe, serve, --port, '8080']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
";

/// Asks a NodePort and the API server all the time.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: &str) -> Self {
        let (stop, asked, failed) = <(Arc<AtomicBool>, Arc<AtomicU32>, Arc<AtomicU32>)>::default();
        let url = format!("http://{address}:30080/");
        let (own_stop, own_asked, own_failed) = (stop.clone(), asked.clone(), failed.clone());
        let asking = std::thread::spawn(move || {
            while !own_stop.load(Ordering::Relaxed) {
                let answer = Command::new("curl").args(["-sf", "-m", "3", "-o", "/dev/null", &url]).status();
                own_asked.fetch_add(1, Ordering::Relaxed);
                own_failed.fetch_add(u32::from(!answer.is_ok_and(|status| status.success())), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, asked, failed, threads: vec![asking] }
    }

    fn end(self) -> Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("who asked panicked"))?;
        }
        Ok((self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed)))
    }
}

pub fn rotated(story: &Story) -> Result<()> {
    let image = story.operator.components_image()?;
    story.operator.kubectl_with(&["apply", "-f", "-"], &WEB.replace("IMAGE", &image))?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let old = std::fs::read(story.operator.kubeconfig())?;
    let load = Load::start(&story.lab.inventory_hosts()[3].1);
    let started = Instant::now();
    kill_in_the_second_phase(story)?;
    let said = story.operator.ok(&ROTATE);
    let (asked, failed) = load.end()?;
    let said = said?;
    println!(
        "        rotated in {:.0} s; {failed} of {asked} requests failed meanwhile",
        started.elapsed().as_secs_f64()
    );
    ensure!(said.contains("only the new authorities are trusted"), "{said}");
    ensure!(failed == 0 && asked > 100, "{failed} of {asked} requests failed");

    let (rows, code) = story.check()?;
    let old_ones: Vec<_> =
        rows.iter().filter(|row| row["authority"].as_str().is_some_and(|name| !name.contains("ca-"))).collect();
    ensure!(code == 0 && old_ones.is_empty(), "{code}: {old_ones:?}");
    ensure!(story.operator.ready_nodes().len() == HOSTS as usize, "not every node is Ready");
    let map = story.operator.kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"])?;
    ensure!(map.matches("BEGIN CERTIFICATE").count() == 1, "{map}");
    // who has only the old administrator's certificate is nobody now
    let file = story.operator.path("old.kubeconfig");
    std::fs::write(&file, old)?;
    let old = file.display().to_string();
    ensure!(
        story.operator.kubectl(&["--kubeconfig", &old, "get", "nodes"]).is_err(),
        "the old certificate is still good"
    );
    // pods still come, with names, logs and all
    story.operator.kubectl(&["rollout", "restart", "deployment/web"])?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    until(Duration::from_secs(30), "logs can be read", || {
        story.operator.kubectl(&["logs", "-n", "kube-system", "daemonset/kinstall-ingress", "--tail=1"]).is_ok()
    })?;
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}

/// As soon as it says that the new authorities issue.
fn kill_in_the_second_phase(story: &Story) -> Result<()> {
    let mut child = story.operator.start(&ROTATE)?;
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    let mut said = Vec::new();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| {
        said.push(line.clone());
        line.contains("the new authorities issue")
    });
    // some of the hosts have it then, and some have not
    std::thread::sleep(Duration::from_secs(2));
    child.kill()?;
    child.wait()?;
    ensure!(begun, "it ended before:\n{}", said.join("\n"));
    Ok(())
}
