//! Entries of kubectl, as far as the API answers for them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::objects::workload;
use crate::client::shorten;
use crate::context::{T, same};
use crate::kubectl::Output;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("Kubectl client Kubectl api-versions should check if v1 is in available api versions", |t| async move {
            let printed = Cli::new(&t)?.run(&["api-versions"]).await?.ok()?;
            ensure!(printed.lines().any(|line| line == "v1"), "no v1 in {printed}");
            Ok(())
        }),
        Entry::new(
            "Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info",
            |t| async move { Cli::new(&t)?.run(&["cluster-info"]).await?.has(&["Kubernetes control plane", "is running at"]).map(drop) },
        ),
        Entry::new("Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods", describe),
        Entry::new("Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments", diff),
        Entry::new("Kubectl client Kubectl expose should create services for rc", expose),
        Entry::new("Kubectl client Kubectl label should update the label on a resource", label),
        Entry::new("Kubectl client Kubectl patch should add annotations for pods in rc", patch),
        Entry::new("Kubectl client Kubectl replace should update a single-container pod's image", replace),
        Entry::new("Kubectl client Kubectl run pod should create a pod from an image when restart is Never", run_pod),
        Entry::new("Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods", dry_run),
        Entry::new("Kubectl client Kubectl version should check is all data is printed", version),
        Entry::new("Kubectl client Update Demo should create and stop a replication controller", |t| demo(t, &[2])),
        Entry::new("Kubectl client Update Demo should scale a replication controller", |t| demo(t, &[2, 1, 2])),
        Entry::new("Kubectl logs logs should be able to retrieve and filter logs", logs),
    ]
    .into_iter()
    .map(|entry| entry.under("[sig-cli]"))
    .collect()
}

/// kubectl in the test's namespace.
pub struct Cli<'a> {
    t: &'a T,
}

impl<'a> Cli<'a> {
    pub fn new(t: &'a T) -> Result<Self> {
        ensure!(t.env.kubectl.is_some(), "no kubectl on this machine; name one with --kubectl");
        Ok(Cli { t })
    }

    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.call(arguments, None).await
    }

    pub async fn input(&self, arguments: &[&str], input: &str) -> Result<Output> {
        self.call(arguments, Some(input)).await
    }

    async fn call(&self, arguments: &[&str], input: Option<&str>) -> Result<Output> {
        let kubectl = self.t.env.kubectl.as_ref().context("no kubectl")?;
        let mut all = vec!["-n", self.t.ns.as_str()];
        all.extend_from_slice(arguments);
        kubectl.run(&all, input).await
    }

    /// `kubectl explain`, again until the kind is published.
    pub async fn explain(&self, arguments: &[impl AsRef<str>], texts: &[&str]) -> Result<()> {
        let mut all = vec!["explain"];
        all.extend(arguments.iter().map(AsRef::as_ref));
        self.t.eventually("kubectl explain", || async { self.run(&all).await?.has(texts).map(drop) }).await
    }
}

pub fn manifest(res: &Res, mut body: Value) -> String {
    body["apiVersion"] = json!(res.api_version());
    body["kind"] = json!(res.kind);
    body.to_string()
}

pub async fn running(t: &T, label: &str, count: usize) -> Result<Vec<Value>> {
    let path = format!("{}?labelSelector=app%3D{label}", Res::POD.collection(&t.ns));
    let all = |items: &[Value]| items.len() == count && items.iter().all(|pod| pod["status"]["phase"] == "Running");
    t.until_list(&format!("{count} running pods"), &path, all).await
}

async fn version(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    cli.run(&["version"]).await?.has(&["Client Version", "Server Version"])?;
    let printed: Value = serde_json::from_str(&cli.run(&["version", "-o", "json"]).await?.ok()?)?;
    for field in ["major", "minor", "gitVersion", "gitCommit", "platform"] {
        ensure!(printed["serverVersion"][field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {printed}");
    }
    Ok(())
}

pub fn service(name: &str, port: u16) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"selector": {"app": name}, "ports": [{"port": port}]}})
}

