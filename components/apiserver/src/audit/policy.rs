//! The audit policy (`audit.k8s.io/v1` Policy): the first rule that fits a request says how much of it is written down.

use std::path::Path;

use anyhow::{Context, bail};
use machinery::request_info::RequestInfo;
use serde::Deserialize;

use super::event::Stage;
use crate::identity::Identity;

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    None,
    /// Who, what, when, and the outcome; never bodies.
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[expect(dead_code, reason = "a policy may have a name")]
    metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

pub struct Policy {
    rules: Vec<(Rule, Stages)>,
    omit_managed_fields: bool,
}

/// Which stages are not written.
#[derive(Clone, Copy, Default)]
struct Stages([bool; 4]);

#[derive(Clone, Copy, Default)]
pub struct Decision {
    pub level: Level,
    omitted: Stages,
    pub omit_managed_fields: bool,
}

impl Decision {
    pub fn omits(&self, stage: Stage) -> bool {
        Stage::ALL.iter().zip(self.omitted.0).any(|(s, omitted)| *s == stage && omitted)
    }
}

impl Policy {
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the audit policy {}", path.display()))?;
        Self::from_yaml(&text).with_context(|| format!("cannot use the audit policy {}", path.display()))
    }

    pub fn from_yaml(text: &str) -> anyhow::Result<Self> {
        let document: Document = serde_yaml::from_str(text)?;
        if document.api_version != "audit.k8s.io/v1" || document.kind != "Policy" {
            bail!("it is a {} of {}; write a Policy of audit.k8s.io/v1", document.kind, document.api_version);
        }
        if document.rules.is_empty() {
            bail!("it has no rules, so nothing would be audited");
        }
        let mut rules = Vec::new();
        for (index, rule) in document.rules.into_iter().enumerate() {
            rule.check().with_context(|| format!("rules[{index}]"))?;
            let omitted = stages(document.omit_stages.iter().chain(&rule.omit_stages))?;
            rules.push((rule, omitted));
        }
        Ok(Policy { rules, omit_managed_fields: document.omit_managed_fields })
    }

    /// What is written of a request of `who` (`None`: nobody was recognised).
    pub fn decide(&self, who: Option<&Identity>, info: &RequestInfo) -> Decision {
        let Some((rule, omitted)) = self.rules.iter().find(|(rule, _)| rule.fits(who, info)) else {
            return Decision::default();
        };
        Decision {
            level: rule.level,
            omitted: *omitted,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn stages<'a>(names: impl Iterator<Item = &'a String>) -> anyhow::Result<Stages> {
    let mut stages = Stages::default();
    for name in names {
        let index = Stage::ALL.iter().position(|s| s.name() == name);
        stages.0[index.with_context(|| format!("omitStages: unknown stage {name:?}"))?] = true;
    }
    Ok(stages)
}

impl Rule {
    fn check(&self) -> anyhow::Result<()> {
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if about_resources && !self.non_resource_urls.is_empty() {
            bail!("rules cannot apply to both regular resources and non-resource URLs");
        }
        for url in &self.non_resource_urls {
            if url != "*" && !url.starts_with('/') {
                bail!("nonResourceURLs: {url:?} must begin with a '/' character");
            }
            if url.trim_end_matches('*').len() + 1 < url.len() || url.trim_end_matches('*').contains('*') {
                bail!(
                    "nonResourceURLs: non-resource URL wildcards '*' must be the final character of the rule, in {url:?}"
                );
            }
        }
        for resources in &self.resources {
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                bail!("resources: using resourceNames requires at least one resource");
            }
        }
        Ok(())
    }

    fn fits(&self, who: Option<&Identity>, info: &RequestInfo) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|x| x == wanted);
        if !self.users.is_empty() && !who.is_some_and(|w| has(&self.users, &w.user)) {
            return false;
        }
        if !self.user_groups.is_empty() && !who.is_some_and(|w| self.user_groups.iter().any(|g| w.in_group(g))) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, info.verb) {
            return false;
        }
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            return info.is_resource && self.fits_resource(info);
        }
        if !self.non_resource_urls.is_empty() {
            return !info.is_resource && self.non_resource_urls.iter().any(|url| fits_path(url, &info.path));
        }
        true
    }

    fn fits_resource(&self, info: &RequestInfo) -> bool {
        if !self.namespaces.is_empty() && !self.namespaces.contains(&info.namespace) {
            return false;
        }
        self.resources.is_empty()
            || self.resources.iter().any(|r| {
                r.group == info.group
                    && (r.resources.is_empty() || r.resources.iter().any(|res| fits_name(res, info)))
                    && (r.resource_names.is_empty() || r.resource_names.contains(&info.name))
            })
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/status`, `*`.
fn fits_name(rule: &str, info: &RequestInfo) -> bool {
    match rule.split_once('/') {
        None if rule == "*" => true,
        None => info.subresource.is_empty() && rule == info.resource,
        Some((resource, subresource)) => {
            (resource == "*" || resource == info.resource)
                && ((subresource == "*" && resource != "*")
                    || (!subresource.is_empty() && subresource == info.subresource))
        }
    }
}

fn fits_path(rule: &str, path: &str) -> bool {
    rule.strip_suffix('*').map_or(rule == path, |prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Method;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ['system:kube-proxy'], verbs: [watch]}
- {level: Metadata, resources: [{group: '', resources: [secrets, configmaps]}]}
- {level: None, nonResourceURLs: ['/healthz*', /version]}
- {level: RequestResponse, namespaces: [a], resources: [{group: apps}], omitStages: [ResponseStarted], omitManagedFields: true}
- {level: Request, userGroups: [dev]}
";

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = Policy::from_yaml(POLICY).unwrap();
        let level = |user: &str, group: &str, url: &str| {
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            policy.decide(Some(&Identity::new(user, [group])), &RequestInfo::parse(&Method::GET, path, query)).level
        };
        assert_eq!(level("system:kube-proxy", "dev", "/api/v1/services?watch=1"), Level::None);
        assert_eq!(level("joe", "dev", "/api/v1/namespaces/a/secrets/s"), Level::Metadata);
        assert_eq!(level("joe", "dev", "/healthz/ping"), Level::None);
        assert_eq!(level("joe", "", "/apis/apps/v1/namespaces/a/deployments"), Level::RequestResponse);
        assert_eq!(level("joe", "", "/apis/apps/v1/namespaces/b/deployments"), Level::None);
        assert_eq!(level("joe", "dev", "/api/v1/pods"), Level::Request);
        assert_eq!(level("joe", "", "/api/v1/pods"), Level::None);
        let info = RequestInfo::parse(&Method::GET, "/apis/apps/v1/namespaces/a/deployments", "");
        let decision = policy.decide(None, &info);
        assert!(decision.omits(Stage::RequestReceived) && decision.omits(Stage::ResponseStarted));
        assert!(!decision.omits(Stage::ResponseComplete) && decision.omit_managed_fields);
    }

    #[test]
    fn policies_that_mean_nothing_are_refused() {
        for (text, why) in [
            ("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", "audit.k8s.io/v1"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy", "no rules"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Most}]", "Most"),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/x]}]",
                "both",
            ),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, omitStages: [Begun]}]", "Begun"),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: ['/a*/b']}]",
                "wildcard",
            ),
        ] {
            let error = Policy::from_yaml(text).err().map(|e| format!("{e:#}")).unwrap_or_default();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
