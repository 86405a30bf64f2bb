//! `dnsConfig` (kubernetes `validatePodDNSConfig`).

use serde_json::Value;

use super::ip;
use crate::{
    field::{FieldError, Path},
    names,
    value::{get, list_at, str_at},
};

const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_TEXT_MAX: usize = 2048;

pub(super) fn validate(spec: &Value, path: &Path) -> Vec<FieldError> {
    let config = get(spec, "dnsConfig");
    let servers = list_at(spec, "dnsConfig.nameservers");
    let at = path.child("nameservers");
    if str_at(spec, "dnsPolicy") == "None" {
        if config.is_none() {
            return vec![FieldError::required(path, "must provide `dnsConfig` when `dnsPolicy` is None")];
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return vec![FieldError::required(&at, detail)];
        }
    }
    let mut errors = Vec::new();
    if servers.len() > SERVERS_MAX {
        let detail = format!("must not have more than {SERVERS_MAX} nameservers");
        errors.push(FieldError::invalid(&at, servers.to_vec(), detail));
    }
    errors.extend(
        servers.iter().enumerate().filter_map(|(i, server)| ip(server.as_str().unwrap_or_default(), &at.index(i))),
    );
    errors.extend(searches(list_at(spec, "dnsConfig.searches"), &path.child("searches")));
    for (i, option) in list_at(spec, "dnsConfig.options").iter().enumerate() {
        if str_at(option, "name").is_empty() {
            errors.push(FieldError::required(&path.child("options").index(i), "must not be empty"));
        }
    }
    errors
}

fn searches(list: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if list.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    if texts.join(" ").len() > SEARCH_TEXT_MAX {
        let detail =
            format!("must not have more than {SEARCH_TEXT_MAX} characters (including spaces) in the search list");
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    for (i, search) in texts.into_iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.extend(FieldError::each_invalid(&path.index(i), search, names::dns1123_subdomain_underscore(search)));
    }
    errors
}
