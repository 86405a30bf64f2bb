//! What a request's URL asks for (apiserver `pkg/endpoints/request.RequestInfo`).

use http::Method;
use percent_encoding::percent_decode_str;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// The decoded path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method for other requests.
    pub verb: &'static str,
    /// `api` or `apis`.
    pub api_prefix: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    /// The plural; empty for discovery (`/apis/apps/v1`), which is no resource request.
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (`/proxy/<tail>`), without a leading slash.
    pub tail: String,
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::CONNECT => "connect",
        Method::TRACE => "trace",
        _ => "",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// Decoded pairs of a query string, in order.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query(key), decode_query(value))
    })
}

/// The first value of a query parameter.
pub fn query_value(query: &str, key: &str) -> Option<String> {
    query_pairs(query).find(|(k, _)| k == key).map(|(_, v)| v)
}

fn decode_query(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// How a boolean parameter is read: Go's conversion of query parameters.
pub fn query_bool(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

impl RequestInfo {
    /// Reads path and query (without `?`).
    pub fn parse(method: &Method, path: &str, query: &str) -> Self {
        let parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned())
            .collect();
        let mut info = RequestInfo {
            path: percent_decode_str(path).decode_utf8_lossy().into_owned(),
            verb: method_verb(method),
            ..Self::default()
        };
        let Some(rest) = info.take_group_version(&parts) else { return info };
        info.is_resource = true;
        info.verb = resource_verb(method);
        info.take_resource(rest);
        info.refine_verb(query);
        info
    }

    /// The parts after `/api/v1` or `/apis/group/version`; `None` when this is no resource request.
    fn take_group_version<'a>(&mut self, parts: &'a [String]) -> Option<&'a [String]> {
        let prefix = parts.first()?;
        let skip = match prefix.as_str() {
            "api" => 2,
            "apis" => 3,
            _ => return None,
        };
        self.api_prefix = prefix.clone();
        if parts.len() <= skip {
            return None;
        }
        if skip == 3 {
            self.group = parts.get(1)?.clone();
        }
        self.version = parts.get(skip - 1)?.clone();
        Some(&parts[skip..])
    }

    fn take_resource(&mut self, parts: &[String]) {
        let mut rest = parts;
        if let [first, namespace, ..] = rest
            && first == "namespaces"
        {
            self.namespace = namespace.clone();
            // `/namespaces/x/status` is about the namespace; `/namespaces/x/pods` is about what it holds
            if rest.get(2).is_some_and(|r| r != "status" && r != "finalize") {
                rest = &rest[2..];
            }
        }
        let part = |i: usize| rest.get(i).cloned().unwrap_or_default();
        self.resource = part(0);
        self.name = part(1);
        self.subresource = part(2);
        self.tail = rest.get(3..).unwrap_or_default().join("/");
    }

    fn refine_verb(&mut self, query: &str) {
        if !self.name.is_empty() {
            return;
        }
        self.verb = match self.verb {
            "get" if query_value(query, "watch").is_some_and(|v| query_bool(&v)) => "watch",
            "get" => "list",
            "delete" => "deletecollection",
            other => other,
        };
        // a list of one name is authorized as that name
        if matches!(self.verb, "list" | "watch" | "deletecollection")
            && let Some(selector) = query_value(query, "fieldSelector")
        {
            let mut terms = selector.split(',').filter_map(|t| t.strip_prefix("metadata.name="));
            if let Some(name) = terms.next() {
                self.name = name.strip_prefix('=').unwrap_or(name).to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::parse(&method, path, query)
    }

    #[test]
    fn verbs_and_parts() {
        // method, url, verb, group, version, namespace, resource, name, subresource
        let table = [
            (Method::GET, "/api/v1/pods", "list", "", "v1", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods?watch=1", "watch", "", "v1", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods?watch=false", "list", "", "v1", "", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            (Method::GET, "/api/v1/namespaces/a", "get", "", "v1", "a", "namespaces", "a", ""),
            (Method::PUT, "/api/v1/namespaces/a/finalize", "update", "", "v1", "a", "namespaces", "a", "finalize"),
            (Method::POST, "/api/v1/namespaces/a/pods/b/binding", "create", "", "v1", "a", "pods", "b", "binding"),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                "apps",
                "v1",
                "a",
                "deployments",
                "",
                "",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch",
                "apps",
                "v1",
                "a",
                "deployments",
                "d",
                "scale",
            ),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list", "", "v1", "", "pods", "x", ""),
        ];
        for (method, url, verb, group, version, namespace, resource, name, subresource) in table {
            let info = parse(method, url);
            let got = (
                info.verb,
                &*info.group,
                &*info.version,
                &*info.namespace,
                &*info.resource,
                &*info.name,
                &*info.subresource,
            );
            assert_eq!(got, (verb, group, version, namespace, resource, name, subresource), "{url}");
            assert!(info.is_resource);
        }
    }

    #[test]
    fn discovery_is_no_resource_request() {
        for url in ["/api", "/api/v1", "/apis/apps/v1", "/apis/apps/", "/healthz", "/"] {
            assert!(!parse(Method::GET, url).is_resource, "{url}");
        }
    }

    #[test]
    fn proxy_keeps_its_tail() {
        let info = parse(Method::GET, "/api/v1/namespaces/a/services/https:b:443/proxy/x/y?z=1");
        assert_eq!((&*info.subresource, &*info.tail, &*info.name), ("proxy", "x/y", "https:b:443"));
    }
}
