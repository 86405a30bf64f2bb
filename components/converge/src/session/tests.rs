//! Whole conversations in a root of their own.

#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hoststate::resource::Contents;
use hoststate::{Action, Change, Content, HostManifest, Resource, sha256_hex};

use super::*;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn state(text: &str) -> HostState {
    let inline = |text: &str| Content::Inline { text: text.into(), secret: false };
    HostState {
        cluster: ClusterRef { name: "lab".into(), id: "1".into() },
        host: "h1".into(),
        version: "0.1.0".into(),
        kubernetes: None,
        resources: vec![
            Resource::Directory { path: "/etc/kinstall".into(), mode: 0o700, contents: Contents::Ours },
            Resource::File { path: "/etc/kinstall/a.yaml".into(), mode: 0o600, content: inline(text) },
            Resource::File { path: "/etc/motd".into(), mode: 0o644, content: inline("ours") },
            Resource::File {
                path: "/etc/kinstall/blob".into(),
                mode: 0o755,
                content: Content::Blob { sha256: sha256_hex(b"executable"), size: 10 },
            },
            Resource::Symlink { path: "/etc/kinstall/current".into(), target: "a.yaml".into() },
        ],
        keeps: Vec::new(),
    }
}

fn converse(root: &Root, requests: &[u8]) -> Vec<Event> {
    let output = Output::default();
    // an input that ends early is one of the cases; what was sent tells the outcome
    let _ended = serve(root, requests, output.clone());
    let bytes = output.0.lock().unwrap().clone();
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn apply(root: &Root, state: HostState, blob: &[u8]) -> Vec<Event> {
    let mut requests = serde_json::to_vec(&Request::Apply { state, keep_previous: false }).unwrap();
    requests.push(b'\n');
    if !blob.is_empty() {
        let header = Request::Blob { sha256: sha256_hex(b"executable"), size: blob.len() as u64 };
        requests.extend(serde_json::to_vec(&header).unwrap());
        requests.push(b'\n');
        requests.extend(blob);
    }
    converse(root, &requests)
}

fn root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    for made in ["etc", "var/lib"] {
        fs::create_dir_all(dir.path().join(made)).unwrap();
    }
    fs::write(dir.path().join("etc/motd"), "theirs").unwrap();
    let root = Root { prefix: dir.path().to_owned() };
    (dir, root)
}

#[test]
fn a_second_apply_changes_nothing_and_what_was_there_is_kept() {
    let (dir, root) = root();
    let events = apply(&root, state("x"), b"executable");
    assert_eq!(events.last().unwrap(), &Event::Done { changed: 5, unchanged: 0 }, "{events:?}");
    assert_eq!(fs::read_to_string(dir.path().join("etc/motd")).unwrap(), "ours");
    let again = apply(&root, state("x"), b"");
    assert_eq!(again.last().unwrap(), &Event::Done { changed: 0, unchanged: 5 });
    assert!(again.contains(&Event::NeedBlobs { sha256: vec![] }));

    let manifest = manifest::load(&root).unwrap().unwrap();
    assert!(manifest.complete);
    let output = Sink::new(Output::default());
    let blobs = Blobs::new(dir.path().join("blobs"));
    let context = Context { root: &root, sink: &output, blobs: &blobs, abandon: &Abandon::default() };
    for entry in manifest.entries.iter().rev() {
        down::undo(context, entry).unwrap();
    }
    assert_eq!(fs::read_to_string(dir.path().join("etc/motd")).unwrap(), "theirs");
    assert!(!dir.path().join("etc/kinstall").exists());
}

