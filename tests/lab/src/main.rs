//! `lab`: hosts, images and tools for tests and the demo, on the command line.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lab::{Host, Lab, Options, Release, Size};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Bare Debian hosts on this machine (10.99.0.11, .12, …).
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot N fresh hosts and wait until they answer SSH.
    Up {
        #[arg(default_value_t = 3)]
        hosts: u32,
        /// Debian's release of the first host, of the second, …; the last one is that of all further hosts.
        #[arg(long, value_delimiter = ',', default_value = "bookworm")]
        release: Vec<Release>,
        /// Size of each disk.
        #[arg(long)]
        disk: Option<Size>,
    },
    /// End the lab and remove all of it, also after a crash.
    Down,
    /// One more fresh host.
    Add {
        #[arg(long, default_value = "bookworm")]
        release: Release,
        #[arg(long)]
        disk: Option<Size>,
    },
    /// Name, address, state and release of each host.
    List,
    /// A shell or a command on a host over SSH.
    Ssh {
        host: String,
        #[arg(long, short = 'l', default_value = "root")]
        user: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// A command in a host without its network.
    Exec {
        host: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Copy a file or folder to a host.
    Put { host: String, local: PathBuf, remote: String },
    /// Copy a file or folder from a host.
    Get { host: String, remote: String, local: PathBuf },
    /// Orderly shutdown.
    Stop { host: String },
    /// Power on, with the disk as it was left.
    Start { host: String },
    /// Orderly shutdown and start.
    Restart { host: String },
    /// Power cut.
    Poweroff { host: String },
    /// Pull the network cable.
    Cut { host: String },
    /// Plug the network cable in again.
    Heal { host: String },
    /// A clock that is wrong, until a line or the end of standard input comes.
    Clock {
        host: String,
        /// Ahead of the machine's; behind it where negative.
        #[arg(allow_hyphen_values = true)]
        seconds: i32,
    },
    /// Power cut, and the disk is gone.
    Destroy { host: String },
    /// Build the hosts' disk image of a release if it is missing; print its path.
    Base {
        #[arg(long, default_value = "bookworm")]
        release: Release,
    },
    /// Build the image archives (sample application, tools) that are missing; print their paths.
    Images {
        /// Print the image's full reference before its path.
        #[arg(long)]
        references: bool,
    },
    /// Print the full reference of the image of a recipe.
    Image { recipe: String },
    /// Remove what no recipe of this clone names and nobody has used for a day from the cache.
    Prune,
    /// Unpack containerd, runc and etcd from Debian's packages; print the folder.
    Runtime,
    /// Unpack kubectl from Debian's package; print its path.
    Kubectl,
    /// Print a path of the running lab.
    Paths { what: What },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    State,
    Key,
    KnownHosts,
    SshConfig,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { hosts, release, disk } => {
            let lab = Lab::up_with(&Options { releases: release, disk, keep: true, ..Options::new(hosts) })?;
            list(&lab)?;
        }
        Command::Down => Lab::down_any()?,
        Command::Add { release, disk } => println!("{}", Lab::attach()?.add(release, disk)?.name()),
        Command::List => list(&Lab::attach()?)?,
        Command::Ssh { host, user, command } => return become_(host_of(&host)?.ssh_command(&user).args(command)),
        Command::Exec { host, command } => return become_(&mut host_of(&host)?.exec_command(&command)?),
        Command::Put { host, local, remote } => host_of(&host)?.put(&local, &remote)?,
        Command::Get { host, remote, local } => host_of(&host)?.get(&remote, &local)?,
        Command::Stop { host } => host_of(&host)?.stop()?,
        Command::Start { host } => host_of(&host)?.start()?,
        Command::Restart { host } => host_of(&host)?.restart()?,
        Command::Poweroff { host } => host_of(&host)?.poweroff()?,
        Command::Cut { host } => host_of(&host)?.cut()?,
        Command::Heal { host } => host_of(&host)?.heal()?,
        Command::Clock { host, seconds } => {
            let host = host_of(&host)?;
            host.set_clock(seconds)?;
            std::io::stdin().read_line(&mut String::new())?;
            host.set_clock(0)?;
        }
        Command::Destroy { host } => host_of(&host)?.destroy()?,
        Command::Base { release } => println!("{}", lab::host_image(release)?.display()),
        Command::Images { references } => {
            for image in lab::images::all()? {
                let reference = if references { format!("{} ", image.reference) } else { String::new() };
                println!("{reference}{}", image.archive.display());
            }
        }
        Command::Image { recipe } => println!("{}", lab::images::reference(&recipe)?),
        Command::Prune => lab::prune()?,
        Command::Runtime => println!("{}", lab::tools::runtime()?.display()),
        Command::Kubectl => println!("{}", lab::tools::kubectl()?.display()),
        Command::Paths { what } => {
            let lab = Lab::attach()?;
            let path = match what {
                What::State => lab.state_dir().to_owned(),
                What::Key => lab.key(),
                What::KnownHosts => lab.known_hosts(),
                What::SshConfig => lab.ssh_config(),
            };
            println!("{}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn host_of(name: &str) -> Result<Host> {
    Ok(Lab::attach()?.find(name)?.clone())
}

fn list(lab: &Lab) -> Result<()> {
    for host in lab.hosts() {
        println!("{}\t{}\t{:?}\t{}", host.name(), host.address(), host.state()?, host.release()?);
    }
    Ok(())
}

/// Replaces this process, so that terminal, signals and exit status are the command's own.
fn become_(command: &mut std::process::Command) -> Result<ExitCode> {
    Err(command.exec()).context("cannot run the command")
}
