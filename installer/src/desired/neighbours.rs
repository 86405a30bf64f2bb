//! What a host gets because of what else runs on it: files beside the neighbour's own, never in their place.

use hoststate::resource::Contents;
use hoststate::{Content, Facts, Resource};
use serde_json::Value;

use super::render::render;

struct DropIn {
    /// As facts call it.
    service: &'static str,
    folder: &'static str,
    file: &'static str,
    template: &'static str,
}

const DROP_INS: &[DropIn] = &[
    // it is told of the file (converge's `readers`)
    DropIn {
        service: "NetworkManager",
        folder: "/etc/NetworkManager/conf.d",
        file: "kinstall.conf",
        template: "config/networkmanager.conf",
    },
    // It takes care of every link that one of its files matches, and some match all. It reads this when it starts the next time,
    // which is when it would do harm.
    DropIn {
        service: "systemd-networkd",
        folder: "/etc/systemd/network",
        file: "05-kinstall.network",
        template: "config/networkd.conf",
    },
];

/// The files, with their directories for hosts that have none.
pub fn files(facts: &Facts, context: &Value) -> anyhow::Result<Vec<Resource>> {
    let mut list = Vec::new();
    for it in of_host(facts) {
        list.push(Resource::Directory { path: it.folder.to_owned(), mode: 0o755, contents: Contents::Foreign });
        let text = render(it.template, context)?;
        let content = Content::Inline { text, secret: false };
        list.push(Resource::File { path: path(it), mode: 0o644, content });
    }
    Ok(list)
}

/// The file that a service is given, for people.
pub fn file_for(facts: &Facts, service: &str) -> Option<String> {
    of_host(facts).find(|it| it.service == service).map(path)
}

fn of_host(facts: &Facts) -> impl Iterator<Item = &'static DropIn> {
    let runs = |name: &str| facts.neighbours.services.iter().any(|service| service == name);
    DROP_INS.iter().filter(move |it| runs(it.service))
}

fn path(it: &DropIn) -> String {
    format!("{}/{}", it.folder, it.file)
}
