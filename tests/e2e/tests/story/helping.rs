//! What helps when something is wrong: doctor, logs, exec, report; and hooks.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::operator::{Inventory, both};
use e2e::scenario::until;
use serde_json::Value;

use crate::Story;

fn run(story: &Story, code: i32, args: &[&str]) -> Result<Output> {
    let output = story.operator.run(args)?;
    ensure!(
        output.status.code() == Some(code),
        "{args:?} ended with {}, not {code}:\n{}",
        output.status,
        both(&output)
    );
    Ok(output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The last event: the result.
fn last(events: &str) -> Result<Value> {
    serde_json::from_str(events.lines().last().unwrap_or_default()).with_context(|| events.to_owned())
}

pub fn nothing_is_wrong(story: &Story) -> Result<()> {
    let started = Instant::now();
    let text = said(&run(story, 0, &["doctor"])?);
    ensure!(text.starts_with("nothing is wrong that could be seen of 3 hosts and the API"), "{text}");
    println!("        doctor: {:.1} s", started.elapsed().as_secs_f64());
    let one = last(&said(&run(story, 0, &["doctor", "--host", "h2", "--output", "json", "-q"])?))?;
    ensure!(one["ok"] == true && one["findings"].as_array().is_some_and(Vec::is_empty), "{one}");
    ensure!(said(&run(story, 0, &["doctor", "--list"])?).contains("certificates"), "the checks are not listed");
    Ok(())
}

pub fn logs_and_exec(story: &Story) -> Result<()> {
    let text = said(&run(story, 0, &["logs", "--tail", "4"])?);
    let times: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    ensure!(times.is_sorted() && times.len() >= 12, "not in the order of time:\n{text}");
    ensure!(["h1", "h2", "h3"].iter().all(|host| text.lines().any(|line| line.starts_with(host))), "{text}");
    let one = said(&run(story, 0, &["logs", "h2", "--unit", "kubelet", "--since", "2h", "--tail", "3"])?);
    ensure!(one.lines().count() >= 1 && one.lines().all(|line| line.starts_with("h2 ")), "{one}");
    story.lab.host(3).ssh_ok("systemd-run --quiet --wait --unit=said echo a word-to-find && journalctl --sync")?;
    let found = said(&run(story, 0, &["logs", "--unit", "said", "--grep", "WORD-to-find", "h3"])?);
    ensure!(found.is_empty(), "capitals matter where there are some: {found}");
    let found = said(&run(story, 0, &["logs", "--unit", "said", "--grep", "word-to-find", "--output", "json", "h3"])?);
    let line = last(&found)?;
    ensure!(line["host"] == "h3" && line["unit"] == "said" && line["message"] == "a word-to-find", "{found}");

    let text = said(&run(story, 0, &["exec", "--", "hostname"])?);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    ensure!(lines == ["h1 | h1", "h2 | h2", "h3 | h3"], "{text}");
    let text = said(&run(story, 0, &["exec", "--hosts", "h2", "--", "printf", "%s.", "a  b", "$HOME", "it's"])?);
    ensure!(text == "h2 | a  b.$HOME.it's.\n", "{text}");
    let worst = run(story, 3, &["exec", "--role", "worker", "--", "echo gone >&2; [ $(hostname) = h2 ] || exit 3"])?;
    ensure!(both(&worst).contains("h3: exit status 3") && said(&worst).contains("h3 | gone"), "{}", both(&worst));
    let yaml = said(&run(
        story,
        124,
        &["exec", "--hosts", "h3", "--timeout", "3s", "--output", "yaml", "--", "echo a; sleep 991"],
    )?);
    ensure!(yaml.contains("output: a") && yaml.contains("status: 124"), "{yaml}");
    // a person who has seen enough
    let child = story.operator.start(&["exec", "--hosts", "h2,h3", "--", "sleep 992"])?;
    let runs = |pattern: &str| {
        story.lab.hosts()[1..3].iter().filter(|host| host.ssh_ok(&format!("pgrep -fx '{pattern}'")).is_ok()).count()
    };
    until(Duration::from_secs(10), "both sleep", || runs("sleep 992") == 2)?;
    ensure!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success(),
        "it cannot be interrupted"
    );
    let ended = child.wait_with_output()?;
    ensure!(ended.status.code() == Some(130) && !both(&ended).contains("again"), "{}: {}", ended.status, both(&ended));
    until(Duration::from_secs(10), "nobody sleeps any more", || runs("sleep 99[12]") == 0)?;
    // what is wrong here is no status of a host's
    let nobody = run(story, 255, &["exec", "--hosts", "h9", "--", "true"])?;
    ensure!(both(&nobody).contains("h9"), "{}", both(&nobody));

    let mut child = story.operator.start(&["logs", "h3", "--unit", "said", "--follow"])?;
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().context("no stdout")?).read_line(&mut first)?;
    ensure!(first.contains("a word-to-find"), "{first}");
    ensure!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success(),
        "it cannot be interrupted"
    );
    let ended = child.wait_with_output()?;
    ensure!(ended.status.success() && ended.stderr.is_empty(), "{}: {}", ended.status, both(&ended));
    Ok(())
}

