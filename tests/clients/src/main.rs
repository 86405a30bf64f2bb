//! Real clients against a real server: every kubectl of this machine, the Python and JavaScript clients from their
//! registries, Rust's kube. Each creates, reads, watches, patches, applies and deletes, and does so with a custom resource.
//! What cannot be run is told, with its reason.

mod javascript;
mod kubectl;
mod python;
mod rust;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use conformance::client::Client;
use conformance::kubeconfig::Kubeconfig;

#[derive(Parser)]
#[command(name = "clients", about = "drives an API server with the clients people use")]
struct Args {
    /// The server; its user must be a cluster administrator
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Where clients from registries are installed
    #[arg(long, default_value = "/var/cache/kinstall/clients")]
    cache: PathBuf,
    /// Only clients whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// An image with a shell, for exec where kubelets run
    #[arg(long, default_value = "docker.io/library/busybox:1.36")]
    shell_image: String,
}

/// What all of them need.
pub struct Server {
    pub kubeconfig: PathBuf,
    pub cache: PathBuf,
    pub api: Client,
    /// Real kubelets serve this cluster, so exec can be tried.
    pub kubelets: bool,
    pub shell_image: String,
}

/// How it went with one client.
pub enum Outcome {
    Passed(String),
    NotRun(String),
}

fn main() -> ExitCode {
    conformance::begin();
    let args = Args::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(matrix(args)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

async fn matrix(args: Args) -> Result<bool> {
    let api = Client::new(&Kubeconfig::read(&args.kubeconfig)?)?;
    api.get("/version").await.context("the server does not answer")?;
    let kubelets = conformance::nodes::real_nodes(&api).await?;
    let server =
        Server { kubeconfig: args.kubeconfig, cache: args.cache, api, kubelets, shell_image: args.shell_image };
    let wanted = |name: &str| args.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let mut results = Vec::new();
    for binary in conformance::kubectl::all() {
        let name = match conformance::kubectl::version(&binary) {
            Some((major, minor)) => format!("kubectl {major}.{minor} ({})", binary.display()),
            None => format!("kubectl ({}), whose version cannot be read", binary.display()),
        };
        if wanted(&name) {
            results.push(report(&name, kubectl::run(&server, &binary).await));
        }
    }
    if wanted("python") {
        results.push(report("python kubernetes", python::run(&server).await));
    }
    if wanted("javascript") {
        results.push(report("javascript @kubernetes/client-node", javascript::run(&server).await));
    }
    if wanted("rust") {
        results.push(report("rust kube", rust::run(&server).await));
    }
    let count = |wanted: Tally| results.iter().filter(|it| **it == wanted).count();
    println!(
        "clients: passed {}, failed {}, not run {}",
        count(Tally::Passed),
        count(Tally::Failed),
        count(Tally::NotRun)
    );
    Ok(count(Tally::Failed) == 0 && count(Tally::Passed) > 0)
}

#[derive(Clone, Copy, PartialEq)]
enum Tally {
    Passed,
    Failed,
    NotRun,
}

fn report(name: &str, outcome: Result<Outcome>) -> Tally {
    match outcome {
        Ok(Outcome::Passed(what)) => {
            println!("ok       {name}: {what}");
            Tally::Passed
        }
        Ok(Outcome::NotRun(why)) => {
            println!("not run  {name}: {why}");
            Tally::NotRun
        }
        Err(error) => {
            println!("FAIL     {name}: {error:#}");
            Tally::Failed
        }
    }
}

/// A namespace for one client; it goes with all that is in it when the client is done.
pub async fn in_namespace<F, Fut>(server: &Server, run: F) -> Result<Outcome>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<Outcome>>,
{
    let name = format!("client-{}", conformance::context::random(6));
    let path = format!("/api/v1/namespaces/{name}");
    server.api.post("/api/v1/namespaces", &serde_json::json!({"metadata": {"name": name}})).await?;
    let outcome = run(name.clone()).await;
    server.api.delete(&path, &serde_json::Value::Null).await?;
    outcome
}

/// A definition of a custom resource of the namespace's own group; kubectl, Python and JavaScript get it as text.
pub fn definition(namespace: &str) -> serde_json::Value {
    let group = format!("{namespace}.example.com");
    let schema = serde_json::json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "description": "How large the widget is."}}}}});
    serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })
}
