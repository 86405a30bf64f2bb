//! A plan for people: counted, grouped by what kind of thing changes, in the order in which it is worked on.

use hoststate::wire::Change;
use hoststate::{Action, HostState};

use crate::api::apply::ObjectChange;
use crate::printer::verb;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// How many of each.
    Counts,
    /// Every change; of texts that are there how they change.
    Changes,
    /// The texts of files that are new, too.
    Contents,
}

/// What the ids of resources begin with, and what they are called together.
const GROUPS: [(&str, &str); 7] = [
    ("directory ", "directories"),
    ("file ", "files"),
    ("symlink ", "links"),
    ("sysctl ", "kernel parameters"),
    ("kernel module ", "kernel modules"),
    ("unit ", "units"),
    ("image ", "images"),
];

/// `h1: 4 of 40 resources change: 3 to create, 1 to update` and, below it, what [`Depth`] says.
pub fn host(state: &HostState, changes: &[Change], depth: Depth) -> String {
    let mut text = format!("{}: {}\n", state.host, counted(state, changes));
    if depth == Depth::Counts {
        return text;
    }
    for (prefix, title) in GROUPS {
        let of_group: Vec<_> = changes.iter().filter(|change| change.resource.starts_with(prefix)).collect();
        if !of_group.is_empty() {
            text.push_str(&format!("  {title}: {}\n", counts(of_group.iter().map(|change| change.action))));
        }
        for change in of_group {
            let name = change.resource.trim_start_matches(prefix);
            let detail = if change.detail.is_empty() { String::new() } else { format!("  ({})", change.detail) };
            text.push_str(&format!("    {:<8} {name}{detail}\n", verb(change.action)));
            if change.action != Action::Create || depth == Depth::Contents {
                text.push_str(&indented(&change.diff));
            }
        }
    }
    text
}

/// The same without the host, and nothing below it.
pub fn counted(state: &HostState, changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing to change".to_owned();
    }
    format!(
        "{} of {} resources change: {}",
        changes.len(),
        state.resources.len() + changes.iter().filter(|change| is_removal(change)).count(),
        counts(changes.iter().map(|change| change.action))
    )
}

pub fn is_removal(change: &Change) -> bool {
    matches!(change.action, Action::Remove | Action::Restore)
}

/// `API objects: 2 of 21 change: …` and, below it, every change with its fields. Empty where nothing changes.
pub fn objects(changes: &[ObjectChange], all: usize) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let total = all + changes.iter().filter(|change| change.action == Action::Remove).count();
    let counts = counts(changes.iter().map(|change| change.action));
    let mut text = format!("API objects: {} of {total} change: {counts}\n", changes.len());
    for change in changes {
        text.push_str(&format!("    {:<8} {}\n", verb(change.action), change.object));
        for field in &change.fields {
            let or_nothing = |value: &str| if value.is_empty() { "nothing".to_owned() } else { value.to_owned() };
            match field.diff.is_empty() {
                true => text.push_str(&indented(&format!(
                    "{}: {} → {}",
                    field.field,
                    or_nothing(&field.found),
                    or_nothing(&field.wanted)
                ))),
                false => text.push_str(&indented(&field.diff)),
            }
        }
    }
    text
}

/// `3 to create, 1 to update`
fn counts(actions: impl Iterator<Item = Action>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for name in actions.map(verb) {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} to {name}")).collect();
    counts.join(", ")
}

pub fn indented(text: &str) -> String {
    text.lines().map(|line| format!("             {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use hoststate::Resource;
    use hoststate::resource::ClusterRef;

    use super::*;

    #[test]
    fn changes_are_counted_grouped_and_removals_belong_to_all() {
        let state = HostState {
            cluster: ClusterRef::default(),
            host: "h1".into(),
            version: "1".into(),
            kubernetes: None,
            resources: vec![
                Resource::KernelModule { name: "overlay".into() },
                Resource::KernelModule { name: "x".into() },
            ],
            keeps: Vec::new(),
        };
        let new = Change { diff: "+new".into(), ..Change::new("file /new", Action::Create, "3 bytes") };
        let edited = Change { diff: "-a\n+b".into(), ..Change::new("file /x", Action::Update, "mode 644 → 600") };
        let changes = [
            Change::new("unit a.service", Action::Restart, "/x changes"),
            new,
            edited,
            Change::new("unit b.service", Action::Remove, ""),
        ];
        assert_eq!(
            host(&state, &changes, Depth::Changes),
            "h1: 4 of 3 resources change: 1 to restart, 1 to create, 1 to update, 1 to remove\n  \
             files: 1 to create, 1 to update\n    \
             create   /new  (3 bytes)\n    \
             update   /x  (mode 644 → 600)\n             -a\n             +b\n  \
             units: 1 to restart, 1 to remove\n    \
             restart  a.service  (/x changes)\n    \
             remove   b.service\n"
        );
        assert!(host(&state, &changes, Depth::Contents).contains("(3 bytes)\n             +new\n"));
        assert_eq!(host(&state, &changes, Depth::Counts).lines().count(), 1);
        assert_eq!(host(&state, &[], Depth::Contents), "h1: nothing to change\n");
        assert_eq!(objects(&[], 20), "");
    }
}
