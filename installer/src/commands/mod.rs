//! One file for each command; here is what they share.

mod adopt;
mod amend;
mod ask;
mod backup;
mod bring;
mod bundle;
mod certs;
mod chosen;
mod clocks;
mod consent;
mod demoted;
mod doctor;
mod down;
mod drift;
mod exec;
mod fleet;
mod init;
mod interruption;
mod kubeconfig;
mod logs;
mod lost;
mod manual;
mod many;
mod membership;
mod node;
mod plan;
mod progress;
mod report;
mod status;
mod timeline;
mod up;
mod upgrade;
mod validate;

use std::path::Path;

pub use ask::restore_terminal;
pub use interruption::Interruption;

use anyhow::Context as _;

use crate::bundle::Bundle;
use crate::cli::{BundleSubcommand, CertsSubcommand, Cli, Command, Global, NodeSubcommand};
use crate::cluster::Cluster;
use crate::hooks::Hooks;
use crate::printer::Printer;
use crate::state::StateDir;
use crate::state::lock::{Holder, Lock};
use crate::state::log::RunLog;

/// In the state directory.
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";

/// How a command ended; errors are exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// It reported its errors itself.
    Failed,
    ChangesPending,
    Invalid,
    /// Certificates end soon.
    Soon,
    /// Certificates have run out.
    Expired,
    /// Something is wrong with hosts or cluster.
    Ill,
    /// As the worst of the commands on hosts.
    Remote(u8),
}

impl Ended {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::ChangesPending => 2,
            Self::Invalid => 3,
            Self::Soon => 4,
            Self::Expired => 5,
            Self::Ill => 6,
            Self::Remote(code) => code,
        }
    }
}

pub async fn run(cli: Cli, printer: &Printer) -> anyhow::Result<Ended> {
    let Cli { global, command } = cli;
    ask::offer_secrets(printer);
    match command {
        Command::Bundle(bundle) => match bundle.command {
            BundleSubcommand::Create(arguments) => bundle::create(arguments, printer),
            BundleSubcommand::List(arguments) => bundle::list(&arguments, printer),
            BundleSubcommand::Verify(arguments) => bundle::verify(&arguments, printer),
            BundleSubcommand::Diff(arguments) => bundle::diff(&arguments, printer),
        },
        Command::Node(node) => match node.command {
            NodeSubcommand::List => node::list::run(&Run::reading(&global, printer)?).await,
            NodeSubcommand::Add(arguments) => {
                node::add::run(Run::locked(&global, printer, "node-add")?, &arguments).await
            }
            NodeSubcommand::Replace(arguments) => {
                node::replace::run(Run::locked(&global, printer, "node-replace")?, &arguments).await
            }
            NodeSubcommand::Remove(arguments) => {
                node::remove::run(&Run::locked(&global, printer, "node-remove")?, &arguments).await
            }
        },
        Command::Certs(certs) => match certs.command {
            CertsSubcommand::Check(arguments) => certs::check::run(&Run::reading(&global, printer)?, &arguments).await,
            CertsSubcommand::RotateCa(arguments) => {
                let run = Run::locked(&global, printer, "certs-rotate-ca")?;
                adopt::keeping(&run, certs::rotate::run(&run, &arguments)).await
            }
            CertsSubcommand::Renew(arguments) => {
                let run = Run::locked(&global, printer, "certs-renew")?;
                adopt::keeping(&run, certs::renew::run(&run, &arguments)).await
            }
        },
        Command::Init(arguments) => init::run(&global, printer, arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments, printer),
        Command::Schema => manual::schema(),
        Command::Backup(arguments) => backup::run(&global, printer, arguments).await,
        Command::Adopt(arguments) => adopt::run(printer, &arguments).await,
        Command::Restore(arguments) => backup::restore::run(&global, printer, &arguments).await,
        Command::Up(arguments) => {
            let run = Run::locked(&global, printer, "up")?;
            timeline::drawn(&run, "up", arguments.timeline.as_deref(), up::asking(&run, &arguments)).await
        }
        Command::Upgrade(arguments) => {
            let run = Run::locked(&global, printer, "upgrade")?;
            timeline::drawn(&run, "upgrade", arguments.timeline.as_deref(), upgrade::run(&run, &arguments)).await
        }
        Command::Down(arguments) => down::run(&Run::locked(&global, printer, "down")?, &arguments).await,
        Command::Plan(arguments) => plan::run(&Run::locked(&global, printer, "plan")?, &arguments).await,
        Command::Validate(arguments) => validate::run(&Run::locked(&global, printer, "validate")?, &arguments).await,
        Command::Status(arguments) if arguments.drift => drift::run(&Run::reading(&global, printer)?).await,
        Command::Status(arguments) => status::run(&Run::reading(&global, printer)?, &arguments).await,
        Command::Doctor(arguments) => doctor::run(&Run::reading(&global, printer)?, &arguments).await,
        Command::Report(arguments) => report::run(&Run::reading(&global, printer)?, &arguments).await,
        Command::Logs(arguments) => logs::run(&Run::reading(&global, printer)?, &arguments).await,
        Command::Exec(arguments) => Ok(exec::run(Run::reading(&global, printer), printer, &arguments).await),
        Command::Kubeconfig(arguments) => kubeconfig::run(&Run::reading(&global, printer)?, &arguments).await,
    }
}

