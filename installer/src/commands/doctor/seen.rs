//! What was seen of a cluster: all that the checks know. They look at nothing else, so a test can make them see anything.

use std::collections::BTreeMap;

use hoststate::wire::Change;
use hoststate::{Facts, Member};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::connect::Reach;
use super::script::Probe;
use crate::cluster::{Cluster, Host};
use crate::host::HostError;
use crate::host::shell::quoted;

/// A container that ends again and again runs shorter than this, in between.
const SHORT_SECONDS: i64 = 60;

pub struct Seen<'a> {
    pub cluster: &'a Cluster,
    pub cluster_id: String,
    /// As written on the command line.
    pub inventory: &'a str,
    pub now: OffsetDateTime,
    pub hosts: Vec<HostSeen<'a>>,
    /// Or why nobody answers; None: this cluster was never installed from here.
    pub api: Option<Result<Objects, String>>,
}

pub struct HostSeen<'a> {
    pub host: &'a Host,
    /// As root, by SSH.
    pub probe: Result<Probe, HostError>,
    /// By `converge`; None where kinstall is not.
    pub told: Result<Option<Told>, HostError>,
    pub reaches: Vec<Reach>,
}

/// What a host tells of itself.
#[derive(Default)]
pub struct Told {
    pub facts: Facts,
    pub clock_skew_millis: i64,
    /// None: no state was ever applied there to its end.
    pub drift: Option<Vec<Change>>,
    /// The members of etcd, or why it does not say; None where it has none.
    pub members: Option<Result<Vec<Member>, String>>,
}

/// The API's objects by their plural names.
#[derive(Default)]
pub struct Objects {
    pub lists: BTreeMap<&'static str, Vec<Value>>,
    /// The last words of containers that ended, by namespace/pod/container.
    pub last_words: BTreeMap<String, Vec<String>>,
}

impl Objects {
    /// With these alone; for tests.
    #[cfg(test)]
    pub fn with(plural: &'static str, items: Vec<Value>) -> Self {
        Self { lists: [(plural, items)].into(), ..Self::default() }
    }

    pub fn of(&self, plural: &str) -> &[Value] {
        self.lists.get(plural).map(Vec::as_slice).unwrap_or_default()
    }

    /// The latest warning that was given of an object.
    pub fn warning(&self, object: &Value) -> Option<String> {
        let uid = object["metadata"]["uid"].as_str()?;
        let of_it = self.of("events").iter().filter(|event| {
            event["involvedObject"]["uid"].as_str() == Some(uid) && event["type"].as_str() == Some("Warning")
        });
        let when = |event: &&Value| {
            ["lastTimestamp", "eventTime"]
                .iter()
                .find_map(|field| event[*field].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let last = of_it.max_by_key(when)?;
        let reason = last["reason"].as_str().unwrap_or_default();
        Some(format!("{reason}: {}", last["message"].as_str().unwrap_or_default().trim()))
    }
}

impl Seen<'_> {
    pub fn objects(&self) -> Option<&Objects> {
        self.api.as_ref()?.as_ref().ok()
    }

    /// Hosts where kinstall is, with what they tell.
    pub fn told(&self) -> impl Iterator<Item = (&HostSeen<'_>, &Told)> {
        self.hosts.iter().filter_map(|seen| Some((seen, seen.told.as_ref().ok()?.as_ref()?)))
    }

    pub fn probed(&self) -> impl Iterator<Item = (&HostSeen<'_>, &Probe)> {
        self.hosts.iter().filter_map(|seen| Some((seen, seen.probe.as_ref().ok()?)))
    }

    /// A command of kinstall's, to be pasted.
    pub fn kinstall(&self, command: &str) -> String {
        match self.inventory {
            "inventory.yaml" => format!("kinstall {command}"),
            other => format!("kinstall {command} -i {}", quoted(other)),
        }
    }

    /// A command on a host, to be pasted.
    pub fn on(&self, host: &Host, command: &str) -> String {
        format!("{} -- {command}", self.kinstall(&format!("exec --hosts {}", host.name)))
    }

    /// Seconds since an object's time; None where it has none.
    pub fn age(&self, time: &Value) -> Option<i64> {
        age(self.now, time)
    }
}

fn age(now: OffsetDateTime, time: &Value) -> Option<i64> {
    let time = OffsetDateTime::parse(time.as_str()?, &Rfc3339).ok()?;
    Some((now - time).whole_seconds())
}

/// Whether a container ends again and again: it waits to be started once more, or has been just now, after runs that were short.
pub fn ends_again(status: &Value, now: OffsetDateTime) -> bool {
    let (state, last) = (&status["state"], &status["lastState"]["terminated"]);
    if state["waiting"]["reason"] == "CrashLoopBackOff" {
        return true;
    }
    let is_short = || {
        let since = [&state["running"]["startedAt"], &state["terminated"]["finishedAt"], &last["finishedAt"]];
        let since = since.into_iter().find_map(|time| age(now, time))?;
        let ran = age(now, &last["startedAt"])? - age(now, &last["finishedAt"])?;
        Some(since < SHORT_SECONDS && ran < SHORT_SECONDS)
    };
    // the first end is followed by a start at once; an init container that has done its work in the end is well
    status["restartCount"].as_i64() >= Some(2) && state["terminated"]["exitCode"] != 0 && is_short() == Some(true)
}

/// `namespace/name`, or the name alone.
pub fn name(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    list(&object["status"]["conditions"]).iter().find(|condition| condition["type"].as_str() == Some(kind))
}
