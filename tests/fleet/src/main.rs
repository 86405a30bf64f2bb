//! `kinstall` against fleets of simulated SSH hosts: what the operator's machine has to give, and how often it waits.
//!
//! Real: the `kinstall` executable, SSH (a russh server of ours instead of OpenSSH), the scripts that kinstall runs on hosts, the
//! upload, `converge` with every file and directory it makes. Not real: systemd, modprobe and the runtime on the hosts are
//! stand-ins that say yes; there is no API server, so `up` is measured until the last host is done. Hosts reach each other, and nothing
//! else. Ends by itself.

mod delay;
mod host;
mod network;
mod operator;
mod report;
mod server;
mod trips;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use host::{Ground, Host};
use operator::{Keys, Operator};
use report::{Bundle, Row, Table};
use server::Server;

#[derive(Parser)]
#[command(name = "fleet", about = "measures kinstall against simulated hosts; needs root")]
struct Args {
    /// The kinstall to measure
    #[arg(long, env = "KINSTALL_BIN")]
    kinstall: PathBuf,
    /// How many hosts, one fleet after the other
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    hosts: Vec<usize>,
    /// The network's delay, there and back
    #[arg(long, default_value_t = 20, value_name = "MILLISECONDS")]
    latency: u64,
    /// What is sent as kinstall-components [default: fleet-host beside this executable: converge alone]
    #[arg(long)]
    components: Option<PathBuf>,
    /// More of the inventory's limits, such as `hosts: 128`
    #[arg(long, default_value = "")]
    limits: String,
    /// A fleet that is not done by then is given up
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// What is measured, in this order on the same hosts: `up` needs no `plan` before it
    #[arg(long, value_delimiter = ',', default_value = "plan,up,plan-again,up-again,down")]
    commands: Vec<String>,
    /// Fail where a host waits more often than it should, the operator takes more memory than it should, or hosts pass nothing on
    #[arg(long)]
    aims: bool,
    /// Instead of measuring: boot the first fleet, print how to use it, and keep it until stdin ends
    #[arg(long)]
    keep: bool,
}

/// More would not fit into the addresses, nor into this machine.
const MOST: usize = 4000;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    network::enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = all(args) => done,
            () = told_to_end() => Err(anyhow::anyhow!("told to end")),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// What was booted goes with what is dropped then.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn all(args: &Args) -> Result<()> {
    ensure!(args.hosts.iter().all(|hosts| (1..=MOST).contains(hosts)), "expected from 1 to {MOST} hosts");
    let mut table = Table::default();
    for hosts in &args.hosts {
        let fleet = Fleet::boot(args, *hosts).await?;
        if args.keep {
            return fleet.keep().await;
        }
        let measured =
            tokio::time::timeout(Duration::from_secs(args.seconds), fleet.measure(&args.commands, &mut table)).await;
        measured.with_context(|| format!("{hosts} hosts were not done after {} s", args.seconds))??;
    }
    table.print(args.latency);
    ensure!(table.failed() == 0, "hosts failed, see above");
    if args.aims {
        let missed = table.missed();
        ensure!(missed.is_empty(), "aims are missed:\n{}", missed.join("\n"));
    }
    Ok(())
}

/// Scratch files in memory, bounded, that go with it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        mount(Some("fleet"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=6g,mode=0700"))
            .context("cannot mount a tmpfs; the fleet needs root")?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

struct Fleet {
    hosts: usize,
    server: Server,
    operator: Operator,
    // last: hosts and operator work in it
    _scratch: Scratch,
}

/// How many hosts boot at once.
const BOOTING: usize = 8;

impl Fleet {
    async fn boot(args: &Args, count: usize) -> Result<Self> {
        eprintln!("booting {count} hosts");
        let scratch = Scratch::new()?;
        let path = scratch.0.path();
        let ground = Ground::prepare(path)?;
        let mut hosts = Vec::new();
        for first in (0..count).step_by(BOOTING) {
            let batch = first..count.min(first + BOOTING);
            hosts.extend(Host::boot(&ground, batch, args.seconds + 60).await?);
        }
        let keys = Keys::make(path)?;
        let host_key = russh::keys::load_secret_key(&keys.host, None)?;
        let server = Server::start(hosts, host_key, Duration::from_millis(args.latency)).await?;
        let own = std::env::current_exe()?.with_file_name("fleet-host");
        let components = args.components.clone().unwrap_or(own);
        let operator = path.join("operator-files");
        std::fs::create_dir(&operator)?;
        let operator = Operator::prepare(&args.kinstall, &components, &operator)?;
        let limits = if args.limits.is_empty() { String::new() } else { format!(", {}", args.limits) };
        operator.learn(count, server.port, &keys, &limits)?;
        Ok(Self { hosts: count, server, operator, _scratch: scratch })
    }

    /// Each command, on hosts that the one before it has left.
    async fn measure(&self, commands: &[String], table: &mut Table) -> Result<()> {
        // what asks the API ends with 1: none comes up
        for (name, what, arguments, code) in [
            ("plan", "`plan`, bare hosts: upload, facts, plan", &["plan"][..], 2),
            ("up", "`up`, bare hosts, until the last one is done", &["up", "--no-validate"], 1),
            ("plan-again", "`plan`, nothing to change", &["plan"], 1),
            ("up-again", "`up`, nothing to change", &["up", "--no-validate"], 1),
            ("down", "`down`", &["down"], 0),
        ] {
            if commands.iter().any(|wanted| wanted == name) {
                self.one(table, name, what, arguments, code).await?;
            }
        }
        Ok(())
    }

    async fn one(&self, table: &mut Table, name: &str, what: &str, arguments: &[&str], code: i32) -> Result<()> {
        let (before, playing) = (self.server.traffic.read(), report::own_cpu());
        let cost = tokio::task::block_in_place(|| self.operator.run(name, arguments))?;
        let said = std::fs::read_to_string(self.operator.output(name)).unwrap_or_default();
        let failed = said.lines().filter(|line| line.contains(FAILED)).count();
        if failed > 0 {
            eprintln!("{name}: {failed} of {} hosts failed:\n{}", self.hosts, first(&said, FAILED));
        } else if cost.code != Some(code) {
            let first = first(&said, "\"error\"");
            bail!("{name} on {} hosts ended with {:?} instead of {code}:\n{first}", self.hosts, cost.code);
        }
        let waits = self.server.take_waits(self.hosts).await;
        let after = self.server.traffic.read();
        table.add(Row {
            what: what.to_owned(),
            hosts: self.hosts,
            failed,
            cost,
            sent: after.0 - before.0,
            received: after.1 - before.1,
            bundle: Bundle::of(&said),
            waits,
            playing: report::own_cpu().saturating_sub(playing).saturating_sub(cost.cpu),
        });
        Ok(())
    }

    async fn keep(&self) -> Result<()> {
        // as a shell takes it
        println!(
            "nsenter --net=/proc/{}/ns/net {:?}",
            std::process::id(),
            self.operator.command(&["up", "--yes", "--no-validate"])
        );
        let mut line = String::new();
        tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
        Ok(())
    }
}

/// What a line has that tells of a host's failure.
const FAILED: &str = "\"hostError\"";

/// Enough of what was said to see what is wrong.
fn first(said: &str, mark: &str) -> String {
    said.lines().filter(|line| line.contains(mark)).take(5).collect::<Vec<_>>().join("\n")
}
