//! Issues a cluster's leaves at another time: the same subjects and names, signed by the same authorities, in the operator's
//! state directory and on hosts.

use std::fs;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{Ca, CertificateInfo, Issued, Leaf, Usage};
use hoststate::certificates::{in_kubeconfig, with_credentials};
use lab::{Host, Lab};
use time::{Duration, OffsetDateTime};

use crate::operator::Operator;

const AUTHORITIES: [&str; 3] = ["ca", "etcd-ca", "front-proxy-ca"];
const KUBELETS: [&str; 2] =
    ["/var/lib/kubelet/pki/kubelet-client-current.pem", "/var/lib/kubelet/pki/kubelet-server-current.pem"];

/// Where a leaf is.
pub enum Place<'a> {
    /// In the state directory, by its name.
    Here(&'a str),
    /// On a host, by its path.
    Host(&'a str),
}

/// `left` says how many of its 365 days each leaf has left; None leaves it as it is.
pub fn issue(operator: &Operator, lab: &Lab, left: impl Fn(Place<'_>) -> Option<i64>) -> Result<()> {
    let folder = operator.path(".kinstall/lab/pki");
    let authorities = authorities(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let file = entry?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if file.extension().is_none_or(|ending| ending != "crt") || AUTHORITIES.contains(&name.as_str()) {
            continue;
        }
        let Some(days) = left(Place::Here(&name)) else { continue };
        let new = again(&authorities, &fs::read_to_string(&file)?, days)?;
        fs::write(&file, &new.cert_pem)?;
        fs::write(file.with_extension("key"), &new.key_pem)?;
        if name == "admin" {
            let kubeconfig = operator.kubeconfig();
            let text = with_credentials(&fs::read_to_string(&kubeconfig)?, &new.cert_pem, &new.key_pem);
            fs::write(&kubeconfig, text.context("admin.kubeconfig holds no certificate")?)?;
        }
    }
    lab.hosts().iter().try_for_each(|host| on_host(host, &authorities, &left))
}

fn authorities(folder: &std::path::Path) -> Result<Vec<Ca>> {
    let read = |name: &str| {
        let text = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}")));
        anyhow::Ok(Ca::from_pem(&text("crt")?, &text("key")?)?)
    };
    AUTHORITIES.iter().map(|name| read(name).with_context(|| format!("the authority {name}"))).collect()
}

fn again(authorities: &[Ca], cert_pem: &str, days_left: i64) -> Result<Issued> {
    let CertificateInfo { subject, dns_names, ip_addresses, usage, .. } = certs::inspect(cert_pem)?;
    let authority = authorities.iter().find(|ca| ca.has_signed(cert_pem)).context("signed by nobody we know")?;
    let names = dns_names.into_iter().chain(ip_addresses.iter().map(ToString::to_string));
    let to = OffsetDateTime::now_utc().replace_nanosecond(0)? + Duration::days(days_left);
    let leaf = Leaf::new(subject, usage.unwrap_or(Usage::Client)).names(names).valid(to - Duration::days(365), to);
    Ok(authority.issue(&leaf)?)
}

/// Those in kinstall's files, and the two that the kubelet asked for.
fn on_host(host: &Host, authorities: &[Ca], left: impl Fn(Place<'_>) -> Option<i64>) -> Result<()> {
    let list = format!("ls /etc/kinstall/pki/*.crt /etc/kinstall/*.kubeconfig {}", KUBELETS.join(" "));
    let said = host.ssh_ok(&format!("for file in $({list}); do echo $file $(base64 -w0 < $file); done"))?;
    let mut writing = String::new();
    let mut write = |path: &str, text: &str| {
        writing.push_str(&format!("echo {} | base64 -d > {path}\n", STANDARD.encode(text)));
    };
    for (path, text) in said.lines().filter_map(|line| line.split_once(' ')) {
        let text = String::from_utf8(STANDARD.decode(text.trim())?)?;
        let held = in_kubeconfig(&text).into_iter().next();
        let old = held.as_ref().unwrap_or(&text);
        let Some(days) = left(Place::Host(path)).filter(|_| certs::inspect(old).is_ok_and(|info| !info.is_ca)) else {
            continue;
        };
        let new = again(authorities, old, days).with_context(|| format!("{path} on {}", host.name()))?;
        match (held, path.strip_suffix(".crt")) {
            (Some(_), _) => {
                let text = with_credentials(&text, &new.cert_pem, &new.key_pem);
                write(path, &text.with_context(|| format!("{path} holds no key"))?);
            }
            (None, Some(stem)) => {
                write(path, &new.cert_pem);
                write(&format!("{stem}.key"), &new.key_pem);
            }
            (None, None) => write(path, &format!("{}{}", new.cert_pem, new.key_pem)),
        }
    }
    host.ssh_ok(&writing).map(drop)
}
