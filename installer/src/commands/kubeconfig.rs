//! `kinstall kubeconfig`: the administrator's kubeconfig.

use serde_json::json;

use super::{Ended, Run};
use crate::cli::Kubeconfig;
use crate::state::write_private;

pub fn run(run: &Run<'_>, arguments: &Kubeconfig) -> anyhow::Result<Ended> {
    let text = run.kubeconfig()?;
    match &arguments.out {
        Some(path) => {
            write_private(path, text.as_bytes())?;
            run.printer.event("kubeconfig", &format!("written to {}", path.display()), json!({"file": path}));
        }
        None => run.printer.result(&text, &json!({"event": "kubeconfig", "kubeconfig": text})),
    }
    Ok(Ended::Done)
}
