//! What is written into a Lease (client-go `tools/leaderelection`).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

/// `<host>_<random>`: each process has one of its own.
pub fn identity(host: &str) -> String {
    format!("{host}_{}", uuid::Uuid::new_v4())
}

/// The host of an identity.
pub fn host_of(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(host, _)| host)
}

/// Empty: nobody.
pub fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// How long it is good for; `default` if it does not say.
pub fn duration(lease: &Lease, default: Duration) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    seconds.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0).map_or(default, Duration::from_secs)
}

fn now() -> Option<MicroTime> {
    Some(MicroTime(Timestamp::now()))
}

fn seconds(duration: Duration) -> Option<i32> {
    Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX))
}

pub fn new(name: &str, identity: &str, lasts: Duration) -> Lease {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let there = Lease { metadata, spec: Some(LeaseSpec { lease_transitions: Some(-1), ..LeaseSpec::default() }) };
    taken(&there, identity, lasts)
}

/// With another holder.
pub fn taken(there: &Lease, identity: &str, lasts: Duration) -> Lease {
    let mut lease = there.clone();
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(identity.to_owned());
    spec.lease_duration_seconds = seconds(lasts);
    spec.acquire_time = now();
    spec.renew_time = now();
    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
    lease
}

pub fn renewed(there: &Lease) -> Lease {
    let mut lease = there.clone();
    lease.spec.get_or_insert_default().renew_time = now();
    lease
}

/// Without a holder, as client-go leaves it.
pub fn released(there: &Lease) -> Lease {
    let mut lease = renewed(there);
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_is_counted() {
        let lasts = Duration::from_secs(4);
        let transitions = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        let first = new("l", "a_1", lasts);
        assert_eq!((holder(&first), transitions(&first), duration(&first, Duration::ZERO)), ("a_1", Some(0), lasts));
        let free = released(&renewed(&first));
        assert_eq!((holder(&free), transitions(&free)), ("", Some(0)));
        let second = taken(&free, "b_1", lasts);
        assert_eq!((holder(&second), transitions(&second)), ("b_1", Some(1)));
        assert_eq!(duration(&Lease::default(), lasts), lasts);
    }

    #[test]
    fn processes_of_a_host_are_told_apart() {
        let (one, two) = (identity("cp_1"), identity("cp_1"));
        assert_ne!(one, two);
        assert_eq!((host_of(&one), host_of(&two), host_of("old")), ("cp_1", "cp_1", "old"));
    }
}
