//! What installer and host say to each other over one SSH channel.
//!
//! Each message is one line of JSON. The installer's [`Request::Blob`] line is followed by exactly `size` raw bytes.
//! `kinstall-components converge` reads requests from stdin until its end and writes events to stdout.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::{Backups, Placement, Taking};
use crate::facts::Facts;
use crate::members::Member;
use crate::resource::{ClusterRef, HostState};

/// How often the installer says [`Request::Alive`].
pub const ALIVE_EVERY: Duration = Duration::from_secs(4);
/// A side that hears nothing of the other for so long takes it for gone.
pub const SILENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Answered by [`Event::Facts`].
    Facts,
    /// What would change; touches nothing. Answered by [`Event::Plan`].
    Plan { state: HostState },
    /// What is not as the last state that was applied for good wants it; touches nothing. Answered by [`Event::Drift`].
    Drift,
    /// Answered by [`Event::NeedBlobs`] (possibly empty), then, as blobs arrive, `Step` events, then `Done` or `Failed`.
    /// `keep_previous`: what only the state before it has stays, so that [`Request::Rollback`] can go back to it, until the same
    /// state is applied without.
    Apply {
        state: HostState,
        #[serde(default)]
        keep_previous: bool,
    },
    /// As `Apply` of the state that was planned last in this session, which need not travel twice nor be compared twice. Of the blobs
    /// that the plan's answer named any may follow at once.
    ApplyPlanned {
        #[serde(default)]
        keep_previous: bool,
    },
    /// Passes blobs on to other hosts until the session ends: at this address of the host, to who knows the token. Answered by
    /// [`Event::Sharing`].
    Share { address: IpAddr, token: String },
    /// Gets a blob from another host that shares, with the same token. Answered by [`Event::Fetched`], which may take its time.
    Fetch { sha256: String, size: u64, from: SocketAddr },
    /// Back to the last state that was applied without `keep_previous`. Answered by `Step` events, then `Done` or `Failed`.
    Rollback,
    /// As `Apply` of a part: what the state does not name stays as it is. Without blobs, and only where kinstall is. Answered by
    /// `Step` events, then `Done` or `Failed`.
    Amend { state: HostState },
    /// `size` raw bytes follow this line.
    Blob { sha256: String, size: u64 },
    /// Back to what the host was. Answered by `Step` events, then `Done` or `Failed`.
    Down { keep_data: bool },
    /// Answered by [`Event::Manifest`].
    Manifest,
    /// Who is in etcd, asked from here. Answered by [`Event::Members`].
    Members,
    /// The installer is still there; not answered. A session that hears nothing for [`SILENCE`] ends as if its input had, and the
    /// next installer can work on the host.
    Alive,
    /// Takes a member out of etcd; refused where that could cost the majority. Answered by [`Event::Members`]: those left.
    RemoveMember { id: u64 },
    /// Removes images of other versions than the one that is applied for good, but for those that `keep` names. Answered by `Done`.
    Tidy { keep: Vec<String> },
    /// Data for a backup. Answered by [`Event::Chunk`]s, then [`Event::Taken`] or `Failed`: then what came is of no use.
    Take { what: Taking },
    /// Puts a backup's data here. Answered by [`Event::NeedBlobs`], then, as blobs arrive, `Step` events, then `Done` or `Failed`.
    Place { placement: Placement },
    /// What the timer's backups have left here. Answered by [`Event::Backups`].
    Backups,
    /// Keeps the operator's files here, for root only. Answered by `Done`.
    Keep { text: String },
    /// What was kept. Answered by [`Event::Kept`].
    Kept,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// First line after start: lets the installer skip what a login shell may have printed.
    Hello {
        version: String,
    },
    Facts {
        facts: Box<Facts>,
    },
    Plan {
        changes: Vec<Change>,
        /// What the state does not name any more: it goes when the state is applied for good. Of no meaning for a part of a state.
        #[serde(default)]
        removed: Vec<Change>,
        /// Blobs that the host would ask for.
        #[serde(default)]
        needs: Vec<String>,
    },
    /// Where this host passes blobs on; `None`: it cannot.
    Sharing {
        port: Option<u16>,
    },
    /// A blob came from another host, or why it did not: then the installer sends it.
    Fetched {
        sha256: String,
        why: Option<String>,
    },
    /// `None` where no state was ever applied for good.
    Drift {
        changes: Option<Vec<Change>>,
    },
    NeedBlobs {
        sha256: Vec<String>,
    },
    /// A resource is being worked on (`finished` false) or is done.
    Step {
        index: usize,
        total: usize,
        resource: String,
        action: Action,
        finished: bool,
        millis: u64,
    },
    /// A command that was run on the host, for the log file; secrets are already redacted.
    Command {
        line: String,
        status: Option<i32>,
        millis: u64,
    },
    Manifest {
        manifest: Option<HostManifest>,
    },
    Members {
        members: Vec<Member>,
    },
    /// `size` raw bytes follow this line.
    Chunk {
        size: u64,
    },
    /// All chunks have come: how many bytes, and their SHA-256.
    Taken {
        size: u64,
        sha256: String,
    },
    /// `None` where none are scheduled.
    Backups {
        backups: Option<Backups>,
    },
    Kept {
        text: Option<String>,
    },
    Done {
        changed: usize,
        unchanged: usize,
    },
    Failed(Failure),
}

