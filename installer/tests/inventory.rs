//! Inventories as people write them: every problem at once, each where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use kinstall::cluster::{Become, CONTROL_PLANE_TAINT, Cluster, ConfigFile, Secret};
use kinstall::inventory::substitute::Variables;

fn problems(text: &str) -> Vec<String> {
    let error = Cluster::parse(text, "inventory.yaml", Path::new("/work")).unwrap_err();
    error.list.iter().map(|p| format!("{}:{} {} {}", p.pos.line, p.pos.column, p.path, p.message)).collect()
}

fn good(text: &str) -> Cluster {
    Cluster::parse(text, "inventory.yaml", Path::new("/work")).unwrap()
}

#[test]
fn the_example_parses_and_its_hosts_are_resolved() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../inventory.example.yaml")).unwrap();
    let cluster = good(&text);
    assert_eq!(cluster.hosts.len(), 3);
    assert_eq!(cluster.hosts[0].taints, [CONTROL_PLANE_TAINT]);
    assert_eq!((cluster.hosts[1].labels["disk"].as_str(), cluster.hosts[1].labels["zone"].as_str()), ("ssd", "edge"));
    assert!(cluster.hosts[1].worker);
    assert_eq!((cluster.hosts[2].ssh.user.as_deref(), cluster.hosts[2].ssh.port), (Some("admin"), Some(2222)));
    assert_eq!(cluster.hosts[2].node_address.to_string(), "10.99.0.13");
    assert_eq!(cluster.network.dns_ip().to_string(), "10.96.0.10");
    assert_eq!(cluster.wordpress.unwrap().host, "wordpress.local");
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text = "\
cluster: My Cluster
hosts:
  - name: h1
    adress: 10.99.0.11
    role: controlplane
  - name: h1
    address: 10.99.0.12
    role: worker
    port: seventy
network:
  podCidr: 10.96.0.0/12
";
    let found = problems(text);
    let expected = [
        "1:10 cluster \"My Cluster\" is no name",
        "hosts[0].address is required",
        "4:5 hosts[0].adress unknown field; did you mean \"address\"?",
        "5:11 hosts[0].role expected controlPlane or worker, found \"controlplane\"; did you mean \"controlPlane\"?",
        "6:11 hosts[1].name \"h1\" is already the host at line 3",
        "9:11 hosts[1].port expected a port from 1 to 65535, found \"seventy\"",
        "network podCidr 10.96.0.0/12 and serviceCidr 10.96.0.0/16 overlap",
    ];
    for part in expected {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part:?} is missing in {found:#?}");
    }
}

#[test]
fn control_planes_are_one_three_or_five() {
    let inventory = |control_planes: u8| {
        let host = |index| {
            let role = if index <= control_planes { "controlPlane" } else { "worker" };
            format!("- {{name: h{index}, address: 10.0.0.{index}, role: {role}}}\n")
        };
        format!("cluster: c\nhosts:\n{}", (1..8).map(host).collect::<String>())
    };
    assert!(problems(&inventory(0))[0].contains("one host needs"));
    let refused =
        [(2, "when either is lost the other has no majority"), (4, "worse than three"), (6, "slower"), (7, "slower")];
    for (number, why) in refused {
        let found = problems(&inventory(number));
        assert!(found.len() == 1 && found[0].contains(why), "{found:?}");
        assert!(found[0].starts_with(&format!("{}:", number + 2)), "at the last of them: {found:?}");
    }
    let one = good("cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n");
    assert!(one.hosts[0].worker && one.hosts[0].taints.is_empty(), "the only host also works");
    assert!(!one.runs_etcd() && one.node_api_url().unwrap() == "https://10.0.0.1:6443");
    for number in [3, 5] {
        let several = good(&inventory(number));
        assert!(several.runs_etcd() && several.node_api_url().unwrap() == "https://127.0.0.1:6444");
        let endpoints = several.etcd_endpoints(&several.hosts[1]);
        assert_eq!(
            (endpoints.len(), endpoints[0].as_str()),
            (usize::from(number), "https://10.0.0.2:2379"),
            "the own first"
        );
        assert_eq!(several.api_addresses(&several.hosts[6])[0], "10.0.0.1:6443");
    }
}

