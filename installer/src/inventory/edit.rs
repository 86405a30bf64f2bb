//! Changing which hosts an inventory names, in its text: whatever else stands in the file stays as it is, comments too.
//!
//! YAML can be written in many ways and the parser only knows where things begin. So an edit is tried, read again, and taken
//! only when it says exactly what was meant; the callers bring that judgement.

use super::substitute::Environment;
use super::yaml::{self, Node, Pos, Value};

/// A host as it is to be written: field and value, in this order.
#[derive(Clone, Debug, Default)]
pub struct NewHost {
    pub fields: Vec<(String, Written)>,
}

#[derive(Clone, Debug)]
pub enum Written {
    Text(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
}

/// The text with a host more, at the end of the list. `good` says whether a text is what was meant. None: this file is written in
/// a way that we do not know how to continue.
pub fn add(text: &str, host: &NewHost, good: impl Fn(&str) -> bool) -> Option<String> {
    let items = hosts(text)?;
    let last = items.last()?;
    let candidates: Vec<String> = match block_dash(text, last.pos) {
        Some(dash) => {
            let flow = text.get(offset(text, last.pos)?..)?.starts_with('{');
            let at = end_of_item(text, last, dash);
            let new = match flow {
                true => format!("{}- {}\n", " ".repeat(dash), host.flow()),
                false => host.block(dash, last.pos.column - 1),
            };
            vec![insert_line(text, at, &new)]
        }
        None => {
            let start = offset(text, last.pos)?;
            let new = format!(", {}", host.flow());
            closing(text, start, ']').map(|at| format!("{}{new}{}", text[..at].trim_end(), &text[at..])).collect()
        }
    };
    candidates.into_iter().find(|text| good(text))
}

/// The text without the `index`th host.
pub fn remove(text: &str, index: usize, good: impl Fn(&str) -> bool) -> Option<String> {
    let items = hosts(text)?;
    let item = items.get(index)?;
    let candidates: Vec<String> = match block_dash(text, item.pos) {
        Some(dash) => {
            let (from, to) = (line_start(text, item.pos.line)?, end_of_item(text, item, dash));
            vec![format!("{}{}", &text[..from], &text[to..])]
        }
        None => {
            let start = offset(text, item.pos)?;
            let (before, after) = neighbours(text, item.pos)?;
            match (before, after) {
                (_, Some(next)) => vec![format!("{}{}", &text[..start], text.get(offset(text, next)?..)?)],
                (Some(_), None) => {
                    let comma = text[..start].rfind(',')?;
                    closing(text, start, '}').map(|at| format!("{}{}", &text[..comma], &text[at + 1..])).collect()
                }
                (None, None) => return None,
            }
        }
    };
    candidates.into_iter().find(|text| good(text))
}

/// The text in which a value of the `index`th host is another one.
pub fn set(text: &str, index: usize, field: &str, value: &str, good: impl Fn(&str) -> bool) -> Option<String> {
    let items = hosts(text)?;
    let Value::Map(entries) = &items.get(index)?.value else { return None };
    let (_, node) = entries.iter().find(|(key, _)| key.text == field)?;
    let Value::Scalar { text: old, .. } = &node.value else { return None };
    let start = offset(text, node.pos)?;
    let rest = &text[start..];
    let length = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].find(quote)? + 2,
        _ => rest.starts_with(old.as_str()).then_some(old.len())?,
    };
    let new = format!("{}{}{}", &text[..start], scalar(value), &rest[length..]);
    good(&new).then_some(new)
}

/// The hosts' names; None when the text is no inventory at all.
pub fn names(text: &str) -> Option<Vec<String>> {
    let name = |node: &Node| {
        let Value::Map(entries) = &node.value else { return None };
        match &entries.iter().find(|(key, _)| key.text == "name")?.1.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => None,
        }
    };
    hosts(text)?.iter().map(name).collect()
}

