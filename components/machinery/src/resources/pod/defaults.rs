//! Defaults of pods and pod templates.

use serde_json::{Map, Value, json};

use super::resources::{is_for_pods, summed};
use crate::value::{bool_at, default_to, each_mut, get, list_at, map_at, object_mut, str_at, with_mut};

/// The default permission bits of files from volumes: 0644.
const FILE_MODE: i64 = 0o644;

/// A pod: the template's defaults and those of pods alone.
pub(in crate::resources) fn pod(pod: &mut Value) {
    let Some(spec) = object_mut(pod, "spec") else { return };
    pod_spec(spec);
    default_to(spec, "enableServiceLinks", true);
    let host_network = bool_at(spec, "hostNetwork");
    for list in ["containers", "initContainers"] {
        each_mut(spec, list, |container| {
            requests_from_limits(container);
            if host_network {
                each_mut(container, "ports", host_port);
            }
        });
    }
    whole_pod(spec);
}

/// What a pod that says something for all of its containers says of the rest (KEP-2837).
fn whole_pod(spec: &mut Value) {
    let has = |spec: &Value, list: &str| {
        map_at(spec, &format!("resources.{list}")).is_some_and(|all| all.keys().any(|name| is_for_pods(name)))
    };
    if spec.get("resources").is_none_or(Value::is_null) {
        return;
    }
    let overcommitted = |name: &str| matches!(name, "cpu" | "memory");
    if has(spec, "limits") || has(spec, "requests") {
        let asked = map_at(spec, "resources.requests").cloned().unwrap_or_default();
        let sums = together(spec, "limits");
        fill(spec, "limits", &sums, |name| name.starts_with("hugepages-") && !asked.contains_key(name));
    }
    if has(spec, "limits") {
        let sums = together(spec, "requests");
        fill(spec, "requests", &sums, overcommitted);
        let limits = map_at(spec, "resources.limits").cloned().unwrap_or_default();
        fill(spec, "requests", &limits, is_for_pods);
    } else if has(spec, "requests") {
        let all = ["containers", "initContainers"].iter().flat_map(|list| list_at(spec, list));
        let bounds: Vec<&Value> = all.filter_map(|c| get(c, "resources.limits")).collect();
        let count = list_at(spec, "containers").len() + list_at(spec, "initContainers").len();
        let everywhere: Vec<String> = ["cpu", "memory"]
            .into_iter()
            .filter(|name| bounds.len() == count && bounds.iter().all(|l| l.get(*name).is_some()))
            .map(str::to_owned)
            .collect();
        let sums = together(spec, "limits");
        fill(spec, "limits", &sums, |name| everywhere.iter().any(|n| n == name));
    }
}

fn together(spec: &Value, list: &str) -> Map<String, Value> {
    let sums = summed(spec, list).into_iter();
    sums.map(|(name, quantity)| (name.to_owned(), quantity.to_string().into())).collect()
}

/// Takes over what is not there yet.
fn fill(spec: &mut Value, list: &str, from: &Map<String, Value>, wanted: impl Fn(&str) -> bool) {
    let new: Vec<(&String, &Value)> = from.iter().filter(|(name, _)| wanted(name)).collect();
    if new.is_empty() {
        return;
    }
    let place = spec.get_mut("resources").and_then(|r| object_mut(r, list)).and_then(Value::as_object_mut);
    if let Some(place) = place {
        for (name, quantity) in new {
            place.entry(name.as_str()).or_insert_with(|| quantity.clone());
        }
    }
}

