//! The command line, apart from what commands do.

pub mod adopt;
pub mod backup;
mod certs;
mod hosts;
mod init;
mod manual;
mod node;

use std::path::PathBuf;
use std::time::Duration;

pub use certs::{CertsCheck, CertsCommand, CertsRenew, CertsRotate, CertsSubcommand};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
pub use hosts::{Chosen, Doctor, Exec, Logs, Report, Since};
pub use init::{Init, Target, control_planes};
pub use manual::{Completions, EXIT_CODES, Manual, ManualFormat, REMOTE_CODES};
pub use node::{Draining, NodeAdd, NodeCommand, NodeRemove, NodeReplace, NodeRole, NodeSubcommand};

/// Turns bare Linux hosts that answer SSH into a Kubernetes cluster, and back.
#[derive(Debug, Parser)]
#[command(name = "kinstall", version, max_term_width = 120, styles = manual::STYLES, after_long_help = manual::exit_codes())]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What the process was called with; `--no-color` also holds for help and for errors of the command line.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        if std::env::args_os().any(|argument| argument == "--no-color") {
            command = command.color(clap::ColorChoice::Never);
        }
        Self::from_arg_matches(&command.try_get_matches()?)
    }
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The file that names the hosts
    #[arg(short, long, global = true, default_value = "inventory.yaml")]
    pub inventory: PathBuf,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Print every step; twice: debugging messages too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print warnings, errors and the result, and nothing else
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// No colours (also: the environment variable NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Ask nothing
    #[arg(short = 'y', long, global = true)]
    pub yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON object a line: what happens, then the result
    Json,
    /// The result as YAML
    Yaml,
    /// The result as tables of everything in it, one row a line
    Table,
    /// JUnit's XML (validate only)
    Junit,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write an inventory that explains itself
    ///
    /// Of five hosts and more the first three become control planes, of fewer the first one; the others become workers. Without
    /// hosts it asks for them, at a terminal. A file that is there already stays as it is.
    Init(Init),
    /// Install or update the cluster, deploy the sample, validate
    ///
    /// At a terminal it asks before it restarts or removes something on hosts that serve already (--yes: it does not). Without a
    /// terminal nobody is asked: `kinstall plan` says beforehand what it will do.
    Up(Up),
    /// Bring the cluster to a newer bundle, host by host, each with the way back if it does not come up well
    ///
    /// Control planes go one by one, then workers; then the addons. A host counts as done when its units are active, its API
    /// server is ready, its node is Ready and, where kubelet or runtime were restarted, a pod starts on it; else it goes back
    /// to the version it had, and the upgrade stops. Where a clock is found wrong meanwhile that is told, and nothing goes back:
    /// set the clock. The same command again goes on where it stopped. Nodes are drained only when the container runtime
    /// changes: everything else runs on through the restart of the components.
    Upgrade(Upgrade),
    /// Bring the hosts back to what they were
    ///
    /// Also when some are half-way there or dead: what cannot be reached is told and remembered, and the same command finishes
    /// it later. Keys and state stay here until every host is clean.
    Down(Down),
    /// Show what `up` would change on hosts and in the API; touches nothing (exit code 2: changes are pending)
    ///
    /// Texts are shown as unified diffs, with -v those of new files too; secrets never are. Exit codes: 0 nothing to change; 2 changes
    /// are pending; 1 something could not be looked at.
    Plan(Bundled),
    /// Show hosts, nodes and addons
    ///
    /// Exit codes: 0 all is well; 1 it is not, or could not be looked at; with --drift: 0 everything is as the last `up` left it; 2
    /// something is not; 1 something could not be looked at.
    Status(Status),
    /// Tell what is wrong with hosts and cluster, how sure that is, and what mends it
    ///
    /// Looks only; needs no bundle, and no API that answers. Each finding is certain, likely or possible, and comes with what shows it and
    /// with its cure. Exit codes: 0 nothing is wrong, or only what may be meant so; 6 something is; 1 nothing could be looked at.
    Doctor(Doctor),
    /// Write what somebody needs who is asked for help into one file, without secrets
    ///
    /// Inventory, what doctor finds, facts, configurations, journals and changes by hand of every host, the API's objects, logs of
    /// the cluster's own pods and of the last runs. Private keys, tokens, passwords, values of Secrets and of environment variables are not
    /// in it; names and addresses are. What cannot be reached is left out, and told.
    Report(Report),
    /// Print the journals of units of many hosts as one, in the order of time
    Logs(Logs),
    /// Run a command as root on hosts, all at once, and print what each says
    ///
    /// Both outputs of the command come on stdout, line by line behind the host's name; its stdin is empty. Interrupted, it is ended on the
    /// hosts, with all that it has started. Exit code: the worst of the hosts'; 124 where the time is up; 255 where a host cannot be reached,
    /// where its connection breaks, and where none could be asked, say for an error in the inventory; 130 or 143 where it is interrupted.
    Exec(Exec),
    /// Print the administrator's kubeconfig, or merge it into yours
    Kubeconfig(Kubeconfig),
    /// Prove that the cluster works (exit code 3: it does not)
    Validate(Validate),
    /// Work with bundles
    Bundle(BundleCommand),
    /// Work with single nodes
    Node(NodeCommand),
    /// Look after certificates
    Certs(CertsCommand),
    /// Write store, keys, inventory and state of the cluster into one encrypted file
    Backup(backup::Backup),
    /// Bring a cluster back from a backup, onto its own or onto new hosts
    Restore(backup::Restore),
    /// Bring keys, inventory and state back from a control plane, when the working directory is lost
    Adopt(adopt::Adopt),
    /// Print what a shell reads to complete command lines of kinstall
    ///
    /// For bash: `source <(kinstall completions bash)`, or the same into /etc/bash_completion.d/kinstall.
    Completions(Completions),
    /// Write manual pages for every command
    Man(Manual),
    /// Print the JSON Schema of inventories, for editors and for checks elsewhere
    ///
    /// kinstall itself checks more, and says where something is wrong. An inventory of several documents is to be checked as one.
    Schema,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Bundled {
    /// The bundle file; overrides the inventory's
    #[arg(long)]
    pub bundle: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Status {
    #[command(flatten)]
    pub bundled: Bundled,
    /// Show what somebody changed by hand since the last `up`: files, units, kernel parameters and images of hosts, and the
    /// addons' objects. Needs no bundle
    #[arg(long)]
    pub drift: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Up {
    #[command(flatten)]
    pub bundled: Bundled,
    /// Go on although preflight checks found errors, and without the hosts that cannot be worked on
    #[arg(long)]
    pub ignore_preflight: bool,
    /// Do not validate at the end
    #[arg(long)]
    pub no_validate: bool,
    /// Draw where the time went, host by host, as a picture (SVG)
    #[arg(long, value_name = "FILE.svg")]
    pub timeline: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct Upgrade {
    #[command(flatten)]
    pub bundled: Bundled,
    /// How many workers at once: a number, or a share of them such as 25%
    #[arg(long, default_value = "1", value_name = "N|P%", value_parser = width)]
    pub workers: Width,
    /// Show what would be done, host by host, and end (exit code 2: there is something to do)
    #[arg(long)]
    pub plan: bool,
    /// Drain every node, also where the container runtime stays as it is
    #[arg(long, conflicts_with = "no_drain")]
    pub drain: bool,
    /// Drain no node; containers run on while the runtime restarts below them
    #[arg(long)]
    pub no_drain: bool,
    /// How long the pods of one node may take to go: 90s, 5m, 1h
    #[arg(long, default_value = "5m", value_parser = node::duration)]
    pub timeout: Duration,
    /// When draining: delete pods that no controller creates again and, when the time is up, pods that disruption budgets
    /// hold back
    #[arg(long)]
    pub force: bool,
    /// When draining: evict pods although what they keep in emptyDir volumes is lost
    #[arg(long)]
    pub delete_emptydir_data: bool,
    /// Go on although preflight checks found errors, and without the hosts that cannot be worked on, as long as the control
    /// planes that are left are a majority; those hosts, and the addons, follow with the same command later
    #[arg(long)]
    pub ignore_preflight: bool,
    /// Do not validate at the end
    #[arg(long)]
    pub no_validate: bool,
    /// Draw where the time went, host by host, as a picture (SVG)
    #[arg(long, value_name = "FILE.svg")]
    pub timeline: Option<PathBuf>,
}

/// How many of a number of hosts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Number(usize),
    Percent(usize),
}

impl Width {
    /// At least one.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => (all * percent / 100).max(1),
        }
    }
}

