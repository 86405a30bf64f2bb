//! `kinstall kubeconfig`: the administrator's kubeconfig, for the control plane that answers.

mod file;
mod merge;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use self::merge::Owner;
use super::{Ended, Run};
use crate::api::{self, Servers};
use crate::cli::Kubeconfig;
use crate::state::write_private;

/// As long as control planes that have just lost one agree on who leads, none of them is ready.
const AGREEING: Duration = Duration::from_secs(8);

pub async fn run(run: &Run<'_>, arguments: &Kubeconfig) -> anyhow::Result<Ended> {
    let mut text = run.kubeconfig()?;
    if run.cluster.several_control_planes() {
        text = at_who_answers(text, AGREEING).await?;
    }
    if let Some(given) = &arguments.merge {
        return merged(run, given.as_deref(), &text);
    }
    match &arguments.out {
        Some(path) => {
            write_private(path, text.as_bytes())?;
            run.printer.event("kubeconfig", &format!("written to {}", path.display()), json!({"file": path}));
        }
        None => run.printer.result(&text, &json!({"event": "kubeconfig", "kubeconfig": text})),
    }
    Ok(Ended::Done)
}

fn merged(run: &Run<'_>, given: Option<&Path>, ours: &str) -> anyhow::Result<Ended> {
    let path = file::chosen(given, std::env::var_os("KUBECONFIG").as_deref(), std::env::home_dir())?;
    let owner = Owner {
        cluster: run.cluster.name.clone(),
        id: run.state.identity()?.id,
        directory: run.cluster.directory.display().to_string(),
    };
    let merged = file::change(&path, |there| {
        let merged = merge::merge(there, ours, &owner)?;
        Ok((merged.text.clone(), merged))
    })?;
    let mut text = format!("{} is the current context of {}", merged.context, path.display());
    if !merged.gone.is_empty() {
        text.push_str(&format!("\ntook out, because the cluster no longer has them: {}", merged.gone.join(", ")));
    }
    let fields = json!({"event": "kubeconfig", "file": path, "context": merged.context, "gone": merged.gone});
    run.printer.result(&text, &fields);
    Ok(Ended::Done)
}

/// With none that answers it stays as it was.
async fn at_who_answers(kubeconfig: String, patience: Duration) -> anyhow::Result<String> {
    Ok(match Servers::open(&kubeconfig).await?.ready(patience).await {
        Ok(server) => api::with_current(&kubeconfig, &server.context),
        Err(_) => kubeconfig,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that is not ready at first, as a control plane of which another one was just lost.
    async fn ready_at_the_second_question(listener: TcpListener) {
        for status in std::iter::once("500 Internal Server Error").chain(std::iter::repeat("200 OK")) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // who gave up meanwhile asks again
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    #[tokio::test]
    async fn a_control_plane_that_will_be_ready_in_a_moment_is_named_before_one_that_is_gone() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lives = listener.local_addr().unwrap();
        let part = |name: &str, address: std::net::SocketAddr| {
            (
                format!("- {{name: {name}, cluster: {{server: 'http://{address}'}}}}\n"),
                format!("- {{name: {name}@c, context: {{cluster: {name}, user: admin}}}}\n"),
            )
        };
        let ((cluster1, context1), (cluster2, context2)) = (part("h1", gone), part("h2", lives));
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n{cluster1}{cluster2}contexts:\n{context1}{context2}users:\n\
             - {{name: admin, user: {{}}}}\ncurrent-context: h1@c\n"
        );
        tokio::spawn(ready_at_the_second_question(listener));
        let found = at_who_answers(kubeconfig, Duration::from_secs(60)).await.unwrap();
        assert!(found.contains("current-context: h2@c\n"), "{found}");
    }
}