#[test]
fn an_external_etcd_is_whole_and_finds_its_majority_itself() {
    let hosts = "cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}, {name: h2, address: 10.0.0.2, role: controlPlane}]\n";
    let cluster = good(&format!(
        "{hosts}etcd: {{endpoints: ['https://e1:2379', 'https://e2:2379'], caFile: etcd/ca.crt, certFile: /c.crt, keyFile: /c.key}}\n"
    ));
    let etcd = cluster.external_etcd.as_ref().unwrap();
    assert_eq!(etcd.ca_file, Path::new("/work/etcd/ca.crt"));
    assert!(!cluster.runs_etcd() && cluster.several_control_planes());
    assert_eq!(cluster.etcd_endpoints(&cluster.hosts[1]), ["https://e1:2379", "https://e2:2379"]);
    let found =
        problems(&format!("{hosts}etcd: {{endpoints: ['http://e1:2379', 'https://e2'], caFile: a, keyfile: b}}\n"));
    for part in
        ["found \"http://e1:2379\"", "found \"https://e2\"", "etcd.certFile is required", "did you mean \"keyFile\""]
    {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part:?} is missing in {found:#?}");
    }
    assert!(problems(&format!("{hosts}etcd: {{caFile: a, certFile: b, keyFile: c}}\n"))[0].contains("at least one"));
}

#[test]
fn other_mistakes() {
    for (text, part) in [
        ("cluster: [\n", "not YAML"),
        ("cluster: a\ncluster: b\n", "already set at line 1"),
        ("- a\n", "expected fields"),
        ("cluster: c\nhosts: h1\n", "expected a list"),
        ("cluster: c\nhosts: []\n", "at least one host"),
        ("cluster: c\nversion: v1.30\nhosts: []\n", "not v1.30"),
        ("cluster: c\nhosts: [{name: h1, address: h1.example, role: controlPlane}]\n", "nodeAddress is required"),
        ("cluster: c\nhosts: [{name: h1, address: 10.244.0.3, role: controlPlane}]\n", "inside network.podCidr"),
        (
            "cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane, taints: [nonsense]}]\n",
            "key=value:Effect",
        ),
        ("cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n---\na: 1\n", "4:1 a unknown field"),
        ("", "cluster is required"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.contains(part)), "{text:?}: {part:?} is missing in {found:#?}");
    }
}

#[test]
fn sample_stands_for_itself() {
    let hosts = "cluster: c\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n";
    assert!(good(hosts).wordpress.is_none());
    assert!(good(&format!("{hosts}sample:\n  wordpress:\n")).wordpress.is_some());
    assert!(good(&format!("{hosts}sample: {{wordpress: {{enabled: false}}}}\n")).wordpress.is_none());
}

