//! `podCertificate` projections (KEP-4317): a key made on this node, a certificate by the signer the pod names, and both anew
//! when the signer says so. Nothing outlives the kubelet: after a restart everything is asked for again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use certs::{KeyKind, WorkloadKey};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use k8s_openapi::api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::trust;
use crate::api::events::Recorder;

/// How long a volume waits for its signer before the pod's task says so and goes on to other things.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Chance added to the time of renewal, so that the pods of a node do not ask all at once.
const JITTER: Duration = Duration::from_secs(5 * 60);
/// A renewal this late is told.
const OVERDUE: Duration = Duration::from_secs(10 * 60);
const RETRY: std::ops::Range<Duration> = Duration::from_millis(250)..Duration::from_secs(60);

/// A key and its certificates, leaf first, each PEM. The key is secret.
pub struct Credentials {
    pub key: String,
    pub chain: String,
}

#[derive(Clone)]
enum State {
    Pending,
    /// The signer's last word.
    Refused(String),
    Issued(Arc<Credentials>),
}

/// The certificates of one pod by volume and place in its list of sources.
pub struct Certificates {
    around: Around,
    slots: HashMap<(String, usize), Slot>,
}

/// What asking needs.
#[derive(Clone)]
pub struct Around {
    pub client: kube::Client,
    pub recorder: Recorder,
    pub node: String,
    /// Wakes the pod's task when a certificate has come.
    pub wake: Arc<Notify>,
}

