//! A root made of what is written of a host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use converge::Root;

enum Thing {
    Text(String),
    Link(String),
    Folder,
}

#[derive(Default)]
struct Paper {
    things: BTreeMap<String, Thing>,
    /// Program, then its arguments, with what it prints.
    prints: BTreeMap<String, BTreeMap<String, String>>,
}

pub fn root(name: &str) -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root { prefix: directory.path().to_owned() };
    let mut paper = Paper::default();
    paper.read(name);
    for (path, thing) in &paper.things {
        let path = made(&root, path);
        match thing {
            Thing::Text(text) => fs::write(path, text).unwrap(),
            Thing::Link(target) => symlink(target, path).unwrap(),
            Thing::Folder => fs::create_dir_all(path).unwrap(),
        }
    }
    for (program, prints) in &paper.prints {
        program_that_prints(&root, program, prints);
    }
    (directory, root)
}

fn made(root: &Root, path: &str) -> PathBuf {
    let path = root.path(path.trim_end_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// By its arguments it prints a file, and fails with others.
fn program_that_prints(root: &Root, program: &str, prints: &BTreeMap<String, String>) {
    let mut cases = "case \"$*\" in\n".to_owned();
    for (index, (arguments, text)) in prints.iter().enumerate() {
        let printed = made(root, &format!("/printed/{program}.{index}"));
        fs::write(&printed, text).unwrap();
        let pattern = arguments.replace(' ', "\\ ");
        cases += &format!("{pattern}) exec /bin/cat '{}' ;;\n", printed.display());
    }
    fs::write(made(root, &format!("/printed/{program}.sh")), cases + "*) exit 1 ;;\nesac\n").unwrap();
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/program.sh");
    symlink(runs, made(root, &format!("/usr/bin/{program}"))).unwrap();
}

impl Paper {
    fn read(&mut self, name: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(format!("{name}.txt"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (head, rest) = text.split_once("== ").unwrap_or((&text, ""));
        if let Some(parent) = head.lines().find_map(|line| line.strip_prefix("like ")) {
            self.read(parent);
        }
        for section in rest.split("\n== ") {
            let (title, text) = section.split_once('\n').unwrap_or((section, ""));
            self.add(title.trim(), &format!("{}\n", text.trim_end_matches('\n')));
        }
    }

    fn add(&mut self, title: &str, text: &str) {
        let command = |title: &str| {
            let (program, arguments) = title.strip_prefix("$ ")?.split_once(' ')?;
            Some((program.to_owned(), arguments.to_owned()))
        };
        if let Some(gone) = title.strip_prefix("- ") {
            match command(gone) {
                Some((program, arguments)) => drop(self.prints.entry(program).or_default().remove(&arguments)),
                None => assert!(self.things.remove(gone).is_some(), "{gone} was not there"),
            }
        } else if let Some((program, arguments)) = command(title) {
            self.prints.entry(program).or_default().insert(arguments, text.to_owned());
        } else if let Some((path, target)) = title.split_once(" -> ") {
            self.things.insert(path.to_owned(), Thing::Link(target.to_owned()));
        } else if title.ends_with('/') {
            self.things.insert(title.to_owned(), Thing::Folder);
        } else {
            self.things.insert(title.to_owned(), Thing::Text(text.to_owned()));
        }
    }
}
