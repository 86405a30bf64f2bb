//! The JSON Schema of inventories, for editors and checks elsewhere: a table of what [`super::decode`] reads.
//!
//! The decoder stays the judge: it knows rules between fields that no schema says, and where the text is wrong. A test asks it
//! for every field it knows, so that none is missing here. A value may be a variable (`${NAME}`) wherever text stands, and
//! a field with nothing after it is as if it were not there.

use serde_json::{Map, Value, json};

use super::hooks;

/// The schema as text, as `docs/inventory.schema.json` has it.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// JSON Schema, draft 2020-12, of an inventory of one document.
pub fn schema() -> Value {
    let mut schema = object("An inventory of kinstall: the hosts of one cluster", &["cluster", "hosts"], root());
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("kinstall inventory");
    schema["$defs"] = json!({
        "substituted": {
            "description": "A value with a variable of the environment in it: ${NAME} or ${NAME:-default}",
            "type": "string",
            "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
        },
        "host": object("A host", &["name", "address"], host()),
        "group": object("Fields that hosts of this group have", &[], shared()),
    });
    schema
}

type Field = (&'static str, Value);

const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const DOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const IPV4_RANGE: &str = r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$";
const URL: &str = "^https?://";
const TAINT: &str = "^[^:=]+(=[^:=]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$";

fn root() -> Vec<Field> {
    vec![
        ("cluster", limited(pattern("The cluster's name; its keys and state live in .kinstall/<name>/", NAME), 40)),
        ("version", scalar("The Kubernetes version that is expected")),
        ("bundle", scalar("The file that is sent to the hosts")),
        ("bundleKey", scalar("minisign's public key of who has to have signed it")),
        ("ssh", optional(object("How to reach the hosts; each field can also stand in a host or a group", &[], ssh()))),
        (
            "groups",
            map("Fields that several hosts share, by the group's name", json!({"anyOf": [{"$ref": "#/$defs/group"}]})),
        ),
        (
            "hosts",
            json!({"description": "The hosts", "type": "array", "minItems": 1, "items": {"$ref": "#/$defs/host"}}),
        ),
        (
            "etcd",
            optional(object(
                "An etcd that somebody else runs, instead of the control planes' own store",
                &["endpoints", "caFile", "certFile", "keyFile"],
                vec![
                    (
                        "endpoints",
                        json!({"description": "Its clients' URLs", "type": "array", "minItems": 1, "items": pattern("A URL", "^https://")}),
                    ),
                    ("caFile", scalar("Who signs its servers' certificates")),
                    ("certFile", scalar("The client's certificate")),
                    ("keyFile", scalar("The client's key")),
                ],
            )),
        ),
        (
            "network",
            optional(object(
                "What the cluster hands out",
                &[],
                vec![
                    ("podCidr", pattern("The range of pods' addresses; every node takes a /24", IPV4_RANGE)),
                    ("serviceCidr", pattern("The range of Services' addresses", IPV4_RANGE)),
                    ("backend", choice("How pods reach those of other nodes", &["vxlan", "host-gw"])),
                    ("domain", pattern("The cluster's domain", DOMAIN)),
                ],
            )),
        ),
        (
            "ingress",
            optional(object(
                "The ingress controller",
                &[],
                vec![("enabled", boolean("Whether it runs on every node"))],
            )),
        ),
        (
            "storage",
            optional(object(
                "Local volumes",
                &[],
                vec![("defaultClass", boolean("Whether claims that name no class use kinstall-local"))],
            )),
        ),
        (
            "sample",
            optional(object(
                "What is deployed as a proof",
                &[],
                vec![(
                    "wordpress",
                    optional(object(
                        "WordPress with MariaDB",
                        &[],
                        vec![
                            ("enabled", boolean("Whether it is there")),
                            ("host", scalar("The Ingress rule's host; \"\" answers to any name")),
                            (
                                "images",
                                optional(object(
                                    "Images that are not the bundle's",
                                    &[],
                                    vec![
                                        ("wordpress", scalar("WordPress's image")),
                                        ("mariadb", scalar("MariaDB's image")),
                                    ],
                                )),
                            ),
                        ],
                    )),
                )],
            )),
        ),
        (
            "backup",
            optional(object(
                "Backups that every control plane makes by itself",
                &[],
                vec![
                    ("schedule", scalar("When: a calendar time of systemd")),
                    ("keep", number("How many stay on each control plane", 1)),
                    ("recipients", list("Public keys of age", pattern("A public key", "^age1"))),
                    ("directory", pattern("Where they are kept", "^/")),
                ],
            )),
        ),
        ("registries", list("How the container runtime reaches image registries", registry())),
        (
            "proxy",
            optional(object(
                "What the container runtime reaches registries through",
                &[],
                vec![
                    ("http", pattern("For plain connections", URL)),
                    ("https", pattern("For encrypted connections", URL)),
                    ("noProxy", list("What is reached without it", scalar("A host, domain or range"))),
                ],
            )),
        ),
        ("hooks", list("What is run when kinstall comes to certain points", hook())),
        (
            "limits",
            optional(object(
                "How much at once, and how long",
                &[],
                vec![
                    ("hosts", number("Hosts that are worked on at once", 1)),
                    ("uploads", number("Uploads at once", 1)),
                    ("peers", boolean("Hosts pass the bundle on to each other, unencrypted; default: true")),
                    ("connectTimeout", duration("How long a host may take to answer")),
                    ("hostTimeout", duration("How long everything on one host may take")),
                    ("readyTimeout", duration("How long nodes and addons may take to become ready")),
                ],
            )),
        ),
    ]
}

fn hook() -> Value {
    fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
        choices.iter().map(|(word, _)| *word).collect()
    }
    let mut schema = object(
        "One hook",
        &["name", "stage", "when"],
        vec![
            ("name", scalar("What it is called in messages")),
            ("stage", choice("What it belongs to", &words(hooks::STAGES))),
            ("when", choice("Before it, or after it went well", &words(hooks::WHEN))),
            ("run", scalar("A text for the shell")),
            ("file", scalar("A file with a text for the shell")),
            ("on", choice("Where it runs: here, or as root on the hosts that the stage is about", &words(hooks::ON))),
            ("timeout", duration("How long it may take")),
            ("onFailure", choice("Whether the run stops when it fails", &words(hooks::ON_FAILURE))),
        ],
    );
    schema["oneOf"] = json!([{"required": ["run"]}, {"required": ["file"]}]);
    schema
}

