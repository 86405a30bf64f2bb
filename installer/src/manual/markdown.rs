//! A page of Markdown for every command, and one that leads to them.

use clap::builder::StyledStr;
use clap::{Arg, Command};

use super::{Pages, below, command, title, with_all_below};
use crate::cli::{EXIT_CODES, REMOTE_CODES};

const INDEX: &str = "README.md";
const GENERATED: &str =
    "<!-- made from the command line's definition by `kinstall man --format markdown`; do not change it here -->";

/// What belongs into `docs/commands/`.
pub fn pages() -> Pages {
    let root = command();
    let commands = with_all_below(&root);
    let index = index(&root, &commands);
    let pages = commands.iter().map(|command| (file(command), page(command)));
    pages.chain(std::iter::once((INDEX.to_owned(), index))).collect()
}

fn file(command: &Command) -> String {
    format!("{}.md", title(command))
}

fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

fn index(root: &Command, commands: &[&Command]) -> String {
    let mut text = format!("{GENERATED}\n\n# Commands\n\n");
    for command in commands {
        text.push_str(&format!("- [`{}`]({}): {}\n", name(command), file(command), about(command)));
    }
    text.push_str("\n## Options of every command\n\n");
    text.extend(options(root).filter(|option| option.is_global_set()).map(described));
    text.push_str("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    text.extend(EXIT_CODES.iter().map(|(code, meaning)| format!("| {code} | {meaning} |\n")));
    text.push_str(&format!("\n{REMOTE_CODES}\n"));
    text
}

fn page(command: &Command) -> String {
    let mut text = format!("{GENERATED}\n\n# {}\n", name(command));
    let long = command.get_long_about().or_else(|| command.get_about());
    text.push_str(&format!("\n{}\n", long.map(prose).unwrap_or_default()));
    let usage = command.clone().render_usage().to_string();
    text.push_str(&format!("\n## Usage\n\n{}\n", indented(usage.trim_start_matches("Usage:"))));
    section(
        &mut text,
        "Arguments",
        command.get_positionals().filter(|argument| !argument.is_hide_set()).map(described),
    );
    section(&mut text, "Options", options(command).filter(|option| !option.is_global_set()).map(described));
    section(
        &mut text,
        "Commands",
        below(command).map(|command| format!("- [`{}`]({}): {}\n", name(command), file(command), about(command))),
    );
    text.push_str(&format!(
        "\nSee also [options of every command and exit codes]({INDEX}#options-of-every-command).\n"
    ));
    text
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: String = lines.collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n## {title}\n\n{lines}"));
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(prose).unwrap_or_default()
}

/// Options that commands have of their own or for all; not clap's `--help` and `--version`.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let clap_s = |option: &Arg| matches!(option.get_id().as_str(), "help" | "version");
    let listed = |option: &&Arg| !option.is_positional() && !option.is_hide_set();
    command.get_arguments().filter(listed).filter(move |option| !clap_s(option))
}

/// An argument as an item of a list.
fn described(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(prose).unwrap_or_default();
    let mut text = format!("- `{}`", spelled(argument));
    if !help.is_empty() {
        text.push_str(&format!(": {}", help.replace("\n\n", "\n\n  ")));
    }
    if argument.get_action().takes_values() {
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !default.is_empty() && !argument.is_hide_default_value_set() {
            text.push_str(&format!(" (default: `{}`)", default.join(" ")));
        }
        let values = argument.get_possible_values();
        text.extend(values.iter().filter(|value| !value.is_hide_set()).map(|value| {
            let help = value.get_help().map(|help| format!(": {}", prose(help))).unwrap_or_default();
            format!("\n  - `{}`{help}", value.get_name())
        }));
    }
    text + "\n"
}

/// `-o, --out <DIR>`, or `<NAME>...`.
fn spelled(argument: &Arg) -> String {
    let mut spelled: Vec<String> = argument.get_short().map(|short| format!("-{short}")).into_iter().collect();
    let long = argument.get_long().map(|long| format!("--{long}"));
    spelled.extend(long);
    spelled.extend(argument.get_visible_aliases().into_iter().flatten().map(|alias| format!("--{alias}")));
    if !argument.get_action().takes_values() {
        return spelled.join(", ");
    }
    let id = argument.get_id().as_str().to_uppercase();
    let values =
        argument.get_value_names().map_or_else(|| vec![id], |names| names.iter().map(ToString::to_string).collect());
    let values = values.iter().map(|value| format!("<{value}>")).collect::<Vec<_>>().join(" ");
    let optional = argument.get_num_args().is_some_and(|number| number.min_values() == 0);
    let many = if argument.is_positional() && argument.get_num_args().is_some_and(|number| number.max_values() > 1) {
        "..."
    } else {
        ""
    };
    match (argument.is_positional(), optional) {
        (true, _) => format!("{values}{many}"),
        (false, true) => format!("{}[={values}]", spelled.join(", ")),
        (false, false) => format!("{} {values}", spelled.join(", ")),
    }
}

/// Text in which Markdown sees nothing but code between backticks.
fn prose(text: &StyledStr) -> String {
    let mut code = false;
    let mut out = String::new();
    for c in text.to_string().trim().chars() {
        code ^= c == '`';
        if !code && matches!(c, '<' | '*') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn indented(text: &str) -> String {
    text.trim().lines().map(|line| format!("    {}", line.trim())).collect::<Vec<_>>().join("\n")
}
