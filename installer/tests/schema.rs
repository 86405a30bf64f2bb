//! The published schema, the decoder and the example agree.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, Schemas};
use kinstall::cluster::Cluster;
use kinstall::inventory::schema;
use serde_json::{Value, json};

const MAKE: &str = "cargo run -p kinstall -- schema > docs/inventory.schema.json";

/// Whether the schema accepts a YAML text.
struct Judge {
    schemas: Schemas,
    index: boon::SchemaIndex,
}

impl Judge {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("inventory", schema::schema()).unwrap();
        let index = compiler.compile("inventory", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, index }
    }

    fn ask(&self, yaml: &str) -> Result<(), String> {
        let value: Value = serde_yaml::from_str(yaml).unwrap();
        self.schemas.validate(&value, self.index).map_err(|error| error.to_string())
    }
}

fn decode(yaml: &str) -> Result<Cluster, kinstall::inventory::Problems> {
    Cluster::parse(yaml, "inventory.yaml", Path::new("/work"))
}

fn in_repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_published_file_is_what_the_command_prints() {
    let same = in_repository("docs/inventory.schema.json") == schema::text();
    assert!(same, "docs/inventory.schema.json is not the schema of this kinstall; `{MAKE}` writes it anew");
}

const HOSTS: &str = "hosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n";

