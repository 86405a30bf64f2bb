//! A proxy with a certificate of its own authorities says in headers who asks (upstream: authentication/request/headerrequest).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::x509::Peer;
use crate::{config::RequestHeader, identity::Identity, tls::Judge};

pub struct FrontProxy {
    config: RequestHeader,
    pub authorities: Arc<Judge>,
}

impl FrontProxy {
    pub fn from_config(config: &RequestHeader) -> anyhow::Result<Self> {
        Ok(FrontProxy { config: config.clone(), authorities: Arc::new(Judge::from_file(&config.client_ca_file)?) })
    }

    /// `None`: not the proxy, or it names nobody. What it said is taken out of the headers.
    pub fn authenticate(&self, peer: &Peer, headers: &mut HeaderMap) -> Option<Identity> {
        let name = peer.proxy.as_ref()?;
        if !self.config.allowed_names.is_empty() && !self.config.allowed_names.contains(name) {
            return None;
        }
        let user = first(headers, &self.config.username_headers)?;
        let mut identity = Identity::new(user, all(headers, &self.config.group_headers));
        identity.uid = first(headers, &self.config.uid_headers).unwrap_or_default();
        for prefix in &self.config.extra_header_prefixes {
            for (key, value) in extra(headers, &prefix.to_ascii_lowercase()) {
                identity.extra.entry(key).or_default().push(value);
            }
        }
        self.clear(headers);
        Some(identity)
    }

    fn clear(&self, headers: &mut HeaderMap) {
        let config = &self.config;
        let exact = [&config.username_headers, &config.uid_headers, &config.group_headers];
        let gone: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                exact.iter().flat_map(|l| l.iter()).any(|h| name.as_str().eq_ignore_ascii_case(h))
                    || config.extra_header_prefixes.iter().any(|p| name.as_str().starts_with(&p.to_ascii_lowercase()))
            })
            .cloned()
            .collect();
        for name in gone {
            headers.remove(name);
        }
    }
}

fn all(headers: &HeaderMap, names: &[String]) -> Vec<String> {
    let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
    values.filter_map(text).collect()
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    all(headers, names).into_iter().find(|v| !v.is_empty())
}

/// Keys (decoded) and values of headers that begin with a prefix.
pub fn extra<'a>(headers: &'a HeaderMap, prefix: &'a str) -> impl Iterator<Item = (String, String)> + 'a {
    headers.iter().filter_map(move |(name, value)| {
        let key = name.as_str().strip_prefix(prefix).filter(|k| !k.is_empty())?;
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        Some((key, text(value)?))
    })
}

/// Names need not be ASCII; whoever passes them on writes UTF-8.
fn text(value: &HeaderValue) -> Option<String> {
    std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)
}