/// Why a host could not be brought to its state; nothing after the failed step was attempted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{step}: {message}")]
pub struct Failure {
    /// Id of the resource, or the name of the phase.
    pub step: String,
    pub message: String,
    /// The command that failed, if one did, with its exit status and the last lines of its stderr.
    pub command: Option<String>,
    pub status: Option<i32>,
    pub stderr: Vec<String>,
    /// What the operator can do.
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    None,
    Create,
    Update,
    Start,
    Restart,
    Remove,
    Restore,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// [`crate::Resource::id`].
    pub resource: String,
    pub action: Action,
    /// Why, or a short "was → will be".
    pub detail: String,
    /// What is there, in a few words; empty where nothing is, or where only the reason matters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub found: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wanted: String,
    /// How a text changes ([`crate::shown::difference`]); empty for what is secret as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

impl Change {
    pub fn new(resource: impl Into<String>, action: Action, detail: impl Into<String>) -> Self {
        let (found, wanted, diff) = Default::default();
        Self { resource: resource.into(), action, detail: detail.into(), found, wanted, diff }
    }
}

/// What converge made on a host and what was there before; kept on the host, read by `down`, `status` and `plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostManifest {
    pub cluster: ClusterRef,
    pub host: String,
    pub version: String,
    /// Kubernetes' version; see [`crate::bundle::BundleManifest::kubernetes`].
    #[serde(default)]
    pub kubernetes: Option<String>,
    /// The version that the host can still go back to, as long as an upgrade is not over.
    #[serde(default)]
    pub previous: Option<Version>,
    /// RFC 3339, UTC.
    pub applied: String,
    /// Whether the last apply went to its end.
    pub complete: bool,
    /// It did, and what did not is only an amendment: another one that goes to its end makes it complete again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amending: bool,
    /// Units whose files have changed and that were not restarted yet, because the apply was interrupted.
    #[serde(default)]
    pub restart: Vec<String>,
    pub entries: Vec<ManifestEntry>,
}

/// kinstall's version, and Kubernetes' ([`crate::bundle::BundleManifest::kubernetes`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub version: String,
    #[serde(default)]
    pub kubernetes: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestEntry {
    /// The resource as applied, without file contents.
    pub resource: String,
    pub kind: String,
    /// Path, unit, sysctl key, module or image name.
    pub name: String,
    pub undo: Undo,
}

/// How one entry is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Undo {
    /// It was not there before.
    Remove,
    /// A directory of ours; see [`crate::resource::Contents`].
    RemoveDirectory {
        contents: crate::resource::Contents,
    },
    /// A file was there before; its content is kept at `backup`, with its mode and owner.
    RestoreFile {
        backup: String,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    RestoreSysctl {
        value: String,
    },
    /// It was there before as we want it, or cannot be taken back (a loaded kernel module in use).
    Keep,
}
