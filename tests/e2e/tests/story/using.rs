//! The cluster comes up and is used with the real kubectl.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::operator::ready;
use e2e::scenario::until_ok;

use crate::Story;

/// Kills the installer as soon as a host has started to change, then runs it again to the end.
pub fn killed_and_run_again(story: &Story) -> Result<()> {
    story.operator.write(&story.inventory)?;
    let mut child = story.operator.start(&["up", "-i", "inventory.yaml", "--yes", "--output", "json"])?;
    let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut steps = 0;
    for line in lines.map_while(Result::ok) {
        let event: serde_json::Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        steps += usize::from(event["event"] == "step");
        if steps == 12 {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    ensure!(steps == 12, "the installer ended after {steps} steps");
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    let (sent, passed) = bundle_bytes(&said)?;
    ensure!(passed > 0, "three hosts got {sent} MiB from the operator and {passed} MiB from each other:\n{said}");
    println!("{}", said.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// How much of the bundle went from the operator, and from host to host, in MiB.
fn bundle_bytes(said: &str) -> Result<(u64, u64)> {
    let line = said.lines().find(|line| line.contains("MiB passed on")).context("nothing was passed on")?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| line.to_owned())
}

pub fn up_again(story: &Story) -> Result<()> {
    let started = std::time::Instant::now();
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("nothing changed"), "it does not say so:\n{said}");
    println!("        unchanged up: {:.1} s", started.elapsed().as_secs_f64());
    let plan = story.operator.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "plan sees changes:\n{}", e2e::operator::both(&plan));
    Ok(())
}

/// Or is so soon: pods that validation has replaced may still be going.
pub fn everything_is_ready(story: &Story) -> Result<()> {
    until_ok(Duration::from_secs(30), "everything is Running and Ready", || is_ready_now(story))
}

fn is_ready_now(story: &Story) -> Result<()> {
    let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == 3 && ready(&nodes).len() == 3, "{nodes}");
    let pods = story.operator.kubectl(&["get", "pods", "-A", "-o", "wide", "--no-headers"])?;
    for line in pods.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ready, all) = fields[2].split_once('/').with_context(|| line.to_owned())?;
        ensure!(fields[3] == "Running" && ready == all, "not Running and Ready: {line}");
    }
    for name in ["kinstall-dns", "kinstall-ingress", "kinstall-provisioner", "mariadb", "wordpress"] {
        ensure!(pods.contains(name), "{name} is missing:\n{pods}");
    }
    Ok(())
}

const CONFIG_MAP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: basics, namespace: default, labels: {app: basics}}
data: {a: '1'}
";

pub fn kubectl_basics(story: &Story) -> Result<()> {
    let k = |args: &[&str]| story.operator.kubectl(args);
    ensure!(story.operator.kubectl_with(&["apply", "-f", "-"], CONFIG_MAP)?.contains("created"));
    ensure!(story.operator.kubectl_with(&["apply", "-f", "-"], CONFIG_MAP)?.contains("unchanged"));
    let changed = CONFIG_MAP.replace("'1'", "'2'");
    ensure!(story.operator.kubectl_with(&["apply", "-f", "-"], &changed)?.contains("configured"));
    ensure!(k(&["get", "configmap", "basics", "-o", "jsonpath={.data.a}"])? == "2");
    ensure!(k(&["get", "configmap", "-l", "app=basics", "-o", "name"])?.trim() == "configmap/basics");
    ensure!(k(&["get", "configmap", "-l", "app!=basics", "-o", "name"])?.lines().all(|l| l != "configmap/basics"));
    k(&["label", "configmap", "basics", "tier=test"])?;
    k(&["annotate", "configmap", "basics", "note=x"])?;
    let yaml = k(&["get", "configmap", "basics", "-o", "yaml"])?;
    ensure!(yaml.contains("tier: test") && yaml.contains("note: x") && yaml.contains("resourceVersion"), "{yaml}");
    k(&["patch", "configmap", "basics", "--type=json", "-p", r#"[{"op":"add","path":"/data/b","value":"3"}]"#])?;
    k(&["patch", "configmap", "basics", "--type=merge", "-p", r#"{"data":{"a":null}}"#])?;
    ensure!(k(&["get", "configmap", "basics", "-o", "jsonpath={.data}"])?.contains("\"b\":\"3\""));
    ensure!(k(&["describe", "node", "h1"])?.contains("Allocatable"));
    ensure!(k(&["describe", "pod", "-n", "wordpress"])?.contains("Scheduled"));
    ensure!(k(&["get", "nodes", "-o", "wide"])?.contains("containerd://"));
    ensure!(k(&["api-resources"])?.contains("networkpolicies"));
    ensure!(k(&["version"])?.contains("v1.37"));
    ensure!(k(&["cluster-info"])?.contains("10.99.0.11:6443"));
    ensure!(k(&["delete", "configmap", "basics"])?.contains("deleted"));
    ensure!(k(&["get", "configmap", "basics", "--ignore-not-found"])?.is_empty());
    Ok(())
}

/// A Deployment of the probe's server, from the image that every node has.
fn server(story: &Story, replicas: u32, label: &str) -> Result<String> {
    let image = story.operator.components_image()?;
    Ok(format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web, version: {label}}}}}
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

pub fn deployments(story: &Story) -> Result<()> {
    let k = |args: &[&str]| story.operator.kubectl(args);
    story.operator.kubectl_with(&["apply", "-f", "-"], &server(story, 2, "one")?)?;
    k(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    k(&["scale", "deployment/web", "--replicas=4"])?;
    k(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    ensure!(k(&["get", "pods", "-l", "app=web", "--no-headers"])?.lines().count() == 4);
    story.operator.kubectl_with(&["apply", "-f", "-"], &server(story, 3, "two")?)?;
    k(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    gone(story, &["pod", "-l", "version=one"])?;
    ensure!(k(&["get", "replicasets", "-l", "app=web", "--no-headers"])?.lines().count() == 2);
    k(&["expose", "deployment", "web", "--port=80", "--target-port=8080"])?;
    until_ok(Duration::from_secs(20), "the Service has its endpoints", || {
        let path = "jsonpath={.items[*].endpoints[*].addresses[0]}";
        let slices = k(&["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", path])?;
        ensure!(slices.split_whitespace().count() == 3, "endpoints: {slices}");
        Ok(())
    })
}

pub fn workloads(story: &Story) -> Result<()> {
    let image = story.operator.components_image()?;
    let manifest = format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: ordered, namespace: default}}
spec:
  serviceName: ordered
  replicas: 2
  selector: {{matchLabels: {{app: ordered}}}}
  template:
    metadata: {{labels: {{app: ordered}}}}
    spec:
      containers:
      - {{name: c, image: '{image}', command: [/kinstall-components, probe, serve], volumeMounts: [{{name: data, mountPath: /data}}]}}
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: everywhere, namespace: default}}
spec:
  selector: {{matchLabels: {{app: everywhere}}}}
  template:
    metadata: {{labels: {{app: everywhere}}}}
    spec:
      tolerations: [{{operator: Exists}}]
      containers: [{{name: c, image: '{image}', command: [/kinstall-components, probe, serve]}}]
---
apiVersion: batch/v1
kind: Job
metadata: {{name: once, namespace: default}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: c, image: '{image}', command: [/kinstall-components, probe, run, --dns, kubernetes.default.svc.cluster.local]}}]
"
    );
    let k = |args: &[&str]| story.operator.kubectl(args);
    story.operator.kubectl_with(&["apply", "-f", "-"], &manifest)?;
    k(&["rollout", "status", "statefulset/ordered", "--timeout=90s"])?;
    k(&["rollout", "status", "daemonset/everywhere", "--timeout=60s"])?;
    k(&["wait", "--for=condition=complete", "job/once", "--timeout=60s"])?;
    ensure!(k(&["get", "pods", "-l", "app=everywhere", "--no-headers"])?.lines().count() == 3);
    ensure!(k(&["get", "pvc", "--no-headers"])?.lines().all(|l| l.contains("Bound")));
    Ok(())
}

