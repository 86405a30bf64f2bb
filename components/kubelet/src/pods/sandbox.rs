//! From a pod to the configuration of its sandbox: pure but for the host's resolv.conf.

use std::collections::HashMap;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::security;
use crate::config::Config;
use crate::cri::{LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_HOSTNAME: usize = 63;

/// Sysctls every pod may set: they are namespaced and harm no one else. Upstream: `pkg/kubelet/sysctl`.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// `<ns>_<name>_<uid>` under the log directory.
pub fn log_directory(config: &Config, pod: &Pod) -> std::path::PathBuf {
    let name = format!("{}_{}_{}", pod.namespace().unwrap_or_default(), pod.name_any(), uid(pod));
    config.pod_logs_dir.join(name)
}

pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

pub fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    HashMap::from([
        (LABEL_POD_NAME.to_string(), pod.name_any()),
        (LABEL_POD_NAMESPACE.to_string(), pod.namespace().unwrap_or_default()),
        (LABEL_POD_UID.to_string(), uid(pod)),
    ])
}

/// The first sysctl the pod asks for and may not have.
pub fn forbidden_sysctl<'a>(config: &Config, pod: &'a Pod) -> Option<&'a str> {
    let allowed = |name: &str| {
        config.allowed_unsafe_sysctls.iter().any(|rule| match rule.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => rule == name,
        })
    };
    let host_network = is_host_network(pod);
    sysctls(pod).map(|(name, _)| name).find(|name| {
        let shared = host_network && name.starts_with("net.");
        shared || !(SAFE_SYSCTLS.contains(&name.replace('/', ".").as_str()) || allowed(name))
    })
}

fn sysctls(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let list = context.and_then(|c| c.sysctls.as_ref());
    list.into_iter().flatten().map(|s| (s.name.as_str(), s.value.as_str()))
}

pub fn config(config: &Config, pod: &Pod, attempt: u32, cgroup_parent: String) -> cri::PodSandboxConfig {
    let host_network = is_host_network(pod);
    let mut labels: HashMap<String, String> = pod.labels().clone().into_iter().collect();
    labels.extend(pod_labels(pod));
    let mut annotations: HashMap<String, String> = pod.annotations().clone().into_iter().collect();
    annotations.insert("kubernetes.io/config.source".into(), "api".into());
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name_any(),
            uid: uid(pod),
            namespace: pod.namespace().unwrap_or_default(),
            attempt,
        }),
        hostname: if host_network { String::new() } else { hostname(config, pod) },
        log_directory: log_directory(config, pod).display().to_string(),
        dns_config: Some(dns(config, pod, &std::fs::read_to_string(&config.resolv_conf).unwrap_or_default())),
        port_mappings: if host_network { Vec::new() } else { ports(pod) },
        labels,
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent,
            security_context: Some(security::sandbox(pod)),
            sysctls: sysctls(pod).map(|(k, v)| (k.replace('/', "."), v.to_string())).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// (host name, domain): the domain is empty unless the pod names a subdomain.
pub fn names(config: &Config, pod: &Pod) -> (String, String) {
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty());
    let mut host = own.unwrap_or_else(|| pod.name_any());
    if host.len() > MAX_HOSTNAME {
        host.truncate(MAX_HOSTNAME);
        host.truncate(host.trim_end_matches(['-', '.']).len());
    }
    let domain = spec.and_then(|s| s.subdomain.clone()).filter(|s| !s.is_empty());
    let namespace = pod.namespace().unwrap_or_default();
    let domain = domain.map(|sub| format!("{sub}.{namespace}.svc.{}", config.cluster_domain));
    (host, domain.unwrap_or_default())
}

fn hostname(config: &Config, pod: &Pod) -> String {
    let (host, domain) = names(config, pod);
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()).filter(|n| !n.is_empty()) {
        return name;
    }
    let whole = spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true);
    if whole && !domain.is_empty() { format!("{host}.{domain}") } else { host }
}

fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

fn ports(pod: &Pod) -> Vec<cri::PortMapping> {
    let ports = all_containers(pod).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|p| *p > 0)?;
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            };
            Some(cri::PortMapping {
                protocol: protocol as i32,
                container_port: port.container_port,
                host_port,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

fn dns(config: &Config, pod: &Pod, host: &str) -> cri::DnsConfig {
    let spec = pod.spec.as_ref();
    let policy = match spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst") {
        "ClusterFirst" if is_host_network(pod) => "Default",
        other => other,
    };
    let mut dns = match policy {
        "None" => cri::DnsConfig::default(),
        "Default" => parse_resolv_conf(host),
        _ => {
            let domain = &config.cluster_domain;
            let namespace = pod.namespace().unwrap_or_default();
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(parse_resolv_conf(host).searches);
            cri::DnsConfig { servers: config.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
        }
    };
    if let Some(extra) = spec.and_then(|s| s.dns_config.as_ref()) {
        dns.servers.extend(extra.nameservers.iter().flatten().cloned());
        dns.searches.extend(extra.searches.iter().flatten().cloned());
        for option in extra.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            dns.options.retain(|known| known.split(':').next() != Some(&name));
            dns.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            });
        }
    }
    unique(&mut dns.servers, MAX_NAMESERVERS);
    unique(&mut dns.searches, MAX_SEARCHES);
    dns
}

fn unique(list: &mut Vec<String>, most: usize) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list.truncate(most);
}

fn parse_resolv_conf(text: &str) -> cri::DnsConfig {
    let mut dns = cri::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(String::from)),
            Some("search") => {
                dns.searches = words.map(|w| w.trim_end_matches('.').to_string()).filter(|w| !w.is_empty()).collect()
            }
            Some("options") => dns.options = words.map(String::from).collect(),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::super::resources::tests::pod_from;
    use super::*;

    #[test]
    fn cluster_dns_comes_first() {
        let pod = pod_from(serde_json::json!({"containers": [{"name": "c"}],
            "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}}));
        let dns = dns(&Config::default(), &pod, "nameserver 8.8.8.8\nsearch lab. example\n");
        assert_eq!(dns.servers, ["10.96.0.10", "1.1.1.1"]);
        assert_eq!(dns.searches, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lab", "example"]);
        assert_eq!(dns.options, ["ndots:2", "rotate"]);
    }

    #[test]
    fn host_network_pods_use_the_hosts_dns_and_no_mappings() {
        let pod = pod_from(serde_json::json!({"hostNetwork": true,
            "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}));
        let built = config(&Config { resolv_conf: "/nonexistent".into(), ..Default::default() }, &pod, 1, "/x".into());
        assert!(built.port_mappings.is_empty() && built.hostname.is_empty());
        assert_eq!(dns(&Config::default(), &pod, "nameserver 8.8.8.8").servers, ["8.8.8.8"]);
    }

    #[test]
    fn unsafe_sysctls_are_found() {
        let pod = pod_from(serde_json::json!({"containers": [], "securityContext": {"sysctls": [
            {"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": "kernel.msgmax", "value": "1"}]}}));
        assert_eq!(forbidden_sysctl(&Config::default(), &pod), Some("kernel.msgmax"));
        let allowing = Config { allowed_unsafe_sysctls: vec!["kernel.msg*".into()], ..Default::default() };
        assert_eq!(forbidden_sysctl(&allowing, &pod), None);
    }

    #[test]
    fn long_names_become_hostnames() {
        let mut pod = pod_from(serde_json::json!({"containers": [], "subdomain": "sub"}));
        pod.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
        let (host, domain) = names(&Config::default(), &pod);
        assert_eq!((host.len(), domain.as_str()), (62, "sub.ns.svc.cluster.local"));
    }
}