/// A state of another version, whose executable lies in that version's directory.
fn version(version: &str, text: &str) -> HostState {
    let mut state = state(text);
    state.version = version.into();
    state.resources.retain(|resource| !resource.id().starts_with("symlink"));
    for directory in ["/opt/kinstall".to_owned(), format!("/opt/kinstall/{version}")] {
        state.resources.push(Resource::Directory { path: directory, mode: 0o755, contents: Contents::Ours });
    }
    state.resources.push(Resource::File {
        path: format!("/opt/kinstall/{version}/x"),
        mode: 0o755,
        content: Content::Blob { sha256: sha256_hex(b"executable"), size: 10 },
    });
    state.resources.push(Resource::Symlink { path: "/opt/kinstall/current".into(), target: version.into() });
    state
}

fn line(request: &Request) -> Vec<u8> {
    let mut line = serde_json::to_vec(request).unwrap();
    line.push(b'\n');
    line
}

/// As an upgrade does it: the installer may go away after each request.
fn upgrade(root: &Root, state: HostState, blob: &[u8]) -> Vec<Event> {
    let mut requests = line(&Request::Apply { state, keep_previous: true });
    if !blob.is_empty() {
        requests.extend(line(&Request::Blob { sha256: sha256_hex(b"executable"), size: 10 }));
        requests.extend(blob);
    }
    converse(root, &requests)
}

#[test]
fn an_upgrade_can_go_back_until_it_is_settled_and_leaves_nothing_of_the_other_version() {
    let (dir, root) = root();
    fs::create_dir_all(dir.path().join("opt")).unwrap();
    let there = |path: &str| dir.path().join(path).exists();
    apply(&root, version("1", "old"), b"executable");
    let before = manifest::load(&root).unwrap().unwrap();

    for blob in [&b"execut"[..], b"executable", b""] {
        // cut off half-way, then to its end, then once more
        let events = upgrade(&root, version("2", "new"), blob);
        let begun = manifest::load(&root).unwrap().unwrap();
        assert_eq!(begun.previous.as_ref().unwrap().version, "1", "{events:?}");
        assert_eq!(begun.complete, blob != b"execut", "{events:?}");
        assert!(there("opt/kinstall/1/x"), "what the way back needs stays");
    }
    assert_eq!(fs::read_link(dir.path().join("opt/kinstall/current")).unwrap(), Path::new("2"));

    let events = converse(&root, &line(&Request::Rollback));
    assert!(matches!(events.last().unwrap(), Event::Done { .. }), "{events:?}");
    let back = manifest::load(&root).unwrap().unwrap();
    assert_eq!((back.version.as_str(), back.complete, &back.previous), ("1", true, &None));
    assert_eq!(back.entries, before.entries);
    assert_eq!(fs::read_to_string(dir.path().join("etc/kinstall/a.yaml")).unwrap(), "old");
    assert_eq!(fs::read_link(dir.path().join("opt/kinstall/current")).unwrap(), Path::new("1"));
    assert!(!there("opt/kinstall/2"));
    let again = converse(&root, &line(&Request::Rollback));
    assert!(matches!(again.last().unwrap(), Event::Done { changed: 0, .. }), "{again:?}");

    upgrade(&root, version("2", "new"), b"executable");
    let events = apply(&root, version("2", "new"), b"");
    assert!(matches!(events.last().unwrap(), Event::Done { .. }), "{events:?}");
    let settled = manifest::load(&root).unwrap().unwrap();
    assert_eq!((settled.version.as_str(), settled.complete, &settled.previous), ("2", true, &None));
    assert!(!there("opt/kinstall/1"));
    let kept = crate::kept::load(&root).unwrap().unwrap();
    assert_eq!(kept, version("2", "new"));
}

#[test]
fn a_rollback_without_what_it_needs_says_so_and_changes_nothing() {
    let (dir, root) = root();
    fs::create_dir_all(dir.path().join("opt")).unwrap();
    let refused = converse(&root, &line(&Request::Rollback));
    assert!(matches!(refused.last().unwrap(), Event::Failed(f) if f.message.contains("no state")), "{refused:?}");
    apply(&root, version("1", "old"), b"executable");
    upgrade(&root, version("2", "new"), b"executable");
    fs::remove_file(dir.path().join("opt/kinstall/1/x")).unwrap();
    fs::remove_file(dir.path().join("etc/kinstall/blob")).unwrap();
    let refused = converse(&root, &line(&Request::Rollback));
    assert!(matches!(refused.last().unwrap(), Event::Failed(f) if f.message.contains("gone")), "{refused:?}");
    assert_eq!(fs::read_to_string(dir.path().join("etc/kinstall/a.yaml")).unwrap(), "new");
}

