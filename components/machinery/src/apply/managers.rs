//! `metadata.managedFields`: who owns which fields.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::set::FieldSet;
use crate::value::str_at;

/// How many managers by update are told apart; of more, the oldest become one.
const MAX_UPDATE_MANAGERS: usize = 10;
const OLDEST: &str = "ancient-changes";
/// `fieldManager` and what is taken from a user agent, in bytes.
pub const MAX_MANAGER: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Who writes, through what, when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    pub manager: &'a str,
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339.
    pub time: &'a str,
}

/// The fields of an entry: as stored until they are needed.
#[derive(Clone, Debug)]
enum Fields {
    Stored(Value),
    Known(FieldSet),
}

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    pub time: Option<String>,
    fields: Fields,
}

impl Entry {
    pub fn new(writer: &Writer, operation: Operation, fields: FieldSet) -> Self {
        Entry {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: Some(writer.time.to_owned()),
            fields: Fields::Known(fields),
        }
    }

    fn decode(index: usize, mut value: Value) -> Result<Self, String> {
        let fields = value.get_mut("fieldsV1").map_or(Value::Null, Value::take);
        let value = &value;
        let operation = match str_at(value, "operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if str_at(value, "apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match str_at(value, "fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
        }
        Ok(Entry {
            manager: str_at(value, "manager").to_owned(),
            operation,
            api_version: str_at(value, "apiVersion").to_owned(),
            subresource: str_at(value, "subresource").to_owned(),
            time: value.get("time").and_then(Value::as_str).map(str::to_owned),
            fields: Fields::Stored(fields),
        })
    }

    /// Whether this is the entry of a writer. Who applies has one entry whatever the version; who updates one for each.
    pub fn is_of(&self, writer: &Writer, operation: Operation) -> bool {
        self.operation == operation
            && self.manager == writer.manager
            && self.subresource == writer.subresource
            && (operation == Operation::Apply || self.api_version == writer.api_version)
    }

    fn same_manager(&self, other: &Entry) -> bool {
        self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// What was written by somebody else may be unreadable: then nothing is owned.
    pub fn fields(&mut self) -> &mut FieldSet {
        if let Fields::Stored(value) = &self.fields {
            self.fields = Fields::Known(FieldSet::decode(value).unwrap_or_default());
        }
        match &mut self.fields {
            Fields::Known(set) => set,
            Fields::Stored(_) => unreachable!("made known above"),
        }
    }

    pub fn set_fields(&mut self, fields: FieldSet) {
        self.fields = Fields::Known(fields);
    }

    /// Whether any of these fields is owned; cheaper than knowing all that are.
    pub fn touches(&self, fields: &FieldSet) -> bool {
        match &self.fields {
            Fields::Known(own) => own.intersects(fields),
            Fields::Stored(Value::Object(map)) => stored_touches(map, fields),
            Fields::Stored(_) => false,
        }
    }

    fn owns_nothing(&self) -> bool {
        match &self.fields {
            Fields::Known(set) => set.is_empty(),
            Fields::Stored(value) => value.as_object().is_none_or(Map::is_empty),
        }
    }

    fn encode(self) -> Value {
        let fields = match self.fields {
            Fields::Stored(value) => value,
            Fields::Known(set) => set.encode(),
        };
        let mut entry = json!({
            "manager": self.manager, "operation": self.operation.name(), "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        });
        if let Some(time) = self.time {
            entry["time"] = time.into();
        }
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.into();
        }
        entry
    }
}

fn stored_touches(map: &Map<String, Value>, fields: &FieldSet) -> bool {
    fields.iter().any(|(step, node)| {
        let Some(Value::Object(inner)) = map.get(step) else { return false };
        (node.member && (inner.is_empty() || inner.contains_key("."))) || stored_touches(inner, &node.below)
    })
}

/// From `managedFields`; of entries of the same manager the last one counts.
pub fn decode(list: Value) -> Result<Vec<Entry>, String> {
    let Value::Array(list) = list else { return Ok(Vec::new()) };
    let mut entries: Vec<Entry> = Vec::with_capacity(list.len() + 1);
    for (index, value) in list.into_iter().enumerate() {
        let entry = Entry::decode(index, value)?;
        match entries.iter_mut().find(|known| known.same_manager(&entry)) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// As `decode`, for what a client wrote: every set of fields is read, and refused if it is none.
pub fn decode_checked(list: Value) -> Result<Vec<Entry>, String> {
    let mut entries = decode(list)?;
    for entry in &mut entries {
        if let Fields::Stored(value) = &entry.fields {
            entry.fields = Fields::Known(FieldSet::decode(value).map_err(|e| format!("error decoding set: {e}"))?);
        }
    }
    Ok(entries)
}

/// As `managedFields`, in upstream's order; `None` if nobody owns anything.
pub fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|entry| !entry.owns_nothing());
    entries.sort_by(|a, b| {
        let key = |e: &Entry| (e.operation, e.time.clone().unwrap_or_default());
        key(a).cmp(&key(b)).then_with(|| {
            (&a.manager, &a.api_version, &a.subresource).cmp(&(&b.manager, &b.api_version, &b.subresource))
        })
    });
    (!entries.is_empty()).then(|| entries.into_iter().map(Entry::encode).collect())
}

/// Makes one entry a version of the oldest ones, until not too many managers by update are left.
pub fn cap(entries: &mut Vec<Entry>) {
    let mut order: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].operation == Operation::Update).collect();
    let mut left = order.len();
    if left <= MAX_UPDATE_MANAGERS {
        return;
    }
    order.sort_by(|a, b| {
        let key = |at: &usize| {
            let e: &Entry = &entries[*at];
            (e.time.clone().unwrap_or_default(), e.manager.clone(), e.api_version.clone(), e.subresource.clone())
        };
        key(a).cmp(&key(b))
    });
    let mut buckets: HashMap<String, usize> = HashMap::new();
    let mut gone = Vec::new();
    for at in order {
        if left <= MAX_UPDATE_MANAGERS {
            break;
        }
        let version = entries[at].api_version.clone();
        let Some(bucket) = buckets.get(&version).copied() else {
            buckets.insert(version, at);
            continue;
        };
        let fields = std::mem::take(entries[at].fields());
        let time = entries[at].time.take();
        let entry = &mut entries[bucket];
        OLDEST.clone_into(&mut entry.manager);
        entry.subresource.clear();
        entry.fields().unite(fields);
        entry.time = time;
        gone.push(at);
        left -= 1;
    }
    let mut at = 0;
    entries.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
}

/// The manager of a client that names none: its program's name.
pub fn manager_from_user_agent(user_agent: &str) -> String {
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_MANAGER {
            break;
        }
        name.push(c);
    }
    name
}
