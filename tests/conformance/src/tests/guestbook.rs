//! The guestbook: a front end that writes to a primary and reads from its replicas, each found by the name of its Service.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::containers::shell;
use super::kubectl::{Cli, manifest, running, service};
use super::objects::workload;
use crate::client::JSON;
use crate::context::T;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    let name = "[sig-cli] Kubectl client Guestbook application should create and stop a working application";
    vec![Entry::new(name, guestbook).limit(400)]
}

/// A part of the application: its name, how many, its port, and what answers `/cgi-bin/set?TEXT` and `/cgi-bin/get` there.
struct Part {
    name: &'static str,
    replicas: u32,
    port: u16,
    set: &'static str,
    get: &'static str,
}

const PARTS: [Part; 3] = [
    Part {
        name: "agnhost-primary",
        replicas: 1,
        port: 6379,
        set: "echo \\$QUERY_STRING >> /tmp/book; echo stored",
        get: "cat /tmp/book",
    },
    Part {
        name: "agnhost-replica",
        replicas: 2,
        port: 6379,
        set: "echo read only",
        get: "wget -qO- http://agnhost-primary:6379/cgi-bin/get",
    },
    Part {
        name: "frontend",
        replicas: 3,
        port: 80,
        set: "wget -qO- http://agnhost-primary:6379/cgi-bin/set?\\$QUERY_STRING",
        get: "wget -qO- http://agnhost-replica:6379/cgi-bin/get",
    },
];

impl Part {
    /// The script its containers run.
    fn script(&self) -> String {
        let program = |name: &str, text: &str| {
            format!("printf '%s\\n' '#!/bin/sh' echo \"{text}\" > /w/cgi-bin/{name}; chmod 755 /w/cgi-bin/{name}")
        };
        format!(
            "mkdir -p /w/cgi-bin; touch /tmp/book; {}; {}; exec httpd -f -p {} -h /w",
            program("set", self.set),
            program("get", self.get),
            self.port
        )
    }
}

async fn guestbook(t: Arc<T>) -> Result<()> {
    t.needs_cluster("containers that talk to each other through Services")?;
    let cli = Cli::new(&t)?;
    for part in &PARTS {
        let mut body = workload(&t, part.name, part.replicas, true);
        body["spec"]["template"]["spec"]["containers"][0] = shell(&t, &part.script());
        let probe = json!({"tcpSocket": {"port": part.port}, "periodSeconds": 1});
        body["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe;
        cli.input(&["create", "-f", "-"], &manifest(&Res::DEPLOYMENT, body)).await?.ok()?;
        cli.input(&["create", "-f", "-"], &manifest(&Res::SERVICE, service(part.name, part.port))).await?.ok()?;
    }
    for part in &PARTS {
        running(&t, part.name, part.replicas as usize).await?;
    }
    visit(&t, "set?TestEntry", "stored").await?;
    visit(&t, "get", "TestEntry").await?;
    for part in &PARTS {
        cli.run(&["delete", "deployment,service", "-l", &format!("app={}", part.name)]).await?.ok()?;
        running(&t, part.name, 0).await?;
    }
    Ok(())
}

/// Through the API server's proxy to the front end.
async fn visit(t: &T, page: &str, expected: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/services/frontend:80/proxy/cgi-bin/{page}", t.ns);
    t.eventually("the guestbook", || async {
        let answer = t.api.call("GET", &path, JSON, &Value::Null).await?;
        ensure!(answer.status == 200 && answer.text().contains(expected), "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await
}