fn width(text: &str) -> Result<Width, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Width::Percent),
        None => text.parse().ok().filter(|number| *number > 0).map(Width::Number),
    };
    parsed.ok_or_else(|| "expected a number from 1 on, or a share from 1% to 100%".into())
}

#[derive(Clone, Debug, Args)]
pub struct Down {
    #[command(flatten)]
    pub bundled: Bundled,
    /// Keep the cluster's data (store and volumes) on the hosts, and its keys here
    #[arg(long)]
    pub keep_data: bool,
    /// Do not wait for this host, which is gone for good: once all others are clean the keys are forgotten; may be repeated, and
    /// is remembered
    #[arg(long, value_name = "NAME")]
    pub force_forget: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Kubeconfig {
    /// Write it to this file (mode 0600) instead of printing it
    #[arg(short, long = "out", visible_alias = "output-file")]
    pub out: Option<PathBuf>,
    /// Merge it into this file instead [default: the first file that KUBECONFIG names, else ~/.kube/config]
    ///
    /// What is there stays; what an earlier merge of this cluster brought is exchanged; the cluster's context becomes the current
    /// one. The file is replaced as a whole, with mode 0600, under kubectl's lock.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "out")]
    pub merge: Option<Option<PathBuf>>,
}

#[derive(Clone, Debug, Args)]
pub struct Validate {
    /// Leave the sample's pods alone: only read back what was published
    #[arg(long)]
    pub no_restart: bool,
}

#[derive(Clone, Debug, Args)]
pub struct BundleCommand {
    #[command(subcommand)]
    pub command: BundleSubcommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum BundleSubcommand {
    /// Put executables, the container runtime and images into one file
    Create(BundleCreate),
    /// Show what a bundle holds
    List(BundleFile),
    /// Read every byte of a bundle and compare it with its digests, and with its signature if a key is given
    Verify(BundleVerify),
    /// Show what a newer bundle changes (exit code 2: they differ)
    Diff(BundleDiff),
}

#[derive(Clone, Debug, Args)]
pub struct BundleFile {
    /// The bundle [default: the one beside the executable]
    pub file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct BundleVerify {
    #[command(flatten)]
    pub bundle: BundleFile,
    /// Who has to have signed it: minisign's public key (RW…), or the file that has it; the signature lies beside the bundle
    #[arg(long, value_name = "KEY|FILE")]
    pub key: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct BundleDiff {
    pub old: PathBuf,
    pub new: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct BundleCreate {
    /// kinstall-components, static, for the hosts' architecture
    #[arg(long)]
    pub components: PathBuf,
    /// The pause executable, static, for the hosts' architecture
    #[arg(long)]
    pub pause: PathBuf,
    /// The container runtime: bin/{containerd,containerd-shim-runc-v2,ctr,runc}, lib/ with libraries they need; and bin/etcd
    /// for clusters with several control planes
    #[arg(long)]
    pub runtime_dir: PathBuf,
    /// An image to bring along: full reference and OCI archive; may be repeated
    #[arg(long = "image", value_name = "REF=FILE", value_parser = image)]
    pub images: Vec<(String, PathBuf)>,
    /// The hosts' architecture [default: this machine's]
    #[arg(long, hide_default_value = true, default_value = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, value_parser = ["amd64", "arm64"])]
    pub arch: String,
    /// The version; names the directory on hosts
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    pub bundle_version: String,
    /// The version of Kubernetes that the components have
    #[arg(long, default_value = hoststate::bundle::KUBERNETES)]
    pub kubernetes_version: String,
    /// The file to write [default: kinstall-bundle-<version>-linux-<arch>.tar.zst]
    #[arg(short, long = "out", visible_alias = "output-file")]
    pub out: Option<PathBuf>,
}

fn image(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file))
            if name.contains('/')
                && name.rsplit('/').next().is_some_and(|last| last.contains(':'))
                && !file.is_empty() =>
        {
            Ok((name.to_owned(), file.into()))
        }
        _ => Err(
            "expected a full reference with its tag and a file, such as docker.io/library/mariadb:10.11=mariadb.tar"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn workers_at_once_are_a_number_or_a_share() {
        for (text, all, expected) in [("1", 9, 1), ("3", 9, 3), ("25%", 9, 2), ("10%", 3, 1), ("100%", 4, 4)] {
            assert_eq!(width(text).unwrap().of(all), expected, "{text} of {all}");
        }
        for text in ["0", "-1", "0%", "101%", "%", "all", ""] {
            assert!(width(text).is_err(), "{text}");
        }
    }
}