/// One run of a command on one cluster.
pub struct Run<'a> {
    pub cluster: Cluster,
    pub state: StateDir,
    pub printer: &'a Printer,
    pub yes: bool,
    /// As written on the command line, for what we tell people to type.
    pub inventory: String,
    /// The store is of a time when other hosts may have been nodes: those that the inventory does not name are forgotten.
    pub restored: bool,
    /// A control plane that the inventory names no longer and that goes as soon as the others are well without it.
    pub leaves: Option<String>,
    _lock: Option<Lock>,
}

impl<'a> Run<'a> {
    /// A run that only looks.
    fn reading(global: &Global, printer: &'a Printer) -> anyhow::Result<Self> {
        let cluster = Cluster::load(&global.inventory)?;
        let state = StateDir::at(&cluster.directory, &cluster.name);
        Ok(Self {
            cluster,
            state,
            printer,
            yes: global.yes,
            inventory: global.inventory.display().to_string(),
            restored: false,
            leaves: None,
            _lock: None,
        })
    }

    /// A run that changes something: alone, and logged.
    fn locked(global: &Global, printer: &'a Printer, command: &str) -> anyhow::Result<Self> {
        let mut run = Self::reading(global, printer)?;
        run.state.create()?;
        run._lock = Some(Lock::take(run.state.path(), &Holder::me(command))?);
        printer.log_to(RunLog::create(run.state.path(), command)?);
        Ok(run)
    }

    /// Finds and opens the bundle: the command line's, the inventory's, or the one beside the executable.
    async fn bundle(&self, named: Option<&Path>) -> anyhow::Result<Bundle> {
        let path = crate::bundle::find(named.or(self.cluster.bundle.as_deref()))?;
        let signer = self.cluster.bundle_key.clone();
        tokio::task::spawn_blocking(move || Bundle::open(&path, signer.as_ref())).await?
    }

    /// As [`Run::bundle`], where it is possible to do without.
    async fn bundle_if_any(&self, named: Option<&Path>) -> anyhow::Result<Option<Bundle>> {
        match crate::bundle::find(named.or(self.cluster.bundle.as_deref())) {
            Ok(_) => self.bundle(named).await.map(Some),
            Err(error) if named.is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What the operator wants run on the way.
    fn hooks(&self) -> Hooks<'_> {
        Hooks {
            cluster: &self.cluster,
            printer: self.printer,
            inventory: &self.inventory,
            kubeconfig: self.state.path().join(ADMIN_KUBECONFIG),
        }
    }

    /// The administrator's kubeconfig that `up` wrote.
    fn kubeconfig(&self) -> anyhow::Result<String> {
        let path = self.state.path().join(ADMIN_KUBECONFIG);
        std::fs::read_to_string(&path).with_context(|| {
            format!(
                "the cluster {:?} has no kubeconfig here ({}); run `kinstall up` first",
                self.cluster.name,
                path.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Ended;
    use crate::cli::EXIT_CODES;

    #[test]
    fn every_exit_code_is_documented() {
        let ways = [
            Ended::Done,
            Ended::Failed,
            Ended::ChangesPending,
            Ended::Invalid,
            Ended::Soon,
            Ended::Expired,
            Ended::Ill,
        ];
        let codes: Vec<u8> = ways.iter().map(|ended| ended.code()).chain([64]).collect();
        assert_eq!(codes, EXIT_CODES.map(|(code, _)| code));
    }
}
