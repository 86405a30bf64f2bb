//! How objects of a definition change their version (apiextensions `validateCustomResourceConversion`).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::admission::webhooks,
    value::{list_at, str_at},
};

const STRATEGIES: &[&str] = &["None", "Webhook"];
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];

/// Checks `conversion` of `spec`; `old` is the whole definition that is updated.
pub(super) fn validate(spec: &Value, old: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let conversion = &spec["conversion"];
    let (config_at, versions_at) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let (config, versions) = (client_config_of(conversion), review_versions_of(conversion));
    let strategy = str_at(conversion, "strategy");
    if strategy.is_empty() {
        errors.push(FieldError::required(&path.child("strategy"), ""));
    } else if !STRATEGIES.contains(&strategy) {
        errors.push(FieldError::not_supported(&path.child("strategy"), strategy, STRATEGIES));
    }
    if strategy == "Webhook" {
        match config {
            None => errors.push(FieldError::required(&config_at, "required when strategy is set to Webhook")),
            Some(config) => errors.extend(client_config(config, old, &config_at)),
        }
        let stored = old.map(|old| review_versions_of(&old["spec"]["conversion"]));
        let must_be_known = stored.is_none_or(|stored| stored.is_empty() || recognized(stored));
        errors.extend(review_versions(versions, must_be_known, &versions_at));
    } else {
        let detail = "should not be set when strategy is not set to Webhook";
        errors.extend(config.map(|_| FieldError::forbidden(&config_at, detail)));
        errors.extend((!versions.is_empty()).then(|| FieldError::forbidden(&versions_at, detail)));
    }
    errors
}

fn client_config_of(conversion: &Value) -> Option<&Value> {
    conversion.get("webhook")?.get("clientConfig").filter(|it| it.is_object())
}

fn review_versions_of(conversion: &Value) -> &[Value] {
    conversion.get("webhook").map(|it| list_at(it, "conversionReviewVersions")).unwrap_or_default()
}

fn client_config(config: &Value, old: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let url = config.get("url").and_then(Value::as_str);
    let service = config.get("service").filter(|it| it.is_object());
    let mut errors = match (url, service) {
        (Some(url), None) => webhooks::url(url, &path.child("url")),
        (None, Some(service)) => webhooks::service(service, &path.child("service")),
        _ => vec![FieldError::required(path, "exactly one of url or service is required")],
    };
    let bundle = str_at(config, "caBundle");
    if !bundle.is_empty() && !may_have_bad_bundle(old) {
        let at = path.child("caBundle");
        errors.extend(bundle_problem(bundle).map(|why| FieldError::invalid(&at, bundle, why)));
    }
    errors
}

/// A definition that nobody relies on yet, or one whose bundle was bad before.
fn may_have_bad_bundle(old: Option<&Value>) -> bool {
    let Some(old) = old.filter(|old| super::is_true(old, "Established")) else { return true };
    let bundle = client_config_of(&old["spec"]["conversion"]).map(|config| str_at(config, "caBundle"));
    bundle.is_some_and(|bundle| !bundle.is_empty() && bundle_problem(bundle).is_some())
}

/// `bundle` is certificates in PEM, in base64.
fn bundle_problem(bundle: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    /// How every certificate begins (DER's mark of a sequence).
    const SEQUENCE: u8 = 0x30;
    let problem = |why: &str| Some(format!("unable to load root certificates: {why}"));
    let text = String::from_utf8(STANDARD.decode(bundle).unwrap_or_default()).unwrap_or_default();
    let blocks = text.split(BEGIN).skip(1).filter_map(|block| Some(block.split_once(END)?.0));
    let blocks = blocks.map(|block| block.split_whitespace().collect::<String>());
    let certificates: Vec<Vec<u8>> = blocks.filter_map(|block| STANDARD.decode(block).ok()).collect();
    match certificates.as_slice() {
        [] => problem("data does not contain any valid RSA or ECDSA certificates"),
        all if all.iter().any(|it| it.first() != Some(&SEQUENCE)) => problem("x509: malformed certificate"),
        _ => None,
    }
}

fn recognized(versions: &[Value]) -> bool {
    versions.iter().any(|v| REVIEW_VERSIONS.iter().any(|known| v == known))
}

fn review_versions(versions: &[Value], must_be_known: bool, path: &Path) -> Vec<FieldError> {
    if versions.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if versions[..i].contains(version) {
            errors.push(FieldError::invalid(&path.index(i), text, "duplicate version"));
            continue;
        }
        errors.extend(FieldError::each_invalid(&path.index(i), text, names::dns1035_label(text)));
    }
    if must_be_known && !recognized(versions) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(webhook: &Value, old: Option<&Value>) -> Vec<String> {
        let spec = json!({"conversion": {"strategy": "Webhook", "webhook": webhook}});
        validate(&spec, old, &Path::new("c")).iter().map(ToString::to_string).collect()
    }

    fn established(webhook: &Value) -> Value {
        json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}},
            "status": {"conditions": [{"type": "Established", "status": "True"}]}})
    }

    #[test]
    fn webhooks_are_judged_as_those_of_admission() {
        let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": {"url": "http://h?q"}});
        assert_eq!(
            texts(&webhook, None),
            [
                "c.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "c.webhookClientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            ]
        );
        let service = json!({"namespace": "n", "name": "s", "port": 443, "path": "/a//b"});
        let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}});
        assert_eq!(
            texts(&webhook, None),
            ["c.webhookClientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty"]
        );
    }

    #[test]
    fn what_was_stored_may_stay() {
        let webhook = |version: &str, bundle: &str| json!({"conversionReviewVersions": [version], "clientConfig": {"url": "https://h", "caBundle": bundle}});
        let good = STANDARD.encode("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
        let (new, old) = (webhook("v1", "eA=="), established(&webhook("v1", &good)));
        assert_eq!(texts(&new, None), [""; 0]);
        assert_eq!(
            texts(&new, Some(&old)),
            [
                "c.webhookClientConfig.caBundle: Invalid value: \"eA==\": unable to load root certificates: data does not contain any valid RSA or ECDSA certificates"
            ]
        );
        assert_eq!(texts(&webhook("v1", &good), Some(&old)), [""; 0]);
        assert_eq!(texts(&new, Some(&established(&new))), [""; 0]);
        let strange = webhook("v2", "");
        assert_eq!(
            texts(&strange, Some(&old)),
            ["c.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1"]
        );
        assert_eq!(texts(&strange, Some(&established(&strange))), [""; 0]);
    }
}
