//! A backup's data leaves this host, and comes back to it.
//!
//! The store's part is done by the applet that knows stores: this crate does not.

mod listing;
mod place;
mod take;
mod volumes;

pub use listing::list;
pub use place::place;
pub use take::take;

const STORE: &str = "/var/lib/kinstall/store";
const ETCD: &str = "/var/lib/kinstall/etcd";
const VOLUMES: &str = "/var/lib/kinstall/volumes";
/// In each of these: what a restore found there. Only the newest is kept.
const ASIDE: &str = "before-restore";
