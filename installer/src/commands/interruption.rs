//! What it means that a person has ended a command.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Ended, exec};
use crate::cli::Command;
use crate::printer::Printer;

/// By what a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Something is half done.
    Unfinished,
    /// It has no other end.
    End,
    /// Commands on hosts end with it.
    Commands,
}

impl Interruption {
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Logs(arguments) if arguments.follow => Self::End,
            Command::Exec(_) => Self::Commands,
            _ => Self::Unfinished,
        }
    }

    pub fn by(self, signal: Signal, printer: &Printer) -> anyhow::Result<Ended> {
        let name = signal.as_str();
        match self {
            Self::Unfinished => Err(anyhow::anyhow!("interrupted by {name}; run the command again to go on")),
            Self::End => Ok(Ended::Done),
            Self::Commands => {
                printer.error(&format!("interrupted by {name}; what still ran on the hosts was ended"), Value::Null);
                Ok(exec::interrupted(signal))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Output};

    #[test]
    fn only_what_is_half_done_goes_on() {
        let of = |words: &[&str]| Interruption::of(&Cli::parse_from([&["kinstall"], words].concat()).command);
        assert_eq!(of(&["up"]), Interruption::Unfinished);
        assert_eq!(of(&["logs"]), Interruption::Unfinished);
        assert_eq!(of(&["logs", "--follow"]), Interruption::End);
        assert_eq!(of(&["exec", "--", "true"]), Interruption::Commands);
        let printer = Printer::new(Output::Text, 0, true);
        let ended = |interruption: Interruption, signal| interruption.by(signal, &printer).map(Ended::code);
        assert_eq!(ended(Interruption::End, Signal::SIGINT).unwrap(), 0);
        assert_eq!(ended(Interruption::Commands, Signal::SIGINT).unwrap(), 130);
        assert_eq!(ended(Interruption::Commands, Signal::SIGTERM).unwrap(), 143);
        let again = ended(Interruption::Unfinished, Signal::SIGTERM).unwrap_err().to_string();
        assert!(again.contains("SIGTERM") && again.contains("run the command again"), "{again}");
    }
}
