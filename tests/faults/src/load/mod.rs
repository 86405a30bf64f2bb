//! Applications under constant load while the cluster below them is disturbed: how many requests fail, and for how long.
//!
//! In: three control planes and two workers; a stateless server with two replicas and a budget, and WordPress with its database on a
//! local volume, both asked through the ingress on the workers' addresses. Out: what each had to bear.

mod client;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::until;
use e2e::wordpress::Post;
use lab::Lab;
use serde_json::{Value, json};

use client::{Load, Sample, Target};
use report::Borne;

const CONTROL_PLANES: usize = 3;
const HOSTS: u32 = 5;
const WORKERS: [u32; 2] = [4, 5];
/// Before and after a disturbance.
const CALM: Duration = Duration::from_secs(3);

const STATELESS: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: stateless, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: stateless}}
  template:
    metadata: {labels: {app: stateless}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: stateless}}}
      containers:
      - name: web
        image: IMAGE
        command: [/kinstall-components, probe, serve, --port, '8080']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
        resources: {requests: {cpu: 10m, memory: 16Mi}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: stateless, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: stateless}}}
---
apiVersion: v1
kind: Service
metadata: {name: stateless, namespace: default}
spec:
  selector: {app: stateless}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: stateless, namespace: default}
spec:
  rules:
  - host: stateless.lab
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: stateless, port: {number: 80}}}}]}
";

pub struct Cluster {
    lab: Lab,
    operator: Operator,
}

/// What is done to the cluster while it is asked.
struct Disturbance {
    name: &'static str,
    /// Gives the host that is lost with it, if one is: what is sent to its address is not counted.
    run: fn(&Cluster) -> Result<Option<u32>>,
    /// Afterwards, without load.
    mend: fn(&Cluster) -> Result<()>,
    /// Seconds in which requests to the stateless server, and to WordPress, may fail; none: as it comes.
    stateless: f64,
    wordpress: Option<f64>,
}

const DISTURBANCES: [Disturbance; 4] = [
    Disturbance {
        name: "a control plane dies",
        run: |cluster| {
            cluster.lab.host(1).poweroff()?;
            std::thread::sleep(Duration::from_secs(50));
            Ok(None)
        },
        mend: |cluster| cluster.back(1),
        stateless: 0.0,
        wordpress: Some(0.0),
    },
    Disturbance {
        name: "a worker loses power",
        run: |cluster| {
            let host = cluster.without_database()?;
            cluster.lab.host(host).poweroff()?;
            std::thread::sleep(Duration::from_secs(50));
            Ok(Some(host))
        },
        mend: |cluster| WORKERS.iter().try_for_each(|host| cluster.back(*host)),
        stateless: 5.0,
        wordpress: None,
    },
    Disturbance {
        name: "components alone are upgraded, on every host",
        run: |cluster| cluster.upgrade("KINSTALL_BUNDLE_NEXT"),
        mend: |cluster| cluster.back(1),
        stateless: 0.0,
        wordpress: Some(0.0),
    },
    Disturbance {
        // the database goes with its worker and comes back on it
        name: "the container runtime is upgraded too: control planes, then workers, drained",
        run: |cluster| cluster.upgrade("KINSTALL_BUNDLE_RUNTIME"),
        mend: |cluster| cluster.back(1),
        stateless: 0.0,
        wordpress: None,
    },
];

