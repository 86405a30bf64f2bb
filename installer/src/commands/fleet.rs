//! All hosts at once: connect, look, work; a host that fails does not stop the others.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hoststate::Facts;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::{Run, many};
use crate::cluster::Host;
use crate::desired::Topology;
use crate::host::{self, Executable, HostError, Onlooker as _, Session, Uploads};
use crate::preflight::{Finding, Severity, Subject};
use crate::printer::Printer;

pub struct Fleet<'a> {
    pub uploads: Uploads<'a>,
    pub hosts: Semaphore,
    timeout: Duration,
}

/// A host in conversation.
pub struct Member<'a> {
    pub host: &'a Host,
    pub session: Session,
    pub facts: Facts,
    /// The host's clock minus ours.
    pub clock_skew_millis: i64,
}

impl<'f> Fleet<'f> {
    pub fn new(run: &Run<'f>) -> Self {
        let limits = &run.cluster.limits;
        Self {
            uploads: Uploads::new(limits.uploads, run.printer).with_peers(limits.peers && run.cluster.hosts.len() > 1),
            hosts: Semaphore::new(limits.hosts),
            timeout: limits.host_timeout,
        }
    }

    /// Connects to every host and takes its facts. Hosts where kinstall is not (see [`Executable`]) give `None`.
    pub async fn open<'a>(
        &self,
        run: &'a Run<'_>,
        executable: Executable<'_>,
    ) -> Vec<(&'a Host, Result<Option<Member<'a>>, HostError>)> {
        self.open_some(run, run.cluster.hosts.iter(), executable).await
    }

    /// As [`Fleet::open`], of some of the hosts.
    pub async fn open_some<'a>(
        &self,
        run: &Run<'_>,
        hosts: impl Iterator<Item = &'a Host>,
        executable: Executable<'_>,
    ) -> Vec<(&'a Host, Result<Option<Member<'a>>, HostError>)> {
        let connect_timeout = run.cluster.limits.connect_timeout;
        let opening = hosts.map(|host| async move {
            let line = run.printer.host(&host.name);
            run.printer.doing(&host.name, "waiting to begin");
            let work = async {
                run.printer.doing(&host.name, "connecting");
                // On the heap, and only while they last: hosts that wait for their turn, and those that are done, would hold their room.
                let transport = Box::pin(host::connect(host, connect_timeout)).await?;
                let opening = Box::pin(host::open_session(host, transport, executable, &self.uploads));
                let Some(mut session) = opening.await? else {
                    return Ok(None);
                };
                run.printer.doing(&host.name, "facts");
                let asked = Instant::now();
                let facts = match executable {
                    Executable::Of(bundle) => {
                        let components = bundle
                            .components()
                            .map_err(|error| HostError::new(&host.name, "facts", format!("{error:#}")))?;
                        let sha256 = &components.sha256;
                        Box::pin(session.facts_as_peer(host.node_address, sha256, &self.uploads)).await?
                    }
                    Executable::Installed(_) => session.facts().await?,
                };
                let clock_skew_millis = skew(facts.clock_millis, asked.elapsed());
                Ok(Some(Member { host, session, facts, clock_skew_millis }))
            };
            let result = self.bounded(host, work).await;
            if let Err(error) = &result {
                line.failed(&format!("{}: {}", error.step, error.message));
            }
            (host, result)
        });
        join_all(opening).await
    }

    /// One host's work: within the number of hosts at once and within its time.
    pub async fn bounded<T>(
        &self,
        host: &Host,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, HostError> {
        let Ok(_permit) = self.hosts.acquire().await else {
            return Err(HostError::new(&host.name, "start", "the run was cancelled"));
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(HostError::new(
                &host.name,
                "time limit",
                format!("it did not end within {} s", self.timeout.as_secs()),
            )
            .hint("run the command again: it goes on where it stopped; raise limits.hostTimeout if the host is slow")),
        }
    }
}

