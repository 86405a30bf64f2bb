//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::atomic::{File, Files};
use super::certificate::{Around, Certificates};
use super::trust;
use crate::api::bundles::Bundles;
use crate::api::objects::{Claim, Kind, Objects};
use crate::pods::Shared;
use crate::pods::fields::{self, Addresses};

const DEFAULT_MODE: i32 = 0o644;
const TOKEN_LIFE: i64 = 3600;
/// A token is renewed after this part of its life, or after a day.
const TOKEN_RENEW_PERCENT: i64 = 80;
const TOKEN_RENEW_MOST: i64 = 24 * 3600;

/// Servers take a token that is from the future by less than this; it must be within what the strictest of them allows.
const CLOCKS: i64 = 30;

struct Token {
    text: String,
    issued: i64,
    renew_at: i64,
}

impl Token {
    /// A clock that was wrong and is set back leaves tokens that are not valid yet.
    fn is_good(&self, now: i64) -> bool {
        (self.issued - CLOCKS..self.renew_at).contains(&now)
    }
}

/// What a pod's file volumes are made from; keeps watches and tokens between refreshes.
pub struct Sources {
    pub client: kube::Client,
    pub objects: Objects,
    pub allocatable: Arc<BTreeMap<String, Quantity>>,
    bundles: Bundles,
    /// Wakes the pod when any bundle changes; there from the first use of one.
    bundle_news: Option<AbortHandle>,
    certificates: Certificates,
    wake: Arc<Notify>,
    claims: HashMap<(Kind, String), Arc<Claim>>,
    tokens: HashMap<String, Token>,
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Sources {
    /// `wake` wakes the pod's task.
    pub fn new(shared: &Shared, wake: Arc<Notify>) -> Sources {
        let around = Around {
            client: shared.client.clone(),
            recorder: shared.recorder.clone(),
            node: shared.config.node_name.clone(),
            wake: wake.clone(),
        };
        Sources {
            client: shared.client.clone(),
            objects: shared.objects.clone(),
            allocatable: shared.allocatable.clone(),
            bundles: shared.bundles.clone(),
            bundle_news: None,
            certificates: Certificates::new(around),
            wake,
            claims: HashMap::new(),
            tokens: HashMap::new(),
        }
    }

    /// The pod has ended: nothing has to be renewed or heard of.
    pub fn rest(&mut self) {
        self.certificates.forget();
        if let Some(task) = self.bundle_news.take() {
            task.abort();
        }
    }

    /// The pod's claim on an object; made when first asked for.
    pub fn claim(&mut self, kind: Kind, namespace: &str, name: &str) -> Result<Arc<Claim>> {
        if let Some(claim) = self.claims.get(&(kind, name.to_string())) {
            return Ok(claim.clone());
        }
        let claim = self.objects.claim(kind, namespace, name)?;
        self.claims.insert((kind, name.to_string()), claim.clone());
        Ok(claim)
    }

    pub fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.claims.values()
    }

    /// When the first token has to be renewed.
    pub fn renewal(&self) -> Option<Duration> {
        let soonest = self.tokens.values().map(|t| t.renew_at).min()?;
        Some(Duration::from_secs(u64::try_from(soonest - Timestamp::now().as_second()).unwrap_or(0)))
    }