fn registry() -> Value {
    object(
        "One registry",
        &["name"],
        vec![
            ("name", scalar("As image names have it, such as docker.io; \"*\" for all others")),
            ("mirrors", list("Asked first, in this order", pattern("A URL", URL))),
            ("caFile", scalar("Who signs the mirrors' and the registry's certificates")),
            ("skipVerify", boolean("Whether their certificates are not looked at")),
            ("username", scalar("Who asks")),
            ("passwordFile", scalar("A file with the password")),
            ("passwordEnv", scalar("A variable of the environment with the password")),
        ],
    )
}

fn host() -> Vec<Field> {
    let mut fields = vec![
        ("name", limited(pattern("The host's name, and the Node's", NAME), 63)),
        ("address", scalar("What SSH dials: an address or a name")),
        ("nodeAddress", scalar("The address other hosts reach this one by; default: `address`")),
        ("group", one_or_many("The group whose fields it has", scalar("A group"))),
        ("groups", one_or_many("The groups whose fields it has; later ones are stronger", scalar("A group"))),
    ];
    fields.extend(shared());
    fields
}

/// What hosts and groups say.
fn shared() -> Vec<Field> {
    let role = || choice("A role", &["controlPlane", "worker"]);
    let mut fields = vec![
        ("role", one_or_many("What the host is for", role())),
        ("roles", one_or_many("What the host is for", role())),
        ("labels", map("Labels of the Node", scalar("A label's value"))),
        ("taints", list("Taints of the Node", pattern("key=value:Effect", TAINT))),
    ];
    fields.extend(ssh());
    fields
}

fn ssh() -> Vec<Field> {
    let mut fields = way();
    let bastion = [vec![("address", scalar("An address, a name, or an alias of ssh_config"))], way()].concat();
    let bastion = object("A host on the way", &["address"], bastion);
    let login = json!({"description": "[user@]host[:port], several with commas between, or none", "type": "string"});
    let item = json!({"anyOf": [login, bastion]});
    fields.push(("bastion", one_or_many("Hosts on the way, the first one first", item)));
    fields
}

