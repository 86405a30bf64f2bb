//! `kinstall certs check`: every certificate in the state directory and on the hosts. Looks only.

use std::fs;

use anyhow::Context as _;
use certs::{CertificateInfo, HOSTS_RENEW_DAYS};
use futures::future::join_all;
use hoststate::certificates::{CertificateFile, in_kubeconfig, in_pem};
use hoststate::facts::Renewal;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::CertsCheck;
use crate::cluster::Cluster;
use crate::commands::fleet::{self, Fleet};
use crate::commands::{ADMIN_KUBECONFIG, Ended, Run};
use crate::host::Executable;
use crate::state::StateDir;

/// Where this machine's certificates are, in the table.
const HERE: &str = "(here)";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Standing {
    Good,
    Soon,
    Expired,
    /// Every host that has such a certificate has a newer one of its own.
    Superseded,
}

/// One certificate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// None: the state directory.
    host: Option<String>,
    file: String,
    subject: String,
    organizations: Vec<String>,
    names: Vec<String>,
    authority: String,
    not_after: String,
    /// Whole days; negative when it has run out.
    days_left: i64,
    standing: Standing,
    renewed_by: &'static str,
}

/// A host's own renewal.
#[derive(Debug, Serialize)]
struct Timer {
    host: String,
    #[serde(flatten)]
    renewal: Renewal,
}

pub async fn run(run: &Run<'_>, arguments: &CertsCheck) -> anyhow::Result<Ended> {
    let now = OffsetDateTime::now_utc();
    let look = |host: Option<&str>, file: &CertificateFile| rows(&run.cluster, host, file, now, arguments.within);
    let mut table: Vec<Row> = here(&run.state)?.iter().flat_map(|file| look(None, file)).collect();
    let opened = Fleet::new(run).open(run, Executable::Installed(None)).await;
    let (members, complete) = fleet::sort_out(run.printer, opened);
    let closing = members.into_iter().map(|member| async move {
        let (host, facts) = (member.host, member.facts);
        member.session.close().await;
        (host, facts.certificates, facts.renewal.unwrap_or_default())
    });
    let mut timers = Vec::new();
    for (host, files, renewal) in join_all(closing).await {
        table.extend(files.iter().flat_map(|file| look(Some(&host.name), file)));
        timers.push(Timer { host: host.name.clone(), renewal });
    }
    supersede(&mut table);
    let count = |standing| table.iter().filter(|row| row.standing == standing).count();
    let (soon, expired) = (count(Standing::Soon), count(Standing::Expired));
    let text = format!("{}{}{}", text(&table), told(&timers), advice(soon, expired, arguments.within, table.len()));
    run.printer.result(
        &text,
        &json!({
            "event": "certificates", "certificates": table, "timers": timers, "soon": soon, "expired": expired,
            "complete": complete,
        }),
    );
    Ok(match (expired, complete, soon) {
        (1.., _, _) => Ended::Expired,
        (_, false, _) => Ended::Failed,
        (_, _, 1..) => Ended::Soon,
        _ => Ended::Done,
    })
}

