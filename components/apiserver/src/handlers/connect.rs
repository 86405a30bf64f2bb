//! Admission of connections (exec, attach, port-forward, proxy): plugins see the options of the connection as an object.

use machinery::ApiError;
use serde_json::{Value, json};

use super::Target;
use crate::{
    admission::{self, Attempt, Operation},
    http::Query,
    pipeline::Call,
};

const FLAGS: &[&str] = &["stdin", "stdout", "stderr", "tty"];

/// Asks admission whether the connection may be made.
pub async fn admit(call: &Call, target: &Target) -> Result<(), ApiError> {
    let name = call.info.subresource.as_str();
    let Some(kind) = target.resource.subresource(name).map(|s| s.kind.to_string()) else { return Ok(()) };
    let mut options = options(&kind, name, &call.query, &call.info.path);
    let attempt = Attempt::new(call, target, Operation::Connect, name, None).of_kind("", "v1", &kind);
    admission::admit(&attempt, &mut options).await?;
    admission::review(&attempt, &options).await
}

fn options(kind: &str, subresource: &str, query: &Query, path: &str) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    match subresource {
        "exec" | "attach" => {
            for flag in FLAGS.iter().filter(|f| query.flag(f)) {
                options[*flag] = true.into();
            }
            if let Some(container) = query.get("container") {
                options["container"] = container.into();
            }
            let command: Vec<&str> = all(query, "command").collect();
            if !command.is_empty() {
                options["command"] = json!(command);
            }
        }
        "portforward" => {
            let ports: Vec<i64> =
                all(query, "ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
            if !ports.is_empty() {
                options["ports"] = json!(ports);
            }
        }
        // what comes after `/proxy`
        _ => {
            if let Some((_, rest)) = path.split_once("/proxy").filter(|(_, rest)| !rest.is_empty()) {
                options["path"] = rest.into();
            }
        }
    }
    options
}

fn all<'a>(query: &'a Query, key: &'a str) -> impl Iterator<Item = &'a str> {
    query.pairs().filter(move |(k, _)| *k == key).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_objects() {
        let query = Query::parse("container=c&stdout=true&command=a&command=b%20c");
        assert_eq!(
            options("PodExecOptions", "exec", &query, ""),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "container": "c", "stdout": true, "command": ["a", "b c"]})
        );
        let ports = options("PodPortForwardOptions", "portforward", &Query::parse("ports=80,81"), "");
        assert_eq!(ports["ports"], json!([80, 81]));
        let path = "/api/v1/namespaces/n/pods/p/proxy/x/y";
        assert_eq!(options("PodProxyOptions", "proxy", &Query::default(), path)["path"], "/x/y");
    }
}
