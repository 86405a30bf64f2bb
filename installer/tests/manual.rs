//! What tells about the command line says what the command line is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap_complete::Shell;
use kinstall::manual;

const MAKE: &str = "cargo run -p kinstall -- man --format markdown --out docs/commands";

#[test]
fn the_pages_of_docs_commands_are_those_of_the_command_line() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands");
    let wanted = manual::markdown::pages();
    let there: BTreeSet<String> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("docs/commands: {error}; `{MAKE}` makes it"))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let stale: Vec<_> = there.iter().filter(|name| !wanted.contains_key(*name)).collect();
    assert!(stale.is_empty(), "docs/commands has pages of no command, remove them: {stale:?}");
    let differs = |name: &&String| std::fs::read_to_string(directory.join(name)).ok().as_ref() != wanted.get(*name);
    let differing: Vec<_> = wanted.keys().filter(differs).collect();
    assert!(
        differing.is_empty(),
        "docs/commands differs from the command line in {differing:?}; `{MAKE}` writes it anew"
    );
}

#[test]
fn every_command_has_its_page_and_says_what_it_does() {
    let pages = manual::man_pages().unwrap();
    for name in ["kinstall.1", "kinstall-up.1", "kinstall-node-add.1", "kinstall-backup-keygen.1", "kinstall-man.1"] {
        assert!(pages.contains_key(name), "{name} is missing in {:?}", pages.keys());
    }
    assert!(!pages.keys().any(|name| name.contains("help")), "{:?}", pages.keys());
    let add = &pages["kinstall-node-add.1"];
    assert!(
        add.contains(".TH kinstall-node-add 1") && add.contains(r"\-\-address") && add.contains(r"\-\-no\-color"),
        "{add}"
    );
    assert!(pages["kinstall.1"].contains("wrong command line"), "exit codes are missing");
    for (name, text) in manual::markdown::pages() {
        assert!(text.lines().nth(4).is_some_and(|line| !line.is_empty()), "{name} says nothing:\n{text}");
    }
}

/// Asks bash as it would when a person presses Tab after `words`.
fn completed_by_bash(script: &Path, words: &[&str]) -> Vec<String> {
    let ask = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}; _kinstall kinstall '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_commands_options_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("kinstall.bash");
    std::fs::write(&script, manual::completions(Shell::Bash)).unwrap();
    assert_eq!(completed_by_bash(&script, &["kinstall", "val"]), ["validate"]);
    assert_eq!(completed_by_bash(&script, &["kinstall", "node", "rem"]), ["remove"]);
    assert_eq!(completed_by_bash(&script, &["kinstall", "up", "--no-v"]), ["--no-validate"]);
    assert_eq!(completed_by_bash(&script, &["kinstall", "status", "--output", "js"]), ["json"]);
    for shell in [Shell::Zsh, Shell::Fish] {
        let script = String::from_utf8(manual::completions(shell)).unwrap();
        for word in ["rotate-ca", "ignore-preflight", "keygen"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}
