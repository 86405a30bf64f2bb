//! Entry point: command line, runtime, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::error::ErrorKind;
use kinstall::cli::Cli;
use kinstall::commands::Interruption;
use kinstall::printer::Printer;
use nix::sys::signal::Signal;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if help { ExitCode::SUCCESS } else { ExitCode::from(64) };
        }
    };
    let level = if cli.global.verbose > 1 { "kinstall=debug,russh=info,kube=debug" } else { "error,kube_client=off" };
    let filter = EnvFilter::try_from_env("KINSTALL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // a provider that is already there is the same one
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let printer = Printer::new(cli.global.output, cli.global.verbose, cli.global.no_color).quiet(cli.global.quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let interruption = Interruption::of(&cli.command);
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = kinstall::commands::run(cli, &printer) => ended,
            // dropping the work closes connections and lock; hosts finish or stop at a step that the next run repeats
            signal = interrupted() => interruption.by(signal, &printer),
        }
    });
    kinstall::commands::restore_terminal();
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(ended) => ExitCode::from(ended.code()),
        Err(error) => {
            printer.error(&format!("{error:#}"), serde_json::Value::Null);
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Signal {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
    }
}
