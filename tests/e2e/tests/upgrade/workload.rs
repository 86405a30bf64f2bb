//! The application that must not notice: two replicas behind a budget, a NodePort and an Ingress.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::load::{Client, Connections, Load, every_way_leads};
use serde_json::Value;

use crate::Story;

/// The application's image is the components' of this version, and stays so.
pub const VERSION: &str = "0.1.0";
const NODE_PORT: u16 = 30080;
const HOST: &str = "web.lab";

const MANIFEST: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      # there is one worker only
      tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: IMAGE
        command: [/kinstall-components, probe, serve, --port, '8080']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 16Mi}}
        # long enough for every node to hear that it goes
        lifecycle: {preStop: {sleep: {seconds: 4}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: default}
spec:
  rules:
  - host: web.lab
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

pub fn stands(story: &Story) -> Result<()> {
    story.operator.write(&story.inventory)?;
    story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    let image = story.operator.components_image()?;
    ensure!(image.ends_with(&format!(":{VERSION}")), "{image}");
    story.operator.kubectl_with(&["apply", "-f", "-"], &MANIFEST.replace("IMAGE", &image))?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let clients = clients(story, &[Connections::Each])?;
    every_way_leads(&clients)?;
    let load = Load::start(clients);
    std::thread::sleep(Duration::from_secs(2));
    load.all_good().map(drop)
}

/// Requests through the NodePort of the worker and of a control plane, and through the Ingress of the worker.
pub fn load(story: &Story, connections: &[Connections]) -> Result<Load> {
    clients(story, connections).map(Load::start)
}

fn clients(story: &Story, connections: &[Connections]) -> Result<Vec<Client>> {
    let hosts = story.lab.inventory_hosts();
    let address = |number: usize, port: u16| -> Result<SocketAddr> {
        let (_, address) = hosts.get(number - 1).context("no such host")?;
        Ok(SocketAddr::new(address.parse()?, port))
    };
    let mut clients = Vec::new();
    for connections in connections {
        for (name, number, port) in
            [("node port of h2", 2, NODE_PORT), ("node port of h4", 4, NODE_PORT), ("ingress of h4", 4, 80)]
        {
            clients.push(Client {
                name: format!("{name}, {connections:?}"),
                address: address(number, port)?,
                host: HOST.into(),
                connections: *connections,
                expect: "\"name\":\"web-",
            });
        }
    }
    Ok(clients)
}

/// What would show that a user's container was restarted: ids, start times and restarts of the application's; and the processes
/// of the runtimes and of etcd.
pub fn containers(story: &Story) -> Result<Vec<String>> {
    let list: Value = serde_json::from_str(&story.operator.kubectl(&["get", "pods", "-n", "default", "-o", "json"])?)?;
    let mut found: Vec<_> = list["items"]
        .as_array()
        .context("no pods")?
        .iter()
        .map(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            format!(
                "{} {} {} {}",
                pod["metadata"]["name"], status["containerID"], status["state"], status["restartCount"]
            )
        })
        .collect();
    found.sort();
    ensure!(found.len() == 2, "{found:?}");
    for host in story.lab.hosts() {
        let units = "systemctl show -p MainPID --value kinstall-containerd kinstall-etcd";
        found.push(format!("{}: {:?}", host.name(), host.ssh_ok(units)?));
    }
    Ok(found)
}

/// Since when each node is Ready, with whatever it is that it is not.
pub fn readiness(story: &Story) -> Result<String> {
    let template = "jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=='Ready')].status} \
                    {.status.conditions[?(@.type=='Ready')].lastTransitionTime}{'\\n'}{end}";
    story.operator.kubectl(&["get", "nodes", "-o", template])
}