#[test]
fn both_accept_what_is_good() {
    let judge = Judge::new();
    let example = in_repository("inventory.example.yaml");
    let good = |more: &str| format!("cluster: c\n{HOSTS}{more}");
    for text in [
        example,
        good(""),
        good("ssh:\nnetwork:\nsample: {wordpress: }\nlimits: {hosts: '7', connectTimeout: 90, hostTimeout: 5m}\n"),
        good("ssh: {port: '22', sudo: {passwordEnv: S}}\nbackup: {recipients: [age1n4ejzuhyhzr6rwc6ef02xhfw49c037m00vccfulyjd6tx4dyug9s9qk47c], schedule: daily}\n"),
        good("ssh: {port: \"${KINSTALL_TEST_NO_SUCH_PORT:-22}\"}\nnetwork: {podCidr: \"${KINSTALL_TEST_NO_SUCH_CIDR:-10.1.0.0/16}\"}\n"),
        good("groups: {a: {port: 2222, labels: {n: 1, b: true, e: }, taints: ['a=b:NoSchedule']}, b: }\n"),
        "cluster: c\ngroups: {a: {role: worker}}\nhosts:\n- {name: h1, address: 10.0.0.1, roles: [controlPlane, worker], groups: [a]}\n- {name: h2, address: 10.0.0.2, group: a}\n".to_owned(),
    ] {
        decode(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        judge.ask(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn the_schema_refuses_what_the_decoder_refuses() {
    let judge = Judge::new();
    let good = |more: &str| format!("cluster: c\n{HOSTS}{more}");
    let host =
        |more: &str| format!("cluster: c\nhosts: [{{name: h1, address: 10.0.0.1, role: controlPlane, {more}}}]\n");
    for text in [
        "- a\n".to_owned(),
        HOSTS.to_owned(),
        "cluster: c\n".to_owned(),
        "cluster: c\nhosts: []\n".to_owned(),
        "cluster: c\nhosts: h1\n".to_owned(),
        format!("cluster: My Cluster\n{HOSTS}"),
        format!("cluster: [c]\n{HOSTS}"),
        "cluster: c\nhosts: [{address: 10.0.0.1, role: controlPlane}]\n".to_owned(),
        "cluster: c\nhosts: [{name: h1, role: controlPlane}]\n".to_owned(),
        "cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlplane}]\n".to_owned(),
        "cluster: c\nhosts: [{name: H_1, address: 10.0.0.1, role: controlPlane}]\n".to_owned(),
        "cluster: c\nhosts: [h1]\n".to_owned(),
        host("adress: x"),
        host("port: seventy"),
        host("port: 0"),
        host("port: 70000"),
        host("port: [22]"),
        host("labels: [a]"),
        host("labels: {a: [b]}"),
        host("taints: a=b:NoSchedule"),
        host("taints: [nonsense]"),
        host("taints: ['a=b:Sometimes']"),
        host("hostKeyChecking: never"),
        host("sudo: {password: secret}"),
        host("group: {a: b}"),
        good("ssh: {usr: root}\n"),
        good("groups: [a]\n"),
        good("groups: {a: {name: h2}}\n"),
        good("groups: {a: {rôle: worker}}\n"),
        good("network: {podCidr: 10.244.0.0}\n"),
        good("network: {backend: calico}\n"),
        good("network: {domain: Not_A_Domain}\n"),
        good("ingress: {enabled: perhaps}\n"),
        good("ingress: true\n"),
        good("storage: {defaultclass: true}\n"),
        good("sample: {wordpress: {enabled: 1}}\n"),
        good("sample: {joomla: {}}\n"),
        good("etcd: {endpoints: ['https://e:2379'], caFile: a, certFile: b}\n"),
        good("etcd: {endpoints: ['http://e:2379'], caFile: a, certFile: b, keyFile: c}\n"),
        good("etcd: {endpoints: [], caFile: a, certFile: b, keyFile: c}\n"),
        good("backup: {recipients: [me], schedule: daily}\n"),
        good("backup: {keep: some}\n"),
        good("limits: {hosts: 0}\n"),
        good("limits: {hostTimeout: soon}\n"),
        good("limits: {hostTimeout: 0s}\n"),
        good("limits: {host: 1}\n"),
        good("nonsense: 1\n"),
    ] {
        assert!(decode(&text).is_err(), "the decoder accepts\n{text}");
        assert!(judge.ask(&text).is_err(), "the schema accepts\n{text}");
    }
}

/// The fields that the decoder knows at a place, which it tells of one that it does not know.
fn known(at: &[&str]) -> BTreeSet<String> {
    let inner = at.iter().rev().fold(json!({"zzzqqq": 1}), |inner, step| match *step {
        "[]" => json!([inner]),
        name => json!({name: inner}),
    });
    let error = decode(&inner.to_string()).unwrap_err();
    let message = error.list.iter().find(|problem| problem.path.ends_with("zzzqqq")).map(|problem| &problem.message);
    let message = message.unwrap_or_else(|| panic!("nothing is said of {at:?}: {error}"));
    message.split_once("known here: ").unwrap().1.split(", ").map(str::to_owned).collect()
}

/// Every object of the schema with fixed fields, by the way to it.
fn objects<'s>(
    root: &'s Value,
    schema: &'s Value,
    at: &mut Vec<&'s str>,
    found: &mut Vec<(Vec<String>, BTreeSet<String>)>,
) {
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let schema = choices
        .filter(|choice| choice["$ref"] != "#/$defs/substituted")
        .find(|choice| choice["$ref"].is_string())
        .unwrap_or(schema);
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let Some(properties) = schema["properties"].as_object() {
        found.push((at.iter().map(ToString::to_string).collect(), properties.keys().cloned().collect()));
        for (name, below) in properties {
            at.push(name);
            objects(root, below, at, found);
            at.pop();
        }
    }
    for (step, below) in [("[]", &schema["items"]), ("any", &schema["additionalProperties"])] {
        if below.is_object() {
            at.push(step);
            objects(root, below, at, found);
            at.pop();
        }
    }
}

#[test]
fn the_schema_has_every_field_of_the_decoder_and_no_other() {
    let schema = schema::schema();
    let mut found = Vec::new();
    objects(&schema, &schema, &mut Vec::new(), &mut found);
    assert!(found.len() > 15, "{found:?}");
    for (at, fields) in found {
        let at: Vec<&str> = at.iter().map(String::as_str).collect();
        let mut known = known(&at);
        if at.starts_with(&["groups"]) {
            // known there only to be refused
            known.retain(|field| !["name", "address", "nodeAddress", "group", "groups"].contains(&field.as_str()));
        }
        assert_eq!(fields, known, "installer/src/inventory/schema.rs and the decoder differ in {at:?}");
    }
}
