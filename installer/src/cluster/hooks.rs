//! Hooks, resolved.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::expand;
use crate::inventory::hooks::{self, On, OnFailure, Stage, When};
use crate::inventory::{At, Sink};

const TIMEOUT: u64 = 300;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub name: String,
    pub stage: Stage,
    pub when: When,
    pub script: Script,
    pub on: On,
    pub timeout: Duration,
    pub on_failure: OnFailure,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Shell.
    Text(String),
    /// Shell in this file, which is read before anything is begun.
    File(PathBuf),
}

impl Hook {
    /// `before up`.
    pub fn point(&self) -> String {
        format!("{} {}", hooks::written(hooks::WHEN, &self.when), hooks::written(hooks::STAGES, &self.stage))
    }
}

pub fn hooks(written: Vec<hooks::Hook>, directory: &Path, sink: &mut Sink) -> Vec<Hook> {
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut list = Vec::new();
    for hook in written {
        if let Some(At { value, pos }) = &hook.name
            && let Some(line) = lines.insert(value.clone(), pos.line)
        {
            sink.add(*pos, format!("{}.name", hook.path), format!("{value:?} is already the hook at line {line}"));
        }
        let script = match (hook.run, hook.file) {
            (Some(run), None) => Some(Script::Text(run.value)),
            (None, Some(file)) => Some(Script::File(expand(file, directory))),
            _ => {
                sink.add(hook.pos, &hook.path, "needs either `run`, a text for the shell, or `file`, which has one");
                None
            }
        };
        if let (Some(name), Some(stage), Some(when), Some(script)) = (hook.name, hook.stage, hook.when, script) {
            list.push(Hook {
                name: name.value,
                stage,
                when,
                script,
                on: hook.on.unwrap_or_default(),
                timeout: Duration::from_secs(hook.timeout.map_or(TIMEOUT, |at| at.value.0)),
                on_failure: hook.on_failure.unwrap_or_default(),
            });
        }
    }
    list
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cluster::Cluster;

    fn parse(hooks: &str) -> Result<Cluster, String> {
        let text =
            format!("cluster: c\nhosts:\n- {{name: h1, address: 10.0.0.1, role: controlPlane}}\nhooks:\n{hooks}");
        Cluster::parse(&text, "i.yaml", Path::new("/dir")).map_err(|problems| problems.to_string())
    }

    #[test]
    fn hooks_are_read_with_their_defaults() {
        let cluster = parse(
            "- {name: a, stage: up, when: before, run: 'echo a'}\n\
             - {name: b, stage: upgradeHost, when: after, file: b.sh, on: workers, timeout: 90s, onFailure: warn}\n",
        )
        .unwrap();
        let [a, b] = cluster.hooks.as_slice() else { panic!("{:?}", cluster.hooks) };
        assert_eq!(
            (a.point().as_str(), a.on, a.timeout.as_secs(), a.on_failure),
            ("before up", On::Local, 300, OnFailure::Stop)
        );
        assert_eq!(a.script, Script::Text("echo a".into()));
        assert_eq!(
            (b.point().as_str(), b.on, b.timeout.as_secs(), b.on_failure),
            ("after upgradeHost", On::Workers, 90, OnFailure::Warn)
        );
        assert_eq!(b.script, Script::File("/dir/b.sh".into()));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (hooks, words) in [
            ("- {name: a, stage: up, when: before}\n", "needs either `run`"),
            ("- {name: a, stage: up, when: before, run: x, file: y}\n", "needs either `run`"),
            ("- {stage: up, when: before, run: x}\n", "hooks[0].name: is required"),
            ("- {name: a, when: before, run: x}\n", "hooks[0].stage: is required"),
            ("- {name: a, stage: upgrad, when: before, run: x}\n", "did you mean \"upgrade\"?"),
            ("- {name: a, stage: up, when: during, run: x}\n", "expected before or after"),
            ("- {name: a, stage: up, when: before, run: x, timeout: soon}\n", "a duration"),
            ("- {name: a, stage: up, when: before, run: x, hosts: all}\n", "unknown field"),
            (
                "- {name: a, stage: up, when: before, run: x}\n- {name: a, stage: down, when: after, run: x}\n",
                "already the hook at line 5",
            ),
        ] {
            let told = parse(hooks).unwrap_err();
            assert!(
                told.contains(words) && told.contains("i.yaml:5:") || told.contains("i.yaml:6:"),
                "{hooks}: {told}"
            );
        }
    }
}
