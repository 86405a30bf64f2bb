//! The command line of `kinstall certs`.

use clap::{Args, Subcommand};

use crate::state::pki::rotation::Phase;
use crate::state::pki::{Kind, RENEW_DAYS};

#[derive(Clone, Debug, Args)]
pub struct CertsCommand {
    #[command(subcommand)]
    pub command: CertsSubcommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CertsSubcommand {
    /// Show every certificate here and on the hosts, and how long it is good (exit code 4: some end soon; 5: some have ended)
    Check(CertsCheck),
    /// Issue certificates anew and bring them to the hosts; also after they have run out
    ///
    /// Hosts renew theirs by themselves when less than 90 days are left, and `kinstall up` keeps those; this replaces them all
    /// the same.
    ///
    /// Without --kind and --host all of them but the authorities'. Nothing else on the hosts changes, and no bundle is needed.
    /// What uses a certificate takes it over or is restarted, control planes one after the other. A run that ends half-way is
    /// finished by the same command again, or by `kinstall up`.
    Renew(CertsRenew),
    /// Put new authorities in the place of the old ones, and a new key for service accounts, while everything runs
    ///
    /// In three phases: both are trusted; the new ones issue everything; only the new ones are trusted. Every host must be
    /// reachable. A run that ends half-way is finished by the same command again. Programs in pods that speak to the API and read
    /// its authority only at their start must be restarted after the first phase: kinstall's own are; yours with
    /// --restart-workloads, or by you between `--until trust` and a second run.
    RotateCa(CertsRotate),
}

#[derive(Clone, Debug, Args)]
pub struct CertsCheck {
    /// How many days are soon
    #[arg(long, value_name = "DAYS", default_value_t = RENEW_DAYS, value_parser = clap::value_parser!(i64).range(0..=3650))]
    pub within: i64,
}

#[derive(Clone, Debug, Args)]
pub struct CertsRotate {
    /// Restart every Deployment, DaemonSet and StatefulSet that has a service account's token, as `kubectl rollout restart` does
    #[arg(long)]
    pub restart_workloads: bool,
    /// Stop after this phase
    #[arg(long, value_name = "PHASE", value_enum, default_value_t = Phase::Finish)]
    pub until: Phase,
}

#[derive(Clone, Debug, Args)]
pub struct CertsRenew {
    /// Only certificates for this; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    pub kinds: Vec<Kind>,
    /// Only what is this host's own; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
}
