//! `kinstall kubeconfig`: the administrator's kubeconfig, for the control plane that answers.

use std::time::Duration;

use serde_json::json;

use super::{Ended, Run};
use crate::api::{self, Servers};
use crate::cli::Kubeconfig;
use crate::state::write_private;

pub async fn run(run: &Run<'_>, arguments: &Kubeconfig) -> anyhow::Result<Ended> {
    let mut text = run.kubeconfig()?;
    // with none that answers it stays as it was
    if run.cluster.several_control_planes()
        && let Ok(server) = Servers::open(&text).await?.ready(Duration::ZERO).await
    {
        text = api::with_current(&text, &server.context);
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
