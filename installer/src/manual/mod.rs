//! Completions, manual pages and the pages of `docs/commands/`, all from the one definition of the command line.
//!
//! In: [`crate::cli::Cli`]. Out: texts by file name. Nothing is written here.

pub mod markdown;

use std::collections::BTreeMap;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;

/// File name and text.
pub type Pages = BTreeMap<String, String>;

/// The whole command line, with names and global options in every command.
pub fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// What a shell reads to complete `kinstall …`.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kinstall", &mut script);
    script
}

/// A page of man(1) for every command: `kinstall-node-add.1`.
pub fn man_pages() -> std::io::Result<Pages> {
    let root = command();
    let mut pages = Pages::new();
    for command in with_all_below(&root) {
        let mut text = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut text)?;
        pages.insert(format!("{}.1", title(command)), String::from_utf8_lossy(&text).into_owned());
    }
    Ok(pages)
}

/// `kinstall-node-add`, for the command `kinstall node add`.
fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// A command and those below it, but for what clap adds (`help`) and what is hidden.
fn with_all_below(command: &Command) -> Vec<&Command> {
    std::iter::once(command).chain(below(command).flat_map(with_all_below)).collect()
}

fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set())
}
