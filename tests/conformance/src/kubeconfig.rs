//! What a kubeconfig says about its current context: where the server is, how to believe it, who we are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// The current context of a kubeconfig file.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    pub path: PathBuf,
    /// `https://host:port`, without a slash at its end.
    pub server: String,
    /// PEM; without it the system's authorities count.
    pub ca: Option<Vec<u8>>,
    /// PEM: certificate and key, one after the other.
    pub identity: Option<Vec<u8>>,
    pub token: Option<String>,
    pub insecure: bool,
}

impl Kubeconfig {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: Value =
            serde_yaml::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let current = file["current-context"].as_str().context("the kubeconfig has no current-context")?;
        let context = named(&file, "contexts", current, "context")?;
        let cluster = named(&file, "clusters", context["cluster"].as_str().unwrap_or_default(), "cluster")?;
        let user = named(&file, "users", context["user"].as_str().unwrap_or_default(), "user")?;
        let certificate = material(base, user, "client-certificate")?;
        let key = material(base, user, "client-key")?;
        let identity = match (certificate, key) {
            (Some(mut certificate), Some(key)) => {
                certificate.push(b'\n');
                certificate.extend(key);
                Some(certificate)
            }
            _ => None,
        };
        Ok(Kubeconfig {
            path: path.to_owned(),
            server: cluster["server"].as_str().context("the cluster has no server")?.trim_end_matches('/').to_owned(),
            ca: material(base, cluster, "certificate-authority")?,
            identity,
            token: user["token"].as_str().map(str::to_owned),
            insecure: cluster["insecure-skip-tls-verify"].as_bool().unwrap_or(false),
        })
    }
}

fn named<'a>(file: &'a Value, list: &str, name: &str, field: &str) -> Result<&'a Value> {
    let entries = file[list].as_array().map(Vec::as_slice).unwrap_or_default();
    match entries.iter().find(|entry| entry["name"] == name) {
        Some(entry) => Ok(&entry[field]),
        None => bail!("the kubeconfig has no {list} entry named {name:?}"),
    }
}

/// `<name>-data` (base64), or the file that `<name>` names.
fn material(base: &Path, entry: &Value, name: &str) -> Result<Option<Vec<u8>>> {
    if let Some(data) = entry[format!("{name}-data")].as_str() {
        return Ok(Some(BASE64_STANDARD.decode(data).with_context(|| format!("{name}-data is not base64"))?));
    }
    let Some(file) = entry[name].as_str() else { return Ok(None) };
    let file = base.join(file);
    Ok(Some(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?))
}
