//! The templates, embedded in the executable.

use std::sync::OnceLock;

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use tera::Tera;

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Renders one template, named by its path below `templates/`.
pub fn render(name: &str, context: &Value) -> anyhow::Result<String> {
    static ENGINE: OnceLock<Result<Tera, String>> = OnceLock::new();
    let engine = ENGINE
        .get_or_init(|| {
            let mut tera = Tera::default();
            tera.autoescape_on(Vec::new());
            tera.add_raw_templates(TEMPLATES.iter().copied()).map_err(|error| format!("{:?}", anyhow!(error)))?;
            Ok(tera)
        })
        .as_ref()
        .map_err(|error| anyhow!("a template is broken: {error}"))?;
    let context = tera::Context::from_value(context.clone())?;
    engine.render(name, &context).with_context(|| format!("cannot render the template {name}"))
}

/// The names of templates in one folder, sorted.
pub fn names(folder: &str) -> Vec<&'static str> {
    TEMPLATES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
        .collect()
}
