//! Credentials that the host keeps although the state brings others: it has renewed them by itself.

use std::fs;
use std::io;

use hoststate::certificates::with_credentials_of;
use hoststate::{Content, HostState, Resource};

use crate::Root;

const KUBECONFIG: &str = ".kubeconfig";

/// The state with the host's own credentials in the files that it says the host keeps. From here on they are texts like any other,
/// also in the state that a rollback goes back to.
pub fn resolved(root: &Root, mut state: HostState) -> io::Result<HostState> {
    for path in std::mem::take(&mut state.keeps) {
        let file = state.resources.iter_mut().find_map(|resource| match resource {
            Resource::File { path: its, content: Content::Inline { text, .. }, .. } if *its == path => Some(text),
            _ => None,
        });
        if let (Some(text), Some(there)) = (file, there(root, &path)?) {
            match path.ends_with(KUBECONFIG) {
                true => *text = with_credentials_of(text, &there).unwrap_or_else(|| text.clone()),
                false => *text = there,
            }
        }
    }
    Ok(state)
}

/// What the file holds. A certificate without its key, or a key without its certificate, is nothing that could be kept.
fn there(root: &Root, path: &str) -> io::Result<Option<String>> {
    let half = [(".crt", ".key"), (".key", ".crt")]
        .iter()
        .find_map(|(this, other)| Some(format!("{}{other}", path.strip_suffix(this)?)));
    if half.is_some_and(|half| !root.path(&half).exists()) {
        return Ok(None);
    }
    match fs::read_to_string(root.path(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::resource::ClusterRef;

    use super::*;

    const CRT: &str = "/etc/kinstall/pki/apiserver.crt";
    const KEY: &str = "/etc/kinstall/pki/apiserver.key";
    const PROXY: &str = "/etc/kinstall/proxy.kubeconfig";

    fn kubeconfig(server: &str, whose: &str) -> String {
        format!("server: {server}\nclient-certificate-data: {whose}-certificate\nclient-key-data: {whose}-key\n")
    }

    fn state(keeps: &[&str]) -> HostState {
        let file = |path: &str, text: &str| Resource::File {
            path: path.into(),
            mode: 0o600,
            content: Content::Inline { text: text.into(), secret: true },
        };
        HostState {
            cluster: ClusterRef::default(),
            host: "h1".into(),
            version: "0.1.0".into(),
            kubernetes: None,
            resources: vec![
                file(CRT, "theirs"),
                file(KEY, "their key"),
                file(PROXY, &kubeconfig("new", "their")),
                file("/etc/kinstall/pki/ca.crt", "ca"),
            ],
            keeps: keeps.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    fn texts(state: &HostState) -> Vec<String> {
        let text = |resource: &Resource| match resource {
            Resource::File { content: Content::Inline { text, .. }, .. } => text.clone(),
            other => other.id(),
        };
        state.resources.iter().map(text).collect()
    }

    #[test]
    fn own_credentials_stay_and_all_else_is_as_the_state_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root { prefix: dir.path().to_owned() };
        fs::create_dir_all(root.path("/etc/kinstall/pki")).unwrap();
        fs::write(root.path(CRT), "own").unwrap();
        let keeping = || resolved(&root, state(&[CRT, KEY, PROXY])).unwrap();
        assert_eq!(texts(&keeping()), texts(&state(&[])), "a certificate without its key is replaced");
        fs::write(root.path(KEY), "own key").unwrap();
        fs::write(root.path(PROXY), kubeconfig("old", "own")).unwrap();
        let kept = keeping();
        assert_eq!(texts(&kept), ["own", "own key", &kubeconfig("new", "own"), "ca"]);
        assert!(kept.keeps.is_empty());
        assert_eq!(texts(&resolved(&root, state(&[])).unwrap()), texts(&state(&[])));
    }
}