/// A workload's `spec.template`.
pub(in crate::resources) fn template(template: &mut Value) {
    if let Some(spec) = object_mut(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    default_to(spec, "dnsPolicy", "ClusterFirst");
    default_to(spec, "restartPolicy", "Always");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_to(spec, "schedulerName", "default-scheduler");
    object_mut(spec, "securityContext");
    service_account(spec);
    each_mut(spec, "volumes", volume);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each_mut(spec, list, container);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
fn service_account(spec: &mut Value) {
    let name = match str_at(spec, "serviceAccountName") {
        "" => str_at(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty()
        && let Some(map) = spec.as_object_mut()
    {
        map.insert("serviceAccountName".into(), name.as_str().into());
        map.insert("serviceAccount".into(), name.into());
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(str_at(container, "image"));
    default_to(container, "imagePullPolicy", policy);
    default_to(container, "terminationMessagePath", "/dev/termination-log");
    default_to(container, "terminationMessagePolicy", "File");
    object_mut(container, "resources");
    each_mut(container, "ports", |port| default_to(port, "protocol", "TCP"));
    each_mut(container, "env", |env| {
        with_mut(env, "valueFrom", |from| {
            with_mut(from, "fieldRef", |field| default_to(field, "apiVersion", "v1"));
            with_mut(from, "fileKeyRef", |file| default_to(file, "optional", false));
        });
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with_mut(container, name, probe);
    }
    with_mut(container, "lifecycle", |lifecycle| {
        for name in ["postStart", "preStop"] {
            with_mut(lifecycle, name, |handler| with_mut(handler, "httpGet", http_get));
        }
    });
}

/// `Always` for the tag `latest`, written or implied by the lack of both tag and digest. What is no image at all has no tag.
fn pull_policy(image: &str) -> &'static str {
    let (named, digest) = match image.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (image, None),
    };
    let name = named.rsplit('/').next().unwrap_or_default();
    let tag = name.rsplit_once(':').map(|(_, tag)| tag);
    let well_formed = !image.is_empty() && digest.is_none_or(is_digest);
    if well_formed && (tag == Some("latest") || (tag.is_none() && digest.is_none())) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(_, digits)| digits.len() >= 32 && digits.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn http_get(action: &mut Value) {
    default_to(action, "path", "/");
    default_to(action, "scheme", "HTTP");
}

fn probe(probe: &mut Value) {
    zero_to(probe, "timeoutSeconds", 1);
    zero_to(probe, "periodSeconds", 10);
    zero_to(probe, "successThreshold", 1);
    zero_to(probe, "failureThreshold", 3);
    with_mut(probe, "httpGet", http_get);
    with_mut(probe, "grpc", |grpc| default_to(grpc, "service", ""));
}

/// For numbers whose zero means "unset".
fn zero_to(value: &mut Value, key: &str, default: i64) {
    if value.get(key).and_then(Value::as_i64).unwrap_or(0) == 0
        && let Some(map) = value.as_object_mut()
    {
        map.insert(key.into(), default.into());
    }
}

fn host_port(port: &mut Value) {
    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
        zero_to(port, "hostPort", number);
    }
}

/// A limit without a request is the request.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.get_mut("resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()).cloned() else {
        return;
    };
    let Some(requests) = object_mut(resources, "requests").and_then(Value::as_object_mut) else { return };
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    if map.keys().all(|key| key == "name") {
        map.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        with_mut(volume, source, |s| default_to(s, "defaultMode", FILE_MODE));
    }
    with_mut(volume, "downwardAPI", downward_items);
    with_mut(volume, "projected", |projected| each_mut(projected, "sources", projection));
    with_mut(volume, "hostPath", |path| {
        if let Some(map) = path.as_object_mut() {
            map.entry("type").or_insert_with(|| "".into());
        }
    });
    with_mut(volume, "image", |image| {
        let policy = pull_policy(str_at(image, "reference"));
        default_to(image, "pullPolicy", policy);
    });
    with_mut(volume, "iscsi", |iscsi| default_to(iscsi, "iscsiInterface", "default"));
    with_mut(volume, "ephemeral", |ephemeral| {
        with_mut(ephemeral, "volumeClaimTemplate", |template| {
            with_mut(template, "spec", |spec| default_to(spec, "volumeMode", "Filesystem"));
        });
    });
}

fn projection(source: &mut Value) {
    with_mut(source, "serviceAccountToken", |token| default_to(token, "expirationSeconds", 3600));
    with_mut(source, "downwardAPI", downward_items);
}

fn downward_items(source: &mut Value) {
    each_mut(source, "items", |item| with_mut(item, "fieldRef", |field| default_to(field, "apiVersion", "v1")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("r:5000/nginx", "Always"),
            ("r:5000/a/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0", "IfNotPresent"),
            ("", "IfNotPresent"),
            ("nginx:latest@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "Always"),
            ("nginx@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "IfNotPresent"),
            ("nginx:latest@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn what_a_pod_has_as_a_whole_is_completed() {
        let filled = |whole: Value| {
            let container =
                json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}});
            let mut p = json!({"spec": {"resources": whole, "containers": [container.clone(), container]}});
            pod(&mut p);
            p["spec"]["resources"].take()
        };
        assert_eq!(
            filled(json!({"limits": {"cpu": "4"}})),
            json!({"limits": {"cpu": "4"}, "requests": {"cpu": "1", "memory": "2Gi"}})
        );
        assert_eq!(
            filled(json!({"requests": {"cpu": "2"}})),
            json!({"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "2"}})
        );
        assert_eq!(filled(json!({})), json!({}));
    }

    #[test]
    fn a_small_pod_is_filled() {
        let mut p = json!({"spec": {
            "hostNetwork": true,
            "containers": [{"name": "a", "image": "x:1", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}},
                            "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "m"}}],
            "serviceAccount": "old"
        }});
        pod(&mut p);
        let once = p.clone();
        pod(&mut p);
        assert_eq!(p, once);
        assert_eq!(
            p["spec"]["containers"][0],
            json!({
                "name": "a", "image": "x:1", "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                                  "successThreshold": 1, "failureThreshold": 3}
            })
        );
        assert_eq!(
            p["spec"]["volumes"],
            json!([{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "m", "defaultMode": 420}}])
        );
        assert_eq!(p["spec"]["serviceAccountName"], "old");
        assert_eq!(p["spec"]["securityContext"], json!({}));
    }
}
