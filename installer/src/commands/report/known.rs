//! The secrets of a cluster that this machine can know: their values are looked for in whatever goes into a report.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use serde_json::Value;

use crate::cluster::{Cluster, Ssh};
use crate::ssh::secrets::at_hand;
use crate::state::StateDir;

/// Shorter ones would take half of the words out of a log; where they stand they are known by their names.
const SHORTEST: usize = 8;
/// Keys of Secrets whose values are names, numbers or public.
const PUBLIC: [&str; 9] = [
    "namespace",
    "ca.crt",
    "tls.crt",
    "username",
    "token-id",
    "description",
    "expiration",
    "auth-extra-groups",
    "type",
];

/// Of the state directory and the inventory.
pub fn here(cluster: &Cluster, state: &StateDir) -> Vec<String> {
    let mut values = Vec::new();
    let keys = fs::read_dir(state.path().join("pki")).into_iter().flatten().flatten();
    for entry in keys.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "key")) {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        values.extend(text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
        values.push(STANDARD.encode(&text));
    }
    if let Ok(Some(wordpress)) = state.read::<Value>("wordpress.json") {
        let passwords = wordpress.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("assword"));
        values.extend(passwords.filter_map(|(_, value)| value.as_str().map(str::to_owned)));
    }
    let mut of_ssh = |ssh: &Ssh| {
        for secret in [&ssh.password, &ssh.sudo_password, &ssh.passphrase] {
            values.extend(at_hand(secret).ok().flatten());
        }
    };
    for host in &cluster.hosts {
        of_ssh(&host.ssh);
        host.ssh.bastion.iter().flatten().for_each(|bastion| of_ssh(&bastion.ssh));
    }
    for registry in &cluster.registries {
        if let Ok(Some(password)) = at_hand(&registry.password) {
            // as the runtime's configuration has it
            values.extend(registry.username.as_ref().map(|user| STANDARD.encode(format!("{user}:{password}"))));
            values.push(password);
        }
    }
    with_encoded(values)
}

/// Of the API's Secrets. They are read to be looked for, and go nowhere.
pub async fn in_api(client: &Client) -> anyhow::Result<Vec<String>> {
    let list: Value = client.request(http::Request::get("/api/v1/secrets").body(Vec::new())?).await?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(with_encoded(items.flat_map(of_secret).collect()))
}

fn of_secret(secret: &Value) -> Vec<String> {
    let data = secret["data"].as_object().into_iter().flatten();
    data.filter(|(key, _)| !PUBLIC.contains(&key.as_str()) && !key.starts_with("usage-"))
        .filter_map(|(_, value)| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok())
        .flat_map(|value| {
            // what has many lines is looked for line by line: logs and JSON break it elsewhere
            let lines: Vec<String> = value.lines().map(|line| line.trim().to_owned()).collect();
            lines.into_iter().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>()
        })
        .collect()
}

/// As they are, and as Secrets and kubeconfigs write them.
fn with_encoded(values: Vec<String>) -> Vec<String> {
    let long = values.into_iter().map(|value| value.trim().to_owned()).filter(|value| value.len() >= SHORTEST);
    long.flat_map(|value| [STANDARD.encode(&value), value]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_secrets_are_known_and_names_are_not() {
        let secret = json!({"data": {
            "password": STANDARD.encode("correct-horse"), "namespace": STANDARD.encode("kube-system"), "short": STANDARD.encode("abc"),
            "tls.key": STANDARD.encode("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n-----END PRIVATE KEY-----\n"),
        }});
        let values = with_encoded(of_secret(&secret));
        let expected =
            ["correct-horse", "MIIEvQIBADAN"].map(|value| [STANDARD.encode(value), value.to_owned()]).concat();
        assert_eq!(values, expected);
    }

    #[test]
    fn what_is_kept_here_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "c");
        state.create().unwrap();
        fs::write(
            state.path().join("pki/ca.key"),
            "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        fs::write(directory.path().join("password"), "sudo-password\n").unwrap();
        let wordpress = state.wordpress().unwrap();
        let text = "cluster: c\nssh: {user: u, sudo: {passwordFile: password}}\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n";
        let cluster = Cluster::parse(text, "i", directory.path()).unwrap();
        let values = here(&cluster, &state);
        for wanted in ["MIIEvQIBADANBg", "sudo-password", &wordpress.admin_password, &wordpress.database_root_password]
        {
            assert!(values.iter().any(|value| value == wanted), "{wanted} is missing");
        }
        assert!(!values.iter().any(|value| value == "admin"), "a name");
    }
}