/// A host's clock minus ours, in milliseconds, where it was read in the course of asking, which has just ended.
pub fn skew(clock_millis: u64, asking: Duration) -> i64 {
    skew_at(clock_millis, OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000, asking)
}

/// It was read somewhere within the time that asking took; half of it is the best guess.
fn skew_at(clock_millis: u64, now: i128, asking: Duration) -> i64 {
    let taken = now - i128::try_from(asking.as_millis() / 2).unwrap_or(0);
    let skew = i128::from(clock_millis) - taken;
    let tolerance = i128::try_from(asking.as_millis()).unwrap_or(0);
    if skew.abs() <= tolerance { 0 } else { i64::try_from(skew).unwrap_or(i64::MAX) }
}

/// Tells every host's error; gives the members that are left, and whether all are.
pub fn sort_out<'a>(
    printer: &Printer,
    opened: Vec<(&'a Host, Result<Option<Member<'a>>, HostError>)>,
) -> (Vec<Member<'a>>, bool) {
    let mut members = Vec::new();
    let mut complete = true;
    for (_, result) in opened {
        match result {
            Ok(member) => members.extend(member),
            Err(error) => {
                complete = false;
                tell(printer, &error);
            }
        }
    }
    (members, complete)
}

pub fn tell(printer: &Printer, error: &HostError) {
    printer.error(&error.to_string(), json!({"hostError": error}));
}

/// How the control planes stand to each other, by what was found on those that were reached.
pub fn topology<'a>(run: &Run<'_>, members: impl IntoIterator<Item = &'a Member<'a>>) -> anyhow::Result<Topology> {
    let facts = members.into_iter().map(|member| (member.host.name.as_str(), &member.facts)).collect();
    Topology::of(&run.cluster, &facts, super::lost::has_served(run)?)
}

/// Runs the preflight checks and tells every finding. Whether there were errors.
pub fn preflight(run: &Run<'_>, cluster_id: &str, members: &[Member<'_>]) -> bool {
    let subjects: Vec<_> = members
        .iter()
        .map(|member| Subject {
            cluster: &run.cluster,
            cluster_id,
            host: member.host,
            facts: &member.facts,
            clock_skew_millis: member.clock_skew_millis,
        })
        .collect();
    let findings = crate::preflight::check(&subjects);
    for finding in told(run.printer, &findings) {
        let Finding { severity, host, check, message, fix } = &finding;
        let text = format!("{host}: {check}: {message}\n    remedy: {fix}");
        match severity {
            Severity::Error => run.printer.error(&text, json!({"finding": finding})),
            Severity::Warning => run.printer.warning(&text),
            Severity::Note => run.printer.event("note", &format!("note: {text}"), json!({"finding": finding})),
        }
    }
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// Programs, and the log, get each host's findings; people those of many hosts as one.
fn told(printer: &Printer, findings: &[Finding]) -> Vec<Finding> {
    if printer.is_json() {
        return findings.to_vec();
    }
    let of_hosts: Vec<_> = findings
        .iter()
        .map(|finding| (finding.host.clone(), Finding { host: String::new(), ..finding.clone() }))
        .collect();
    let told = many::together(of_hosts);
    if told.len() < findings.len() {
        findings.iter().for_each(|finding| printer.note(&finding.host, &finding.message));
    }
    told.into_iter().map(|(host, finding)| Finding { host, ..finding }).collect()
}

/// Ends every conversation.
pub async fn close(members: Vec<Member<'_>>) {
    join_all(members.into_iter().map(|member| member.session.close())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_took_is_nobodys_fault() {
        let ten = Duration::from_secs(10);
        assert_eq!(skew_at(100_000, 100_000, Duration::ZERO), 0);
        assert_eq!(skew_at(107_000, 110_000, ten), 0);
        assert_eq!(skew_at(3_705_000, 110_000, ten), 3_600_000);
        assert_eq!(skew_at(45_000, 110_000, ten), -60_000);
    }
}