#[test]
fn what_runs_is_compared_by_content_whatever_its_version() {
    let (dir, root) = root();
    fs::create_dir_all(dir.path().join("opt")).unwrap();
    apply(&root, version("1", "same"), b"executable");
    let differs = |state: &HostState, path: &str| {
        let file = state.resources.iter().find(|resource| resource.id() == format!("file {path}")).unwrap();
        let Resource::File { content, .. } = file else { unreachable!() };
        plan::differs_from_what_runs(&root, path, content, Action::Create)
    };
    let newer = version("2", "same");
    assert!(!differs(&newer, "/opt/kinstall/2/x"), "the version that runs has the same");
    fs::write(dir.path().join("opt/kinstall/1/x"), "another").unwrap();
    assert!(differs(&newer, "/opt/kinstall/2/x"));
    fs::remove_file(dir.path().join("opt/kinstall/1/x")).unwrap();
    assert!(differs(&newer, "/opt/kinstall/2/x"));
}

#[test]
fn a_connection_that_ends_early_fails_and_the_next_run_finishes() {
    let (_dir, root) = root();
    let events = apply(&root, state("x"), b"execut");
    assert!(matches!(events.last().unwrap(), Event::Failed(f) if f.step.contains("blob")), "{events:?}");
    assert!(!manifest::load(&root).unwrap().unwrap().complete);
    let events = apply(&root, state("x"), b"executable");
    assert!(matches!(events.last().unwrap(), Event::Done { changed: 2, .. }), "{events:?}");
}

#[test]
fn an_amendment_changes_what_it_names_and_leaves_the_rest() {
    let (dir, root) = root();
    let mut part = state("y");
    part.resources.retain(|r| r.id() == "file /etc/kinstall/a.yaml");
    let amend = |part: &HostState| {
        let mut request = serde_json::to_vec(&Request::Amend { state: part.clone() }).unwrap();
        request.push(b'\n');
        converse(&root, &request).pop().unwrap()
    };
    let refused = amend(&part);
    assert!(matches!(&refused, Event::Failed(f) if f.message.contains("kinstall is not")), "{refused:?}");
    assert!(!dir.path().join("etc/kinstall").exists());

    apply(&root, state("x"), b"executable");
    let before = manifest::load(&root).unwrap().unwrap();
    part.version = "9".into();
    assert_eq!(amend(&part), Event::Done { changed: 1, unchanged: 0 });
    assert_eq!(fs::read_to_string(dir.path().join("etc/kinstall/a.yaml")).unwrap(), "y");
    assert_eq!(fs::read_to_string(dir.path().join("etc/motd")).unwrap(), "ours");
    let after = manifest::load(&root).unwrap().unwrap();
    assert_eq!(HostManifest { applied: before.applied.clone(), ..after }, before, "the host is of the same version");

    let kept = crate::kept::load(&root).unwrap().unwrap();
    assert!(kept.resources.contains(&part.resources[0]), "a rollback goes back to what was there and this");
    assert_eq!((kept.resources.len(), kept.version.as_str()), (5, "0.1.0"));

    let new = Resource::File {
        path: "/etc/kinstall/b".into(),
        mode: 0o600,
        content: Content::Inline { text: "b".into(), secret: true },
    };
    part.resources.push(new);
    assert_eq!(amend(&part), Event::Done { changed: 1, unchanged: 1 });
    let entries = manifest::load(&root).unwrap().unwrap().entries;
    assert_eq!(entries.last().unwrap().name, "/etc/kinstall/b", "`down` finds it");
    assert_eq!(entries.len(), before.entries.len() + 1);
}