struct Slot {
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Certificates {
    pub fn new(around: Around) -> Self {
        Certificates { around, slots: HashMap::new() }
    }

    /// Nothing is renewed any more.
    pub fn forget(&mut self) {
        self.slots.clear();
    }

    /// What is valid now; asks for it when nobody has yet.
    pub async fn get(
        &mut self,
        pod: &Pod,
        volume: &str,
        index: usize,
        source: &PodCertificateProjection,
    ) -> Result<Arc<Credentials>> {
        let slot = self.slots.entry((volume.to_owned(), index)).or_insert_with(|| {
            let (sender, state) = watch::channel(State::Pending);
            let task = tokio::spawn(keep(self.around.clone(), pod.clone(), source.clone(), sender));
            Slot { state, task: task.abort_handle() }
        });
        let mut state = slot.state.clone();
        let answered = tokio::time::timeout(FIRST_ANSWER, state.wait_for(|s| !matches!(s, State::Pending))).await;
        let known = match answered {
            Ok(Ok(state)) => state.clone(),
            _ => State::Pending,
        };
        match known {
            State::Pending => bail!("credential bundle is not issued yet"),
            State::Refused(why) => bail!("PodCertificateRequest was permanently {why}"),
            State::Issued(credentials) => Ok(credentials),
        }
    }
}

/// How a request ended.
enum Answer {
    Issued { credentials: Credentials, renew_at: Timestamp, ends: Timestamp },
    Refused { kind: &'static str, reason: String, message: String },
}

/// Asks and asks again, until the pod is gone or the signer refuses.
async fn keep(around: Around, pod: Pod, source: PodCertificateProjection, state: watch::Sender<State>) {
    let mut warnings: Vec<Warning> = Vec::new();
    let mut pause = RETRY.start;
    loop {
        let asking = ask(&around, &pod, &source);
        match while_waiting(asking, &mut warnings, &around, &pod).await {
            Ok(Answer::Issued { credentials, renew_at, ends }) => {
                pause = RETRY.start;
                warnings = warnings_of(renew_at, ends);
                state.send_replace(State::Issued(Arc::new(credentials)));
                around.wake.notify_one();
                tokio::time::sleep(until(renew_at) + JITTER.mul_f64(rand::random())).await;
            }
            Ok(Answer::Refused { kind, reason, message }) => {
                let text = format!("PodCertificateRequest was {kind}: reason={reason:?} message={message:?}");
                let event = if kind == "denied" { "Denied" } else { "Failed" };
                around.recorder.pod(&pod, None, true, event, text);
                state.send_replace(State::Refused(format!("{kind}: reason={reason:?} message={message:?}")));
                around.wake.notify_one();
                return;
            }
            Err(error) => {
                tracing::warn!("no certificate for pod {} yet: {error:#}", pod.name_any());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.end);
            }
        }
    }
}

/// What is told, once, when a renewal is not there by then.
struct Warning {
    at: Timestamp,
    reason: &'static str,
    message: &'static str,
}

/// The last one comes first.
fn warnings_of(renew_at: Timestamp, ends: Timestamp) -> Vec<Warning> {
    let overdue = Timestamp::from_second(renew_at.as_second().saturating_add(OVERDUE.as_secs().cast_signed()));
    let mut warnings = vec![
        Warning {
            at: overdue.unwrap_or(renew_at),
            reason: "CertificateOverdueForRefresh",
            message: "PodCertificate refresh overdue",
        },
        Warning { at: ends, reason: "CertificateExpired", message: "PodCertificate expired" },
    ];
    warnings.sort_by_key(|warning| std::cmp::Reverse(warning.at));
    warnings
}

async fn while_waiting(
    asking: impl Future<Output = Result<Answer>>,
    warnings: &mut Vec<Warning>,
    around: &Around,
    pod: &Pod,
) -> Result<Answer> {
    tokio::pin!(asking);
    while let Some(next) = warnings.last() {
        tokio::select! {
            answer = &mut asking => return answer,
            () = tokio::time::sleep(until(next.at)) => {
                around.recorder.pod(pod, None, true, next.reason, next.message.to_owned());
                warnings.pop();
            }
        }
    }
    asking.await
}

fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

async fn ask(around: &Around, pod: &Pod, source: &PodCertificateProjection) -> Result<Answer> {
    let kind: KeyKind = source.key_type.parse()?;
    // an RSA key takes its time
    let key = tokio::task::spawn_blocking(move || WorkloadKey::generate(kind)).await??;
    let request = request(around, pod, source, &key).await?;
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<PodCertificateRequest> = Api::namespaced(around.client.clone(), &namespace);
    let made = api.create(&PostParams::default(), &request).await.context("while creating on API")?;
    let name = made.name_any();
    // a kubelet may watch only what it asked for itself
    let ours = format!("metadata.name={name},spec.nodeName={}", around.node);
    let mut stream = watcher::watcher(api, watcher::Config::default().fields(&ours)).boxed();
    let mut seen = false;
    while let Some(event) = stream.next().await {
        match event.with_context(|| format!("cannot watch PodCertificateRequest {namespace}/{name}"))? {
            Event::Init => seen = false,
            Event::InitApply(request) | Event::Apply(request) => {
                seen = true;
                if let Some(answer) = answer(request.status.as_ref(), &key)? {
                    return Ok(answer);
                }
            }
            Event::InitDone if seen => {}
            Event::InitDone | Event::Delete(_) => {
                bail!("PodCertificateRequest {namespace}/{name} appears to have been deleted");
            }
        }
    }
    bail!("the watch of PodCertificateRequest {namespace}/{name} ended")
}

/// `None` while nothing is decided.
fn answer(status: Option<&PodCertificateRequestStatus>, key: &WorkloadKey) -> Result<Option<Answer>> {
    let Some(status) = status else { return Ok(None) };
    for condition in status.conditions.iter().flatten() {
        let refused =
            |kind| Answer::Refused { kind, reason: condition.reason.clone(), message: condition.message.clone() };
        match condition.type_.as_str() {
            "Denied" => return Ok(Some(refused("denied"))),
            "Failed" => return Ok(Some(refused("failed"))),
            "Issued" => return issued(status, key).map(Some),
            _ => {}
        }
    }
    Ok(None)
}

fn issued(status: &PodCertificateRequestStatus, key: &WorkloadKey) -> Result<Answer> {
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    let ends = time(&status.not_after).context("the signer does not say how long the certificate lives")?;
    let chain = trust::certificates(status.certificate_chain.as_deref().unwrap_or_default())?;
    let chain: String = chain.iter().map(|der| trust::encode(der)).collect();
    Ok(Answer::Issued {
        credentials: Credentials { key: key.key_pem.clone(), chain },
        renew_at: time(&status.begin_refresh_at).unwrap_or(ends),
        ends,
    })
}

async fn request(
    around: &Around,
    pod: &Pod,
    source: &PodCertificateProjection,
    key: &WorkloadKey,
) -> Result<PodCertificateRequest> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
    let accounts: Api<ServiceAccount> = Api::namespaced(around.client.clone(), &namespace);
    let account_uid = accounts.get(&account).await.context("while fetching service account")?.uid();
    let nodes: Api<Node> = Api::all(around.client.clone());
    let node_uid = nodes.get(&around.node).await.context("while fetching this node")?.uid();
    let (pod_name, pod_uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    Ok(PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".into()),
            namespace: Some(namespace),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod_name.clone(),
                uid: pod_uid.clone(),
                ..Default::default()
            }]),
            ..Default::default()
        },
        spec: PodCertificateRequestSpec {
            signer_name: source.signer_name.clone(),
            pod_name,
            pod_uid,
            service_account_name: account,
            service_account_uid: account_uid.unwrap_or_default(),
            node_name: around.node.clone(),
            node_uid: node_uid.unwrap_or_default(),
            max_expiration_seconds: source.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(key.request.clone()),
            unverified_user_annotations: source.user_annotations.clone(),
        },
        status: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn judge(status: Value) -> Result<Option<Answer>> {
        let status: PodCertificateRequestStatus = serde_json::from_value(status).unwrap();
        answer(Some(&status), &WorkloadKey { key_pem: "key\n".into(), request: Vec::new() })
    }

    fn condition(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "Because", "message": "so", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    #[test]
    fn a_request_ends_by_its_first_final_condition() {
        assert!(judge(json!({})).unwrap().is_none());
        assert!(judge(json!({"conditions": condition("Issued")})).is_err(), "issued without a certificate's life");
        for (kind, told) in [("Denied", "denied"), ("Failed", "failed")] {
            let Some(Answer::Refused { kind, reason, message }) =
                judge(json!({"conditions": condition(kind)})).unwrap()
            else {
                panic!("not refused")
            };
            assert_eq!((kind, reason.as_str(), message.as_str()), (told, "Because", "so"));
        }
        let chain = format!("text before\n{}between\n{}", trust::encode(b"leaf"), trust::encode(b"ca"));
        let status = json!({"conditions": condition("Issued"), "certificateChain": chain,
            "notAfter": "2026-01-02T00:00:00Z", "beginRefreshAt": "2026-01-01T12:00:00Z"});
        let Some(Answer::Issued { credentials, renew_at, ends }) = judge(status).unwrap() else { panic!("not issued") };
        assert_eq!(credentials.chain, trust::encode(b"leaf") + &trust::encode(b"ca"));
        assert_eq!(credentials.key, "key\n");
        assert_eq!((ends.as_second() - renew_at.as_second()), 12 * 3600);
    }

    #[test]
    fn a_late_renewal_is_told_before_the_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let reasons = |renew, ends| {
            let warnings = warnings_of(at(renew), at(ends));
            warnings.iter().rev().map(|warning| (warning.at.as_second(), warning.reason)).collect::<Vec<_>>()
        };
        assert_eq!(reasons(1000, 9000), [(1600, "CertificateOverdueForRefresh"), (9000, "CertificateExpired")]);
        assert_eq!(reasons(1000, 1100), [(1100, "CertificateExpired"), (1600, "CertificateOverdueForRefresh")]);
    }
}
