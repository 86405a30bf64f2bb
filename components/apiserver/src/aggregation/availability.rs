//! Whether an extension server answers: the condition Available of its APIService (kube-aggregator
//! `pkg/controllers/status/remote`).
//!
//! The keeper of each server looks when its APIService, its Service or the EndpointSlices of that change, and every few seconds:
//! a server that stops answering has no event.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use http::{HeaderMap, Method};
use machinery::{
    ResourceRef,
    resources::apiextensions::set_condition,
    value::{bool_at, get, int_at, list_at, str_at},
};
use serde_json::Value;
use store::WatchItem;

use super::{Remote, condition, identity, offered, remote::no_body, row, transport::HttpsClient};
use crate::{
    bootstrap,
    callback::{
        dial::{self, SERVICE_LABEL},
        tls,
    },
    core::Core,
    identity::{Identity, MASTERS},
    registry,
};

/// Upstream looks every 30 s; clients of a server that hangs wait that much less.
const PERIOD: Duration = Duration::from_secs(10);
/// After the first failed look at a server; twice as long after each further one.
const RETRY: Duration = Duration::from_millis(20);
/// Of each attempt to reach a server; several are made at once, since one of its endpoints may be dead.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 5;
/// Tries to write a condition down, when others write the object, too.
const WRITES: usize = 5;

/// What the condition shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Verdict { status: "False", reason, message }
    }

    fn unknown(reason: &'static str, message: String) -> Self {
        Verdict { status: "Unknown", reason, message }
    }

    pub fn local() -> Self {
        Verdict { status: "True", reason: "Local", message: "Local APIServices are always available".into() }
    }

    fn passed() -> Self {
        Verdict { status: "True", reason: "Passed", message: "all checks passed".into() }
    }
}

/// The identity of this server where it looks for itself.
pub fn aggregator() -> Identity {
    Identity { user: "system:kube-aggregator".into(), groups: vec![MASTERS.into()], ..Identity::default() }
}

/// Looks after one extension server until its APIService is gone or names another one.
pub async fn keep(core: Arc<Core>, remote: Arc<Remote>) {
    let mut failures = 0;
    let probe = match core.aggregation.transport.probe() {
        Ok(probe) => probe,
        Err(error) => return tracing::error!(error, name = remote.name, "an extension server cannot be looked after"),
    };
    loop {
        // what happens while it looks is seen afterwards
        let changes = Changes::begin(&core, &remote).await;
        let verdict = judge(&core, &remote, &probe).await;
        // before it is said to be available: clients then ask what it serves
        offered::refresh(&remote, verdict.status == "True").await;
        remote.found(verdict.status, verdict.reason);
        let name = &remote.name;
        if let Err(error) = write(&core, name, |object| remote.is_of(object), &verdict).await {
            tracing::warn!(
                error = format!("{error:#}"),
                name,
                "the availability of an APIService cannot be written down"
            );
        }
        failures = if verdict.reason == "FailedDiscoveryCheck" { failures + 1 } else { 0 };
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = remote.ended.cancelled() => return,
            () = remote.check.notified() => {}
            () = changes.next() => {}
            () = tokio::time::sleep(pause(failures)) => {}
        }
    }
}

fn pause(failures: u32) -> Duration {
    match failures {
        0 => PERIOD,
        n => RETRY.saturating_mul(1 << (n - 1).min(16)).min(PERIOD),
    }
}

/// What may change the verdict.
struct Changes {
    service: Option<store::WatchStream>,
    slices: Option<store::WatchStream>,
    name: String,
    slice: Option<ResourceRef>,
}

fn kind(group: &str, plural: &str) -> Option<ResourceRef> {
    registry::find(group, "v1", plural).map(ResourceRef::from)
}

impl Changes {
    async fn begin(core: &Core, remote: &Remote) -> Self {
        let from = core.store.revision();
        let (service, slice) = (kind("", "services"), kind("discovery.k8s.io", "endpointslices"));
        let key = service.map(|row| registry::key(&row, &remote.namespace, &remote.service));
        let prefix = slice.as_ref().map(|row| registry::prefix(row, &remote.namespace));
        let watch = async |prefix: Option<String>| core.store.watch(&prefix?, from).await.ok();
        Changes { service: watch(key).await, slices: watch(prefix).await, name: remote.service.clone(), slice }
    }

    /// Ends at the first one. A watch that cannot be had, or ends, leaves the period.
    async fn next(self) {
        let (name, slice) = (self.name, self.slice);
        let service = first(self.service, |_| true);
        let slices = first(self.slices, |value| {
            let decoded = slice.as_ref().and_then(|row| registry::decode(row, value, 0).ok());
            decoded.is_none_or(|object| object["metadata"]["labels"][SERVICE_LABEL] == name.as_str())
        });
        tokio::select! {
            () = service => {}
            () = slices => {}
        }
    }
}

async fn first(items: Option<store::WatchStream>, counts: impl Fn(&[u8]) -> bool) {
    if let Some(mut items) = items {
        while let Some(Ok(item)) = items.next().await {
            if let WatchItem::Event(event) = item
                && counts(&event.kv.value)
            {
                return;
            }
        }
    }
    std::future::pending().await
}

async fn judge(core: &Core, remote: &Remote, probe: &HttpsClient) -> Verdict {
    match through_service(core, remote).await {
        Err(verdict) => verdict,
        Ok(()) => match reach(core, remote, probe).await {
            Ok(()) => Verdict::passed(),
            Err(why) => Verdict::no("FailedDiscoveryCheck", why),
        },
    }
}

