//! Puts a cluster's leaves into the past: the same subjects and names, signed by the same authorities, 400 days ago, in the
//! operator's state directory and on every host.

use std::fs;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{Ca, CertificateInfo, Issued, Leaf, Usage};
use lab::Host;
use time::{Duration, OffsetDateTime};

use crate::Story;

const AUTHORITIES: [&str; 3] = ["ca", "etcd-ca", "front-proxy-ca"];

/// Old text → new text.
type Exchange = Vec<(String, String)>;

pub fn issue_400_days_ago(story: &Story) -> Result<()> {
    let folder = story.operator.path(".kinstall/lab/pki");
    let authorities = authorities(&folder)?;
    let mut exchange = Exchange::new();
    for entry in fs::read_dir(&folder)? {
        let file = entry?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if file.extension().is_none_or(|ending| ending != "crt") || AUTHORITIES.contains(&name.as_str()) {
            continue;
        }
        let key = file.with_extension("key");
        let old = Issued { cert_pem: fs::read_to_string(&file)?, key_pem: fs::read_to_string(&key)? };
        let new = again(&authorities, &old.cert_pem, usage(&name))?;
        fs::write(&file, &new.cert_pem)?;
        fs::write(&key, &new.key_pem)?;
        for (old, new) in [(old.cert_pem, new.cert_pem), (old.key_pem, new.key_pem)] {
            exchange.push((STANDARD.encode(&old), STANDARD.encode(&new)));
            exchange.push((old, new));
        }
    }
    let kubeconfig = story.operator.kubeconfig();
    fs::write(&kubeconfig, exchanged(&exchange, &fs::read_to_string(&kubeconfig)?))?;
    story.lab.hosts().iter().try_for_each(|host| on_host(host, &authorities, &exchange))
}

fn authorities(folder: &std::path::Path) -> Result<Vec<Ca>> {
    let read = |name: &str| {
        let text = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}")));
        anyhow::Ok(Ca::from_pem(&text("crt")?, &text("key")?)?)
    };
    AUTHORITIES.iter().map(|name| read(name).with_context(|| format!("the authority {name}"))).collect()
}

fn usage(name: &str) -> Usage {
    match name {
        _ if name.starts_with("etcd-") => Usage::Both,
        "apiserver-kubelet-client" | "apiserver-etcd-client" => Usage::Client,
        _ if name.starts_with("apiserver") => Usage::Server,
        _ => Usage::Client,
    }
}

fn again(authorities: &[Ca], cert_pem: &str, usage: Usage) -> Result<Issued> {
    let CertificateInfo { subject, dns_names, ip_addresses, .. } = certs::inspect(cert_pem)?;
    let authority = authorities.iter().find(|ca| ca.has_signed(cert_pem)).context("signed by nobody we know")?;
    let names = dns_names.into_iter().chain(ip_addresses.iter().map(ToString::to_string));
    let from = OffsetDateTime::now_utc().replace_nanosecond(0)? - Duration::days(400);
    let leaf = Leaf::new(subject, usage).names(names).valid(from, from + Duration::days(365));
    Ok(authority.issue(&leaf)?)
}

fn exchanged(exchange: &Exchange, text: &str) -> String {
    exchange.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
}

/// Those in kinstall's files, and the two that the kubelet asked for.
fn on_host(host: &Host, authorities: &[Ca], exchange: &Exchange) -> Result<()> {
    let files = host.ssh_ok("ls -d /etc/kinstall/pki/* /etc/kinstall/*.kubeconfig")?;
    for file in files.lines() {
        let old = host.ssh_ok(&format!("cat {file}"))?;
        let new = exchanged(exchange, &old);
        if new != old {
            write(host, file, &new)?;
        }
    }
    for (kind, usage) in [("client", Usage::Client), ("server", Usage::Server)] {
        let file = format!("/var/lib/kubelet/pki/kubelet-{kind}-current.pem");
        let new = again(authorities, &host.ssh_ok(&format!("cat {file}"))?, usage)?;
        write(host, &file, &format!("{}{}", new.cert_pem, new.key_pem))?;
    }
    Ok(())
}

fn write(host: &Host, path: &str, text: &str) -> Result<()> {
    host.ssh_ok(&format!("echo {} | base64 -d > {path}", STANDARD.encode(text))).map(drop)
}
