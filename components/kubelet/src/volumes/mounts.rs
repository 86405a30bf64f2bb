//! What one container sees of its pod's volumes, and the files the kubelet adds.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::{PodVolumes, subpath};
use crate::config::Config;
use crate::pods::container::message_path;
use crate::pods::env::expand;
use crate::pods::sandbox::{is_host_network, names, uid};

pub fn build(
    config: &Config,
    pod: &Pod,
    container: &Container,
    volumes: &PodVolumes,
    env: &[(String, String)],
    pod_ips: &[String],
) -> Result<Vec<cri::Mount>> {
    let directory = config.pod_dir(&uid(pod));
    let mut mounts = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(one(&directory, container, index, wanted, volumes, env)?);
    }
    let has_own_hosts = mounts.iter().any(|m| m.container_path == "/etc/hosts");
    if !has_own_hosts && (is_host_network(pod) || !pod_ips.is_empty()) {
        let hosts = write_hosts(config, &directory, pod, pod_ips)?;
        mounts.push(simple("/etc/hosts", &hosts));
    }
    let message = message_file(&directory, &container.name)?;
    mounts.push(simple(message_path(container), &message));
    Ok(mounts)
}

fn simple(container_path: &str, host_path: &Path) -> cri::Mount {
    cri::Mount {
        container_path: container_path.into(),
        host_path: host_path.display().to_string(),
        ..Default::default()
    }
}

fn one(
    directory: &Path,
    container: &Container,
    index: usize,
    wanted: &VolumeMount,
    volumes: &PodVolumes,
    env: &[(String, String)],
) -> Result<cri::Mount> {
    let volume = volumes.get(&wanted.name).with_context(|| format!("volume {:?} is not mounted", wanted.name))?;
    let host_path = match sub_path(wanted, env)? {
        Some(sub) => {
            let target =
                directory.join("volume-subpaths").join(&wanted.name).join(&container.name).join(index.to_string());
            subpath::bind(&volume.path, &sub, &target)?
        }
        None => volume.path.clone(),
    };
    if !host_path.exists() {
        // hostPath without a type: runtimes refuse to mount what is not there
        std::fs::create_dir_all(&host_path).with_context(|| format!("cannot make {}", host_path.display()))?;
    }
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    let path = &wanted.mount_path;
    Ok(cri::Mount {
        container_path: if path.starts_with('/') { path.clone() } else { format!("/{path}") },
        host_path: host_path.display().to_string(),
        readonly: wanted.read_only == Some(true) || volume.read_only,
        propagation: propagation as i32,
        recursive_read_only: wanted.recursive_read_only.as_deref() == Some("Enabled"),
        ..Default::default()
    })
}

fn sub_path(wanted: &VolumeMount, env: &[(String, String)]) -> Result<Option<String>> {
    let written = wanted.sub_path.as_ref().filter(|s| !s.is_empty());
    if let Some(expression) = wanted.sub_path_expr.as_ref().filter(|s| !s.is_empty()) {
        let known: HashMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let missing = std::cell::Cell::new(false);
        let expanded = expand(expression, |name| {
            missing.set(missing.get() || !known.contains_key(name));
            known.get(name).map(|v| (*v).to_string())
        });
        if missing.get() {
            bail!("subPathExpr {expression:?} names a variable that does not exist");
        }
        return Ok(Some(expanded));
    }
    Ok(written.cloned())
}

/// A new file for each start, which anyone in the container may write.
fn message_file(directory: &Path, container: &str) -> Result<PathBuf> {
    let parent = directory.join("containers").join(container);
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let path = parent.join(format!("{:08x}", rand::random::<u32>()));
    std::fs::File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(path)
}

fn write_hosts(config: &Config, directory: &Path, pod: &Pod, pod_ips: &[String]) -> Result<PathBuf> {
    let path = directory.join("etc-hosts");
    let text = if is_host_network(pod) {
        let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        format!("# Kubernetes-managed hosts file (host network).\n{host}{}", aliases(pod))
    } else {
        format!("{}{}", managed(config, pod, pod_ips), aliases(pod))
    };
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    Ok(path)
}

fn managed(config: &Config, pod: &Pod, pod_ips: &[String]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let (host, domain) = names(config, pod);
    for ip in pod_ips {
        if domain.is_empty() {
            text.push_str(&format!("{ip}\t{host}\n"));
        } else {
            text.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n"));
        }
    }
    text
}

fn aliases(pod: &Pod) -> String {
    let list = pod.spec.as_ref().and_then(|s| s.host_aliases.clone()).unwrap_or_default();
    if list.is_empty() {
        return String::new();
    }
    let lines = list.iter().map(|a| format!("{}\t{}\n", a.ip, a.hostnames.clone().unwrap_or_default().join("\t")));
    format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pods::resources::tests::pod_from;

    #[test]
    fn hosts_files() {
        let pod = pod_from(serde_json::json!({"containers": [], "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let text = format!("{}{}", managed(&Config::default(), &pod, &["10.244.0.9".into()]), aliases(&pod));
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n"));
        assert!(text.contains("10.244.0.9\tp.s.ns.svc.cluster.local\tp\n"));
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    }

    #[test]
    fn sub_path_expressions() {
        let mount = |expression: &str| VolumeMount { sub_path_expr: Some(expression.into()), ..Default::default() };
        let env = [("POD".to_string(), "p".to_string())];
        assert_eq!(sub_path(&mount("x/$(POD)"), &env).unwrap().as_deref(), Some("x/p"));
        assert!(sub_path(&mount("$(NONE)"), &env).is_err());
    }
}
