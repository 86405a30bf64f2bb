//! One kubectl: the commands of a day.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use conformance::kubectl::{Kubectl, Output};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{Outcome, Server, definition, in_namespace, streams};

/// kubectl in the client's namespace.
pub struct Cli {
    pub kubectl: Kubectl,
    pub namespace: String,
}

impl Cli {
    pub async fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Output> {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend_from_slice(arguments);
        self.kubectl.run(&all, input).await
    }

    pub async fn has(&self, arguments: &[&str], input: Option<&str>, texts: &[&str]) -> Result<String> {
        self.run(arguments, input).await?.has(texts)
    }
}

pub async fn run(server: &Server, binary: &Path) -> Result<Outcome> {
    let home = tempfile::tempdir()?;
    in_namespace(server, async |namespace| {
        let kubectl =
            Kubectl { binary: binary.to_owned(), kubeconfig: server.kubeconfig.clone(), home: home.path().to_owned() };
        let cli = Cli { kubectl, namespace };
        built_in(&cli).await?;
        watch(&cli).await?;
        server_side(&cli).await?;
        custom(&cli).await?;
        let more = if server.kubelets {
            streams::run(&cli, &server.shell_image).await?;
            streams::TRIED
        } else {
            "streams not run: no kubelet serves this cluster"
        };
        Ok(Outcome::Passed(format!("create, get, watch, patch, apply, delete, custom resources, explain; {more}")))
    })
    .await
}

fn deployment(image: &str) -> String {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}}})
    .to_string()
}

async fn built_in(cli: &Cli) -> Result<()> {
    cli.has(&["version"], None, &["Server Version"]).await?;
    cli.has(&["api-resources"], None, &["configmaps", "deployments", "ingresses"]).await?;
    cli.has(&["create", "configmap", "one", "--from-literal=a=b"], None, &["configmap/one created"]).await?;
    cli.has(&["get", "configmap", "one", "-o", "yaml"], None, &["a: b", "name: one"]).await?;
    cli.has(&["get", "configmap"], None, &["NAME", "DATA", "AGE", "one"]).await?;
    cli.has(&["label", "configmap", "one", "x=y"], None, &["labeled"]).await?;
    cli.has(&["patch", "configmap", "one", "-p", r#"{"data":{"c":"d"}}"#], None, &["patched"]).await?;
    cli.has(
        &["patch", "configmap", "one", "--type=json", "-p", r#"[{"op":"remove","path":"/data/c"}]"#],
        None,
        &["patched"],
    )
    .await?;
    cli.has(&["get", "configmap", "-l", "x=y", "-o", "jsonpath={.items[0].data}"], None, &["a", "b"]).await?;
    cli.has(&["apply", "-f", "-"], Some(&deployment("example.com/a:1")), &["deployment.apps/web created"]).await?;
    cli.has(&["apply", "-f", "-"], Some(&deployment("example.com/a:1")), &["unchanged"]).await?;
    cli.has(&["apply", "-f", "-"], Some(&deployment("example.com/a:2")), &["configured"]).await?;
    cli.has(&["scale", "deployment", "web", "--replicas=1"], None, &["scaled"]).await?;
    cli.has(&["get", "deployment", "web", "-o", "wide"], None, &["READY", "example.com/a:2"]).await?;
    cli.has(&["explain", "deployment.spec.replicas"], None, &["Number of desired pods"]).await?;
    cli.has(&["auth", "can-i", "create", "pods"], None, &["yes"]).await?;
    let unknown = deployment("example.com/a:2").replace("\"replicas\":0", "\"replicaz\":0");
    cli.run(&["apply", "-f", "-"], Some(&unknown)).await?.fails("replicaz")?;
    cli.has(&["delete", "deployment", "web", "--wait=true"], None, &["deleted"]).await?;
    cli.run(&["get", "deployment", "web"], None).await?.fails("not found")
}

async fn watch(cli: &Cli) -> Result<()> {
    let arguments = ["-n", &cli.namespace, "get", "configmap", "--watch-only", "-o", "name"];
    let mut child = cli.kubectl.command(&arguments).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    // kubectl does not tell when its watch is open; what is written once a while must be seen some time
    let writes = async {
        for number in 0..200 {
            cli.run(&["create", "configmap", &format!("watched-{number}")], None).await?.ok()?;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        bail!("no event within 200 writes")
    };
    tokio::select! {
        seen = lines.next_line() => {
            let seen = seen?.context("kubectl get --watch ended")?;
            ensure!(seen.contains("watched-"), "kubectl get --watch prints {seen:?}");
            Ok(())
        }
        failed = writes => failed,
    }
}

async fn server_side(cli: &Cli) -> Result<()> {
    let body = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}})
            .to_string()
    };
    cli.has(&["apply", "--server-side", "-f", "-"], Some(&body("1")), &["serverside-applied"]).await?;
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    cli.run(&other, Some(&body("2"))).await?.fails("conflict")?;
    let forced = ["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"];
    cli.has(&forced, Some(&body("2")), &["serverside-applied"]).await?;
    cli.has(&["get", "configmap", "applied", "-o", "jsonpath={.data.k}"], None, &["2"]).await.map(drop)
}

async fn custom(cli: &Cli) -> Result<()> {
    let definition = definition(&cli.namespace);
    let name = definition["metadata"]["name"].as_str().context("no name")?.to_owned();
    cli.has(&["apply", "-f", "-"], Some(&definition.to_string()), &["created"]).await?;
    cli.has(
        &["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{name}")],
        None,
        &["condition met"],
    )
    .await?;
    let widget = |size: u32| {
        json!({"apiVersion": format!("{}.example.com/v1", cli.namespace), "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": size}})
            .to_string()
    };
    cli.has(&["apply", "-f", "-"], Some(&widget(1)), &["created"]).await?;
    cli.has(&["apply", "-f", "-"], Some(&widget(2)), &["configured"]).await?;
    cli.has(&["get", &name, "w", "-o", "jsonpath={.spec.size}"], None, &["2"]).await?;
    cli.has(&["patch", &name, "w", "--type=merge", "-p", r#"{"spec":{"size":3}}"#], None, &["patched"]).await?;
    let group = format!("--api-version={}.example.com/v1", cli.namespace);
    cli.has(&["explain", "widgets.spec.size", &group], None, &["How large the widget is."]).await?;
    cli.has(&["delete", &name, "w"], None, &["deleted"]).await?;
    cli.has(&["delete", "crd", &name], None, &["deleted"]).await.map(drop)
}