fn way() -> Vec<Field> {
    let mut sudo = vec![("command", choice("What makes the user root", &["sudo", "doas"]))];
    sudo.extend(password());
    let mut fields = vec![
        ("user", scalar("Who logs in")),
        ("port", ranged("Where SSH listens", 1, 65535)),
        ("configFile", scalar("Read instead of the user's and the system's ssh_config; none: no ssh_config counts")),
        ("identityFile", scalar("The private key's file")),
        ("certificateFile", scalar("The file of the key's certificate")),
        ("identitiesOnly", boolean("Whether the agent's other keys are left out")),
        ("passphraseFile", scalar("The file with the key's passphrase")),
        ("passphraseEnv", scalar("The environment variable with the key's passphrase")),
        ("passphraseCommand", scalar("The command that prints the key's passphrase")),
        ("passphrasePrompt", boolean("Whether a person is asked for the passphrase of the keys")),
        ("knownHostsFile", scalar("The file with the keys of known hosts")),
        ("hostKeyChecking", choice("What happens to hosts whose key is not known", &["strict", "accept-new"])),
        ("sudo", optional(object("For users other than root", &[], sudo))),
    ];
    fields.extend(password());
    fields
}

fn password() -> Vec<Field> {
    vec![
        ("passwordFile", scalar("The file with the password")),
        ("passwordEnv", scalar("The environment variable with the password")),
        ("passwordCommand", scalar("The command that prints the password")),
        ("passwordPrompt", boolean("Whether a person is asked for the password")),
    ]
}

fn object(description: &str, required: &[&str], fields: Vec<Field>) -> Value {
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), if required.contains(&name) { schema } else { optional(schema) }))
        .collect();
    let mut schema = json!({
        "description": description, "type": "object", "properties": properties, "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// As the decoder takes it: with nothing after the field's name, too.
fn optional(mut schema: Value) -> Value {
    let null = |schema: &mut Value| match &schema["type"] {
        Value::String(one) => schema["type"] = json!([one, "null"]),
        Value::Array(several) if !several.contains(&json!("null")) => {
            let several: Vec<_> = several.iter().cloned().chain([json!("null")]).collect();
            schema["type"] = json!(several);
        }
        _ => {}
    };
    match schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        Some(choices) if !choices.contains(&json!({"type": "null"})) => choices.push(json!({"type": "null"})),
        Some(_) => {}
        None => null(&mut schema),
    }
    schema
}

/// Any single value: YAML's numbers and booleans are text to the decoder.
fn scalar(description: &str) -> Value {
    json!({"description": description, "type": ["string", "number", "boolean"]})
}

/// One of these forms, or a variable that brings one.
fn forms(description: &str, mut forms: Vec<Value>) -> Value {
    forms.push(json!({"$ref": "#/$defs/substituted"}));
    json!({"description": description, "anyOf": forms})
}

fn pattern(description: &str, pattern: &str) -> Value {
    forms(description, vec![json!({"type": "string", "pattern": pattern})])
}

fn limited(mut schema: Value, length: usize) -> Value {
    schema["anyOf"][0]["maxLength"] = json!(length);
    schema
}

fn choice(description: &str, words: &[&str]) -> Value {
    forms(description, vec![json!({"enum": words})])
}

fn boolean(description: &str) -> Value {
    forms(description, vec![json!({"enum": [true, false, "true", "false"]})])
}

fn number(description: &str, minimum: u64) -> Value {
    forms(
        description,
        vec![
            json!({"type": "integer", "minimum": minimum}),
            json!({"type": "string", "pattern": "^[0-9]*[1-9][0-9]*$"}),
        ],
    )
}

fn ranged(description: &str, minimum: u64, maximum: u64) -> Value {
    let mut schema = number(description, minimum);
    schema["anyOf"][0]["maximum"] = json!(maximum);
    schema
}

fn duration(description: &str) -> Value {
    let text = json!({"type": "string", "pattern": "^[0-9]*[1-9][0-9]*[smh]?$"});
    forms(description, vec![json!({"type": "integer", "minimum": 1}), text])
}

fn list(description: &str, items: Value) -> Value {
    json!({"description": description, "type": "array", "items": items})
}

fn map(description: &str, values: Value) -> Value {
    json!({"description": description, "type": "object", "additionalProperties": optional(values)})
}

fn one_or_many(description: &str, item: Value) -> Value {
    json!({"description": description, "anyOf": [item.clone(), {"type": "array", "items": item}]})
}
