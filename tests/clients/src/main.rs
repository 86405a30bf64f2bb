//! Real clients against a real server: every kubectl of this machine, the Python and JavaScript clients from their
//! registries, Rust's kube. Each creates, reads, watches, patches, applies and deletes, and does so with a custom resource.
//! What cannot be run is told, with its reason.

mod javascript;
mod kubectl;
mod python;
mod rust;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use conformance::client::Client;
use conformance::kubeconfig::Kubeconfig;
use futures::StreamExt;

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
    /// A client that cannot be run counts as failed
    #[arg(long)]
    all: bool,
    /// How many clients at a time
    #[arg(long, default_value_t = 3)]
    parallel: usize,
    /// An image with busybox, for streams where kubelets run
    #[arg(long, default_value = "kinstall.local/tools:1")]
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
    let chosen =
        clients().into_iter().filter(|(name, _)| args.filter.as_deref().is_none_or(|part| name.contains(part)));
    let server = &server;
    let results: Vec<Tally> = futures::stream::iter(chosen)
        .map(|(name, which)| async move { report(&name, which.run(server).await) })
        .buffer_unordered(args.parallel)
        .collect()
        .await;
    let count = |wanted: Tally| results.iter().filter(|it| **it == wanted).count();
    println!(
        "clients: passed {}, failed {}, not run {}",
        count(Tally::Passed),
        count(Tally::Failed),
        count(Tally::NotRun)
    );
    let missed = args.all && count(Tally::NotRun) > 0;
    Ok(count(Tally::Failed) == 0 && count(Tally::Passed) > 0 && !missed)
}

enum Which {
    Kubectl(PathBuf),
    Python,
    JavaScript,
    Rust,
}

impl Which {
    async fn run(&self, server: &Server) -> Result<Outcome> {
        match self {
            Which::Kubectl(binary) => kubectl::run(server, binary).await,
            Which::Python => python::run(server).await,
            Which::JavaScript => javascript::run(server).await,
            Which::Rust => rust::run(server).await,
        }
    }
}

/// All there are on this machine, by their names.
fn clients() -> Vec<(String, Which)> {
    let mut all = vec![
        ("python kubernetes".to_owned(), Which::Python),
        ("javascript @kubernetes/client-node".to_owned(), Which::JavaScript),
        ("rust kube".to_owned(), Which::Rust),
    ];
    for binary in conformance::kubectl::all() {
        let name = match conformance::kubectl::version(&binary) {
            Some((major, minor)) => format!("kubectl {major}.{minor} ({})", binary.display()),
            None => format!("kubectl ({}), whose version cannot be read", binary.display()),
        };
        all.push((name, Which::Kubectl(binary)));
    }
    all
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