/// `kubectl wait` of old calls it a failure that nothing is there any more when it begins.
fn gone(story: &Story, what: &[&str]) -> Result<()> {
    match story.operator.kubectl(&[&["wait", "--for=delete", "--timeout=60s"], what].concat()) {
        Err(error) if !error.to_string().contains("no matching resources") => Err(error),
        _ => Ok(()),
    }
}

pub fn garbage(story: &Story) -> Result<()> {
    let k = |args: &[&str]| story.operator.kubectl(args);
    k(&[
        "delete",
        "deployment/web",
        "service/web",
        "statefulset/ordered",
        "daemonset/everywhere",
        "job/once",
        "--timeout=60s",
    ])?;
    k(&["delete", "pvc", "--all", "--timeout=60s"])?;
    gone(story, &["pod", "--all"])?;
    ensure!(k(&["get", "replicasets,pods,endpointslices", "-l", "app", "--no-headers"])?.is_empty());
    let namespace = "apiVersion: v1
kind: Namespace
metadata: {name: doomed}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: held, namespace: doomed, finalizers: [example.com/hold]}
";
    story.operator.kubectl_with(&["apply", "-f", "-"], namespace)?;
    k(&["delete", "namespace", "doomed", "--wait=false"])?;
    ensure!(k(&["get", "namespace", "doomed", "-o", "jsonpath={.status.phase}"])? == "Terminating");
    k(&["patch", "configmap", "held", "-n", "doomed", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?;
    gone(story, &["namespace/doomed"])
}

pub fn logs_and_exec(story: &Story) -> Result<()> {
    let k = |args: &[&str]| story.operator.kubectl(args);
    let logs = k(&["logs", "-n", "wordpress", "-l", "app=wordpress", "--tail=50"])?;
    ensure!(!logs.is_empty(), "WordPress has logged nothing");
    let pod =
        k(&["get", "pods", "-n", "wordpress", "-l", "app=wordpress", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let said = k(&["exec", "-n", "wordpress", &pod, "--", "cat", "/etc/hosts"])?;
    ensure!(said.contains("Kubernetes-managed hosts file"), "{said}");
    Ok(())
}

pub fn security(story: &Story) -> Result<()> {
    let answer = |args: &[&str]| -> Result<String> {
        let output = std::process::Command::new("curl")
            .args(["-sk", "--http1.1", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(args)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let api = "https://10.99.0.11:6443";
    ensure!(answer(&[&format!("{api}/api/v1/namespaces")])? == "401");
    ensure!(answer(&["-X", "POST", &format!("{api}/api/v1/namespaces"), "-d", "{}"])? == "401");
    ensure!(answer(&["-H", "Authorization: Bearer nonsense", &format!("{api}/api/v1/nodes")])? == "401");
    ensure!(answer(&["https://10.99.0.12:10250/pods"])? == "401");
    let can =
        |what: &[&str]| story.operator.kubectl(&[&["auth", "can-i"], what].concat()).map(|said| said.trim() == "yes");
    ensure!(can(&["create", "pods"])?);
    Ok(())
}
