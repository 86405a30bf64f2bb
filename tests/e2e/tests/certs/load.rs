//! A Deployment that answers, and somebody who asks.

use std::net::SocketAddr;

use anyhow::Result;
use e2e::load::{Client, Connections, Load, every_way_leads};

use crate::Story;

const PORT: u16 = 30080;
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

/// Requests to the Deployment by a worker's NodePort. It is there afterwards.
pub fn start(story: &Story) -> Result<Load> {
    let image = story.operator.components_image()?;
    story.operator.kubectl_with(&["apply", "-f", "-"], &WEB.replace("IMAGE", &image))?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let worker = story.lab.inventory_hosts()[3].1.parse()?;
    let client = Client {
        name: "node port of h4".into(),
        address: SocketAddr::new(worker, PORT),
        host: "web.lab".into(),
        connections: Connections::Each,
        expect: "\"name\":\"web-",
    };
    let clients = vec![client];
    every_way_leads(&clients)?;
    Ok(Load::start(clients))
}
