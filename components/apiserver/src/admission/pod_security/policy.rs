//! Levels and versions of the Pod Security Standards, and what a namespace's labels say of them
//! (upstream: pod-security-admission/api).

use std::fmt;

use machinery::{FieldError, Path};
use serde_json::{Map, Value};

use crate::config::PodSecurityDefaults;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const ALL: [Level; 3] = [Level::Privileged, Level::Baseline, Level::Restricted];

    pub fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == text)
    }
}

/// The minor version whose rules hold; `None`: the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub Option<u32>);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version(None));
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
        minor.parse().ok().filter(|_| plain).map(|minor| Version(Some(minor)))
    }

    pub fn at_least(self, minor: u32) -> bool {
        self.0.is_none_or(|own| own >= minor)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version.0 {
            None => write!(f, "{}:latest", self.level.name()),
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What is enforced, written down, warned about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    pub fn from_config(config: &PodSecurityDefaults) -> anyhow::Result<Self> {
        let read = |field: &str, level: &str, version: &str| {
            let level = Level::parse(level);
            let version = Version::parse(version);
            match (level, version) {
                (Some(level), Some(version)) => Ok(LevelVersion { level, version }),
                _ => anyhow::bail!(
                    "podSecurity.defaults.{field} needs a level (privileged, baseline or restricted) and a version (latest or v1.N)"
                ),
            }
        };
        Ok(Policy {
            enforce: read("enforce", &config.enforce, &config.enforce_version)?,
            audit: read("audit", &config.audit, &config.audit_version)?,
            warn: read("warn", &config.warn, &config.warn_version)?,
        })
    }

    /// Nothing is looked at anywhere.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|p| p.level == Level::Privileged)
    }

    /// The defaults with what a namespace's labels say. What cannot be read is taken for the strictest where it protects.
    pub fn of_labels(self, labels: Option<&Map<String, Value>>) -> (Self, Vec<FieldError>) {
        let (mut policy, mut errors) = (self, Vec::new());
        for (mode, slot, otherwise) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            let (level, version) =
                (format!("pod-security.kubernetes.io/{mode}"), format!("pod-security.kubernetes.io/{mode}-version"));
            let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
            let mut wrong = |key: &str, value: &str, why: &str| {
                errors.push(FieldError::invalid(&Path::new("metadata").child("labels").key(key), value, why));
            };
            if let Some(text) = label(&level) {
                slot.level = Level::parse(text).unwrap_or_else(|| {
                    wrong(&level, text, "must be one of privileged, baseline, restricted");
                    otherwise
                });
            }
            if let Some(text) = label(&version) {
                slot.version = Version::parse(text).unwrap_or_else(|| {
                    wrong(&version, text, "must be \"latest\" or \"v1.x\"");
                    Version(None)
                });
            }
        }
        (policy, errors)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_override_defaults() {
        let defaults = Policy::from_config(&PodSecurityDefaults::default()).unwrap();
        assert!(defaults.is_privileged());
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30",
            "pod-security.kubernetes.io/warn": "strict"});
        let (policy, errors) = defaults.of_labels(labels.as_object());
        assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
        assert_eq!(policy.audit.to_string(), "privileged:latest");
        assert_eq!(
            errors[0].to_string(),
            "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
        );
        for wrong in ["v1.01", "1.20", "v2.0", "v1.", "v1.-1"] {
            assert!(Version::parse(wrong).is_none(), "{wrong}");
        }
    }
}