async fn describe(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let name = "agnhost-primary";
    cli.input(&["create", "-f", "-"], &manifest(&Res::RC, workload(&t, name, 1, false))).await?.ok()?;
    cli.input(&["create", "-f", "-"], &manifest(&Res::SERVICE, service(name, 6379))).await?.ok()?;
    let pods = running(&t, name, 1).await?;
    let pod = pods[0]["metadata"]["name"].as_str().context("no name")?;
    let node = pods[0]["spec"]["nodeName"].as_str().context("no node")?;
    let image = t.env.surroundings.image.as_str();
    let described = [
        "Name:",
        "Namespace:",
        "Node:",
        "Labels:",
        "app=agnhost-primary",
        "Status:",
        "Running",
        "IP:",
        "Controlled By:",
        "ReplicationController/agnhost-primary",
        "Image:",
        image,
        "State:",
        "QoS Class:",
        "BestEffort",
    ];
    cli.run(&["describe", "pod", pod]).await?.has(&described)?;
    // the event of the pod's birth may come a moment later
    t.eventually("the event in kubectl describe", || async {
        let described = [
            "Name:",
            "Namespace:",
            "Selector:",
            "app=agnhost-primary",
            "Replicas:",
            "1 current",
            "1 desired",
            "Pods Status:",
            "1 Running",
            "Pod Template:",
            image,
            "Events:",
            "SuccessfulCreate",
        ];
        cli.run(&["describe", "rc", name]).await?.has(&described).map(drop)
    })
    .await?;
    let described = [
        "Name:",
        name,
        "Namespace:",
        "Selector:",
        "Type:",
        "ClusterIP",
        "IP:",
        "Port:",
        "6379/TCP",
        "Endpoints:",
        "Session Affinity:",
    ];
    cli.run(&["describe", "service", name]).await?.has(&described)?;
    let described = [
        "Name:",
        "Labels:",
        "Annotations:",
        "Conditions:",
        "Ready",
        "Capacity:",
        "Allocatable:",
        "System Info:",
        "Non-terminated Pods:",
        "Allocated resources:",
    ];
    cli.run(&["describe", "node", node]).await?.has(&described)?;
    cli.run(&["describe", "namespace", &t.ns]).await?.has(&["Name:", "Labels:", "Status:", "Active"]).map(drop)
}

