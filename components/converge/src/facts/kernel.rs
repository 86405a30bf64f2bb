//! What the running kernel can do.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::{Root, command};

/// Feature (also the module's name) → a symbol that is in the kernel when the feature is.
pub const FEATURES: [(&str, &str); 8] = [
    ("overlay", "ovl_fill_super"),
    ("nf_tables", "nft_do_chain"),
    ("nft_numgen", "nft_ng_random_eval"),
    ("nf_conntrack", "nf_conntrack_in"),
    ("nf_nat", "nf_nat_packet"),
    ("vxlan", "vxlan_xmit"),
    ("veth", "veth_xmit"),
    ("br_netfilter", "br_nf_pre_routing"),
];

pub fn features(root: &Root) -> BTreeMap<String, bool> {
    let symbols = symbols(root);
    FEATURES
        .iter()
        .map(|(module, symbol)| {
            let present = symbols.contains(*symbol) || loadable(root, module);
            ((*module).to_owned(), present)
        })
        .collect()
}

/// Whether a module is loaded or built in.
pub fn module_present(root: &Root, name: &str) -> bool {
    let underscored = name.replace('-', "_");
    root.path(&format!("/sys/module/{underscored}")).exists()
        || FEATURES
            .iter()
            .find(|(module, _)| *module == underscored)
            .is_some_and(|(_, symbol)| symbols(root).contains(*symbol))
}

/// The names of the table above that /proc/kallsyms has. The kernel writes out every symbol it has when that is read, a hundred
/// thousand of them, and what of them comes later is a module, which /sys/module shows: so the machine's own is read once.
fn symbols(root: &Root) -> Cow<'static, HashSet<&'static str>> {
    static OWN: OnceLock<HashSet<&str>> = OnceLock::new();
    match root.prefix == Path::new("/") {
        true => Cow::Borrowed(OWN.get_or_init(|| read_symbols(root))),
        false => Cow::Owned(read_symbols(root)),
    }
}

fn read_symbols(root: &Root) -> HashSet<&'static str> {
    let text = fs::read_to_string(root.path("/proc/kallsyms")).unwrap_or_default();
    let known = |name: &str| FEATURES.iter().find(|(_, symbol)| *symbol == name).map(|(_, symbol)| *symbol);
    text.lines().filter_map(|line| known(line.split_whitespace().nth(2)?)).collect()
}

/// Whether modprobe knows where to take it from; loads nothing.
fn loadable(root: &Root, module: &str) -> bool {
    command::look_in(root, "modprobe", &["--dry-run", "--quiet", module]).is_some()
}
