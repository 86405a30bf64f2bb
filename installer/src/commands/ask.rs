//! What a person at the terminal is asked.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

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

/// Reads a secret from the terminal without showing it.
pub fn secret(prompt: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask at");
    }
    eprint!("{prompt}: ");
    std::io::stderr().flush()?;
    let before = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &silent).context("cannot change the terminal's settings")?;
    let mut text = String::new();
    let read = stdin.lock().read_line(&mut text);
    tcsetattr(&stdin, SetArg::TCSANOW, &before).context("cannot change the terminal's settings back")?;
    eprintln!();
    read?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
