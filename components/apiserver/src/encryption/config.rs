//! The EncryptionConfiguration file (`apiserver.config.k8s.io/v1`), as upstream writes it.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::transform::{Cipher, Key, Provider};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
    resources: Vec<String>,
    /// The first writes, all read.
    providers: Vec<ProviderEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProviderEntry {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<serde_yaml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    /// base64 of 16, 24 or 32 bytes (secretbox: 32).
    secret: String,
}

/// What is encrypted how; the first rule that names a resource holds.
pub struct Rules {
    rules: Vec<Rule>,
    /// Of the text they were read from.
    pub digest: [u8; 32],
}

struct Rule {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

impl Rules {
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the encryption configuration {}", path.display()))?;
        Self::from_yaml(&text).with_context(|| format!("cannot use the encryption configuration {}", path.display()))
    }

    pub fn from_yaml(text: &str) -> anyhow::Result<Self> {
        let document: Document = serde_yaml::from_str(text).map_err(without_secrets)?;
        ensure!(
            document.api_version == "apiserver.config.k8s.io/v1" && document.kind == "EncryptionConfiguration",
            "it is a {} of {}; write an EncryptionConfiguration of apiserver.config.k8s.io/v1",
            document.kind,
            document.api_version
        );
        ensure!(!document.resources.is_empty(), "resources: Required value: at least one of resources is required");
        let each = document.resources.into_iter().enumerate();
        let rules = each.map(|(i, entry)| entry.read().with_context(|| format!("resources[{i}]")));
        Ok(Rules { rules: rules.collect::<anyhow::Result<_>>()?, digest: Sha256::digest(text).into() })
    }

    /// The providers of a resource; `None`: it lies in the store as it is.
    pub fn of(&self, group: &str, plural: &str) -> Option<&[Provider]> {
        let names = |pattern: &String| {
            let (wanted, wanted_group) = pattern.split_once('.').unwrap_or((pattern, ""));
            (wanted == "*" || wanted == plural) && (wanted_group == "*" || wanted_group == group)
        };
        self.rules.iter().find(|rule| rule.resources.iter().any(names)).map(|rule| rule.providers.as_slice())
    }
}

/// A parser quotes what it does not understand, which may be a key.
fn without_secrets(error: serde_yaml::Error) -> anyhow::Error {
    match error.location() {
        Some(at) => anyhow::anyhow!("its form is wrong at line {} column {}", at.line(), at.column()),
        None => anyhow::anyhow!("its form is wrong"),
    }
}

impl Entry {
    fn read(self) -> anyhow::Result<Rule> {
        ensure!(!self.resources.is_empty(), "resources: Required value: at least one resource is required");
        ensure!(!self.providers.is_empty(), "providers: Required value: at least one provider is required");
        let each = self.providers.into_iter().enumerate();
        let providers = each.map(|(i, provider)| provider.read().with_context(|| format!("providers[{i}]")));
        Ok(Rule { resources: self.resources, providers: providers.collect::<anyhow::Result<_>>()? })
    }
}

impl ProviderEntry {
    fn read(self) -> anyhow::Result<Provider> {
        ensure!(self.kms.is_none(), "kms is not supported; use aesgcm or secretbox with keys in this file");
        let mut all = Vec::new();
        for (cipher, keys) in
            [(Cipher::AesGcm, self.aesgcm), (Cipher::AesCbc, self.aescbc), (Cipher::SecretBox, self.secretbox)]
        {
            if let Some(keys) = keys {
                all.push(read_keys(cipher, keys).with_context(|| cipher.name())?);
            }
        }
        all.extend(self.identity.map(|_| Provider::Identity));
        match all.len() {
            1 => Ok(all.swap_remove(0)),
            0 => bail!("it names no provider; write one of aesgcm, aescbc, secretbox, identity"),
            _ => {
                bail!("more than one provider specified in a single element, should split into different list elements")
            }
        }
    }
}

fn read_keys(cipher: Cipher, keys: Keys) -> anyhow::Result<Provider> {
    ensure!(!keys.keys.is_empty(), "keys: Required value: at least one key is required");
    let mut read: Vec<Key> = Vec::new();
    for (i, entry) in keys.keys.into_iter().enumerate() {
        let place = || format!("keys[{i}]");
        ensure!(
            !entry.name.is_empty() && !entry.name.contains(':'),
            "{}.name: it must not be empty or contain ':'",
            place()
        );
        ensure!(read.iter().all(|k| k.name != entry.name), "{}.name: {:?} is there twice", place(), entry.name);
        let secret =
            STANDARD.decode(entry.secret.trim()).map_err(|_| anyhow::anyhow!("{}.secret is not base64", place()))?;
        read.push(Key::new(cipher, entry.name, &secret).with_context(|| format!("{}.secret", place()))?);
    }
    Ok(Provider::Keys(cipher, read))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn yaml(providers: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps']\n  providers: {providers}\n"
        )
    }

    #[test]
    fn resources_are_named_with_their_group() {
        let rules = Rules::from_yaml(&yaml("[{identity: {}}]")).unwrap();
        assert!(rules.of("", "secrets").is_some() && rules.of("apps", "deployments").is_some());
        assert!(rules.of("", "configmaps").is_none() && rules.of("x", "secrets").is_none());
    }

    #[test]
    fn mistakes_are_told_without_keys() {
        let key = STANDARD.encode([7; 32]);
        for (providers, why) in [
            ("[]".to_owned(), "at least one provider"),
            (format!("[{{aesgcm: {{keys: [{{name: a, secret: {key}}}]}}, identity: {{}}}}]"), "more than one provider"),
            ("[{aesgcm: {keys: []}}]".into(), "at least one key"),
            ("[{aesgcm: {keys: [{name: a, secret: AAAA}]}}]".into(), "16, 24 or 32"),
            ("[{secretbox: {keys: [{name: a, secret: '&'}]}}]".into(), "not base64"),
            ("[{kms: {name: x}}]".into(), "kms is not supported"),
            (format!("[{{aesgcm: {{keys: {key}}}}}]"), "form is wrong"),
        ] {
            let error = format!("{:#}", Rules::from_yaml(&yaml(&providers)).err().unwrap());
            assert!(error.contains(why) && !error.contains(&key), "{why}: {error}");
        }
    }
}