#[test]
fn a_plan_shows_the_diff_and_touches_nothing() {
    let (dir, root) = root();
    apply(&root, state("x\ny"), b"executable");
    let mut request = serde_json::to_vec(&Request::Plan { state: state("x\nz") }).unwrap();
    request.push(b'\n');
    let events = converse(&root, &request);
    let Event::Plan { changes, removed, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!((changes.len(), removed.len()), (1, 0));
    assert_eq!(changes[0].action, Action::Update);
    let diff = "--- /etc/kinstall/a.yaml\n+++ /etc/kinstall/a.yaml\n@@ -1,2 +1,2 @@\n x\n-y";
    assert!(changes[0].diff.starts_with(diff), "{}", changes[0].diff);
    assert_eq!(fs::read_to_string(dir.path().join("etc/kinstall/a.yaml")).unwrap(), "x\ny");
}

#[test]
fn a_restart_that_an_interrupted_run_owes_is_planned() {
    let (_dir, root) = root();
    apply(&root, state("x"), b"executable");
    let mut manifest = manifest::load(&root).unwrap().unwrap();
    manifest.restart = vec!["kinstall-kubelet.service".into()];
    manifest::save(&root, &manifest).unwrap();
    // Whatever systemd says of the unit here, it has to be brought up or restarted.
    let mut wanted = state("x");
    wanted.resources.push(Resource::Unit {
        name: "kinstall-kubelet.service".into(),
        enabled: true,
        active: true,
        restart_on: vec![],
        after: vec![],
    });
    let observations = plan::observe(&root, &wanted).unwrap();
    assert!(matches!(observations.last().unwrap().action, Action::Restart | Action::Start));
}

#[test]
fn a_host_of_another_cluster_is_refused() {
    let (_dir, root) = root();
    apply(&root, state("x"), b"executable");
    let mut other = state("x");
    other.cluster.id = "2".into();
    let events = apply(&root, other, b"");
    assert!(matches!(events.last().unwrap(), Event::Failed(f) if f.message.contains("belongs to")), "{events:?}");
}

#[test]
fn a_directory_that_somebody_filled_before_us_is_left_with_what_is_in_it() {
    let (dir, root) = root();
    let theirs = dir.path().join("etc/kinstall/theirs");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    assert_eq!(crate::facts::collect(&root).filled_directories, ["/etc/kinstall"]);
    apply(&root, state("x"), b"executable");
    let manifest = manifest::load(&root).unwrap().unwrap();
    let entry = manifest.entries.iter().find(|e| e.name == "/etc/kinstall").unwrap();
    assert_eq!(entry.undo, hoststate::wire::Undo::Keep);
}

/// The session before was given up, but its work goes on for a moment while the next one asks for facts.
#[test]
fn what_is_being_made_is_not_taken_for_a_strangers() {
    for millis in 0..30 {
        let (_dir, root) = root();
        let making = root.clone();
        let work = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(millis));
            apply(&making, state("x"), b"executable");
        });
        let facts = crate::facts::collect(&root);
        work.join().unwrap();
        let is_nobodys = facts.manifest.is_none() && !facts.filled_directories.is_empty();
        assert!(!is_nobodys, "after {millis} ms: {:?}", facts.filled_directories);
    }
}

#[test]
fn what_a_newer_state_no_longer_has_is_removed() {
    let (dir, root) = root();
    apply(&root, state("x"), b"executable");
    let mut newer = state("x");
    newer.resources.retain(|r| r.id() != "file /etc/motd");
    apply(&root, newer, b"");
    assert_eq!(fs::read_to_string(dir.path().join("etc/motd")).unwrap(), "theirs");
}

