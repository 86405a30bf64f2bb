//! Getting a container's image: policy, credentials, back-off.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::security::ImageUser;
use crate::api::objects::Payload;
use crate::cri::Cri;

const FIRST_DELAY: Duration = Duration::from_secs(10);
const LAST_DELAY: Duration = Duration::from_secs(300);

/// Why a container cannot have its image yet: the waiting reason and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub reason: &'static str,
    pub message: String,
    pub retry: Duration,
}

pub struct Image {
    pub id: String,
    pub user: ImageUser,
    /// Set when it was pulled just now, with how long that took.
    pub pulled: Option<Duration>,
}

/// One pod's pulls that failed.
#[derive(Default)]
pub struct Images {
    failed: HashMap<String, (Duration, Instant)>,
}

/// An image name with the tag that is implied.
pub fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') || last.contains(':') { image.to_string() } else { format!("{image}:latest") }
}

fn policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if normalized(container.image.as_deref().unwrap_or_default()).ends_with(":latest") => "Always",
        _ => "IfNotPresent",
    }
}

impl Images {
    pub async fn ensure(
        &mut self,
        cri: &Cri,
        container: &Container,
        secrets: &[Arc<Payload>],
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<Image, Refused> {
        let written = container.image.clone().unwrap_or_default();
        let image = normalized(&written);
        let inspect = |error: anyhow::Error| Refused {
            reason: "ImageInspectError",
            message: format!("Failed to inspect image {written:?}: {error:#}"),
            retry: Duration::from_secs(5),
        };
        let present = cri.image(&image).await.map_err(inspect)?;
        match (policy(container), present) {
            ("IfNotPresent" | "Never", Some(found)) => return Ok(described(found, None)),
            ("Never", None) => {
                return Err(Refused {
                    reason: "ErrImageNeverPull",
                    message: format!("Container image {written:?} is not present with pull policy of Never"),
                    retry: FIRST_DELAY,
                });
            }
            _ => {}
        }
        self.check_back_off(&image, &written)?;
        let started = Instant::now();
        match pull(cri, &image, secrets, sandbox).await {
            Ok(reference) => {
                self.failed.remove(&image);
                let found = cri.image(&reference).await.map_err(inspect)?;
                let found = found.unwrap_or_else(|| cri::Image { id: reference, ..Default::default() });
                Ok(described(found, Some(started.elapsed())))
            }
            Err(error) => {
                let delay = self.failed.get(&image).map_or(FIRST_DELAY, |(d, _)| (*d * 2).min(LAST_DELAY));
                self.failed.insert(image, (delay, Instant::now()));
                let message = format!("failed to pull image {written:?}: {error:#}");
                // the back-off is shown soon after, as upstream does with its next sync
                Err(Refused { reason: "ErrImagePull", message, retry: Duration::from_secs(2) })
            }
        }
    }

    fn check_back_off(&self, image: &str, written: &str) -> Result<(), Refused> {
        let Some((delay, since)) = self.failed.get(image) else { return Ok(()) };
        let left = delay.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        let message = format!("Back-off pulling image {written:?}");
        Err(Refused { reason: "ImagePullBackOff", message, retry: left })
    }
}

fn described(image: cri::Image, pulled: Option<Duration>) -> Image {
    let user = ImageUser { uid: image.uid.map(|u| u.value), name: image.username };
    Image { id: image.id, user, pulled }
}

/// Tries every credential that fits the registry, then none.
async fn pull(cri: &Cri, image: &str, secrets: &[Arc<Payload>], sandbox: &cri::PodSandboxConfig) -> Result<String> {
    let mut last = None;
    for auth in credentials(image, secrets) {
        match cri.pull(image, Some(auth), Some(sandbox.clone())).await {
            Ok(reference) => return Ok(reference),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => cri.pull(image, None, Some(sandbox.clone())).await,
    }
}

/// The names of the Secrets a pod brings for registries.
pub fn pull_secrets(pod: &Pod) -> Vec<String> {
    let list = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_ref());
    list.into_iter().flatten().map(|r| r.name.clone()).filter(|n| !n.is_empty()).collect()
}

fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Most specific first.
fn credentials(image: &str, secrets: &[Arc<Payload>]) -> Vec<cri::AuthConfig> {
    let mut found: Vec<(usize, cri::AuthConfig)> = Vec::new();
    for secret in secrets {
        let entries = match secret.type_.as_str() {
            "kubernetes.io/dockercfg" => secret.data.get(".dockercfg").and_then(|b| serde_json::from_slice(b).ok()),
            _ => secret
                .data
                .get(".dockerconfigjson")
                .and_then(|b| serde_json::from_slice::<serde_json::Value>(b).ok())
                .and_then(|v| v.get("auths").cloned()),
        };
        let Some(serde_json::Value::Object(entries)) = entries else { continue };
        for (key, entry) in entries {
            if matches(&key, image) {
                found.push((key.len(), auth(&key, &entry)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn matches(key: &str, image: &str) -> bool {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let host = registry(image);
    let (wanted, path) = key.split_once('/').unwrap_or((key, ""));
    if host == "docker.io" {
        return matches!(wanted, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    }
    let wild = wanted.strip_prefix("*.").is_some_and(|tail| host.split_once('.').is_some_and(|(_, rest)| rest == tail));
    let rest = image.split_once('/').map_or("", |(_, rest)| rest);
    (wild || wanted == host) && (path.is_empty() || matches!(path, "v1" | "v2") || rest.starts_with(path))
}

fn auth(key: &str, entry: &serde_json::Value) -> cri::AuthConfig {
    let text = |name: &str| entry.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_string();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty()
        && let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(text("auth"))
        && let Ok(decoded) = String::from_utf8(decoded)
        && let Some((user, secret)) = decoded.split_once(':')
    {
        (username, password) = (user.to_string(), secret.trim_end_matches('\0').to_string());
    }
    cri::AuthConfig {
        username,
        password,
        server_address: key.to_string(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_policies() {
        assert_eq!(normalized("nginx"), "nginx:latest");
        assert_eq!(normalized("host:5000/x"), "host:5000/x:latest");
        assert_eq!(normalized("x@sha256:1"), "x@sha256:1");
        let of = |image: &str| {
            let container = Container { image: Some(image.into()), ..Default::default() };
            policy(&container).to_string()
        };
        assert_eq!(
            (of("x").as_str(), of("x:1").as_str(), of("x@sha256:1").as_str()),
            ("Always", "IfNotPresent", "IfNotPresent")
        );
    }

    #[test]
    fn the_most_specific_credential_comes_first() {
        let json = serde_json::json!({"auths": {
            "reg.example": {"auth": "dTpw"}, "reg.example/team": {"username": "t", "password": "q"}, "other": {}}});
        let data = [(".dockerconfigjson".to_string(), json.to_string().into_bytes())].into();
        let secret = Arc::new(Payload { data, type_: "kubernetes.io/dockerconfigjson".into(), ..Default::default() });
        let found = credentials("reg.example/team/app:1", &[secret]);
        let names: Vec<_> = found.iter().map(|a| (a.username.as_str(), a.password.as_str())).collect();
        assert_eq!(names, [("t", "q"), ("u", "p")]);
    }
}
