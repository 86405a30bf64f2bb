//! Whether a cluster is whole: every part works, nothing is there twice, what was made before is there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::site::Site;

/// What a cluster is used for: two servers behind a Service and an Ingress, and an object that must not change.
const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: made-before, namespace: default}
data: {a: '1'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: IMAGE
        command: [/kinstall-components, probe, serve, --port, '8080']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: default}
spec:
  rules:
  - host: web.lab
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

/// Units (of those that a timer starts only the failed), whether the manifest is complete, versions installed, executables still
/// staged, converges that still run; in one go.
const HOST: &str = "systemctl list-units --all --plain --no-legend --no-pager 'kinstall-*.service' | while read -r name _ active sub _; do
    [ -e /etc/systemd/system/${name%.service}.timer ] && [ $active != failed ] || echo unit $name $active $sub
done
grep -Eo '\"complete\": ?[a-z]*' /var/lib/kinstall/manifest.json | tr -d '\" '
ls /opt/kinstall | grep -vx current | sed 's/^/version /'
ls -d /var/lib/kinstall-stage* 2>/dev/null | sed 's/^/staged /'
for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -E 'kinstall[^ ]* converge' | sed 's/^/running /'; done; true";

/// Makes the objects; gives the uid of the one that must not change.
pub fn make(site: &Site) -> Result<String> {
    let image = site.operator.components_image()?;
    site.operator.kubectl_with(&["apply", "-f", "-"], &OBJECTS.replace("IMAGE", &image))?;
    uid(site)
}

fn uid(site: &Site) -> Result<String> {
    site.operator.kubectl(&["get", "configmap", "made-before", "-o", "jsonpath={.metadata.uid}"])
}

/// All of it, once; the error is the first thing that is wrong.
pub fn check(site: &Site) -> Result<()> {
    nodes(site)?;
    workloads(site)?;
    if site.state.is_grown() {
        control_planes(site)?;
    }
    if let Some(made) = &site.made {
        ensure!(uid(site)? == *made, "what was made before is another object now");
    }
    for host in site.lab.hosts().iter().filter(|host| site.nodes().contains(&host.name())) {
        let said = host.exec(HOST)?.ok()?;
        let version = on_host(&said).with_context(|| host.name().to_owned())?;
        ensure!(version == site.version(), "{} has version {version}", host.name());
        let said =
            get(&host.address(), "web.lab").with_context(|| format!("through the ingress on {}", host.name()))?;
        ensure!(said.starts_with("HTTP/1.1 200"), "the ingress on {} answers {:?}", host.name(), said.lines().next());
    }
    Ok(())
}

fn list(site: &Site, what: &str) -> Result<Vec<Value>> {
    let said = site.operator.kubectl(&["get", what, "-A", "-o", "json", "--request-timeout=5s"])?;
    let mut list: Value = serde_json::from_str(&said)?;
    Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Exactly those that there should be, Ready, and open to pods.
fn nodes(site: &Site) -> Result<()> {
    let nodes = list(site, "nodes")?;
    let mut names: Vec<_> = nodes.iter().filter_map(|node| node["metadata"]["name"].as_str()).collect();
    names.sort_unstable();
    ensure!(names == site.nodes(), "there are the nodes {names:?}");
    for node in &nodes {
        let name = &node["metadata"]["name"];
        let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        ensure!(ready, "{name} is not Ready");
        ensure!(node["spec"]["unschedulable"] != true, "{name} is cordoned");
    }
    Ok(())
}

/// Each host's API server is ready, and its member of etcd has its vote; there is no other.
fn control_planes(site: &Site) -> Result<()> {
    const MEMBERS: &str =
        "/opt/kinstall/current/bin/kinstall-components etcd-members --config /etc/kinstall/etcd-members.yaml list";
    let members: Vec<Value> = serde_json::from_str(&site.lab.host(1).ssh_ok(MEMBERS)?)?;
    let mut names: Vec<_> = members.iter().filter_map(|member| member["name"].as_str()).collect();
    names.sort_unstable();
    ensure!(names == site.nodes(), "members of etcd are {names:?}");
    for member in &members {
        ensure!(member["healthy"] == true && member["learner"] == false, "a member of etcd is not well: {member}");
    }
    for name in names {
        site.operator.kubectl_at(name, &["get", "--raw", "/readyz"]).with_context(|| format!("at {name}"))?;
    }
    Ok(())
}

/// As many pods as are wanted, all of them Ready: no more, no fewer.
fn workloads(site: &Site) -> Result<()> {
    let all = list(site, "daemonsets,deployments,pods")?;
    let of = |kind: &'static str| all.iter().filter(move |object| object["kind"] == kind);
    for (kind, wanted, ready) in
        [("DaemonSet", "desiredNumberScheduled", "numberReady"), ("Deployment", "replicas", "readyReplicas")]
    {
        ensure!(of(kind).next().is_some(), "there is no {kind}");
        for object in of(kind) {
            let status = &object["status"];
            let current = status["observedGeneration"] == object["metadata"]["generation"];
            ensure!(
                current && status[wanted].as_u64() > Some(0) && status[wanted] == status[ready],
                "{kind} {}: {} of {} are ready",
                object["metadata"]["name"],
                status[ready],
                status[wanted]
            );
        }
    }
    for pod in of("Pod") {
        let phase = &pod["status"]["phase"];
        ensure!(
            phase == "Running" && pod["metadata"]["deletionTimestamp"].is_null(),
            "{} is {phase} or going",
            pod["metadata"]["name"]
        );
    }
    Ok(())
}

/// Judges what [`HOST`] printed; gives the version that is installed.
fn on_host(said: &str) -> Result<&str> {
    let lines = |start: &'static str| said.lines().filter_map(move |line| line.strip_prefix(start));
    ensure!(lines("unit ").count() >= 4, "units are missing:\n{said}");
    for unit in lines("unit ") {
        ensure!(unit.ends_with(" active running"), "{unit}");
    }
    ensure!(said.lines().any(|line| line == "complete:true"), "its manifest is not complete:\n{said}");
    let versions: Vec<_> = lines("version ").collect();
    let [version] = versions[..] else { bail!("versions on its disk: {versions:?}") };
    let running: Vec<_> = lines("running ").collect();
    ensure!(running.is_empty(), "still running: {running:?}");
    ensure!(lines("staged ").next().is_none(), "an executable is still staged:\n{said}");
    Ok(version)
}

/// One request, without a client of the machine.
pub fn get(address: &str, host: &str) -> Result<String> {
    let address: SocketAddr = format!("{address}:80").parse()?;
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "unit kinstall-containerd.service active running
unit kinstall-kubelet.service active running
unit kinstall-proxy.service active running
unit kinstall-cni-agent.service active running
complete:true
version 0.1.0";

    #[test]
    fn a_host_is_judged_by_all_that_it_says() {
        assert_eq!(on_host(GOOD).unwrap(), "0.1.0");
        for (from, to, words) in [
            ("kinstall-proxy.service active running", "kinstall-proxy.service failed failed", "kinstall-proxy"),
            ("unit kinstall-cni-agent.service active running\n", "", "missing"),
            ("complete:true", "complete:false", "not complete"),
            ("version 0.1.0", "version 0.1.0\nversion 0.2.0", "0.2.0"),
            ("version 0.1.0", "version 0.1.0\nstaged /var/lib/kinstall-stage", "staged"),
            ("version 0.1.0", "version 0.1.0\nrunning /tmp/kinstall-1 converge", "still running"),
        ] {
            let error = on_host(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