/// Whether the Service leads anywhere.
async fn through_service(core: &Core, remote: &Remote) -> Result<(), Verdict> {
    let (name, namespace, port) = (&remote.service, &remote.namespace, remote.port);
    let (Some(services), Some(slices)) = (kind("", "services"), kind("discovery.k8s.io", "endpointslices")) else {
        return Ok(());
    };
    let service = match registry::read(core, &services, namespace, name).await {
        Ok(service) => service.object,
        Err(error) if error.code == 404 => {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Err(Verdict::no("ServiceNotFound", message));
        }
        Err(error) => {
            let message = format!("service/{name} in {namespace:?} cannot be checked due to: {error}");
            return Err(Verdict::unknown("ServiceAccessError", message));
        }
    };
    if str_at(&service, "spec.type") != "ClusterIP" {
        return Ok(());
    }
    let found = list_at(&service, "spec.ports").iter().find(|p| int_at(p, "port") == Some(port.into()));
    let Some(found) = found else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Verdict::no("ServicePortError", message));
    };
    let port_name = str_at(found, "name");
    let all = registry::read_all(core, &slices, namespace).await.map_err(|error| {
        let message = format!("service/{name} in {namespace:?} cannot be checked due to: {error}");
        Verdict::unknown("EndpointsAccessError", message)
    })?;
    let own: Vec<&Value> = all
        .iter()
        .map(|stored| &stored.object)
        .filter(|slice| slice["metadata"]["labels"][SERVICE_LABEL] == name.as_str())
        .collect();
    if own.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Verdict::no("EndpointsNotFound", message));
    }
    if !own.iter().any(|slice| has_endpoint(slice, port_name)) {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(Verdict::no("MissingEndpoints", message));
    }
    Ok(())
}

fn has_endpoint(slice: &Value, port_name: &str) -> bool {
    let ready = |endpoint: &Value| get(endpoint, "conditions.ready").is_none() || bool_at(endpoint, "conditions.ready");
    let named = |port: &Value| str_at(port, "name") == port_name && int_at(port, "port").is_some();
    list_at(slice, "endpoints").iter().any(ready) && list_at(slice, "ports").iter().any(named)
}

/// Asks for what every extension server serves; one success of several attempts suffices, else the last failure counts.
async fn reach(core: &Core, remote: &Remote, probe: &HttpsClient) -> Result<(), String> {
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| attempt(core, remote, probe)).collect();
    let mut last = Ok(());
    while let Some(result) = attempts.next().await {
        last = result;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn attempt(core: &Core, remote: &Remote, probe: &HttpsClient) -> Result<(), String> {
    let place = dial::resolve(&*core.store, &remote.namespace, &remote.service, remote.port).await?;
    let url = format!("https://{place}{}", remote.path());
    let mut headers = HeaderMap::new();
    identity::introduce(&mut headers, &aggregator()).map_err(|e| e.to_string())?;
    let mut request =
        http::Request::builder().method(Method::GET).uri(&url).body(no_body()).map_err(|e| e.to_string())?;
    *request.headers_mut() = headers;
    let failed = |why: String| format!("failing or missing response from {url}: {why}");
    match tokio::time::timeout(PATIENCE, probe.request(request)).await {
        Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
        Ok(Ok(answer)) => Err(failed(format!("bad status from {url}: {}", answer.status().as_u16()))),
        Ok(Err(error)) => Err(failed(format!("Get {url:?}: {}", tls::describe(&error)))),
        Err(_) => Err(failed(format!("Get {url:?}: context deadline exceeded"))),
    }
}

/// Writes the condition down if it is news and the APIService is still the one that was judged.
pub async fn write(
    core: &Arc<Core>,
    name: &str,
    still: impl Fn(&Value) -> bool,
    verdict: &Verdict,
) -> anyhow::Result<()> {
    let Some(row) = row() else { return Ok(()) };
    let mut last = Ok(());
    for _ in 0..WRITES {
        let old = match registry::read(core, row, "", name).await {
            Ok(stored) => stored.object,
            Err(error) if error.code == 404 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut new = old.clone();
        set_condition(&mut new, "Available", verdict.status, verdict.reason, &verdict.message);
        if new == old || !still(&old) {
            return Ok(());
        }
        last =
            bootstrap::send(core, Method::PUT, &format!("/apis/{}/v1/apiservices/{name}/status", super::GROUP), &new)
                .await;
        if last.is_ok() {
            let was = condition(&old).is_some_and(|(status, _)| status == "True");
            if was && verdict.status != "True" {
                core.aggregation.metrics.became_unavailable(name, verdict.reason);
            }
            return Ok(());
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_that_count_are_ready_and_at_the_named_port() {
        let slice = |ready: Value, port: Value| json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": ready}], "ports": [port]});
        let https = json!({"name": "https", "port": 443});
        assert!(has_endpoint(&slice(json!({"ready": true}), https.clone()), "https"));
        assert!(has_endpoint(&slice(json!({}), https.clone()), "https"));
        assert!(!has_endpoint(&slice(json!({"ready": false}), https.clone()), "https"));
        assert!(!has_endpoint(&slice(json!({}), https), ""));
        assert!(!has_endpoint(&slice(json!({}), json!({"name": "https"})), "https"));
    }

    #[test]
    fn a_failing_server_is_looked_at_again_soon_then_less_often() {
        assert_eq!(pause(0), PERIOD);
        assert_eq!(pause(1), RETRY);
        assert_eq!(pause(3), RETRY * 4);
        assert_eq!(pause(60), PERIOD);
    }
}
