//! Where `kinstall-components` lies before it is installed: a directory of root below `/var/lib`, where nobody else can put a file of
//! that name first. Several installers may find each other there.

pub const STAGE: &str = "/var/lib/kinstall-stage";

/// The first word in a script that runs what was staged: it is there, or it is gone.
pub const CLAIMED: &str = "KINSTALL claimed";
pub const GONE: &str = "KINSTALL gone";

/// Where an executable of this digest lies once it is whole.
pub fn whole(stage: &str, sha256: &str) -> String {
    format!("{stage}/{}", &sha256[..12])
}

/// Runs `command` and cleans up after it when it has ended well.
pub fn and_clean_up(stage: &str, command: &str) -> String {
    let clean_up = clean_up(stage);
    format!("{command}; s=$?; rm -f {stage}/tmp.$$; if [ $s -eq 0 ]; then {clean_up}; fi; exit $s")
}

/// Runs `arguments` of what was staged at `executable`, under a name of its own first: another installer's session that ends in this
/// moment removes what it finds. Says [`CLAIMED`] or [`GONE`] before.
pub fn run(stage: &str, executable: &str, arguments: &str) -> String {
    format!(
        "t={stage}/tmp.$$; if {{ ln {executable} $t || cp -p {executable} $t; }} 2>/dev/null; then echo {CLAIMED}; {}; \
         else echo {GONE}; fi",
        and_clean_up(stage, &format!("$t {arguments}"))
    )
}

/// Removes what was staged, but not what another installer uploads or runs at this moment: one that was killed goes on with its work
/// on the host, and ends it while the next one has come already.
pub fn clean_up(stage: &str) -> String {
    format!(
        "for f in {stage}/*; do case $f in */tmp.*) grep -qs {stage} \"/proc/${{f##*.}}/cmdline\" && continue;; esac; \
         rm -f \"$f\"; done; rmdir {stage} 2>/dev/null || :"
    )
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell(script: &str) -> std::io::Result<Child> {
        assert!(!script.contains('\''), "it is put in single quotes");
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    }

    fn files(stage: &Path) -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(stage)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    #[test]
    fn cleaning_up_leaves_what_is_being_uploaded() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let stage = directory.path().join("stage");
        std::fs::create_dir(&stage)?;
        let mut uploads = shell(&format!("touch {0}/tmp.$$; echo; read -r f; rm {0}/tmp.$$", stage.display()))?;
        if let Some(stdout) = uploads.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut String::new())?;
        }
        let uploading = stage.join(format!("tmp.{}", uploads.id()));
        // a process that has nothing to do with it has the number of one that is gone
        let left = stage.join(format!("tmp.{}", std::process::id()));
        for file in [&left, &stage.join("0123456789ab")] {
            std::fs::write(file, "")?;
        }
        let script = clean_up(&stage.display().to_string());
        assert!(shell(&script)?.wait()?.success());
        assert_eq!(files(&stage)?, [uploading]);
        drop(uploads.stdin.take());
        assert!(uploads.wait()?.success());
        assert!(shell(&script)?.wait()?.success() && !stage.exists());
        assert!(shell(&script)?.wait()?.success(), "nothing is there");
        Ok(())
    }

    #[test]
    fn what_runs_stays_while_another_session_cleans_up_and_what_is_gone_is_told() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let stage = directory.path().join("stage").display().to_string();
        std::fs::create_dir(&stage)?;
        let executable = whole(&stage, &"ab".repeat(32));
        // not written by this process: what is open for writing, in a child of another test's thread, too, cannot be run
        assert!(Command::new("cp").args(["/bin/cat", &executable]).status()?.success());
        let mut runs = shell(&run(&stage, &executable, "-"))?;
        let (Some(mut stdin), Some(stdout)) = (runs.stdin.take(), runs.stdout.take()) else { panic!("no streams") };
        let mut lines = BufReader::new(stdout).lines();
        assert_eq!(lines.next().transpose()?.as_deref(), Some(CLAIMED));
        assert!(shell(&clean_up(&stage))?.wait()?.success());
        assert_eq!(files(Path::new(&stage))?, [Path::new(&stage).join(format!("tmp.{}", runs.id()))]);
        stdin.write_all(b"it runs\n")?;
        assert_eq!(lines.next().transpose()?.as_deref(), Some("it runs"));
        drop(stdin);
        assert!(runs.wait()?.success() && !Path::new(&stage).exists());

        let gone = shell(&run(&stage, &executable, "-"))?.wait_with_output()?;
        assert_eq!(String::from_utf8_lossy(&gone.stdout).trim_end(), GONE);
        Ok(())
    }
}