/// Variables of a test.
struct These(&'static [(&'static str, &'static str)]);

impl Variables for These {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn with(text: &str, variables: These) -> Result<Cluster, Vec<String>> {
    Cluster::parse_with(text, &variables, "inventory.yaml", Path::new("/work")).map_err(|error| {
        error.list.iter().map(|p| format!("{}:{} {} {}", p.pos.line, p.pos.column, p.path, p.message)).collect()
    })
}

#[test]
fn variables_stand_in_values_and_cannot_change_the_files_meaning() {
    let text = "\
cluster: ${NAME:-demo}
bundle: ${BUNDLE:-}
ssh: {port: \"${PORT}\", user: '${USER_NAME}'}
hosts:
- {name: h1, address: \"10.0.0.${LAST}\", role: controlPlane, labels: {a: '$${b}', c: \"${TRICK}\"}}
";
    let problem =
        with(text, These(&[("PORT", "x"), ("USER_NAME", "admin"), ("LAST", "1"), ("TRICK", "d}, role: worker")]));
    let found = problem.unwrap_err();
    assert_eq!(found[0], "3:13 ssh.port expected a port from 1 to 65535, found \"x\"");
    assert!(found[1].contains("hosts[0].labels.a \"${b}\" is no label value"), "{found:?}");
    assert!(found[2].contains("hosts[0].labels.c \"d}, role: worker\" is no label value"), "{found:?}");
    let good = These(&[("PORT", "2222"), ("USER_NAME", "admin"), ("LAST", "1"), ("TRICK", "d"), ("NAME", "")]);
    let text = text.replace("'$${b}'", "b");
    let cluster = with(&text, good).unwrap();
    assert_eq!((cluster.name.as_str(), cluster.bundle.as_ref()), ("demo", None));
    let host = &cluster.hosts[0];
    assert_eq!(
        (host.address.as_str(), host.ssh.port, host.ssh.user.as_deref()),
        ("10.0.0.1", Some(2222), Some("admin"))
    );
}

#[test]
fn every_variable_that_is_missing_is_told_with_its_place() {
    let text =
        "cluster: ${NAEM}\nbundle: \"b-${VERSION}.zst\"\nhosts: [{name: h1, address: ${H1, role: controlPlane}]\n";
    let found = with(text, These(&[("NAME", "x")])).unwrap_err();
    assert!(found.len() == 1 && found[0].ends_with("a value with ${…} needs quotes"), "{found:?}");
    let text = text.replace("${H1,", "\"${H1\",");
    let found = with(&text, These(&[("NAME", "x")])).unwrap_err();
    let expected = [
        "1:10  the environment variable NAEM is not set; did you mean NAME?",
        "2:12  the environment variable VERSION",
        "3:30  \"${\" without",
    ];
    assert_eq!(found.len(), 3, "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found:?} instead of {expected:?}");
    }
}

#[test]
fn several_documents_are_one_inventory() {
    let text = "cluster: c\nssh: {user: admin}\n---\nhosts: [{name: h1, address: 10.0.0.1, role: controlPlane}]\n---\n# nothing\n---\nhosts: [{name: h2, address: 10.0.0.2, role: worker}]\n";
    let cluster = good(text);
    let hosts: Vec<_> = cluster.hosts.iter().map(|host| (host.name.as_str(), host.ssh.user.as_deref())).collect();
    assert_eq!(hosts, [("h1", Some("admin")), ("h2", Some("admin"))]);
    let found = problems(&format!("{text}---\nssh: {{port: 22}}\nhosts: {{}}\n---\n- x\n"));
    assert_eq!(
        found,
        [
            "10:1 ssh \"ssh\" is already set at line 2; each field may stand in one of the documents",
            "11:1 hosts \"hosts\" is already set at line 4; each field may stand in one of the documents",
            "13:1  expected fields (`name: value`), found a list",
        ]
    );
}

#[test]
fn hosts_have_the_fields_of_their_groups() {
    let text = "\
cluster: c
ssh: {user: all, port: 2200}
groups:
  base: {user: base, role: worker, labels: {zone: a, disk: hdd}, taints: [a=b:NoSchedule], sudo: {passwordEnv: S}}
  fast: {port: 2222, labels: {disk: ssd}, taints: [c:NoExecute]}
hosts:
- {name: h1, address: 10.0.0.1, role: controlPlane}
- {name: h2, address: 10.0.0.2, group: base}
- {name: h3, address: 10.0.0.3, groups: [base, fast], labels: {zone: b}, taints: [own:NoSchedule]}
- {name: h4, address: 10.0.0.4, groups: [fast, base], roles: [worker], user: own, port: 4}
";
    let cluster = good(text);
    let shown: Vec<_> = cluster
        .hosts
        .iter()
        .map(|host| (host.ssh.user.as_deref().unwrap(), host.ssh.port.unwrap(), host.worker))
        .collect();
    assert_eq!(shown, [("all", 2200, false), ("base", 2200, true), ("base", 2222, true), ("own", 4, true)]);
    let labels = |index: usize| {
        let labels = &cluster.hosts[index].labels;
        (labels.get("zone").map(String::as_str), labels.get("disk").map(String::as_str))
    };
    assert_eq!(
        (labels(1), labels(2), labels(3)),
        ((Some("a"), Some("hdd")), (Some("b"), Some("ssd")), (Some("a"), Some("hdd")))
    );
    assert_eq!(cluster.hosts[2].taints, ["own:NoSchedule", "c:NoExecute", "a=b:NoSchedule"]);
    assert_eq!(cluster.hosts[3].ssh.sudo_password, kinstall::cluster::Secret::Environment("S".into()));
}

#[test]
fn what_is_wrong_in_a_group_is_told_once_and_where_it_stands() {
    let text = "\
cluster: c
groups:
  base:
    usr: x
    port: many
    name: h9
    labels: {'-': b}
hosts:
- {name: h1, address: 10.0.0.1, role: controlPlane, group: base}
- {name: h2, address: 10.0.0.2, role: worker, groups: [base, bsae, other]}
";
    let found = problems(text);
    let expected = [
        "4:5 groups.base.usr unknown field; did you mean \"user\"?",
        "5:11 groups.base.port expected a port from 1 to 65535, found \"many\"",
        "6:11 groups.base.name is of one host alone and cannot stand in a group",
        "7:14 hosts[0].labels \"-\" is no label key",
        "10:62 hosts[1].groups[1] there is no group \"bsae\"; did you mean \"base\"?",
        "10:68 hosts[1].groups[2] there is no group \"other\"; name it under `groups`",
    ];
    assert_eq!(found, expected);
    assert!(
        problems("cluster: c\ngroups: [a]\nhosts: []\n")[0].contains("groups expected names with the fields of hosts")
    );
}

#[test]
fn how_hosts_are_reached() {
    let text = "\
cluster: c
ssh:
  passphraseCommand: pass show key
  bastion: a@one,[2001:db8::1]:24
  identityFile: keys/id
hosts:
- {name: h1, address: '2001:db8::5', nodeAddress: 10.0.0.1, role: controlPlane, passwordPrompt: true, sudo: {command: doas}}
- {name: h2, address: 10.0.0.2, role: worker, bastion: none, configFile: none}
- name: h3
  address: web
  nodeAddress: 10.0.0.3
  role: worker
  bastion: [{address: inner, port: 23, passwordEnv: P}, b@two]
";
    let hosts = good(text).hosts;
    let ssh = |index: usize| &hosts[index].ssh;
    assert_eq!((&ssh(0).password, &ssh(0).passphrase), (&Secret::Prompt, &Secret::Command("pass show key".into())));
    assert_eq!(ssh(0).sudo_command, Some(Become::Doas));
    let way = |index: usize| {
        let bastions = ssh(index).bastion.as_deref().unwrap();
        bastions.iter().map(|b| (b.address.as_str(), b.ssh.user.as_deref(), b.ssh.port)).collect::<Vec<_>>()
    };
    assert_eq!(way(0), [("one", Some("a"), None), ("2001:db8::1", None, Some(24))]);
    assert!(way(1).is_empty() && ssh(1).config_file == ConfigFile::None);
    assert_eq!(way(2), [("inner", None, Some(23)), ("two", Some("b"), None)]);
    let inner = &ssh(2).bastion.as_ref().unwrap()[0].ssh;
    assert_eq!(
        (&inner.identity_files[0], &inner.password),
        (&"/work/keys/id".into(), &Secret::Environment("P".into()))
    );
}

#[test]
fn mistakes_about_how_hosts_are_reached() {
    let inventory = |ssh: &str| {
        format!("cluster: c\nssh: {{{ssh}}}\nhosts: [{{name: h1, address: 10.0.0.1, role: controlPlane}}]\n")
    };
    for (ssh, part) in [
        ("bastion: 'a:b'", "2:16 ssh.bastion expected [user@]host[:port], found \"a:b\""),
        ("bastion: [a, {user: b}]", "ssh.bastion[1].address is required"),
        ("bastion: [{address: a, bastion: b}]", "write the chain as a list"),
        ("bastion: [{address: a, identityfile: b}]", "did you mean \"identityFile\"?"),
        ("passwordFile: a, passwordEnv: B", "ssh.passwordEnv passwordFile is given too: one source is enough"),
        ("passwordPrompt: maybe", "expected true or false"),
        ("sudo: {command: su}", "ssh.sudo.command expected sudo or doas, found \"su\""),
        ("passPhraseFile: a", "did you mean \"passphraseFile\"?"),
    ] {
        let found = problems(&inventory(ssh));
        assert!(found.iter().any(|problem| problem.contains(part)), "{ssh:?}: {part:?} is missing in {found:#?}");
    }
    let v6 = "cluster: c\nhosts: [{name: h1, address: '2001:db8::1', role: controlPlane}]\n";
    assert!(problems(v6)[0].contains("keep an IPv6 `address` for SSH"), "{:?}", problems(v6));
}
