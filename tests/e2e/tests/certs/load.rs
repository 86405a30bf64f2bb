//! A Deployment that answers, and somebody who asks.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::Story;

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

/// Asks a Deployment by its NodePort all the time.
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// The Deployment is there afterwards.
    pub fn start(story: &Story) -> Result<Self> {
        let image = story.operator.components_image()?;
        story.operator.kubectl_with(&["apply", "-f", "-"], &WEB.replace("IMAGE", &image))?;
        story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
        Ok(Self::of(&story.lab.inventory_hosts()[3].1))
    }

    fn of(address: &str) -> Self {
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

    /// How many requests there were, and how many of them failed.
    pub fn end(self) -> Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("who asked panicked"))?;
        }
        Ok((self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed)))
    }
}
