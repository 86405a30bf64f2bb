//! Several documents as one: `cat settings.yaml hosts.yaml` is an inventory, too.

use super::decode::Sink;
use super::yaml::{Key, Node, Pos, Value};

/// What documents may each bring a part of.
const GROWING: [&str; 2] = ["hosts", "groups"];

/// The fields of all documents. Hosts and groups are put together, every other field may stand once.
pub fn join(documents: Vec<Node>, sink: &mut Sink) -> Node {
    let start = Pos { line: 1, column: 1 };
    let mut documents = documents.into_iter();
    let mut joined = documents.next().unwrap_or(Node { pos: start, value: Value::Null });
    for document in documents {
        match (&mut joined.value, document.value) {
            (Value::Map(fields), Value::Map(more)) => {
                more.into_iter().for_each(|(key, value)| put(fields, key, value, sink));
            }
            // the first one is told when it is decoded
            (_, Value::Map(_)) => {}
            (_, value) => {
                let kind = Node { pos: document.pos, value }.kind();
                sink.add(document.pos, "", format!("expected fields (`name: value`), found {kind}"));
            }
        }
    }
    joined
}

fn put(fields: &mut Vec<(Key, Node)>, key: Key, value: Node, sink: &mut Sink) {
    let Some((first, there)) = fields.iter_mut().find(|(there, _)| there.text == key.text) else {
        return fields.push((key, value));
    };
    let grows = GROWING.contains(&key.text.as_str());
    match (&mut there.value, value.value) {
        (Value::List(items), Value::List(more)) if grows => items.extend(more),
        (Value::Map(entries), Value::Map(more)) if grows => {
            more.into_iter().for_each(|(name, value)| put_new(entries, name, value, &key.text, sink));
        }
        (Value::Null, value) if grows => *there = Node { pos: there.pos, value },
        (_, Value::Null) if grows => {}
        _ => sink.add(key.pos, &key.text, once(first, "each field may stand in one of the documents")),
    }
}

fn put_new(entries: &mut Vec<(Key, Node)>, key: Key, value: Node, list: &str, sink: &mut Sink) {
    match entries.iter().find(|(there, _)| there.text == key.text) {
        Some((first, _)) => sink.add(key.pos, format!("{list}.{}", key.text), once(first, "each may stand once")),
        None => entries.push((key, value)),
    }
}

fn once(first: &Key, rule: &str) -> String {
    format!("{:?} is already set at line {}; {rule}", first.text, first.pos.line)
}
