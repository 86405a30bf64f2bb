//! The command line of what tells about the command line: `completions` and `man`; and what help looks like.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, ValueEnum};
use clap_complete::Shell;

pub const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default().bold())
    .error(AnsiColor::Red.on_default().bold());

/// Every code that `kinstall` ends with, and what it says.
pub const EXIT_CODES: [(u8, &str); 8] = [
    (0, "done"),
    (1, "failed, or interrupted; the same command again goes on"),
    (2, "`plan`, `upgrade --plan` or `bundle diff` found changes"),
    (3, "validation failed"),
    (4, "certificates end soon"),
    (5, "certificates have ended"),
    (6, "`doctor` found something wrong"),
    (64, "wrong command line"),
];

/// What stands behind those.
pub const REMOTE_CODES: &str = "`exec` ends as the worst of the commands that it runs; its own codes are told with it.";

/// What stands below the help of `kinstall`.
pub fn exit_codes() -> String {
    let codes = EXIT_CODES.iter().map(|(code, what)| format!("  {code:<3} {what}\n"));
    format!("Exit codes:\n{}{REMOTE_CODES}", codes.collect::<String>())
}

#[derive(Clone, Debug, Args)]
pub struct Completions {
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManualFormat {
    /// Pages for man(1), in section 1
    Man,
    /// Pages for the web, with a table of contents in README.md
    Markdown,
}

#[derive(Clone, Debug, Args)]
pub struct Manual {
    /// The directory that gets a page for every command; other files in it stay
    #[arg(short = 'o', long = "out", visible_alias = "output-dir", value_name = "DIR")]
    pub directory: PathBuf,
    #[arg(long, value_enum, default_value_t = ManualFormat::Man)]
    pub format: ManualFormat,
}
