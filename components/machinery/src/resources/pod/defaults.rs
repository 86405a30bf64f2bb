//! Defaults of pods and pod templates.

use serde_json::{Value, json};

use crate::value::{bool_at, default_to, each_mut, object_mut, str_at, with_mut};

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

/// `Always` for the tag `latest`, written or implied; a digest is never "latest".
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
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
            ("nginx:latest@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
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
