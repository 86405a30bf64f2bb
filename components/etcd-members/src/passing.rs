//! What etcd refuses only for now, where its members are about to change.

/// What etcd says as long as another member is on its way, or is not connected to all the others yet. "Not found" is its
/// word for an id that was removed: it makes the id out of the address and the second, so a member that was added and taken
/// out within this second has to wait for the next one (etcd's `membership.computeMemberId`).
const PASSING: &[&str] = &[
    "too many learner members",
    "unhealthy cluster",
    "re-configuration failed due to not enough",
    "etcdserver: member not found",
];

pub fn is_passing(error: &etcd_client::Error) -> bool {
    let message = error.to_string();
    PASSING.iter().any(|passing| message.contains(passing))
}
