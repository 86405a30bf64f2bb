//! The person at the keyboard: a working directory with an inventory, and the `kinstall` executable.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::Lab;

use crate::scenario::until;

/// Files that the build and the lab made; `make test` says where they are.
pub struct Artifacts {
    pub kinstall: PathBuf,
    pub bundle: PathBuf,
    pub kubectl: PathBuf,
}

/// A file that an environment variable names.
pub fn artifact(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name).with_context(|| format!("{name} is not set: run `make test`"))?;
    let path = PathBuf::from(value);
    ensure!(path.is_file(), "{} ({name}) is missing: run `make test`", path.display());
    Ok(path)
}

impl Artifacts {
    /// From the environment of `make test` and `make demo`.
    pub fn from_env() -> Result<Self> {
        let path = artifact;
        Ok(Self {
            kinstall: path("KINSTALL_BIN")?,
            bundle: path("KINSTALL_BUNDLE")?,
            kubectl: path("KINSTALL_KUBECTL")?,
        })
    }
}

pub struct Operator {
    pub directory: PathBuf,
    artifacts: Artifacts,
}

/// What an inventory of the lab says; tests change one thing at a time.
#[derive(Clone)]
pub struct Inventory {
    pub user: String,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
    pub sudo_password_file: Option<PathBuf>,
    pub bundle: PathBuf,
    /// Name, address, roles as they stand between the brackets.
    pub hosts: Vec<(String, String, &'static str)>,
    pub wordpress: bool,
    /// Lines put at the end as they are.
    pub more: String,
}

impl Inventory {
    /// The first host is the control plane, the others are workers.
    pub fn of(lab: &Lab, artifacts: &Artifacts) -> Self {
        Self::with_control_planes(lab, artifacts, 1)
    }

    /// The first hosts are control planes, the others are workers.
    pub fn with_control_planes(lab: &Lab, artifacts: &Artifacts, number: usize) -> Self {
        let role = |n: usize| if n < number { "controlPlane" } else { "worker" };
        Self {
            user: "root".into(),
            key: lab.key(),
            known_hosts: lab.known_hosts(),
            sudo_password_file: None,
            bundle: artifacts.bundle.clone(),
            hosts: lab
                .inventory_hosts()
                .into_iter()
                .enumerate()
                .map(|(n, (name, address))| (name, address, role(n)))
                .collect(),
            wordpress: true,
            more: String::new(),
        }
    }

