//! What has to be known of a host before anything can be done there.

use super::HostError;
use super::stage::{self, STAGE};
use crate::cluster::{Become, Host};
use crate::ssh::Transport;

const INSTALLED: &str = "/opt/kinstall/current/bin/kinstall-components";
const MANIFEST: &str = "/var/lib/kinstall/manifest.json";

/// What the probe found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Probe {
    pub uid: Option<u32>,
    pub arch: String,
    /// What a user becomes root with.
    pub elevates: Option<Become>,
    pub executable: Option<String>,
    /// kinstall was here.
    pub manifest: bool,
    /// A session that ended badly left its executable.
    pub staged: bool,
}

/// One script for all that must be known before: who we are, the architecture, which executable is there.
pub async fn probe(
    host: &Host,
    transport: &dyn Transport,
    sha256: Option<&str>,
    exact: bool,
) -> Result<Probe, HostError> {
    let mut script = format!(
        "echo; echo KINSTALL uid $(id -u); echo KINSTALL arch $(uname -m); \
         for c in sudo doas; do if command -v $c >/dev/null 2>&1; then echo KINSTALL elevates $c; break; fi; done; \
         if [ -e {MANIFEST} ]; then echo KINSTALL manifest; fi; if [ -e {STAGE} ]; then echo KINSTALL staged; fi; "
    );
    if !exact {
        script.push_str(&format!("if [ -x {INSTALLED} ]; then echo KINSTALL executable {INSTALLED}; exit 0; fi; "));
    }
    if let Some(sha256) = sha256 {
        script.push_str(&finding(&[INSTALLED, &stage::whole(STAGE, sha256)], sha256));
    }
    let command = format!("sh -c '{script}'");
    let mut process = transport.start(&command).await.map_err(|error| HostError::ssh(&host.name, "probe", &error))?;
    let mut lines = Vec::new();
    while let Ok(Some(line)) = process.line().await {
        lines.push(line);
    }
    let exit = process.finish().await;
    let probe = parse(&lines);
    if probe.uid.is_none() {
        let mut error =
            HostError::exit(&host.name, "probe", "the host did not run the probe; its user needs a shell", &exit);
        error.command = Some(command);
        return Err(error);
    }
    Ok(probe)
}

/// Says which of these is the executable of this digest. It tells its own fastest: few hosts' sha256sum uses what the processor has
/// for that. An older one does not know how to.
fn finding(places: &[&str], sha256: &str) -> String {
    format!(
        "for f in {}; do if [ -x $f ] && {{ [ \"$($f converge --digest 2>/dev/null)\" = {sha256} ] || \
         echo \"{sha256}  $f\" | sha256sum -c >/dev/null 2>&1; }}; then echo KINSTALL executable $f; exit 0; fi; done",
        places.join(" ")
    )
}

fn parse(lines: &[String]) -> Probe {
    let mut probe = Probe::default();
    for line in lines {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["KINSTALL", "uid", uid] => probe.uid = uid.parse().ok(),
            ["KINSTALL", "arch", arch] => probe.arch = (*arch).to_owned(),
            ["KINSTALL", "elevates", "sudo"] => probe.elevates = Some(Become::Sudo),
            ["KINSTALL", "elevates", "doas"] => probe.elevates = Some(Become::Doas),
            ["KINSTALL", "manifest"] => probe.manifest = true,
            ["KINSTALL", "staged"] => probe.staged = true,
            ["KINSTALL", "executable", path] => probe.executable = Some((*path).to_owned()),
            _ => {}
        }
    }
    probe
}

#[cfg(test)]
mod tests {
    use hoststate::sha256_hex;

    use super::*;

    #[test]
    fn the_executable_is_known_by_what_it_says_or_by_its_bytes() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let put = |name: &str, text: &str| -> std::io::Result<String> {
            let path = directory.path().join(name);
            let (text_of_it, path) = (path.with_extension("text"), path.display().to_string());
            std::fs::write(&text_of_it, text)?;
            // Not by this process: a program that is open for writing cannot be run, and what another test's thread forks in that
            // moment holds it open, too.
            let copied =
                std::process::Command::new("install").args(["-m", "755"]).arg(text_of_it).arg(&path).status()?;
            assert!(copied.success(), "{name}");
            Ok(path)
        };
        let wanted = "ab".repeat(32);
        let tells = put("tells", &format!("#!/bin/sh\n[ \"$*\" = \"converge --digest\" ] && echo {wanted}\n"))?;
        let older = put("older", "#!/bin/sh\necho unexpected argument >&2; exit 2\n")?;
        let other = put("other", "#!/bin/sh\necho 1234\n")?;
        let older_digest = sha256_hex(b"#!/bin/sh\necho unexpected argument >&2; exit 2\n");
        for (places, sha256, found) in [
            (vec![tells.as_str()], &wanted, Some(&tells)),
            (vec![other.as_str(), "/nowhere", &tells], &wanted, Some(&tells)),
            (vec![older.as_str()], &older_digest, Some(&older)),
            (vec![older.as_str(), &other], &wanted, None),
        ] {
            let script = finding(&places, sha256);
            assert!(!script.contains('\''), "it is put in single quotes");
            let output = std::process::Command::new("sh").args(["-c", &script]).output()?;
            let expected = found.map(|path| format!("KINSTALL executable {path}\n")).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{places:?}");
        }
        Ok(())
    }

    #[test]
    fn the_probe_is_read_through_what_a_login_shell_prints() {
        let lines = ["Welcome to h1!", "", "KINSTALL uid 0", "KINSTALL arch x86_64", "KINSTALL executable /x/y"]
            .map(str::to_owned);
        assert_eq!(
            parse(&lines),
            Probe {
                uid: Some(0),
                arch: "x86_64".into(),
                elevates: None,
                executable: Some("/x/y".into()),
                manifest: false,
                staged: false
            }
        );
        assert_eq!(parse(&["This account is not available".to_owned()]).uid, None);
    }
}