impl Cluster {
    fn new() -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let lab = Lab::up(HOSTS).context("cannot boot five hosts")?;
        let inventory = Inventory::with_control_planes(&lab, &artifacts, CONTROL_PLANES);
        let operator = Operator::new(&lab, "load", artifacts)?;
        operator.write(&inventory)?;
        operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
        let image = operator.components_image()?;
        operator.kubectl_with(&["apply", "-f", "-"], &STATELESS.replace("IMAGE", &image))?;
        operator.kubectl(&["rollout", "status", "deployment/stateless", "--timeout=60s"])?;
        Ok(Self { lab, operator })
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let addresses: Vec<SocketAddr> =
            WORKERS.iter().map(|n| format!("{}:80", self.lab.host(*n).address()).parse()).collect::<Result<_, _>>()?;
        let Post { id, title } = Post::of(&self.operator)?;
        let target = |name: &str, host: &str, path: String, expected: &str, rate| Target {
            name: name.to_owned(),
            host: host.to_owned(),
            path,
            expected: expected.to_owned(),
            addresses: addresses.clone(),
            rate,
        };
        Ok(vec![
            target("stateless", "stateless.lab", "/".into(), "\"name\":\"stateless-", 100),
            target("WordPress, front page", "wordpress.lab", "/".into(), &title, 2),
            target("WordPress, the post", "wordpress.lab", format!("/?p={id}"), &title, 2),
        ])
    }

    /// The worker on which WordPress's database is not.
    fn without_database(&self) -> Result<u32> {
        let nodes = self.operator.kubectl(&["get", "pods", "-n", "wordpress", "-o", "wide", "--no-headers"])?;
        let line = nodes.lines().find(|line| line.starts_with("mariadb")).context("no database")?;
        WORKERS.into_iter().find(|n| !line.contains(&format!(" h{n} "))).context("it is on no worker")
    }

    /// Power on; every node Ready and everything answers.
    fn back(&self, host: u32) -> Result<()> {
        if self.lab.host(host).state()? == lab::State::Stopped {
            self.lab.host(host).start()?;
        }
        until(Duration::from_secs(120), "every node is Ready", || self.operator.ready_nodes().len() == HOSTS as usize)?;
        self.operator.kubectl(&["rollout", "status", "deployment/stateless", "--timeout=90s"])?;
        self.operator.ok(&["validate", "-i", "inventory.yaml", "--no-restart"]).map(drop)
    }

    /// To the bundle that this variable names.
    fn upgrade(&self, bundle: &str) -> Result<Option<u32>> {
        let bundle = std::env::var(bundle).with_context(|| format!("{bundle} is not set: run `make faults-load`"))?;
        let args = [
            "upgrade",
            "-i",
            "inventory.yaml",
            "--yes",
            "--no-validate",
            "--delete-emptydir-data",
            "--bundle",
            &bundle,
        ];
        self.operator.ok(&args).map(|_| None)
    }

    fn disturb(&self, disturbance: &Disturbance) -> Result<(Value, bool)> {
        let targets = self.targets()?;
        let load = Load::start(targets.clone());
        std::thread::sleep(CALM);
        let disturbed = (disturbance.run)(self);
        std::thread::sleep(CALM);
        let samples = load.stop()?;
        let lost = disturbed.context(disturbance.name)?.map(|host| self.lab.host(host).address());
        println!("{}", disturbance.name);
        let (mut good, mut rows) = (true, Vec::new());
        for (index, target) in targets.iter().enumerate() {
            let of_target = || samples.iter().filter(|sample| sample.target == index);
            let is_lost = |sample: &&Sample| lost.as_ref().is_some_and(|lost| sample.address.ip().to_string() == *lost);
            let borne = Borne::of(of_target().filter(|sample| !is_lost(sample)));
            ensure!(borne.sent > 0, "{}: nothing was sent", target.name);
            let allowed = if index == 0 { Some(disturbance.stateless) } else { disturbance.wordpress };
            let fine =
                allowed.is_none_or(|seconds| if seconds > 0.0 { borne.outage <= seconds } else { borne.failed == 0 });
            good &= fine;
            println!("  {} {:24} {borne}", if fine { "ok     " } else { "TOO BAD" }, target.name);
            rows.push(
                json!({"disturbance": disturbance.name, "target": target.name, "ok": fine, "borne": borne.to_json()}),
            );
            let at_lost = Borne::of(of_target().filter(is_lost));
            if at_lost.sent > 0 {
                println!("          {:24} {at_lost}", "  at the lost address");
                rows.push(json!({"disturbance": disturbance.name, "target": target.name, "lostAddress": true, "borne": at_lost.to_json()}));
            }
        }
        (disturbance.mend)(self).with_context(|| format!("after {:?}", disturbance.name))?;
        Ok((json!(rows), good))
    }
}

/// Whether every disturbance was borne as it has to be. Writes what there was to `out`.
pub fn run(only: &str, out: &Path) -> Result<bool> {
    let disturbances: Vec<_> = DISTURBANCES.iter().filter(|disturbance| disturbance.name.contains(only)).collect();
    ensure!(!disturbances.is_empty(), "no disturbance is called {only:?}");
    println!("load under {} disturbances; that takes about {} minutes", disturbances.len(), 2 * disturbances.len() + 2);
    let cluster = Cluster::new()?;
    let (mut good, mut all) = (true, Vec::new());
    for disturbance in disturbances {
        let (rows, fine) = cluster.disturb(disturbance)?;
        good &= fine;
        all.push(rows);
    }
    cluster.lab.down()?;
    if let Some(directory) = out.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(out, serde_json::to_vec_pretty(&all)?).with_context(|| format!("cannot write {}", out.display()))?;
    println!("the figures are in {}", out.display());
    Ok(good)
}
