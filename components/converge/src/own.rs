//! What a host changes of its own state without an installer: the credentials that it has renewed.
//!
//! Such a change is an amendment like an installer's, of the state that was applied last, and restarts what uses the files. It
//! is written down whole before anything is touched: one that was cut off, with some files of the new kind and some of the old,
//! or a unit not yet restarted, is finished by the next run, unless an installer has put the host in order meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use hoststate::wire::Failure;
use hoststate::{Action, Content, HostState, Resource};

use crate::abandon::Abandon;
use crate::blobs::Blobs;
use crate::lock::HostLock;
use crate::resources::{self, Context};
use crate::sink::Sink;
use crate::{Root, STATE_DIR, apply, files, kept, plan};

const STEP: &str = "renew";
const CONFIGURATION: &str = "/etc/kinstall/";
/// The change that is under way.
const UNDER_WAY: &str = "/etc/kinstall/pki/.renewing.json";

/// What a host has, as far as it may change it.
#[derive(Clone, Debug)]
pub struct Own {
    /// The host's name in the inventory.
    pub host: String,
    /// The texts of kinstall's configuration, keys and certificates as they are on the disk, by path.
    pub texts: BTreeMap<String, String>,
}

/// A text in the place of another one.
#[derive(Clone)]
pub struct Change {
    pub path: String,
    pub old: String,
    pub new: String,
}

/// None where no state was ever applied to its end.
pub fn look(root: &Root) -> Result<Option<Own>, Failure> {
    let Some(kept) = kept::load(root).map_err(|error| failed(&error))? else { return Ok(None) };
    let ours = kept.resources.iter().filter_map(|resource| match resource {
        Resource::File { path, content: Content::Inline { .. }, .. } if path.starts_with(CONFIGURATION) => Some(path),
        _ => None,
    });
    let texts = ours.filter_map(|path| Some((path.clone(), fs::read_to_string(root.path(path)).ok()?))).collect();
    Ok(Some(Own { host: kept.host, texts }))
}

/// Makes the changes and restarts those of the units that use these files which run. Nothing is changed where a file is not
/// what it was: somebody else was here. Gives how many resources changed.
pub fn change(root: &Root, changes: &[Change]) -> Result<usize, Failure> {
    let _lock = HostLock::take(root)?;
    for change in changes {
        let there = fs::read_to_string(root.path(&change.path)).map_err(|error| failed(&error))?;
        if there != change.old {
            return Err(failed(&io::Error::other(format!("{} was changed by somebody else meanwhile", change.path))));
        }
    }
    let kept = kept::load(root).map_err(|error| failed(&error))?;
    let kept = kept.ok_or_else(|| failed(&io::Error::other("no state was ever applied to its end")))?;
    let part = part(kept, changes);
    let text = serde_json::to_vec(&part).map_err(|error| failed(&error.into()))?;
    files::write_atomic(&under_way(root), 0o600, text.as_slice()).map_err(|error| failed(&error))?;
    carry_out(root, part)
}

/// Finishes a change that was cut off; None if there is none.
pub fn finish(root: &Root) -> Result<Option<usize>, Failure> {
    if !under_way(root).exists() {
        return Ok(None);
    }
    let _lock = HostLock::take(root)?;
    // whoever had the lock may have seen to it
    let part = files::read_json(&under_way(root)).map_err(|error| failed(&error))?;
    part.map(|part| carry_out(root, part)).transpose()
}

