//! Certificate signing requests of nodes: approves those that prove to be what they say, and signs what is approved
//! (upstream: pkg/controller/certificates; kubelet-serving approval is upstream left to the operator, here it is decided by
//! comparing the names with the Node's own addresses). Who may create `certificatesigningrequests/selfclient` is approved a
//! client certificate for exactly whom the one that it shows is for: how the agents of nodes renew theirs.

mod rules;

use std::sync::Arc;

use anyhow::Context as _;
use certs::{Ca, Csr};
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::api::PostParams;
use tokio::task::JoinSet;

use self::rules::Decision;
use crate::core::{Ctx, Key, WorkQueue, meta};

const NAME: &str = "certificate-controller";

struct Controller {
    ctx: Ctx,
    ca: Ca,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, ca: Ca) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.csrs.on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    // A serving request may have come before its Node had addresses.
    let (to, csrs) = (queue.clone(), ctx.informers.csrs.clone());
    ctx.informers.nodes.on_change(move |old, new| {
        let Some(node) = new else { return };
        let addresses =
            |node: &k8s_openapi::api::core::v1::Node| node.status.as_ref().and_then(|it| it.addresses.clone());
        if old.is_some_and(|old| addresses(old) == addresses(node)) {
            return;
        }
        let user = format!("system:node:{}", meta::name(&node.metadata));
        csrs.list()
            .iter()
            .filter(|it| !has(it, "Approved") && it.spec.username.as_deref() == Some(&user))
            .for_each(|it| to.add(Key::of(it.as_ref())));
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.csrs.wait_synced().await;
        informers.nodes.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone(), ca });
    queue.work(tasks, NAME, 4, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

fn has(csr: &CertificateSigningRequest, kind: &str) -> bool {
    csr.status.iter().flat_map(|it| it.conditions.iter().flatten()).any(|it| it.type_ == kind)
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(request) = self.ctx.informers.csrs.get_key(key) else { return Ok(()) };
        let done = request.status.as_ref().and_then(|it| it.certificate.as_ref()).is_some();
        if done || has(&request, "Denied") || has(&request, "Failed") || !rules::is_ours(&request.spec.signer_name) {
            return Ok(());
        }
        let parsed = std::str::from_utf8(&request.spec.request.0)
            .map_err(|_| "the request is not PEM".to_owned())
            .and_then(|pem| Csr::parse(pem).map_err(|error| error.to_string()));
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(why) => return self.fail(&request, &why).await,
        };
        if has(&request, "Approved") {
            return match rules::signable(&request.spec, &parsed) {
                Ok(usage) => self.sign(&request, &parsed, usage).await,
                Err(why) => self.fail(&request, why).await,
            };
        }
        let nodes = self.ctx.informers.nodes.list();
        let cluster = rules::Cluster { nodes: &nodes, service_cidr: self.ctx.config.service_cidr };
        let why = match rules::decide(&request.spec, &parsed, &cluster) {
            Decision::Approve(message) => return self.approve(&request, message).await,
            Decision::Ask { right, message } if self.may(&request, right).await? => {
                return self.approve(&request, message).await;
            }
            Decision::Ask { .. } => "the requestor may not have such certificates approved",
            Decision::Leave(why) => why,
        };
        // Not ours to deny: an administrator may still approve it.
        tracing::info!(csr = %key, requestor = request.spec.username.as_deref().unwrap_or_default(), why, "certificate signing request left for an administrator");
        Ok(())
    }

    /// Whether who asks may create this subresource: upstream's way to say whose requests are approved.
    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> anyhow::Result<bool> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                groups: spec.groups.clone(),
                uid: spec.uid.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".into()),
                    version: Some("*".into()),
                    resource: Some("certificatesigningrequests".into()),
                    subresource: Some(subresource.into()),
                    verb: Some("create".into()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let answer = self.ctx.cluster_api::<SubjectAccessReview>().create(&PostParams::default(), &review).await;
        let answer = answer.with_context(|| format!("cannot ask whether {:?} may {subresource}", spec.username))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn approve(&self, request: &CertificateSigningRequest, message: &str) -> anyhow::Result<()> {
        let changed = with_condition(request, "Approved", "AutoApproved", message);
        let name = meta::name(&request.metadata);
        let api = self.ctx.cluster_api::<CertificateSigningRequest>();
        let approved = api
            .replace_subresource("approval", name, &PostParams::default(), &changed)
            .await
            .with_context(|| format!("cannot approve certificate signing request {name}"))?;
        tracing::info!(
            csr = name,
            requestor = request.spec.username.as_deref().unwrap_or_default(),
            "certificate signing request approved"
        );
        // Signed in the next pass; noting the answer spares the wait for the watch.
        self.ctx.informers.csrs.note(approved);
        Ok(())
    }

    async fn sign(&self, request: &CertificateSigningRequest, parsed: &Csr, usage: certs::Usage) -> anyhow::Result<()> {
        let name = meta::name(&request.metadata);
        let certificate = self
            .ca
            .sign(parsed, usage, rules::days(request.spec.expiration_seconds))
            .with_context(|| format!("cannot sign {name}"))?;
        let mut changed = request.clone();
        changed.status.get_or_insert_default().certificate = Some(ByteString(certificate.into_bytes()));
        self.write_status(&changed).await
    }

    async fn fail(&self, request: &CertificateSigningRequest, why: &str) -> anyhow::Result<()> {
        self.write_status(&with_condition(request, "Failed", "SignerValidationFailure", why)).await
    }

    async fn write_status(&self, changed: &CertificateSigningRequest) -> anyhow::Result<()> {
        let name = meta::name(&changed.metadata);
        match self
            .ctx
            .cluster_api::<CertificateSigningRequest>()
            .replace_status(name, &PostParams::default(), changed)
            .await
        {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of certificate signing request {name}"))
            }
            _ => Ok(()),
        }
    }
}

fn with_condition(
    request: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
) -> CertificateSigningRequest {
    let mut changed = request.clone();
    let at = meta::now_time();
    changed.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: Some(at.clone()),
            last_transition_time: Some(at),
        },
    );
    changed
}
