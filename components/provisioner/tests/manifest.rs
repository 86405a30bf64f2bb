//! The addon's manifest and this program must agree about flags.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clap::Parser;
use serde::Deserialize;
use serde_json::Value;

#[test]
fn the_manifest_passes_flags_that_exist() {
    let text = include_str!("../../../templates/addons/provisioner.yaml");
    let text = text
        .replace("{{ image }}", "image")
        .replace("{{ dns_ip }}", "10.96.0.10")
        .replace("{{ domain }}", "cluster.local");
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()).collect();
    let workload = documents.iter().find(|one| one["spec"]["template"].is_object()).unwrap();
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"][1], "provisioner");
    let words = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    let words: Vec<String> = std::iter::once("provisioner".to_owned()).chain(words).collect();
    let node = ["--node-name".to_owned(), "n".to_owned()];
    let needs_node = container["env"].as_array().is_some_and(|env| env.iter().any(|one| one["name"] == "NODE_NAME"));
    provisioner::Args::try_parse_from(words.into_iter().chain(node.into_iter().filter(|_| needs_node))).unwrap();
}