/// An installer puts everything in order.
pub fn forget(root: &Root) -> io::Result<()> {
    match fs::remove_file(under_way(root)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn under_way(root: &Root) -> PathBuf {
    root.path(UNDER_WAY)
}

/// These files, and the units that are restarted when they change.
fn part(kept: HostState, changes: &[Change]) -> HostState {
    let changed = |path: &str| changes.iter().find(|change| change.path == path);
    let resources = kept
        .resources
        .into_iter()
        .filter_map(|resource| match resource {
            Resource::File { path, mode, content: Content::Inline { secret, .. } } => {
                let text = changed(&path)?.new.clone();
                Some(Resource::File { path, mode, content: Content::Inline { text, secret } })
            }
            Resource::Unit { ref restart_on, active: true, .. }
                if restart_on.iter().any(|on| changed(on).is_some()) =>
            {
                Some(resource)
            }
            _ => None,
        })
        .collect();
    HostState { resources, ..kept }
}

fn carry_out(root: &Root, part: HostState) -> Result<usize, Failure> {
    let observations = plan::observe(root, &part).map_err(|error| failed(&error))?;
    // what does not run reads the new files when it starts
    let rests = |resource: &Resource, action| matches!(resource, Resource::Unit { .. }) && action != Action::Restart;
    let HostState { resources, .. } = part;
    let (resources, observations): (Vec<_>, Vec<_>) =
        resources.into_iter().zip(observations).filter(|(resource, seen)| !rests(resource, seen.action)).unzip();
    let part = HostState { resources, ..part };
    let context = Context {
        root,
        sink: &Sink::new(io::sink()),
        blobs: &Blobs::new(root.path(STATE_DIR).join("blobs")),
        abandon: &Abandon::default(),
    };
    let changed = apply::amend(context, &part, &observations)?;
    forget(root).map_err(|error| failed(&error))?;
    Ok(changed)
}

fn failed(error: &io::Error) -> Failure {
    resources::io(STEP, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::HostManifest;
    use hoststate::resource::ClusterRef;

    use super::*;
    use crate::manifest;

    const CRT: &str = "/etc/kinstall/pki/a.crt";
    const KEY: &str = "/etc/kinstall/pki/a.key";
    const CONFIG: &str = "/etc/kinstall/a.yaml";

    fn host() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root { prefix: dir.path().to_owned() };
        for made in ["etc/kinstall/pki", "var/lib/kinstall"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let file = |path: &str, text: &str| {
            files::write_atomic(&root.path(path), 0o600, text.as_bytes()).unwrap();
            Resource::File {
                path: path.into(),
                mode: 0o600,
                content: Content::Inline { text: text.into(), secret: true },
            }
        };
        let unit = |name: &str, on: &str| Resource::Unit {
            name: name.into(),
            enabled: true,
            active: true,
            restart_on: vec![on.into()],
            after: Vec::new(),
        };
        let resources = vec![
            file(CRT, "old"),
            file(KEY, "old key"),
            file(CONFIG, "x"),
            unit("kinstall-test-none-a.service", CRT),
            unit("kinstall-test-none-b.service", CONFIG),
        ];
        let cluster = ClusterRef { name: "c".into(), id: "1".into() };
        let (host, version) = ("h1".to_owned(), "0.1.0".to_owned());
        let manifest = HostManifest {
            cluster: cluster.clone(),
            host: host.clone(),
            version: version.clone(),
            complete: true,
            ..HostManifest::default()
        };
        manifest::save(&root, &manifest).unwrap();
        let state = HostState { cluster, host, version, kubernetes: None, resources, keeps: Vec::new() };
        kept::save(&root, &state).unwrap();
        (dir, root)
    }

    fn changes() -> Vec<Change> {
        let change = |path: &str, old: &str, new: &str| Change { path: path.into(), old: old.into(), new: new.into() };
        vec![change(CRT, "old", "new"), change(KEY, "old key", "new key")]
    }

    fn read(root: &Root, path: &str) -> String {
        fs::read_to_string(root.path(path)).unwrap()
    }

    #[test]
    fn files_change_here_and_in_what_a_rollback_goes_back_to() {
        let (_dir, root) = host();
        let own = look(&root).unwrap().unwrap();
        assert_eq!((own.host.as_str(), own.texts.len(), own.texts[CRT].as_str()), ("h1", 3, "old"));
        assert_eq!(change(&root, &changes()).unwrap(), 2, "a unit that does not run stays as it is");
        assert_eq!((read(&root, CRT), read(&root, KEY)), ("new".to_owned(), "new key".to_owned()));
        let kept = kept::load(&root).unwrap().unwrap();
        assert!(kept.resources.iter().any(|it| matches!(it, Resource::File { path, content: Content::Inline { text, .. }, .. } if path == KEY && text == "new key")));
        assert!(manifest::load(&root).unwrap().unwrap().complete && !under_way(&root).exists());
        let refused = change(&root, &changes()).unwrap_err();
        assert!(refused.message.contains("somebody else"), "{refused:?}");
    }

    #[test]
    fn what_was_cut_off_between_two_files_is_finished_unless_an_installer_came() {
        let (_dir, root) = host();
        let part = part(kept::load(&root).unwrap().unwrap(), &changes());
        let ids: Vec<_> = part.resources.iter().map(Resource::id).collect();
        assert_eq!(ids, [format!("file {CRT}"), format!("file {KEY}"), "unit kinstall-test-none-a.service".to_owned()]);
        let cut_off = || {
            files::write_atomic(&under_way(&root), 0o600, serde_json::to_vec(&part).unwrap().as_slice()).unwrap();
            fs::write(root.path(CRT), "new").unwrap();
            let whole = manifest::load(&root).unwrap().unwrap();
            manifest::save(&root, &HostManifest { complete: false, amending: true, ..whole }).unwrap();
        };
        cut_off();
        assert_eq!(finish(&root).unwrap(), Some(1));
        let whole = manifest::load(&root).unwrap().unwrap();
        assert!(whole.complete && !whole.amending);
        assert_eq!((read(&root, CRT), read(&root, KEY)), ("new".to_owned(), "new key".to_owned()));
        assert_eq!(finish(&root).unwrap(), None);
        cut_off();
        forget(&root).unwrap();
        assert_eq!(finish(&root).unwrap(), None);
    }

    #[test]
    fn a_host_without_an_applied_state_has_nothing_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        assert!(look(&Root { prefix: dir.path().to_owned() }).unwrap().is_none());
    }
}