    fn to_yaml(&self) -> String {
        let mut yaml = format!(
            "cluster: lab\nbundle: {}\nssh:\n  user: {}\n  identityFile: {}\n  knownHostsFile: {}\n",
            self.bundle.display(),
            self.user,
            self.key.display(),
            self.known_hosts.display()
        );
        if let Some(file) = &self.sudo_password_file {
            let _ = writeln!(yaml, "  sudo:\n    passwordFile: {}", file.display());
        }
        yaml.push_str("hosts:\n");
        for (name, address, role) in &self.hosts {
            let _ = writeln!(yaml, "  - name: {name}\n    address: {address}\n    roles: [{role}]");
        }
        let _ = writeln!(yaml, "sample:\n  wordpress:\n    enabled: {}\n    host: wordpress.lab", self.wordpress);
        yaml + &self.more
    }
}

impl Operator {
    /// In a new, empty directory below the lab's.
    pub fn new(lab: &Lab, name: &str, artifacts: Artifacts) -> Result<Self> {
        let directory = lab.state_dir().join(name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, artifacts })
    }

    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    pub fn write(&self, inventory: &Inventory) -> Result<()> {
        Ok(std::fs::write(self.directory.join("inventory.yaml"), inventory.to_yaml())?)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.artifacts.kinstall);
        command.current_dir(&self.directory).args(args).stdin(Stdio::null());
        command
    }

    pub fn start(&self, args: &[&str]) -> Result<Child> {
        Ok(self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().with_context(|| format!("cannot run {}", self.artifacts.kinstall.display()))
    }

    /// Its stdout; what it said is in the error when it fails.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        if !output.status.success() {
            bail!("kinstall {} ended with {}:\n{}", args.join(" "), output.status, both(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// It must fail and say each of `words`.
    pub fn fails_saying(&self, args: &[&str], words: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let said = both(&output);
        ensure!(!output.status.success(), "kinstall {} succeeded, but should have failed:\n{said}", args.join(" "));
        ensure!(output.status.code().is_some_and(|code| code != 101), "kinstall panicked:\n{said}");
        for word in words {
            ensure!(said.contains(word), "{word:?} is missing in what kinstall {} said:\n{said}", args.join(" "));
        }
        Ok(said)
    }

    /// At a terminal, where somebody waits for each of these questions and types what stands beside it. What the terminal showed
    /// is on stdout.
    pub fn at_a_terminal(&self, args: &[&str], answers: &[(&str, &str)]) -> Result<Output> {
        let line = format!("{} {}", self.artifacts.kinstall.display(), args.join(" "));
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run script")?;
        let (mut keys, mut screen) =
            (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let (mut shown, mut seen, mut some) = (Vec::new(), 0, [0; 4096]);
        let mut answers = answers.iter().peekable();
        loop {
            let read = screen.read(&mut some)?;
            if read == 0 {
                break;
            }
            shown.extend_from_slice(&some[..read]);
            if let Some((question, typed)) = answers.peek()
                && String::from_utf8_lossy(&shown[seen..]).contains(question)
            {
                writeln!(keys, "{typed}")?;
                seen = shown.len();
                answers.next();
            }
        }
        drop(keys);
        let rest = child.wait_with_output()?;
        Ok(Output { stdout: shown, ..rest })
    }

    /// The lines that hooks have written into `hooks.log` beside the inventory since this was asked last.
    pub fn hooks_told(&self) -> Result<Vec<String>> {
        let file = self.path("hooks.log");
        let text = std::fs::read_to_string(&file).context("no hook has run")?;
        std::fs::remove_file(file)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join(".kinstall/lab/admin.kubeconfig")
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "")
    }

    /// Through the API server of one of several control planes.
    pub fn kubectl_at(&self, host: &str, args: &[&str]) -> Result<String> {
        let context = format!("{host}@lab");
        self.kubectl(&[&["--context", &context, "--request-timeout=10s"], args].concat())
    }

    /// Makes a new, empty ConfigMap through the API server of one of several control planes; gives how long it took until that was
    /// confirmed.
    pub fn writes_at(&self, host: &str, name: &str) -> Result<Duration> {
        until(Duration::from_secs(20), &format!("a write through {host} is confirmed"), || {
            match self.kubectl_at(host, &["create", "configmap", name]) {
                Ok(_) => true,
                // it was written by a try whose answer was lost
                Err(error) => error.to_string().contains("already exists"),
            }
        })
    }

    /// Makes a new ConfigMap of half a MiB.
    pub fn writes_much(&self, name: &str) -> Result<()> {
        let data = "x".repeat(512 << 10);
        let object = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{it: {data}}}\n");
        self.kubectl_with(&["create", "-f", "-"], &object).map(drop)
    }

    pub fn deletes(&self, configmaps: &[String]) -> Result<()> {
        let delete: Vec<&str> =
            ["delete", "configmap"].into_iter().chain(configmaps.iter().map(String::as_str)).collect();
        self.kubectl(&delete).map(drop)
    }

    /// Which of these ConfigMaps are not there; as one of several control planes has it, or the only one.
    pub fn lacks(&self, at: Option<&str>, names: &[String]) -> Result<Vec<String>> {
        let get = ["get", "configmaps", "-o", "name"];
        let there = at.map_or_else(|| self.kubectl(&get), |host| self.kubectl_at(host, &get))?;
        let there: BTreeSet<&str> = there.lines().filter_map(|line| line.strip_prefix("configmap/")).collect();
        Ok(names.iter().filter(|name| !there.contains(name.as_str())).cloned().collect())
    }

    /// With a manifest on stdin (`-f -`).
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(&self.artifacts.kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(args)
            .env("HOME", &self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "kubectl {} ended with {}:\n{}", args.join(" "), output.status, both(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Of kinstall's own components: every node has it, so a test's pods need nothing from elsewhere.
    pub fn components_image(&self) -> Result<String> {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        self.kubectl(&["get", "daemonset", "kinstall-ingress", "-n", "kube-system", "-o", path])
    }

    /// Names of the nodes that are Ready and take pods; none while nobody answers, so that it can be waited for.
    pub fn ready_nodes(&self) -> Vec<String> {
        ready(&self.kubectl(&["get", "nodes", "--no-headers", "--request-timeout=5s"]).unwrap_or_default())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.directory).join(name)
    }
}

/// The names in what `kubectl get nodes --no-headers` printed; a cordoned node is not among them.
pub fn ready(nodes: &str) -> Vec<String> {
    let ready = nodes.lines().filter(|line| line.contains(" Ready "));
    ready.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
