//! What a person at the terminal is asked.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use parking_lot::Mutex;

use crate::printer::Printer;
use crate::ssh::secrets;

/// The terminal's settings while what is typed is not shown.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Passwords and passphrases for SSH may be asked for, if there is a terminal.
pub fn offer_secrets(printer: &Printer) {
    if std::io::stdin().is_terminal() {
        let aside = printer.aside();
        secrets::ask_with(move |question| aside(&mut || secret(question)));
    }
}

/// Shows again what is typed: a question may have been interrupted.
pub fn restore_terminal() {
    if let Some(before) = BEFORE.lock().take() {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &before);
    }
}

/// Asks for the cluster's name before something that cannot be undone. `what`: completes "this …".
pub fn confirm(yes: bool, cluster: &str, what: &str) -> anyhow::Result<()> {
    let question = format!("This {what}. Type the cluster's name to go on:");
    if !(yes || is_typed(cluster, &question, &format!("this {what}"))?) {
        bail!("the name does not match; nothing was changed");
    }
    Ok(())
}

/// Whether there is somebody to ask.
pub fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether a person answers a question with `expected`. Where nobody can be asked that is an error, which begins with `refusal`.
pub fn is_typed(expected: &str, question: &str, refusal: &str) -> anyhow::Result<bool> {
    if !has_terminal() {
        bail!("{refusal}; say --yes to do so without being asked");
    }
    eprintln!("{question}");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == expected)
}

/// Reads a secret from the terminal without showing it. The question comes once nothing that is typed is shown any more: who is quick,
/// or a program, answers at once.
pub fn secret(prompt: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask at");
    }
    let before = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    *BEFORE.lock() = Some(before);
    tcsetattr(&stdin, SetArg::TCSANOW, &silent).context("cannot change the terminal's settings")?;
    let answer = answer(prompt);
    restore_terminal();
    eprintln!();
    Ok(answer?)
}

fn answer(prompt: &str) -> std::io::Result<String> {
    eprint!("{prompt}: ");
    std::io::stderr().flush()?;
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
