//! The cluster beside others in the operator's own kubeconfig, as the real kubectl sees it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::Story;

const OTHERS: &str = "apiVersion: v1
kind: Config
clusters:
- {name: work, cluster: {server: 'https://192.0.2.1:6443'}}
users:
- {name: kubernetes-admin, user: {token: work}}
contexts:
- {name: work, context: {cluster: work, user: kubernetes-admin}}
current-context: work
";

pub fn into_a_kubeconfig_with_other_clusters(story: &Story) -> Result<()> {
    let file = story.operator.path("merged/config");
    std::fs::create_dir_all(file.parent().context("no parent")?)?;
    let kubectl = |args: &[&str]| at(story, &file, args);
    std::fs::write(&file, OTHERS)?;

    let merge = format!("--merge={}", file.display());
    story.operator.ok(&["kubeconfig", "-i", "inventory.yaml", &merge])?;
    ensure!(
        e2e::operator::ready(&kubectl(&["get", "nodes", "--no-headers"])?).len() == 3,
        "the cluster is not current"
    );
    kubectl(&["config", "set-context", "--current", "--namespace=kube-system"])?;
    let said = story.operator.ok(&["kubeconfig", "-i", "inventory.yaml", &merge, "--output", "yaml"])?;
    ensure!(said.contains("context: kubernetes-admin@lab\n") && said.contains("gone: []\n"), "{said}");

    let contexts = kubectl(&["config", "get-contexts", "-o", "name"])?;
    ensure!(contexts == "kubernetes-admin@lab\nwork\n", "{contexts}");
    ensure!(kubectl(&["get", "pods", "-o", "name"])?.contains("kinstall-dns"), "the chosen namespace is lost");
    let token =
        kubectl(&["config", "view", "--raw", "--minify", "--context=work", "-o", "jsonpath={.users[0].user.token}"])?;
    ensure!(token == "work", "the other cluster's user is changed: {token}");
    Ok(())
}

/// kubectl with that file instead of the cluster's own.
fn at(story: &Story, file: &Path, args: &[&str]) -> Result<String> {
    let file = file.to_str().context("the path is no text")?;
    story.operator.kubectl(&[&["--kubeconfig", file], args].concat())
}
