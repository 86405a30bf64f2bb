//! Scheduled backups, resolved.

use crate::inventory::{At, Backup, Sink};

/// What every control plane's timer does.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BackupPlan {
    /// systemd's `OnCalendar`.
    pub schedule: String,
    /// How many archives stay on each control plane.
    pub keep: usize,
    /// Public keys of age; what opens the archives is not on the hosts.
    pub recipients: Vec<String>,
    /// Absolute; outside of kinstall's own directories, so that `down` leaves what is in it.
    pub directory: String,
}

const DIRECTORY: &str = "/var/backups/kinstall";

pub fn plan(written: &Backup, sink: &mut Sink) -> Option<BackupPlan> {
    if written.recipients.is_empty() {
        sink.add(
            written.pos,
            "backup.recipients",
            "is required: public keys of age (`kinstall backup keygen FILE` makes a pair; keep the secret one off the hosts)",
        );
    }
    for (index, At { value, pos }) in written.recipients.iter().enumerate() {
        if archive::Seal::to([value.as_str()]).is_err() {
            sink.add(*pos, format!("backup.recipients[{index}]"), "is no public key of age (they begin with age1…)");
        }
    }
    if let Some(At { value, pos }) = &written.schedule
        && (value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || " *:,./~-_".contains(c)))
    {
        let expected = "expected a calendar time of systemd, such as daily or *-*-* 03:30:00 (see systemd.time(7))";
        sink.add(*pos, "backup.schedule", expected);
    }
    if let Some(At { value: 0, pos }) = &written.keep {
        sink.add(*pos, "backup.keep", "expected at least 1");
    }
    if let Some(At { value, pos }) = &written.directory {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let dots = value.split('/').any(|part| part == "." || part == "..");
        if !value.starts_with('/') || value.len() < 2 || dots || !value.chars().all(plain) {
            sink.add(*pos, "backup.directory", "expected an absolute path on the hosts, without spaces");
        } else if ["/var/lib/kinstall", "/etc/kinstall", "/opt/kinstall", "/run"]
            .iter()
            .any(|own| value.starts_with(own))
        {
            sink.add(*pos, "backup.directory", "must lie outside of what `down` removes");
        }
    }
    Some(BackupPlan {
        schedule: written.schedule.as_ref().map_or_else(|| "daily".to_owned(), |at| at.value.clone()),
        keep: written.keep.as_ref().map_or(7, |at| at.value),
        recipients: written.recipients.iter().map(|at| at.value.clone()).collect(),
        directory: written.directory.as_ref().map_or_else(|| DIRECTORY.to_owned(), |at| at.value.clone()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::cluster::Cluster;

    fn parse(backup: &str) -> Result<Cluster, String> {
        let text = format!("cluster: c\nhosts:\n- {{name: h1, address: 10.0.0.1, role: controlPlane}}\n{backup}");
        Cluster::parse(&text, "i.yaml", std::path::Path::new("/")).map_err(|problems| problems.to_string())
    }

    #[test]
    fn defaults_are_explicit_and_mistakes_are_told_with_their_place() {
        let key = archive::Key::generate().public();
        assert_eq!(parse("").unwrap().backup, None);
        let plan = parse(&format!("backup: {{recipients: [{key}]}}\n")).unwrap().backup.unwrap();
        assert_eq!((plan.schedule.as_str(), plan.keep, plan.directory.as_str()), ("daily", 7, "/var/backups/kinstall"));
        for (text, words) in [
            ("backup: {keep: 3}".to_owned(), "backup.recipients"),
            ("backup: {recipients: [AGE-SECRET-KEY-1]}".to_owned(), "recipients[0]"),
            (format!("backup: {{recipients: [{key}], keep: 0}}"), "at least 1"),
            (format!("backup: {{recipients: [{key}], schedule: 'daily\\n'}}"), "systemd.time"),
            (format!("backup: {{recipients: [{key}], directory: backups}}"), "absolute"),
            (format!("backup: {{recipients: [{key}], directory: /var/lib/kinstall/b}}"), "outside"),
            (format!("backup: {{recipients: [{key}], retention: 3}}"), "unknown field"),
        ] {
            let told = parse(&text).unwrap_err();
            assert!(told.contains(words) && told.contains("i.yaml:"), "{text}: {told}");
            assert!(!told.contains("SECRET"), "{told}");
        }
    }
}