async fn diff(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let body = |image: &str| {
        let mut body = workload(&t, "httpd-deployment", 0, true);
        body["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        manifest(&Res::DEPLOYMENT, body)
    };
    cli.input(&["create", "-f", "-"], &body("example.com/httpd:1")).await?.ok()?;
    let output = cli.input(&["diff", "-f", "-"], &body("example.com/busybox:1")).await?;
    same("exit code of a difference", &output.code, &1)?;
    for line in ["-      - image: example.com/httpd:1", "+      - image: example.com/busybox:1"] {
        ensure!(output.stdout.contains(line), "expected {line:?} in {} {}", output.stdout, output.stderr);
    }
    let same_again = cli.input(&["diff", "-f", "-"], &body("example.com/httpd:1")).await?;
    ensure!(same_again.code == 0, "a difference where there is none: {} {}", same_again.stdout, same_again.stderr);
    Ok(())
}

async fn expose(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let name = "agnhost-primary";
    let mut body = workload(&t, name, 1, false);
    body["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 6379}]);
    cli.input(&["create", "-f", "-"], &manifest(&Res::RC, body)).await?.ok()?;
    running(&t, name, 1).await?;
    cli.run(&["expose", "rc", name, "--name=rm2", "--port=1234", "--target-port=6379"]).await?.ok()?;
    cli.run(&["expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379"]).await?.ok()?;
    for (service, port) in [("rm2", 1234), ("rm3", 2345)] {
        let made = t.read(&Res::SERVICE, service).await?;
        same("port", &made["spec"]["ports"][0]["port"], &json!(port))?;
        same("target port", &made["spec"]["ports"][0]["targetPort"], &json!(6379))?;
        let path =
            format!("{}?labelSelector=kubernetes.io%2Fservice-name%3D{service}", Res::ENDPOINT_SLICE.collection(&t.ns));
        t.until_list("an endpoint", &path, |slices| {
            slices
                .iter()
                .any(|slice| slice["ports"][0]["port"] == 6379 && slice["endpoints"][0]["addresses"][0].is_string())
        })
        .await?;
    }
    Ok(())
}

async fn pause_pod(t: &T, cli: &Cli<'_>, name: &str) -> Result<()> {
    let body = super::objects::pod(t, name);
    cli.input(&["create", "-f", "-"], &manifest(&Res::POD, body)).await?.ok()?;
    t.until("a running pod", &t.path(&Res::POD, name), |pod| pod["status"]["phase"] == "Running").await.map(drop)
}

async fn label(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    pause_pod(&t, &cli, "pause").await?;
    cli.run(&["label", "pods", "pause", "testing-label=testing-label-value"]).await?.ok()?;
    cli.run(&["get", "pod", "pause", "-L", "testing-label"]).await?.has(&["TESTING-LABEL", "testing-label-value"])?;
    cli.run(&["get", "pod", "-l", "testing-label=testing-label-value"]).await?.has(&["pause"])?;
    cli.run(&["label", "pods", "pause", "testing-label-"]).await?.ok()?;
    let printed = cli.run(&["get", "pod", "pause", "-L", "testing-label"]).await?.ok()?;
    ensure!(!printed.contains("testing-label-value"), "the label is still there: {printed}");
    Ok(())
}

async fn patch(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let name = "agnhost-primary";
    cli.input(&["create", "-f", "-"], &manifest(&Res::RC, workload(&t, name, 2, false))).await?.ok()?;
    for pod in running(&t, name, 2).await? {
        let pod = pod["metadata"]["name"].as_str().context("no name")?;
        cli.run(&["patch", "pod", pod, "-p", r#"{"metadata":{"annotations":{"x":"y"}}}"#]).await?.ok()?;
        same("annotation", &t.read(&Res::POD, pod).await?["metadata"]["annotations"]["x"], &json!("y"))?;
    }
    Ok(())
}

async fn run_named(t: &T, cli: &Cli<'_>, name: &str, more: &[&str]) -> Result<Value> {
    let image = format!("--image={}", t.env.surroundings.image);
    let mut arguments = vec!["run", name, image.as_str()];
    arguments.extend_from_slice(more);
    cli.run(&arguments).await?.ok()?;
    t.until("a running pod", &t.path(&Res::POD, name), |pod| pod["status"]["phase"] == "Running").await
}

async fn replace(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let name = "e2e-test-httpd-pod";
    run_named(&t, &cli, name, &["--labels=run=e2e-test-httpd-pod"]).await?;
    let text = cli.run(&["get", "pod", name, "-o", "json"]).await?.ok()?;
    let changed =
        text.replace(&format!("\"image\": \"{}\"", t.env.surroundings.image), "\"image\": \"example.com/busybox:1\"");
    ensure!(changed != text, "no image in {}", shorten(&text));
    cli.input(&["replace", "-f", "-"], &changed).await?.ok()?;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].clone();
    let replaced = t.read(&Res::POD, name).await?;
    same("image", &image(&replaced), &json!("example.com/busybox:1"))?;
    let body = manifest(&Res::POD, super::objects::pod(&t, name));
    cli.input(&["replace", "--force", "-f", "-"], &body).await?.ok()?;
    let anew = t.read(&Res::POD, name).await?;
    ensure!(anew["metadata"]["uid"] != replaced["metadata"]["uid"], "--force did not make a new pod");
    same("image of the new pod", &image(&anew), &json!(t.env.surroundings.image))
}

async fn run_pod(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let pod = run_named(&t, &cli, "e2e-test-httpd-pod", &["--restart=Never"]).await?;
    same("containers", &pod["spec"]["containers"].as_array().map(Vec::len), &Some(1))?;
    same("image", &pod["spec"]["containers"][0]["image"], &json!(t.env.surroundings.image))?;
    same("restartPolicy", &pod["spec"]["restartPolicy"], &json!("Never"))
}

async fn dry_run(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let before = run_named(&t, &cli, "e2e-test-httpd-pod", &["--labels=run=e2e-test-httpd-pod"]).await?;
    let patch = r#"{"spec":{"containers":[{"name": "e2e-test-httpd-pod","image": "example.com/busybox:1"}]}}"#;
    let printed =
        cli.run(&["patch", "pod", "e2e-test-httpd-pod", "-p", patch, "--dry-run=server", "-o", "json"]).await?.ok()?;
    let tried: Value = serde_json::from_str(&printed)?;
    same("image of the dry run", &tried["spec"]["containers"][0]["image"], &json!("example.com/busybox:1"))?;
    let after = t.read(&Res::POD, "e2e-test-httpd-pod").await?;
    same("image", &after["spec"]["containers"][0]["image"], &before["spec"]["containers"][0]["image"])?;
    same("spec", &after["spec"], &before["spec"])
}

async fn demo(t: Arc<T>, sizes: &[u32]) -> Result<()> {
    let cli = Cli::new(&t)?;
    let name = "update-demo-nautilus";
    cli.input(&["create", "-f", "-"], &manifest(&Res::RC, workload(&t, name, sizes[0], false))).await?.ok()?;
    running(&t, name, sizes[0] as usize).await?;
    for size in &sizes[1..] {
        cli.run(&["scale", "rc", name, &format!("--replicas={size}"), "--timeout=1m"]).await?.ok()?;
        running(&t, name, *size as usize).await?;
    }
    let template = "{{range .items}}{{.metadata.name}} {{end}}";
    let printed = cli
        .run(&["get", "pods", "-o", "template", &format!("--template={template}"), "-l", &format!("app={name}")])
        .await?
        .ok()?;
    same("pods printed by a template", &printed.split_whitespace().count(), &(sizes[sizes.len() - 1] as usize))?;
    let body = manifest(&Res::RC, workload(&t, name, 0, false));
    cli.input(&["delete", "--grace-period=0", "--force", "-f", "-"], &body).await?.ok()?;
    running(&t, name, 0).await?;
    let left = cli.run(&["get", "rc,svc", "-l", &format!("app={name}"), "--no-headers"]).await?;
    ensure!(left.stdout.is_empty(), "left: {}", left.stdout);
    Ok(())
}

/// Where there are no kubelets, the harness is the kubelet: options must reach it, and its answer kubectl.
async fn logs(t: Arc<T>) -> Result<()> {
    let cli = Cli::new(&t)?;
    let mut body = super::objects::pod(&t, "logs-generator");
    if t.env.real_nodes {
        let script = "i=1; while [ $i -le 20 ]; do echo line $i of the log; i=$((i+1)); done; sleep 3600";
        body["spec"]["containers"][0] =
            json!({"name": "main", "image": t.env.surroundings.shell_image, "command": ["sh", "-c", script]});
    }
    t.make(&Res::POD, body).await?;
    t.until("a running pod", &t.path(&Res::POD, "logs-generator"), |pod| pod["status"]["phase"] == "Running").await?;
    let all = t
        .eventually("the log", || async {
            cli.run(&["logs", "logs-generator", "main"]).await?.has(&["line 20 of the log"])
        })
        .await?;
    same("lines", &all.lines().count(), &20)?;
    let last = cli.run(&["logs", "logs-generator", "main", "--tail=1"]).await?.ok()?;
    same("last line", last.as_str(), "line 20 of the log\n")?;
    let one = cli.run(&["logs", "logs-generator", "main", "--limit-bytes=1"]).await?.ok()?;
    same("one byte", one.as_str(), "l")?;
    let stamped = cli.run(&["logs", "logs-generator", "main", "--tail=1", "--timestamps"]).await?.ok()?;
    let (stamp, line) = stamped.trim_end().split_once(' ').context("no time stamp")?;
    same("line after the time stamp", line, "line 20 of the log")?;
    time::OffsetDateTime::parse(stamp, &time::format_description::well_known::Rfc3339).context("the time stamp")?;
    let day = cli.run(&["logs", "logs-generator", "main", "--since=24h"]).await?.ok()?;
    same("lines of the last day", &day.lines().count(), &20)?;
    if !t.env.real_nodes {
        let recent = cli.run(&["logs", "logs-generator", "main", "--since=60s"]).await?.ok()?;
        same("lines of the last minute", &recent.lines().count(), &10)?;
    }
    Ok(())
}
