//! What systemd and the runtime say of a host. Asked once for all resources: each question costs a process.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use hoststate::{HostState, Resource};

use crate::{Root, command, runtime};

/// What `systemctl show` says of a unit; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub active: String,
    pub enabled: String,
}

pub struct Running<'a> {
    root: &'a Root,
    units: BTreeMap<String, Shown>,
    images: OnceCell<Option<Vec<String>>>,
}

impl<'a> Running<'a> {
    /// Of the units of `state`.
    pub fn of(root: &'a Root, state: &HostState) -> Self {
        let names: Vec<&str> = state.resources.iter().filter_map(unit_name).collect();
        let shown = match names.is_empty() {
            true => None,
            false => command::look(
                "systemctl",
                &[&["show", "-p", "Id,ActiveState,UnitFileState", "--"], names.as_slice()].concat(),
            ),
        };
        Self { root, units: units(&shown.unwrap_or_default()), images: OnceCell::new() }
    }

    pub fn unit(&self, name: &str) -> Shown {
        self.units.get(name).cloned().unwrap_or_default()
    }

    /// Somebody may have removed an image by hand; a runtime that is down cannot be asked and gets the benefit of the doubt.
    pub fn has_image(&self, name: &str) -> bool {
        if self.root.prefix != Path::new("/") {
            return true;
        }
        let images = self.images.get_or_init(|| {
            runtime::look(&["images", "ls", "-q"]).map(|listed| listed.lines().map(str::to_owned).collect())
        });
        images.as_ref().is_none_or(|images| images.iter().any(|image| image == name))
    }
}

fn unit_name(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Unit { name, .. } => Some(name),
        _ => None,
    }
}

/// By name; a block for each.
fn units(shown: &str) -> BTreeMap<String, Shown> {
    let block = |block: &str| {
        let property = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let of = |key| property(key).unwrap_or_default().to_owned();
        property("Id").map(|id| (id.to_owned(), Shown { active: of("ActiveState"), enabled: of("UnitFileState") }))
    };
    shown.split("\n\n").filter_map(block).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_shown_of_many_units_is_told_apart() {
        let shown = "Id=a.service\nActiveState=active\nUnitFileState=enabled\n\n\
                     Id=gone.timer\nActiveState=inactive\nUnitFileState=\n";
        let units = units(shown);
        assert_eq!(units["a.service"], Shown { active: "active".into(), enabled: "enabled".into() });
        assert_eq!(units["gone.timer"], Shown { active: "inactive".into(), enabled: String::new() });
        assert!(units.len() == 2 && super::units("").is_empty());
    }
}
