//! `conformance run`: the suite. `conformance with-server`: any other program, against a server of its own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use conformance::environment::{Environment, Surroundings};
use conformance::kubeconfig::Kubeconfig;
use conformance::runner::{self, Outcome, Verdict};
use conformance::starter::ControlPlane;
use conformance::tests;
use serde_json::json;

#[derive(Parser)]
#[command(name = "conformance", about = "checks a Kubernetes API server against the required behaviours of v1.37")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the suite
    Run(Run),
    /// Start a control plane, run a program with KUBECONFIG and SERVER_PID set, stop it
    WithServer(WithServer),
}

#[derive(clap::Args)]
struct Run {
    /// The server to check; its user must be a cluster administrator
    #[arg(long, env = "KUBECONFIG", required_unless_present = "start")]
    kubeconfig: Option<PathBuf>,
    /// Start this kinstall-components with a scratch store instead, and stop it afterwards
    #[arg(long)]
    start: Option<PathBuf>,
    /// Only entries whose name contains this (several: any of them)
    #[arg(long)]
    filter: Vec<String>,
    /// Keep the scratch folder of --start here, with the server's log
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Every entry has to run: one that needs kubelets and finds none fails the run
    #[arg(long)]
    real_nodes: bool,
    #[arg(long, default_value_t = 8)]
    parallel: usize,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    surroundings: Surroundings,
}

#[derive(clap::Args)]
struct WithServer {
    /// The kinstall-components to start
    #[arg(long)]
    start: PathBuf,
    #[arg(long)]
    keep: Option<PathBuf>,
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    conformance::begin();
    let cli = Cli::parse();
    let done =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            runtime.block_on(async {
                match cli.task {
                    Task::Run(run) => suite(run).await,
                    Task::WithServer(with) => with_server(with).await,
                }
            })
        });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// The folder a server lives in, removed with the second value.
fn folder(keep: Option<&PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    match keep {
        Some(folder) => Ok((folder.clone(), None)),
        None => {
            let scratch = tempfile::tempdir()?;
            Ok((scratch.path().to_owned(), Some(scratch)))
        }
    }
}

async fn suite(run: Run) -> Result<bool> {
    let (folder, _scratch) = folder(run.keep.as_ref())?;
    let mut server = match &run.start {
        Some(binary) => Some(ControlPlane::start(binary, &folder).await?),
        None => None,
    };
    let path = server.as_ref().map(|server| server.kubeconfig.clone()).or(run.kubeconfig).context("no kubeconfig")?;
    let mut entries = tests::all();
    if !run.filter.is_empty() {
        entries.retain(|entry| run.filter.iter().any(|wanted| entry.name.contains(wanted)));
    }
    if entries.is_empty() {
        bail!("no entry's name contains {:?}", run.filter);
    }
    let (environment, fake) = Environment::new(Kubeconfig::read(&path)?, run.surroundings).await?;
    if run.real_nodes && !environment.real_nodes {
        bail!("--real-nodes: no node of this cluster is Ready");
    }
    let environment = Arc::new(environment);
    let verdicts = runner::run(&environment, entries, run.parallel, run.output == Output::Json).await;
    if let Some(fake) = fake {
        fake.end().await;
    }
    let alive = server.as_mut().is_none_or(ControlPlane::is_alive);
    drop(server);
    if !alive {
        eprintln!("the control plane ended during the run");
    }
    Ok(report(&verdicts, run.output, run.real_nodes) && alive)
}

/// Prints the counts; whether nothing failed (`all`: and every entry ran).
fn report(verdicts: &[Verdict], output: Output, all: bool) -> bool {
    let count = |wanted: fn(&Outcome) -> bool| verdicts.iter().filter(|verdict| wanted(&verdict.outcome)).count();
    let passed = count(|outcome| matches!(outcome, Outcome::Passed));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::NeedsCluster(_)));
    match output {
        Output::Text => println!(
            "covered {} of {} entries: passed {passed}, failed {failed}, needs a cluster {skipped}",
            verdicts.len(),
            tests::entries().count(),
        ),
        Output::Json => {
            let all: Vec<_> = verdicts.iter().map(Verdict::json).collect();
            println!(
                "{}",
                json!({"covered": verdicts.len(), "passed": passed, "failed": failed, "needsCluster": skipped, "entries": all})
            );
        }
    }
    failed == 0 && (skipped == 0 || !all)
}

async fn with_server(with: WithServer) -> Result<bool> {
    let (folder, _scratch) = folder(with.keep.as_ref())?;
    let server = ControlPlane::start(&with.start, &folder).await?;
    let (program, arguments) = with.program.split_first().context("no program")?;
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", &server.kubeconfig)
        .env("SERVER_PID", server.pid().to_string())
        .status()
        .await
        .with_context(|| format!("cannot start {program}"))?;
    Ok(status.success())
}
