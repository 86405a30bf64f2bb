//! What the running kernel can do.

use std::collections::BTreeMap;
use std::fs;

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

/// The names of the table above that /proc/kallsyms has.
fn symbols(root: &Root) -> std::collections::HashSet<&'static str> {
    let text = fs::read_to_string(root.path("/proc/kallsyms")).unwrap_or_default();
    let mut found = std::collections::HashSet::new();
    for name in text.lines().filter_map(|line| line.split_whitespace().nth(2)) {
        if let Some((_, symbol)) = FEATURES.iter().find(|(_, symbol)| *symbol == name) {
            found.insert(*symbol);
        }
    }
    found
}

/// Whether modprobe knows where to take it from; loads nothing.
fn loadable(root: &Root, module: &str) -> bool {
    command::look_in(root, "modprobe", &["--dry-run", "--quiet", module]).is_some()
}
