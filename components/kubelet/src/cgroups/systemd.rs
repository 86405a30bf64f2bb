//! Slices as systemd's own units, with their limits as properties: what is only written into the kernel's files is gone as soon
//! as systemd reads its units anew, since it writes then what it knows. Upstream: libcontainer's `systemd` managers.

use anyhow::{Result, bail};

use super::bus::{Answer, Body, Bus, Property, Value};
use super::files::weight;
use crate::pods::resources::{CPU_PERIOD, PodLimits};

/// Where systemd keeps what was set on units that were not made with `StartTransientUnit`.
const SET_LATER: &str = "/run/systemd/system.control";
const UNLIMITED: u64 = u64::MAX;
/// systemd counts a quota in whole percents of a processor; in microseconds of a second.
const PERCENT: u64 = 10_000;

#[derive(Debug, Clone)]
pub struct Slices {
    pub bus: Bus,
    pub unified: bool,
}

impl Slices {
    /// Brings a slice to life with these limits; false if it lives already, with whichever it has.
    pub async fn start(&self, slice: &str, description: &str, limits: PodLimits) -> Result<bool> {
        let mut all = vec![
            ("Description", Value::Text(description.into())),
            // whatever the host's default is: without accounting a slice has no such controller
            ("CPUAccounting", Value::Flag(true)),
            ("MemoryAccounting", Value::Flag(true)),
            ("TasksAccounting", Value::Flag(true)),
        ];
        all.extend(properties(self.unified, limits));
        let body = Body::default().text(slice).text("replace").properties(&all).no_units();
        match self.bus.call("StartTransientUnit", body).await? {
            Answer::Done => Ok(true),
            Answer::Refused(name, _) if name.ends_with(".UnitExists") => Ok(false),
            Answer::Refused(name, text) => bail!("systemd does not start {slice}: {text} ({name})"),
        }
    }

    /// Gives a slice these limits, whether it lives already or not.
    pub async fn set(&self, slice: &str, description: &str, limits: PodLimits) -> Result<()> {
        if self.start(slice, description, limits).await? {
            return Ok(());
        }
        let body = Body::default().text(slice).flag(true).properties(&properties(self.unified, limits));
        match self.bus.call("SetUnitProperties", body).await? {
            Answer::Done => Ok(()),
            Answer::Refused(name, text) => bail!("systemd does not limit {slice}: {text} ({name})"),
        }
    }

    pub async fn stop(&self, slice: &str) -> Result<()> {
        let answer = self.bus.call("StopUnit", Body::default().text(slice).text("replace")).await?;
        // of a slice that a kubelet before this one had let the runtime make
        std::fs::remove_dir_all(format!("{SET_LATER}/{slice}.d")).ok();
        match answer {
            Answer::Done => Ok(()),
            Answer::Refused(name, _) if name.ends_with(".NoSuchUnit") => Ok(()),
            Answer::Refused(name, text) => bail!("systemd does not stop {slice}: {text} ({name})"),
        }
    }
}

/// The limits as systemd names them, on v2 and on v1 (and hybrid).
fn properties(unified: bool, limits: PodLimits) -> Vec<Property> {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let (weigh, amount, memory) = match unified {
        true => ("CPUWeight", weight(limits.shares), "MemoryMax"),
        false => ("CPUShares", limits.shares, "MemoryLimit"),
    };
    let quota = limits.quota.map_or(UNLIMITED, |quota| {
        // rounded up, or else v1 refuses a container's quota as more than its pod's
        (number(quota) * 1_000_000 / number(CPU_PERIOD)).next_multiple_of(PERCENT)
    });
    vec![
        (weigh, Value::Number(number(amount))),
        ("CPUQuotaPerSecUSec", Value::Number(quota)),
        (memory, Value::Number(limits.memory.map_or(UNLIMITED, number))),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::bus::tests::manager;
    use super::*;

    const LIMITS: PodLimits = PodLimits { shares: 512, quota: Some(50_050), memory: Some(64 << 20) };

    #[test]
    fn limits_in_systemds_words() {
        let number = |name, n| (name, Value::Number(n));
        let v2 = [number("CPUWeight", 20), number("CPUQuotaPerSecUSec", 510_000), number("MemoryMax", 64 << 20)];
        assert_eq!(properties(true, LIMITS), v2);
        let v1 = [number("CPUShares", 2), number("CPUQuotaPerSecUSec", UNLIMITED), number("MemoryLimit", UNLIMITED)];
        assert_eq!(properties(false, PodLimits { shares: 2, quota: None, memory: None }), v1);
    }

    fn exists(method: &str) -> Answer {
        match method {
            "StartTransientUnit" => Answer::Refused("org.freedesktop.systemd1.UnitExists".into(), "it lives".into()),
            "StopUnit" => Answer::Refused("org.freedesktop.systemd1.NoSuchUnit".into(), "it lives not".into()),
            _ => Answer::Done,
        }
    }

    #[tokio::test]
    async fn a_slice_that_lives_is_given_its_limits_and_one_that_is_gone_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let (bus, calls) = manager(directory.path(), exists);
        let slices = Slices { bus, unified: true };
        assert!(!slices.start("kubepods.slice", "pods", LIMITS).await.unwrap());
        slices.set("kubepods.slice", "pods", LIMITS).await.unwrap();
        slices.stop("kubepods.slice").await.unwrap();
        let methods: Vec<String> = calls.lock().iter().map(|(method, _)| method.clone()).collect();
        assert_eq!(methods, ["StartTransientUnit", "StartTransientUnit", "SetUnitProperties", "StopUnit"]);
        let has = |at: usize, text: &[u8]| calls.lock()[at].1.windows(text.len()).any(|part| part == text);
        assert!(has(0, b"MemoryAccounting\0") && has(0, b"CPUWeight\0") && has(2, b"MemoryMax\0"));
    }

    #[tokio::test]
    async fn what_systemd_refuses_is_told_with_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let (bus, _) = manager(directory.path(), |_| Answer::Refused("x.Denied".into(), "no".into()));
        let error = Slices { bus, unified: true }.set("a.slice", "pods", LIMITS).await.unwrap_err();
        assert_eq!(error.to_string(), "systemd does not start a.slice: no (x.Denied)");
    }
}