const BROKEN: &str = "apiVersion: v1
kind: Pod
metadata: {name: without-image, namespace: default}
spec: {containers: [{name: c, image: example.invalid/nowhere:1, imagePullPolicy: Never}]}
---
apiVersion: v1
kind: Pod
metadata: {name: too-large, namespace: default}
spec: {containers: [{name: c, image: example.invalid/nowhere:1, resources: {requests: {cpu: 999}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dies, namespace: default}
spec: {containers: [{name: c, image: IMAGE, command: [/kinstall-components, no-such-applet]}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: classless, namespace: default}
spec: {storageClassName: no-such-class, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: default}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: nowhere, namespace: default}
spec: {ingressClassName: kinstall, defaultBackend: {service: {name: no-such-service, port: {number: 80}}}}
";

pub fn accidents_are_found(story: &Story) -> Result<()> {
    let manifest = BROKEN.replace("IMAGE", &story.operator.components_image()?);
    story.operator.kubectl_with(&["apply", "-f", "-"], &manifest)?;
    story
        .lab
        .host(2)
        .ssh_ok("systemctl stop kinstall-proxy.service; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter")?;
    story.lab.host(3).ssh_ok("chmod 644 /etc/kinstall/kubelet.yaml; systemctl stop kinstall-certs.timer")?;
    let waits = |pod: &str, reason: &str| {
        let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
        story.operator.kubectl(&["get", "pod", pod, "-o", path]).is_ok_and(|said| said == reason)
    };
    until(Duration::from_secs(30), "the pods hang", || {
        waits("without-image", "ErrImageNeverPull") && waits("dies", "CrashLoopBackOff")
    })?;
    let text = said(&run(story, 6, &["doctor", "--output", "json", "-q"])?);
    let all = last(&text)?;
    let findings = all["findings"].as_array().context("no findings")?;
    for (on, check, sure, words) in [
        ("h2", "units", "certain", "kinstall-proxy.service is stopped"),
        ("h2", "changed by hand", "certain", "net.ipv4.conf.all.rp_filter is 0, not 2"),
        ("h3", "changed by hand", "likely", "not as `up` left it"),
        ("h3", "certificates", "certain", "kinstall-certs.timer is not active"),
        ("pod default/without-image", "pods", "certain", "ErrImageNeverPull"),
        ("pod default/too-large", "pods", "certain", "no node can take it"),
        ("pod default/dies", "pods", "certain", "it ends again and again"),
        ("persistentvolumeclaim default/classless", "volumes", "certain", "no-such-class"),
        ("service default/nobody", "services", "possible", "no endpoints"),
        ("ingress default/nowhere", "ingresses", "certain", "no-such-service"),
    ] {
        let is_it = |found: &&Value| found["on"] == on && found["check"] == check;
        let found = findings.iter().find(is_it).with_context(|| format!("{on} is not found: {all:#}"))?;
        ensure!(found["sure"] == sure && found["what"].as_str().is_some_and(|what| what.contains(words)), "{found:#}");
    }
    ensure!(findings.len() == 10, "there is more than that: {all:#}");
    // its own last words, and the cure as a person would paste it
    ensure!(text.contains("no-such-applet"), "{all:#}");
    for host in ["h2", "h3"] {
        for finding in findings.iter().filter(|finding| finding["on"] == host) {
            let cure = finding["cure"].as_str().unwrap_or_default();
            if let Some(words) = cure.strip_prefix("kinstall exec ") {
                story.operator.ok(&[&["exec"], words.split(' ').collect::<Vec<_>>().as_slice()].concat())?;
            }
        }
    }
    story.lab.host(3).ssh_ok("chmod 600 /etc/kinstall/kubelet.yaml")?;
    story.operator.kubectl_with(&["delete", "--force", "--grace-period=0", "-f", "-"], &manifest)?;
    until(Duration::from_secs(20), "doctor finds nothing any more", || {
        story
            .operator
            .run(&["doctor"])
            .is_ok_and(|output| output.status.code() == Some(0) && said(&output).starts_with("nothing"))
    })?;
    Ok(())
}

const IN_SECRET: &str = "planted-in-a-secret-1f3a";
const IN_ENV: &str = "planted-in-an-env-77bc";
const IN_TOKEN: &str = "abcdef0123456789";
const IN_INVENTORY: &str = "planted-for-the-inventory-9e";

pub fn report_without_secrets(story: &Story) -> Result<()> {
    let password = story.operator.path("planted-password");
    std::fs::write(&password, IN_INVENTORY)?;
    story.operator.write(&Inventory { sudo_password_file: Some(password), ..story.inventory.clone() })?;
    let image = story.operator.components_image()?;
    let manifest = format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: planted, namespace: default}}
stringData: {{word: {IN_SECRET}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: bootstrap-token-abcdef, namespace: kube-system}}
type: bootstrap.kubernetes.io/token
stringData: {{token-id: abcdef, token-secret: {IN_TOKEN}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: planted, namespace: default}}
data: {{notes: 'somebody wrote {IN_SECRET} here', 'db.conf': 'password: {IN_ENV}'}}
---
apiVersion: v1
kind: Pod
metadata: {{name: planted, namespace: default}}
spec:
  containers:
  - name: c
    image: {image}
    command: [/kinstall-components, probe, serve]
    env:
    - {{name: PLANTED, value: {IN_ENV}}}
    - {{name: WORD, valueFrom: {{secretKeyRef: {{name: planted, key: word}}}}}}
"
    );
    story.operator.kubectl_with(&["apply", "-f", "-"], &manifest)?;
    let host = story.lab.host(1);
    host.ssh_ok(&format!(
        "cp -a /etc/kinstall/proxy.yaml /root/proxy.yaml
         echo '# it is {IN_INVENTORY}, and abcdef.{IN_TOKEN}' >> /etc/kinstall/proxy.yaml
         cat /etc/kinstall/pki/*.key >> /etc/kinstall/proxy.yaml"
    ))?;
    let started = Instant::now();
    let told = story.operator.ok(&["report", "--out", "report.tar.zst"]);
    println!("        report: {:.1} s", started.elapsed().as_secs_f64());
    host.ssh_ok("cp -a /root/proxy.yaml /etc/kinstall/proxy.yaml && rm /root/proxy.yaml")?;
    story.operator.kubectl_with(&["delete", "--force", "--grace-period=0", "-f", "-"], &manifest)?;
    story.operator.write(&story.inventory)?;
    ensure!(told?.contains("report.tar.zst: "), "it does not say where it is");

    let (archive, folder) = (story.operator.path("report.tar.zst"), story.operator.path("report"));
    let mode = std::fs::metadata(&archive)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "others can read it: {mode:o}");
    std::fs::create_dir_all(&folder)?;
    let unpack = Command::new("tar")
        .arg("--zstd")
        .arg("--strip-components=1")
        .arg("-C")
        .arg(&folder)
        .arg("-xf")
        .arg(&archive)
        .output()?;
    ensure!(unpack.status.success(), "{}", both(&unpack));
    for (file, words) in [
        ("inventory.yaml", "cluster: lab"),
        ("doctor.txt", "not as `up` left it"),
        ("hosts/h1/facts.json", "\"hostname\": \"h1\""),
        ("hosts/h1/drift.json", "proxy.yaml"),
        ("hosts/h1/config.txt", "==> /etc/kinstall/proxy.yaml"),
        ("hosts/h3/journal/kinstall-kubelet.log", "kubelet"),
        ("hosts/h1/journal/kinstall-control-plane.log", "kinstall"),
        ("api/pods.json", "\"PLANTED\""),
        ("api/configmaps.json", "db.conf"),
        ("api/secrets.json", "\"planted\""),
        ("report.json", "\"cluster\": \"lab\""),
    ] {
        let text =
            std::fs::read_to_string(folder.join(file)).with_context(|| format!("{file} is not in the report"))?;
        ensure!(text.contains(words), "{words:?} is not in {file}:\n{}", text.chars().take(2000).collect::<String>());
        if file.ends_with(".json") {
            serde_json::from_str::<Value>(&text).with_context(|| format!("{file} is no JSON any more"))?;
        }
    }
    ensure!(std::fs::read_to_string(folder.join("missing.txt"))?.is_empty(), "something could not be had");
    let secrets = secrets(story)?;
    ensure!(secrets.len() > 20, "{} secrets are too few to look for", secrets.len());
    for secret in secrets {
        let found = Command::new("grep").args(["-rlF", "--", &secret]).arg(&folder).output()?;
        let shown: String = secret.chars().take(24).collect();
        ensure!(found.stdout.is_empty(), "{shown}… is in {}", said(&found));
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// All that must not be in a report, as it is and as base64.
fn secrets(story: &Story) -> Result<Vec<String>> {
    let mut secrets: Vec<String> = [IN_SECRET, IN_ENV, IN_TOKEN, IN_INVENTORY].map(str::to_owned).into();
    secrets.push("PRIVATE KEY-----".to_owned());
    let state = story.operator.path(".kinstall/lab");
    let keys = |folder: &Path| -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "key") {
                let text = std::fs::read_to_string(&path)?;
                lines.extend(text.lines().filter(|line| line.len() > 16 && !line.starts_with('-')).map(str::to_owned));
            }
        }
        Ok(lines)
    };
    secrets.extend(keys(&state.join("pki"))?);
    let wordpress: Value = serde_json::from_str(&std::fs::read_to_string(state.join("wordpress.json"))?)?;
    for field in ["adminPassword", "databasePassword", "databaseRootPassword"] {
        secrets.push(wordpress[field].as_str().context("no password")?.to_owned());
    }
    let encoded: Vec<_> = secrets.iter().take(4).map(|secret| STANDARD.encode(secret)).collect();
    secrets.extend(encoded);
    Ok(secrets)
}

pub fn hooks(story: &Story) -> Result<()> {
    let hooks = |status: u32| {
        format!(
            "hooks:
- {{name: tell, stage: up, when: before, run: 'echo $KINSTALL_STAGE $KINSTALL_WHEN $KINSTALL_HOSTS >> hooks.log'}}
- name: mark
  stage: converge
  when: after
  on: workers
  run: |
    echo \"$KINSTALL_HOOK $KINSTALL_HOST $KINSTALL_ROLE $(id -u)\" > /root/hook
    echo \"it's on $KINSTALL_HOST\"; exit {status}
- {{name: done, stage: up, when: after, run: 'kubectl_config=$KUBECONFIG; test -s $kubectl_config && echo $KINSTALL_WHEN >> hooks.log'}}
"
        )
    };
    let more =
        |status| Inventory { more: format!("{}{}", story.inventory.more, hooks(status)), ..story.inventory.clone() };
    let up = ["up", "--yes", "--no-validate"];
    let log = story.operator.path("hooks.log");
    story.operator.write(&more(4))?;
    let plan = said(&run(story, 0, &["plan"])?);
    ensure!(plan.contains("hook: \"mark\" runs after converge, on workers"), "{plan}");
    let failed = run(story, 1, &up)?;
    for words in [
        "the hook \"mark\" (after converge) failed on h2: exit status 4",
        "failed on h3",
        "| it's on h3",
        "run the same command again",
    ] {
        ensure!(both(&failed).contains(words), "{words:?} is missing:\n{}", both(&failed));
    }
    ensure!(std::fs::read_to_string(&log)? == "up before h1 h2 h3\n", "{}", std::fs::read_to_string(&log)?);
    story.operator.write(&more(0))?;
    run(story, 0, &up)?;
    story.operator.write(&story.inventory)?;
    ensure!(
        std::fs::read_to_string(&log)? == "up before h1 h2 h3\nup before h1 h2 h3\nafter\n",
        "{}",
        std::fs::read_to_string(&log)?
    );
    for (number, role) in [(2, "worker"), (3, "worker")] {
        let host = story.lab.host(number);
        let mark = host.ssh_ok("cat /root/hook; rm /root/hook")?;
        ensure!(mark.trim() == format!("mark h{number} {role} 0"), "{mark}");
    }
    ensure!(
        story.lab.host(1).ssh_ok("ls /root/hook 2>/dev/null || echo none")?.trim() == "none",
        "it ran on a control plane"
    );
    Ok(())
}
