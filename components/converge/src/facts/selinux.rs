//! SELinux: which policy is enforced, and whether files can be given its labels.

use hoststate::facts::SeLinux;

use super::system::read;
use crate::{Root, labels};

const CONFIG: &str = "/etc/selinux/config";

pub fn collect(root: &Root) -> SeLinux {
    let config = read(root, CONFIG);
    let policy = config.lines().rev().find_map(|line| line.trim().strip_prefix("SELINUXTYPE=")).unwrap_or_default();
    SeLinux { policy: policy.trim().to_owned(), can_label: labels::program_is_there(root) }
}
