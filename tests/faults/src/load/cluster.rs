//! The cluster that applications live on: three control planes and two workers, a stateless server with two replicas and a
//! budget, and WordPress with its database on a local volume.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator, ready};
use e2e::scenario::until;
use e2e::wordpress::Post;
use lab::Lab;

use super::acts::Course;
use super::client::Target;
use crate::events::{Mark, follow, tail};
use crate::whole;

const CONTROL_PLANES: u32 = 3;
const HOSTS: u32 = 5;
pub const WORKERS: [u32; 2] = [4, 5];
const STATELESS: &str = include_str!("stateless.yaml");
/// An upgrade of five hosts, drained one by one.
const LIMIT: Duration = Duration::from_secs(400);

pub struct Cluster {
    pub lab: Lab,
    operator: Operator,
    short: bool,
}

impl Cluster {
    pub fn new(short: bool) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let lab = Lab::up(HOSTS).context("cannot boot five hosts")?;
        let inventory = Inventory::with_control_planes(&lab, &artifacts, CONTROL_PLANES as usize);
        let operator = Operator::new(&lab, "load", artifacts)?;
        operator.write(&inventory)?;
        operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
        operator.kubectl_with(&["apply", "-f", "-"], &STATELESS.replace("IMAGE", &operator.components_image()?))?;
        operator.kubectl(&["rollout", "status", "deployment/stateless", "--timeout=60s"])?;
        let cluster = Self { lab, operator, short };
        cluster.is_ready_soon()?;
        Ok(cluster)
    }

    /// For how long requests are looked at after a host was lost: until its node was noticed to be gone, and some; in the short
    /// form while nobody has noticed yet, which is the worse part of it.
    pub fn after_a_loss(&self) -> Duration {
        Duration::from_secs(if self.short { 20 } else { 50 })
    }

    pub fn targets(&self) -> Result<Vec<Target>> {
        let addresses: Vec<SocketAddr> =
            WORKERS.iter().map(|n| format!("{}:80", self.lab.host(*n).address()).parse()).collect::<Result<_, _>>()?;
        let Post { id, title } = Post::of(&self.operator)?;
        let target = |name: &str, host: &str, path: String, expected: &str, rate| Target {
            name: name.to_owned(),
            host: host.to_owned(),
            path,
            expected: expected.to_owned(),
            addresses: addresses.clone(),
            rate,
        };
        Ok(vec![
            target("stateless", "stateless.lab", "/".into(), "\"name\":\"stateless-", 100),
            target("WordPress, front page", "wordpress.lab", "/".into(), &title, 2),
            target("WordPress, the post", "wordpress.lab", format!("/?p={id}"), &title, 2),
        ])
    }

    fn has_power(&self, host: u32) -> bool {
        self.lab.host(host).state().is_ok_and(|state| state != lab::State::Stopped)
    }

    /// Through the first control plane that lives.
    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let living = (1..=CONTROL_PLANES).find(|host| self.has_power(*host)).context("every control plane is dead")?;
        self.operator.kubectl_at(&format!("h{living}"), args)
    }

    /// The control plane whose controllers and scheduler work.
    pub fn leading(&self) -> Result<u32> {
        let path = "jsonpath={.spec.holderIdentity}";
        let holder = self.kubectl(&["get", "lease", "kube-controller-manager", "-n", "kube-system", "-o", path])?;
        let name = holder.split('_').next().unwrap_or_default();
        Ok(self.lab.find(name).with_context(|| format!("{holder:?} leads"))?.number())
    }

    /// The worker on which WordPress's database is not.
    pub fn without_database(&self) -> Result<u32> {
        let pods = self.kubectl(&["get", "pods", "-n", "wordpress", "-o", "wide", "--no-headers"])?;
        let line = pods.lines().find(|line| line.starts_with("mariadb")).context("no database")?;
        WORKERS.into_iter().find(|n| !line.contains(&format!(" h{n} "))).context("it is on no worker")
    }

    /// To the bundle that this variable names, so many workers at once. `turn`: how the phase begins from which on the next act is
    /// on.
    pub fn upgrade(&self, bundle: &str, workers: &str, turn: Option<&'static str>) -> Result<Course> {
        let bundle = std::env::var(bundle).with_context(|| format!("{bundle} is not set: run `make faults-load`"))?;
        let args = [
            "upgrade",
            "-i",
            "inventory.yaml",
            "--yes",
            "--output",
            "json",
            "--no-validate",
            "--delete-emptydir-data",
            "--workers",
            workers,
            "--bundle",
            &bundle,
        ];
        let mut turns = Vec::new();
        let mark = turn.map_or(Mark::Nth(0), |words| Mark::Event("phase", words));
        let ran = follow(self.operator.start(&args)?, &mark, LIMIT, |_| {
            turns.push(Instant::now());
            Ok(())
        })?;
        ensure!(ran.code == Some(0), "the upgrade ended with {:?}:\n{}", ran.code, tail(&ran.said, 10));
        ensure!(turns.len() == usize::from(turn.is_some()), "it never said {turn:?}");
        Ok(Course { turns, lost: None })
    }

    /// Whoever lost power gets it back; all is proven to work. In the short form what lives has to be ready for what comes next.
    pub fn mend(&self) -> Result<()> {
        if !self.short {
            for host in (1..=HOSTS).filter(|host| !self.has_power(*host)) {
                self.lab.host(host).start()?;
            }
        }
        self.is_ready_soon()?;
        if self.short {
            return Ok(());
        }
        self.operator.ok(&["validate", "-i", "inventory.yaml", "--no-restart"]).map(drop)
    }

    /// What an act does to it has to begin where nothing fails: ingress and proxies hear of pods a moment after kubectl does.
    fn is_ready_soon(&self) -> Result<()> {
        let wanted = (1..=HOSTS).filter(|host| self.has_power(*host)).count();
        until(Duration::from_secs(120), "every node that has power is Ready, and every application", || {
            self.is_ready(wanted).unwrap_or(false)
        })
        .map(drop)
    }

    fn is_ready(&self, nodes: usize) -> Result<bool> {
        // a host that has just lost its power still counts
        let ready = ready(&self.kubectl(&["get", "nodes", "--no-headers"])?).len();
        let pods = self.kubectl(&["get", "pods", "-n", "default", "--no-headers"])?
            + &self.kubectl(&["get", "pods", "-n", "wordpress", "--no-headers"])?;
        let running = pods.lines().all(|line| line.contains(" 1/1 ") && line.contains(" Running "));
        Ok(ready >= nodes && running && self.answers("wordpress.lab") && self.answers("stateless.lab"))
    }

    fn answers(&self, host: &str) -> bool {
        WORKERS.iter().filter(|worker| self.has_power(**worker)).all(|worker| {
            let said = whole::get(&self.lab.host(*worker).address(), host);
            said.is_ok_and(|said| said.starts_with("HTTP/1.1 200"))
        })
    }
}