impl NewHost {
    pub fn text(mut self, field: &str, value: &str) -> Self {
        self.fields.push((field.to_owned(), Written::Text(value.to_owned())));
        self
    }

    fn flow(&self) -> String {
        let value = |written: &Written| match written {
            Written::Text(text) => scalar(text),
            Written::List(items) => format!("[{}]", join(items.iter().map(|item| scalar(item)))),
            Written::Map(pairs) => {
                format!("{{{}}}", join(pairs.iter().map(|(key, value)| format!("{}: {}", scalar(key), scalar(value)))))
            }
        };
        format!("{{{}}}", join(self.fields.iter().map(|(field, written)| format!("{field}: {}", value(written)))))
    }

    /// `dash`: columns before the dash; `key`: before the first key.
    pub fn block(&self, dash: usize, key: usize) -> String {
        let (mut text, indent) = (String::new(), " ".repeat(key));
        for (index, (field, written)) in self.fields.iter().enumerate() {
            match index {
                0 => text.push_str(&format!("{}-{}", " ".repeat(dash), " ".repeat(key - dash - 1))),
                _ => text.push_str(&indent),
            }
            text.push_str(&match written {
                Written::Text(value) => format!("{field}: {}\n", scalar(value)),
                Written::List(items) => format!("{field}: [{}]\n", join(items.iter().map(|item| scalar(item)))),
                Written::Map(pairs) => {
                    let lines: String = pairs
                        .iter()
                        .map(|(key, value)| format!("{indent}  {}: {}\n", scalar(key), scalar(value)))
                        .collect();
                    format!("{field}:\n{lines}")
                }
            });
        }
        text
    }
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A scalar as it can stand anywhere: plain where that is safe, else in double quotes.
pub fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') && text.chars().all(plain);
    let special = ["null", "true", "false", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    match word && !special {
        true => text.to_owned(),
        // JSON's strings are YAML's
        false => serde_json::Value::from(text).to_string(),
    }
}

fn hosts(text: &str) -> Option<Vec<Node>> {
    lists(text).map(|lists| lists.into_iter().flatten().collect())
}

/// The hosts of each document that names some.
fn lists(text: &str) -> Option<Vec<Vec<Node>>> {
    let mut lists = Vec::new();
    for document in yaml::documents(text, &Environment).ok()? {
        let Value::Map(entries) = document.value else { return None };
        match entries.into_iter().find(|(key, _)| key.text == "hosts").map(|(_, node)| node.value) {
            Some(Value::List(items)) => lists.push(items),
            None | Some(Value::Null) => {}
            Some(_) => return None,
        }
    }
    (!lists.is_empty()).then_some(lists)
}

/// Where the items before and after this one stand, in its own list.
fn neighbours(text: &str, item: Pos) -> Option<(Option<Pos>, Option<Pos>)> {
    let lists = lists(text)?;
    let (list, at) = lists.iter().find_map(|list| Some((list, list.iter().position(|other| other.pos == item)?)))?;
    let before = at.checked_sub(1).map(|at| list[at].pos);
    Some((before, list.get(at + 1).map(|next| next.pos)))
}

/// How many columns stand before the dash of an item that begins at `pos`; None for an item of `[…]`.
fn block_dash(text: &str, pos: Pos) -> Option<usize> {
    let line = text.lines().nth(pos.line - 1)?;
    let before: String = line.chars().take(pos.column - 1).collect();
    let dash = before.find('-')?;
    (before[..dash].trim().is_empty() && before[dash + 1..].trim().is_empty()).then_some(dash)
}

/// Where the line after an item's last one begins.
fn end_of_item(text: &str, item: &Node, dash: usize) -> usize {
    let mut last = last_line(item);
    // what belongs to the item is farther in than its dash: the rest of long texts, and closing brackets
    let lines: Vec<&str> = text.lines().collect();
    let is_inside = |line: &str| {
        let trimmed = line.trim_start();
        !trimmed.is_empty() && !trimmed.starts_with('#') && line.len() - trimmed.len() > dash
    };
    while lines.get(last).is_some_and(|line| is_inside(line)) {
        last += 1;
    }
    line_start(text, last + 1).unwrap_or(text.len())
}

fn last_line(node: &Node) -> usize {
    let below = match &node.value {
        Value::List(items) => items.iter().map(last_line).max(),
        Value::Map(entries) => entries.iter().map(|(key, node)| key.pos.line.max(last_line(node))).max(),
        _ => None,
    };
    // of `key:` with nothing after it the parser says that its value is somewhere below
    match node.value {
        Value::Null => 0,
        _ => node.pos.line.max(below.unwrap_or(0)),
    }
}

/// Where each of these characters stands, from `from` on.
fn closing(text: &str, from: usize, what: char) -> impl Iterator<Item = usize> {
    text[from..].match_indices(what).map(move |(at, _)| from + at)
}

fn insert_line(text: &str, at: usize, new: &str) -> String {
    let missing = if text[..at].ends_with('\n') { "" } else { "\n" };
    format!("{}{missing}{new}{}", &text[..at], &text[at..])
}

/// Bytes before a line, counted from 1.
fn line_start(text: &str, line: usize) -> Option<usize> {
    match line {
        1 => Some(0),
        _ => text.match_indices('\n').nth(line - 2).map(|(at, _)| at + 1),
    }
}

fn offset(text: &str, pos: Pos) -> Option<usize> {
    let start = line_start(text, pos.line)?;
    let line = text.get(start..)?;
    let (at, _) = line.char_indices().nth(pos.column - 1)?;
    Some(start + at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BLOCK: &str = "# ours\ncluster: c\nhosts:\n  # the first\n  - name: h1   # in rack 1\n    address: 10.0.0.1\n    labels: {a: b,\n      c: d}\n\n  - name: \"h2\"\n    address: 10.0.0.2\n    roles:\n    - worker\n    labels:\n      disk: ssd   # fast\n\n# after\nnetwork:\n  backend: vxlan\n";

    fn new() -> NewHost {
        let mut host = NewHost::default().text("name", "h3").text("address", "10.0.0.3").text("role", "worker");
        host.fields.push(("labels".into(), Written::Map(vec![("a/b".into(), "yes".into())])));
        host.fields.push(("taints".into(), Written::List(vec!["k=v:NoSchedule".into()])));
        host
    }

    #[test]
    fn a_host_is_added_in_the_files_own_way() {
        let is_there = |text: &str| names(text).is_some_and(|names| names == ["h1", "h2", "h3"]);
        let added = add(BLOCK, &new(), is_there).unwrap();
        let lines = "  - name: h3\n    address: 10.0.0.3\n    role: worker\n    labels:\n      a/b: \"yes\"\n    taints: [\"k=v:NoSchedule\"]\n";
        assert_eq!(added, BLOCK.replace("# fast\n", &format!("# fast\n{lines}")));

        let flow = "cluster: c\nhosts:\n- {name: h1, address: a}\n- {name: h2, address: b} # two\nnetwork: {}\n";
        let line =
            "- {name: h3, address: 10.0.0.3, role: worker, labels: {a/b: \"yes\"}, taints: [\"k=v:NoSchedule\"]}\n";
        assert_eq!(add(flow, &new(), is_there).unwrap(), flow.replace("# two\n", &format!("# two\n{line}")));

        let bracket = "hosts: [{name: h1, labels: {x: ']'}}, {name: h2, taints: [a]}]\ncluster: c # ]\n";
        let added = add(bracket, &new(), is_there).unwrap();
        assert!(
            added.starts_with("hosts: [{name: h1, labels: {x: ']'}}, {name: h2, taints: [a]}, {name: h3,"),
            "{added}"
        );
        assert!(added.ends_with("}]\ncluster: c # ]\n"), "{added}");
        // the last line has no end
        let cut = "hosts:\n- name: h1\n- name: h2\n  role: worker";
        assert!(add(cut, &new(), is_there).unwrap().starts_with(&format!("{cut}\n- name: h3\n  address")));
        assert!(add("hosts: &all\n- *all\n", &new(), is_there).is_none());
    }

    #[test]
    fn a_host_is_taken_out_and_nothing_else() {
        let left = |wanted: &'static str| move |text: &str| names(text).is_some_and(|names| names == [wanted]);
        let first = "  - name: h1   # in rack 1\n    address: 10.0.0.1\n    labels: {a: b,\n      c: d}\n";
        assert_eq!(remove(BLOCK, 0, left("h2")).unwrap(), BLOCK.replace(first, ""));
        let second = remove(BLOCK, 1, left("h1")).unwrap();
        assert!(second.ends_with("      c: d}\n\n\n# after\nnetwork:\n  backend: vxlan\n"), "{second}");
        let bracket = "hosts: [{name: h1, labels: {x: '}'}}, {name: h2, labels: {x: '}'}}]\n";
        assert_eq!(remove(bracket, 0, left("h2")).unwrap(), "hosts: [{name: h2, labels: {x: '}'}}]\n");
        assert_eq!(remove(bracket, 1, left("h1")).unwrap(), "hosts: [{name: h1, labels: {x: '}'}}]\n");
        assert!(remove(BLOCK, 2, left("h1")).is_none());
        assert!(remove(BLOCK, 1, |_| false).is_none(), "what was not meant is not done");
    }

    #[test]
    fn hosts_of_several_documents_are_those_of_one_inventory() {
        let text = "cluster: c # a, b\n---\nhosts: [{name: h1, address: a}]\n---\nnetwork: {}\nhosts: [{name: h2}, {name: h3}]\n";
        let are = |wanted: &'static [&'static str]| move |text: &str| names(text).is_some_and(|names| names == wanted);
        assert_eq!(remove(text, 1, are(&["h1", "h3"])).unwrap(), text.replace("{name: h2}, ", ""));
        assert_eq!(remove(text, 2, are(&["h1", "h2"])).unwrap(), text.replace(", {name: h3}", ""));
        assert!(remove(text, 0, |_| true).is_none(), "the only one of its brackets");
        let added = add(text, &NewHost::default().text("name", "h4"), are(&["h1", "h2", "h3", "h4"])).unwrap();
        assert_eq!(added, text.replace("{name: h3}", "{name: h3}, {name: h4}"));
        let block = "cluster: c\nhosts:\n- name: h1\n---\nhosts:\n- name: h2\n...\n";
        assert_eq!(remove(block, 1, are(&["h1"])).unwrap(), block.replace("- name: h2\n", ""));
        assert_eq!(remove(block, 0, are(&["h2"])).unwrap(), block.replace("- name: h1\n", ""));
    }

    #[test]
    fn a_value_is_exchanged_where_it_stands() {
        let is = |wanted: [&'static str; 2]| move |text: &str| names(text).is_some_and(|names| names == wanted);
        assert_eq!(set(BLOCK, 1, "name", "h9", is(["h1", "h9"])).unwrap(), BLOCK.replace("\"h2\"", "h9"));
        assert_eq!(set(BLOCK, 0, "name", "no", is(["no", "h2"])).unwrap(), BLOCK.replace("h1 ", "\"no\" "));
        assert!(set(BLOCK, 0, "nodeAddress", "x", |_| true).is_none());
    }

    #[test]
    fn what_yaml_would_take_for_something_else_is_quoted() {
        for (text, written) in [
            ("worker", "worker"),
            ("10.0.0.1", "10.0.0.1"),
            ("/root/.ssh/id", "/root/.ssh/id"),
            ("null", "\"null\""),
            ("No", "\"No\""),
            ("", "\"\""),
            ("~/.ssh/id", "\"~/.ssh/id\""),
            ("a: b", "\"a: b\""),
            ("k=v:NoSchedule", "\"k=v:NoSchedule\""),
            ("-x", "\"-x\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