    /// `None` if the volume is not made of files.
    pub async fn files(&mut self, pod: &Pod, volume: &Volume, addresses: &Addresses) -> Result<Option<Files>> {
        let mut files = Files::new();
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.object(&mut files, pod, Kind::ConfigMap, &source.name, source.items.as_ref(), source.optional, mode)
                .await?;
        } else if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let name = source.secret_name.clone().unwrap_or_default();
            self.object(&mut files, pod, Kind::Secret, &name, source.items.as_ref(), source.optional, mode).await?;
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.downward(&mut files, pod, source.items.as_ref(), mode, addresses)?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            for (index, projection) in source.sources.iter().flatten().enumerate() {
                self.projection(&mut files, pod, (&volume.name, index), projection, mode, addresses).await?;
            }
        } else {
            return Ok(None);
        }
        Ok(Some(files))
    }

    async fn projection(
        &mut self,
        files: &mut Files,
        pod: &Pod,
        (volume, index): (&str, usize),
        projection: &VolumeProjection,
        mode: i32,
        addresses: &Addresses,
    ) -> Result<()> {
        if let Some(source) = &projection.config_map {
            self.object(files, pod, Kind::ConfigMap, &source.name, source.items.as_ref(), source.optional, mode).await
        } else if let Some(source) = &projection.secret {
            self.object(files, pod, Kind::Secret, &source.name, source.items.as_ref(), source.optional, mode).await
        } else if let Some(source) = &projection.downward_api {
            self.downward(files, pod, source.items.as_ref(), mode, addresses)
        } else if let Some(source) = &projection.service_account_token {
            let bytes = self.token(pod, volume, source).await?.into_bytes();
            let (mode, user) = token_access(pod, mode);
            files.insert(source.path.clone(), File { bytes, mode, user });
            Ok(())
        } else if let Some(source) = &projection.cluster_trust_bundle {
            let bytes = self.anchors(source).await?.into_bytes();
            let (mode, user) = token_access(pod, mode);
            files.insert(source.path.clone(), File { bytes, mode, user });
            Ok(())
        } else if let Some(source) = &projection.pod_certificate {
            self.certificate(files, pod, (volume, index), source, mode).await
        } else {
            bail!("volume {volume} projects from a source this kubelet does not support")
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn object(
        &mut self,
        files: &mut Files,
        pod: &Pod,
        kind: Kind,
        name: &str,
        items: Option<&Vec<KeyToPath>>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<()> {
        let namespace = pod.namespace().unwrap_or_default();
        let optional = optional == Some(true);
        let what = if kind == Kind::Secret { "secret" } else { "configmap" };
        let Some(payload) = self.claim(kind, &namespace, name)?.get().await? else {
            if optional {
                return Ok(());
            }
            bail!("{what} {name:?} not found");
        };
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            files.extend(payload.data.iter().map(|(key, bytes)| (key.clone(), file(bytes.clone(), mode))));
            return Ok(());
        };
        for item in items {
            match payload.data.get(&item.key) {
                Some(bytes) => {
                    files.insert(item.path.clone(), file(bytes.clone(), item.mode.unwrap_or(mode)));
                }
                None if optional => {}
                None => bail!("{what} {namespace}/{name} has no key {:?}", item.key),
            }
        }
        Ok(())
    }

    fn downward(
        &self,
        files: &mut Files,
        pod: &Pod,
        items: Option<&Vec<DownwardAPIVolumeFile>>,
        mode: i32,
        addresses: &Addresses,
    ) -> Result<()> {
        for item in items.into_iter().flatten() {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => fields::field(pod, addresses, &field.field_path)?,
                (None, Some(selector)) => fields::resource(pod, None, selector, &self.allocatable)?,
                (None, None) => bail!("downward API item {:?} names no field", item.path),
            };
            files.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
        }
        Ok(())
    }

    /// The anchors of a trust bundle; from now on the pod hears of changes.
    async fn anchors(&mut self, source: &ClusterTrustBundleProjection) -> Result<String> {
        if self.bundle_news.is_none() {
            let (mut changes, wake) = (self.bundles.changes(), self.wake.clone());
            changes.mark_unchanged();
            let news = async move {
                while changes.changed().await.is_ok() {
                    wake.notify_one();
                }
            };
            self.bundle_news = Some(tokio::spawn(news).abort_handle());
        }
        let bundles = self.bundles.get().await.context("ClusterTrustBundle informer has not yet synced")?;
        trust::anchors(&bundles, source)
    }

    /// Key and certificates in the files the pod wants them in.
    async fn certificate(
        &mut self,
        files: &mut Files,
        pod: &Pod,
        (volume, index): (&str, usize),
        source: &PodCertificateProjection,
        mode: i32,
    ) -> Result<()> {
        let credentials = self.certificates.get(pod, volume, index, source).await?;
        let (mode, user) = token_access(pod, mode);
        let bundle = format!("{}{}", credentials.key, credentials.chain);
        for (path, text) in [
            (&source.credential_bundle_path, bundle.as_str()),
            (&source.key_path, &credentials.key),
            (&source.certificate_chain_path, &credentials.chain),
        ] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
                files.insert(path.clone(), File { bytes: text.as_bytes().to_vec(), mode, user });
            }
        }
        Ok(())
    }

    /// A token bound to this pod (KEP-1205).
    async fn token(&mut self, pod: &Pod, volume: &str, source: &ServiceAccountTokenProjection) -> Result<String> {
        let key = format!("{volume}/{}", source.path);
        let now = Timestamp::now().as_second();
        if let Some(token) = self.tokens.get(&key).filter(|t| t.is_good(now)) {
            return Ok(token.text.clone());
        }
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
        let account = account.filter(|a| !a.is_empty()).unwrap_or_else(|| "default".into());
        let life = source.expiration_seconds.unwrap_or(TOKEN_LIFE);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: source.audience.clone().filter(|a| !a.is_empty()).map(|a| vec![a]),
                expiration_seconds: Some(life),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let answer = api.create_token_request(&account, &PostParams::default(), &request).await;
        let status = answer
            .with_context(|| format!("cannot get a token for service account {account}"))?
            .status
            .with_context(|| format!("the API server answered without a token for service account {account}"))?;
        let text = status.token.filter(|t| !t.is_empty());
        let text = text.with_context(|| format!("the API server sent an empty token for service account {account}"))?;
        let expires = status.expiration_timestamp.map_or(now + life, |t| t.0.as_second());
        let renew = ((expires - now) * TOKEN_RENEW_PERCENT / 100).min(TOKEN_RENEW_MOST);
        self.tokens.insert(key, Token { text: text.clone(), issued: now, renew_at: now + renew.max(1) });
        Ok(text)
    }
}

fn file(bytes: Vec<u8>, mode: i32) -> File {
    File { bytes, mode: u32::try_from(mode).unwrap_or(0o644) & 0o777, user: None }
}

/// Only the user all containers run as can read a token, or the pod's group, or else everyone in the pod.
fn token_access(pod: &Pod, mode: i32) -> (u32, Option<u32>) {
    let Some(spec) = &pod.spec else { return (0o600, None) };
    let context = spec.security_context.as_ref();
    if context.is_some_and(|c| c.fs_group.is_some()) {
        return (0o600, None);
    }
    let user = |c: &k8s_openapi::api::core::v1::Container| {
        let own = c.security_context.as_ref().and_then(|s| s.run_as_user);
        own.or_else(|| context.and_then(|c| c.run_as_user))
    };
    let mut users = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(user);
    let first = users.next().flatten();
    match first {
        Some(uid) if users.all(|u| u == Some(uid)) => (0o600, u32::try_from(uid).ok()),
        _ => (u32::try_from(mode).unwrap_or(0o644) & 0o777, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time_and_when_the_clock_was_set_back() {
        let token = Token { text: "t".into(), issued: 10_000, renew_at: 12_880 };
        assert!(token.is_good(10_000) && token.is_good(12_879) && token.is_good(9_970));
        assert!(!token.is_good(12_880) && !token.is_good(6_400));
    }
}