/// The state directory's: the PKI, and what the administrator's kubeconfig holds.
fn here(state: &StateDir) -> anyhow::Result<Vec<CertificateFile>> {
    let mut files = Vec::new();
    let folder = state.path().join("pki");
    // before the first `up` there is nothing
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".crt") {
            let text =
                fs::read_to_string(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            files.push(CertificateFile { path: format!("pki/{name}"), pem: in_pem(&text).concat() });
        }
    }
    if let Ok(text) = fs::read_to_string(state.path().join(ADMIN_KUBECONFIG)) {
        files.push(CertificateFile { path: ADMIN_KUBECONFIG.to_owned(), pem: in_kubeconfig(&text).concat() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn rows(cluster: &Cluster, host: Option<&str>, file: &CertificateFile, now: OffsetDateTime, within: i64) -> Vec<Row> {
    let infos = in_pem(&file.pem).into_iter().filter_map(|pem| certs::inspect(&pem).ok());
    infos.map(|info| row(cluster, host, &file.path, info, now, within)).collect()
}

fn row(
    cluster: &Cluster,
    host: Option<&str>,
    path: &str,
    info: CertificateInfo,
    now: OffsetDateTime,
    within: i64,
) -> Row {
    let left = info.not_after - now;
    let standing = match () {
        () if left.is_negative() => Standing::Expired,
        () if left <= time::Duration::days(within) => Standing::Soon,
        () => Standing::Good,
    };
    let mut names = info.dns_names;
    names.extend(info.ip_addresses.iter().map(ToString::to_string));
    Row {
        host: host.map(str::to_owned),
        file: path.to_owned(),
        subject: info.subject.common_name,
        organizations: info.subject.organizations,
        names,
        authority: info.issuer,
        not_after: info.not_after.format(&Rfc3339).unwrap_or_default(),
        // what ended an hour ago has less than no days left
        days_left: left.whole_days() - i64::from(left.is_negative()),
        standing,
        renewed_by: renewed_by(cluster, path, info.is_ca),
    }
}

/// Who sees to it that there is another one in time.
fn renewed_by(cluster: &Cluster, path: &str, is_authority: bool) -> &'static str {
    let theirs = cluster.external_etcd.is_some()
        && ["etcd-ca.crt", "apiserver-etcd-client.crt"].iter().any(|file| path.ends_with(file));
    match () {
        () if theirs => "who runs your etcd, then kinstall up",
        () if is_authority => "kinstall certs rotate-ca",
        () if path.starts_with("/var/lib/kubelet/") => "the kubelet itself",
        () if path.starts_with("/etc/kinstall/") => "the host's timer, kinstall certs renew",
        () => "kinstall up, kinstall certs renew",
    }
}

/// What hosts have renewed by themselves the state directory has only as it was before. That is no reason to worry, except for the
/// administrator's, who is here.
fn supersede(table: &mut [Row]) {
    type Who<'a> = (&'a str, &'a [String], &'a [String], &'a str);
    fn who(row: &Row) -> Who<'_> {
        (&row.subject, &row.organizations, &row.names, &row.authority)
    }
    let is_copy = |row: &Row| row.host.is_none() && row.file.starts_with("pki/") && row.file != "pki/admin.crt";
    let is_newer = |copy: &Row| {
        let mut on_hosts = table.iter().filter(|row| row.host.is_some() && who(row) == who(copy)).peekable();
        on_hosts.peek().is_some() && on_hosts.all(|row| row.days_left > copy.days_left)
    };
    let superseded: Vec<bool> =
        table.iter().map(|row| row.standing != Standing::Good && is_copy(row) && is_newer(row)).collect();
    for (row, _) in table.iter_mut().zip(superseded).filter(|(_, superseded)| *superseded) {
        row.standing = Standing::Superseded;
    }
}

/// One line for all hosts whose timer waits, and one for each host where something is amiss.
fn told(timers: &[Timer]) -> String {
    let mut lines = Vec::new();
    let waiting: Vec<_> = timers.iter().filter(|timer| timer.renewal.active).collect();
    if !waiting.is_empty() {
        let next: Vec<_> = waiting.iter().map(|timer| format!("{} {}", timer.host, timer.renewal.next)).collect();
        let next = next.join(", ");
        lines.push(format!(
            "hosts renew theirs when less than {HOSTS_RENEW_DAYS} days are left; they look next: {next}"
        ));
    }
    for Timer { host, renewal } in timers {
        if !renewal.active {
            lines.push(format!(
                "{host} does not renew its certificates by itself: kinstall-certs.timer is not active there; `kinstall up` makes it so"
            ));
        }
        if renewal.failed {
            lines.push(format!("{host}'s last renewal failed: see `journalctl -u kinstall-certs` there"));
        }
    }
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

fn text(table: &[Row]) -> String {
    let cells: Vec<[String; 7]> = table
        .iter()
        .map(|row| {
            let left = match row.standing {
                Standing::Expired => format!("{} EXPIRED", row.days_left),
                Standing::Soon => format!("{} soon", row.days_left),
                Standing::Superseded => format!("{} (hosts have newer)", row.days_left),
                Standing::Good => row.days_left.to_string(),
            };
            let subject = match row.organizations.as_slice() {
                [] => row.subject.clone(),
                several => format!("{} ({})", row.subject, several.join(", ")),
            };
            let host = row.host.clone().unwrap_or_else(|| HERE.to_owned());
            let authority = row.authority.clone();
            [host, row.file.clone(), subject, left, authority, row.renewed_by.to_owned(), row.names.join(",")]
        })
        .collect();
    let titles = ["WHERE", "FILE", "SUBJECT", "DAYS LEFT", "AUTHORITY", "RENEWED BY", "NAMES"].map(str::to_owned);
    let mut widths = [0; 7];
    for line in cells.iter().chain([&titles]) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |line: &[String; 7]| {
        let padded: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    std::iter::once(&titles).chain(&cells).map(line).collect()
}

fn advice(soon: usize, expired: usize, within: i64, all: usize) -> String {
    match (expired, soon) {
        (0, 0) => format!("{all} certificates, all of them good for more than {within} days"),
        (0, _) => {
            format!("{soon} of {all} certificates end within {within} days; `kinstall certs renew` issues them anew")
        }
        _ => format!(
            "{expired} of {all} certificates have run out, {soon} more end within {within} days; `kinstall certs renew` issues \
             them anew"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use certs::{Ca, Leaf, Subject, Usage};

    use super::*;

    #[test]
    fn the_table_says_what_ends_when_and_who_renews_it() {
        let text = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n";
        let cluster = Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let ca = Ca::generate("kinstall-ca").unwrap();
        let leaf = |days: i64| {
            let leaf = Leaf::new(Subject::new("kube-apiserver", &["masters"]), Usage::Server).names(["h1", "10.0.0.1"]);
            let from = now - time::Duration::days(400);
            ca.issue(&leaf.valid(from, now + time::Duration::days(days))).unwrap().cert_pem
        };
        let file = |path: &str, pem: String| CertificateFile { path: path.to_owned(), pem };
        let found: Vec<_> = [
            file("/etc/kinstall/pki/ca.crt", ca.cert_pem().to_owned()),
            file("/etc/kinstall/pki/apiserver.crt", leaf(-35)),
            file("/etc/kinstall/pki/apiserver.crt", leaf(29)),
            file("/var/lib/kubelet/pki/kubelet-client-current.pem", leaf(31)),
        ]
        .iter()
        .flat_map(|file| rows(&cluster, Some("h1"), file, now, 30))
        .collect();
        let standings: Vec<_> = found.iter().map(|row| (row.standing, row.days_left, row.renewed_by)).collect();
        let (renew, rotate) = ("the host's timer, kinstall certs renew", "kinstall certs rotate-ca");
        assert_eq!(standings[1..3], [(Standing::Expired, -36, renew), (Standing::Soon, 29, renew)]);
        assert_eq!((standings[0].0, standings[0].2), (Standing::Good, rotate));
        assert_eq!(standings[3], (Standing::Good, 31, "the kubelet itself"));
        let table = super::text(&found);
        let lines: Vec<_> = table.lines().collect();
        for words in ["h1 ", "apiserver.crt", "kube-apiserver (masters)", "-36 EXPIRED", "kinstall-ca", "h1,10.0.0.1"] {
            assert!(lines[2].contains(words), "{words:?} is missing in {}", lines[2]);
        }
    }

    #[test]
    fn copies_of_what_hosts_have_renewed_are_no_reason_to_worry() {
        let text = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n";
        let cluster = Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let ca = Ca::generate("kinstall-ca").unwrap();
        let row = |host: Option<&str>, path: &str, name: &str, days: i64| {
            let leaf = Leaf::new(Subject::new(name, &[]), Usage::Client);
            let (from, to) = (now - time::Duration::days(400), now + time::Duration::days(days));
            let pem = ca.issue(&leaf.valid(from, to)).unwrap().cert_pem;
            rows(&cluster, host, &CertificateFile { path: path.to_owned(), pem }, now, 30).remove(0)
        };
        let mut table = vec![
            row(None, "pki/proxy.crt", "proxy", -5),
            row(None, "pki/cni-agent.crt", "cni-agent", 20),
            row(None, "pki/admin.crt", "admin", 20),
            row(None, "pki/nobody.crt", "nobody", 20),
            row(Some("h1"), "/etc/kinstall/proxy.kubeconfig", "proxy", 300),
            row(Some("h2"), "/etc/kinstall/proxy.kubeconfig", "proxy", 200),
            row(Some("h1"), "/etc/kinstall/cni-agent.kubeconfig", "cni-agent", 300),
            row(Some("h2"), "/etc/kinstall/cni-agent.kubeconfig", "cni-agent", 20),
            row(Some("h1"), "/etc/kinstall/admin.kubeconfig", "admin", 300),
        ];
        supersede(&mut table);
        use Standing::{Good, Soon, Superseded};
        let standings: Vec<_> = table.iter().map(|row| row.standing).collect();
        assert_eq!(standings, [Superseded, Soon, Soon, Soon, Good, Good, Good, Soon, Good], "{table:?}");
        let timer = |host: &str, renewal: Renewal| Timer { host: host.into(), renewal };
        let good = Renewal { active: true, next: "Sun 2026-11-22 03:12:44 UTC".into(), failed: false };
        let said = told(&[
            timer("h1", good.clone()),
            timer("h2", Renewal::default()),
            timer("h3", Renewal { failed: true, ..good }),
        ]);
        for words in ["h1 Sun 2026-11-22 03:12:44 UTC", "h2 does not renew", "h3's last renewal failed"] {
            assert!(said.contains(words), "{words:?} is missing in {said}");
        }
    }
}
