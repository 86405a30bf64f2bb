//! Every kubectl on this machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// One release of kubectl.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub program: PathBuf,
    /// The minor version.
    pub minor: u32,
}

/// The folders where kubectls may be: those of the PATH, and where their links lead.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let real = folders.iter().filter_map(|f| f.join("kubectl").canonicalize().ok());
    let real: Vec<PathBuf> = real.filter_map(|p| p.parent().map(Path::to_path_buf)).collect();
    folders.extend(real);
    let cache = std::fs::read_dir("/var/cache/kinstall/kubectl").into_iter().flatten().flatten();
    folders.extend(cache.map(|entry| entry.path()));
    folders
}

fn minor(program: &Path) -> Option<u32> {
    let output = Command::new(program).args(["version", "--client", "-o", "json"]).output().ok()?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let digits: String = value["clientVersion"]["minor"].as_str()?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// One program for each release, oldest first; says which. `KINSTALL_KUBECTL` narrows it to one.
pub fn all() -> Vec<Kubectl> {
    let mut found: BTreeMap<u32, PathBuf> = BTreeMap::new();
    let mut add = |program: PathBuf| {
        if let Some(minor) = minor(&program) {
            found.insert(minor, program);
        }
    };
    if let Some(only) = std::env::var_os("KINSTALL_KUBECTL") {
        add(only.into());
    } else {
        for folder in folders() {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let named = entries.filter(|e| {
                let name = e.file_name().to_string_lossy().into_owned();
                name == "kubectl" || name.strip_prefix("kubectl.1.").is_some_and(|v| v.parse::<u32>().is_ok())
            });
            named.for_each(|entry| add(entry.path()));
        }
    }
    assert!(!found.is_empty(), "kubectl must be installed");
    let versions: Vec<String> = found.keys().map(|m| format!("1.{m}")).collect();
    eprintln!("kubectl {}", versions.join(", "));
    found.into_iter().map(|(minor, program)| Kubectl { program, minor }).collect()
}
