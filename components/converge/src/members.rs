//! etcd's members, asked and changed through the applet that speaks to etcd: this crate knows nothing of its protocol.

use hoststate::wire::Failure;
use hoststate::{Event, Member};

use crate::sink::Sink;
use crate::{command, resources};

const CONFIG: &str = "/etc/kinstall/etcd-members.yaml";

pub fn list(sink: &Sink) -> Result<Event, Failure> {
    ask(sink, "list the members of etcd", &["list"])
}

pub fn remove(sink: &Sink, id: u64) -> Result<Event, Failure> {
    ask(sink, "remove a member of etcd", &["remove", &id.to_string()])
}

fn ask(sink: &Sink, step: &str, words: &[&str]) -> Result<Event, Failure> {
    let own = std::env::current_exe().map_err(|error| resources::io(step, &error))?;
    let mut arguments = vec!["etcd-members", "--config", CONFIG];
    arguments.extend(words);
    let said = command::run(sink, step, &own.to_string_lossy(), &arguments)?;
    let members: Vec<Member> =
        serde_json::from_str(&said).map_err(|error| resources::io(step, &std::io::Error::other(error)))?;
    Ok(Event::Members { members })
}