fn planned(root: &Root, state: HostState) -> (Vec<Change>, Vec<Change>) {
    match converse(root, &line(&Request::Plan { state })).pop() {
        Some(Event::Plan { changes, removed, .. }) => (changes, removed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plan_names_what_goes_and_is_empty_once_it_is_gone() {
    let (dir, root) = root();
    apply(&root, state("x"), b"executable");
    let mut newer = state("x");
    newer.resources.retain(|r| r.id() != "file /etc/motd" && r.id() != "file /etc/kinstall/blob");
    let (changes, removed) = planned(&root, newer.clone());
    let removed: Vec<_> = removed.iter().map(|change| (change.resource.as_str(), change.action)).collect();
    assert_eq!(removed, [("file /etc/kinstall/blob", Action::Remove), ("file /etc/motd", Action::Restore)]);
    assert!(changes.is_empty() && dir.path().join("etc/kinstall/blob").exists());
    apply(&root, newer.clone(), b"");
    assert!(!dir.path().join("etc/kinstall/blob").exists());
    assert_eq!(planned(&root, newer), (Vec::new(), Vec::new()));
}

#[test]
fn no_plan_has_a_secret_wherever_it_stands() {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nsekrit\n-----END PRIVATE KEY-----\n";
    let (dir, root) = root();
    let file = |path: &str, text: String, secret| Resource::File {
        path: path.into(),
        mode: 0o600,
        content: Content::Inline { text, secret },
    };
    let secrets = |old: &str| {
        let mut state = state("x");
        state.resources.truncate(1);
        let kubeconfig = format!(
            "server: https://{old}\nuser:\n  client-key-data: sekrit{old}\n  token: sekrit{old}\nsekrit{old}: sekrit\n"
        );
        state.resources.extend([
            file("/etc/kinstall/a.key", format!("{KEY}{old}"), true),
            file("/etc/kinstall/a.password", format!("sekrit{old}"), true),
            file("/etc/kinstall/a.kubeconfig", kubeconfig, true),
            file("/etc/kinstall/a.yaml", format!("# {old}\npassword: sekrit{old}\n{KEY}"), false),
        ]);
        state
    };
    let (created, _) = planned(&root, secrets("one"));
    assert_eq!(created.len(), 5);
    apply(&root, secrets("one"), b"");
    let (changed, _) = planned(&root, secrets("two"));
    assert_eq!(changed.len(), 4);
    // what somebody else wrote there is as secret
    fs::write(dir.path().join("etc/kinstall/a.yaml"), format!("token: sekrit\n{KEY}")).unwrap();
    fs::write(dir.path().join("etc/kinstall/a.kubeconfig"), "just sekrit\n").unwrap();
    let (mended, _) = planned(&root, secrets("one"));
    let drifted = converse(&root, &line(&Request::Drift));
    for said in [format!("{created:?}"), format!("{changed:?}"), format!("{mended:?}"), format!("{drifted:?}")] {
        assert!(!said.contains("sekrit") && !said.contains("PRIVATE KEY"), "{said}");
    }
    let kubeconfig = changed.iter().find(|change| change.resource.ends_with("kubeconfig")).unwrap();
    assert!(kubeconfig.diff.contains("-server: https://one\n+server: https://two"), "{}", kubeconfig.diff);
}

#[test]
fn drift_is_what_somebody_changed_since_and_nothing_else() {
    let (dir, root) = root();
    let drift = || match converse(&root, &line(&Request::Drift)).pop() {
        Some(Event::Drift { changes }) => changes,
        other => panic!("{other:?}"),
    };
    assert_eq!(drift(), None, "nothing was ever applied here");
    apply(&root, state("x\n"), b"executable");
    assert_eq!(drift(), Some(Vec::new()));
    let path = |path: &str| dir.path().join(path);
    fs::write(path("etc/kinstall/a.yaml"), "y\n").unwrap();
    fs::set_permissions(path("etc/kinstall/blob"), PermissionsExt::from_mode(0o4777)).unwrap();
    fs::set_permissions(path("etc/kinstall"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(path("etc/motd"), Some(1), Some(2)).unwrap();
    fs::remove_file(path("etc/kinstall/current")).unwrap();
    let found: Vec<_> = drift().unwrap().into_iter().map(|c| (c.resource, c.action, c.found, c.wanted)).collect();
    let sha = |text: &str| format!("sha256 {}", &sha256_hex(text.as_bytes())[..12]);
    let expected = [
        ("directory /etc/kinstall", Action::Update, "mode 755".to_owned(), "mode 700".to_owned()),
        ("file /etc/kinstall/a.yaml", Action::Update, sha("y\n"), sha("x\n")),
        ("file /etc/motd", Action::Update, "owner 1:2".into(), "owner 0:0".into()),
        ("file /etc/kinstall/blob", Action::Update, "mode 4777".into(), "mode 755".into()),
        ("symlink /etc/kinstall/current", Action::Create, String::new(), "→ a.yaml".into()),
    ]
    .map(|(resource, action, found, wanted)| (resource.to_owned(), action, found, wanted));
    assert_eq!(found, expected);
    // what is as it was sent is not sent again because of its mode
    let mended = apply(&root, state("x\n"), b"");
    assert!(mended.contains(&Event::NeedBlobs { sha256: vec![] }), "{mended:?}");
    assert!(matches!(mended.last(), Some(Event::Done { changed: 5, .. })), "{mended:?}");
    assert_eq!(drift(), Some(Vec::new()));
}

/// Events without what says hello.
fn told(root: &Root, requests: &[&[u8]]) -> Vec<Event> {
    converse(root, &requests.concat()).split_off(1)
}

#[test]
fn what_was_planned_is_applied_without_another_look() {
    let (dir, root) = root();
    let blob = [line(&Request::Blob { sha256: sha256_hex(b"executable"), size: 10 }), b"executable".to_vec()].concat();
    let (plan, planned) =
        (line(&Request::Plan { state: state("x") }), line(&Request::ApplyPlanned { keep_previous: false }));
    let refused = told(&root, &[&planned]);
    assert!(matches!(&refused[..], [Event::Failed(f)] if f.message.contains("nothing was planned")), "{refused:?}");
    // the blob comes before anybody has asked for it but the plan
    let events = told(&root, &[&plan, &planned, &blob]);
    let Event::Plan { needs, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(needs, &[sha256_hex(b"executable")]);
    assert_eq!(events.last().unwrap(), &Event::Done { changed: 5, unchanged: 0 }, "{events:?}");
    let again = told(&root, &[&plan, &planned]);
    assert!(matches!(&again[0], Event::Plan { needs, .. } if needs.is_empty()), "{again:?}");
    assert_eq!(again.last().unwrap(), &Event::Done { changed: 0, unchanged: 5 });
    // another installer came between
    let other = line(&Request::Apply { state: state("y"), keep_previous: false });
    let events = told(&root, &[&plan, &other, &plan, &other, &planned]);
    assert!(matches!(events.last().unwrap(), Event::Failed(_)), "a plan is for one apply: {events:?}");
    let context = (Sink::new(Output::default()), Blobs::new(dir.path().join("blobs")), Abandon::default());
    let context = Context { root: &root, sink: &context.0, blobs: &context.1, abandon: &context.2 };
    let (_, seen) = run_plan(context, state("z")).unwrap();
    apply(&root, state("x"), b"");
    let (_, observations) = as_planned(context, Some(seen)).unwrap();
    assert!(observations[1].found.contains(&sha256_hex(b"x")[..12]), "{observations:?}");
}

#[test]
fn hosts_of_a_run_pass_on_what_they_have_and_only_at_work() {
    let (dir, root) = root();
    let has = Arc::new(Blobs::new(dir.path().join("elsewhere")));
    has.receive(&sha256_hex(b"executable"), 10, &mut &b"executable"[..]).unwrap();
    let here = std::net::IpAddr::from([127, 0, 0, 1]);
    let other = Share::start(here, "secret".into(), has).unwrap();
    let share = line(&Request::Share { address: here, token: "secret".into() });
    let from = (here, other.port()).into();
    let fetch = line(&Request::Fetch { sha256: sha256_hex(b"executable"), size: 10, from });
    let events = told(&root, &[&share, &fetch]);
    assert!(matches!(&events[0], Event::Sharing { port: Some(port) } if *port > 0), "{events:?}");
    assert!(matches!(&events[1], Event::Fetched { why: Some(_), .. }), "nobody holds the host's lock: {events:?}");
    assert!(!root.path(STATE_DIR).exists());
    // as an installer that stays until it was told
    let (reader, mut writer) = std::io::pipe().unwrap();
    let output = Output::default();
    let serving = std::thread::spawn({
        let (root, output) = (root.clone(), output.clone());
        move || serve(&root, crate::input::Arriving::of(reader, hoststate::wire::SILENCE), output)
    });
    let apply = line(&Request::Apply { state: state("x"), keep_previous: false });
    writer.write_all(&[share, apply, fetch].concat()).unwrap();
    let said = |what: &str| output.text().contains(what);
    let asked = Instant::now();
    while !said("\"done\"") && !said("\"failed\"") {
        assert!(asked.elapsed() < Duration::from_secs(60), "the apply comes to no end: {}", output.text());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(said("\"changed\":5"), "{}", output.text());
    assert!(root.path(STATE_DIR).join("blobs").exists(), "others may want it");
    drop(writer);
    serving.join().unwrap().unwrap();
    assert!(!root.path(STATE_DIR).join("blobs").exists());
    let nowhere = line(&Request::Share { address: [192, 0, 2, 1].into(), token: "secret".into() });
    assert_eq!(told(&root, &[&nowhere]), [Event::Sharing { port: None }]);
}

#[test]
fn a_session_whose_installer_is_gone_without_a_word_ends_and_gives_the_host_back() {
    const SILENCE: Duration = Duration::from_secs(3);
    let limit = Duration::from_secs(60);
    // Where this process stood still nobody said a word for too long and the session was right to end: then another one.
    for left in (0..5).rev() {
        let (_directory, root) = root();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (serving, ended) = std::sync::mpsc::channel();
        let output = Output::default();
        let begun = Instant::now();
        std::thread::spawn({
            let (root, output) = (root.clone(), output.clone());
            move || {
                let result = serve(&root, crate::input::Arriving::of(reader, SILENCE), output);
                // nobody listens any more to one that ended early
                let _ = serving.send(result.is_ok());
            }
        });
        let apply = line(&Request::Apply { state: state("x"), keep_previous: false });
        let blob = line(&Request::Blob { sha256: sha256_hex(b"executable"), size: 10 });
        let mut early = writer.write_all(&[apply, blob, b"executable".to_vec()].concat()).is_err();
        // once all that was asked is done nothing but a word now and then keeps the session
        let (mut last, mut longest, mut idle) = (begun, begun.elapsed(), Instant::now());
        while !early && idle.elapsed() < SILENCE + Duration::from_secs(1) {
            let word = Instant::now();
            early = writer.write_all(&line(&Request::Alive)).is_err()
                || ended.recv_timeout(Duration::from_millis(100)).is_ok();
            longest = longest.max(last.elapsed());
            last = word;
            if !output.text().contains("\"done\"") {
                assert!(begun.elapsed() < limit, "the apply comes to no end: {}", output.text());
                idle = Instant::now();
            }
        }
        if early {
            assert!(longest >= SILENCE && left > 0, "it was told that somebody is there: {longest:?}");
            continue;
        }
        assert_eq!(ended.recv_timeout(limit), Ok(true), "it waits for who does not come back");
        crate::lock::HostLock::take(&root).unwrap();
        drop(writer);
        return;
    }
}
