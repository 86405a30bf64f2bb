//! A set of fields: a tree of path steps, each of which may be a member itself and have members below.

use serde_json::{Map, Value};

use super::element;

/// Steps in order; none without a member at or below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(Vec<(String, Node)>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub member: bool,
    pub below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// The set of these paths, each one of field names.
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = FieldSet::default();
        for path in paths {
            set.insert(&path.iter().map(|name| element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(String, Node)> {
        self.0.iter()
    }

    fn find(&self, step: &str) -> Result<usize, usize> {
        // most steps come in order
        match self.0.last() {
            Some((last, _)) if last.as_str() < step => Err(self.0.len()),
            _ => self.0.binary_search_by(|(own, _)| own.as_str().cmp(step)),
        }
    }

    pub fn get(&self, step: &str) -> Option<&Node> {
        self.find(step).ok().map(|at| &self.0[at].1)
    }

    /// What is below a step.
    pub fn below(&self, step: &str) -> Option<&FieldSet> {
        self.get(step).map(|node| &node.below)
    }

    pub fn has_member(&self, step: &str) -> bool {
        self.get(step).is_some_and(|node| node.member)
    }

    /// Adds a step with what is below it; nothing if both say nothing.
    pub fn add(&mut self, step: String, member: bool, below: FieldSet) {
        if !member && below.is_empty() {
            return;
        }
        match self.find(&step) {
            Ok(at) => {
                let node = &mut self.0[at].1;
                node.member |= member;
                node.below.unite(below);
            }
            Err(at) => self.0.insert(at, (step, Node { member, below })),
        }
    }

    /// Makes a step a member with nothing below it.
    pub fn set_leaf(&mut self, step: String) {
        self.0.retain(|(own, _)| *own != step);
        self.add(step, true, FieldSet::default());
    }

    /// Adds the field at a path of steps.
    pub fn insert<S: AsRef<str>>(&mut self, path: &[S]) {
        let Some((first, rest)) = path.split_first() else { return };
        let mut below = FieldSet::default();
        below.insert(rest);
        self.add(first.as_ref().to_owned(), rest.is_empty(), below);
    }

    pub fn has<S: AsRef<str>>(&self, path: &[S]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last.as_ref()),
            [first, rest @ ..] => self.below(first.as_ref()).is_some_and(|below| below.has(rest)),
        }
    }

    /// Everything of both.
    pub fn unite(&mut self, other: FieldSet) {
        if self.0.is_empty() {
            self.0 = other.0;
            return;
        }
        for (step, node) in other.0 {
            self.add(step, node.member, node.below);
        }
    }

    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut result = self.clone();
        result.unite(other.clone());
        result
    }

    /// Takes away the members of `other`. A member whose own members go stays: a parent is not its children.
    pub fn subtract(&mut self, other: &FieldSet) {
        if other.is_empty() {
            return;
        }
        self.0.retain_mut(|(step, node)| {
            if let Some(theirs) = other.get(step) {
                node.member &= !theirs.member;
                node.below.subtract(&theirs.below);
            }
            !node.is_empty()
        });
    }

    /// Takes away the members of `other` with everything below them.
    pub fn subtract_trees(&mut self, other: &FieldSet) {
        if other.is_empty() {
            return;
        }
        self.0.retain_mut(|(step, node)| match other.get(step) {
            Some(theirs) if theirs.member => false,
            Some(theirs) => {
                node.below.subtract_trees(&theirs.below);
                !node.is_empty()
            }
            None => true,
        });
    }

    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let mut result = self.clone();
        result.subtract(other);
        result
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let common = self.0.iter().filter_map(|(step, node)| {
            let theirs = other.get(step)?;
            let both = Node { member: node.member && theirs.member, below: node.below.intersection(&theirs.below) };
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        FieldSet(common.collect())
    }

    pub fn intersects(&self, other: &FieldSet) -> bool {
        self.0.iter().any(|(step, node)| {
            other.get(step).is_some_and(|theirs| (node.member && theirs.member) || node.below.intersects(&theirs.below))
        })
    }

    /// Every member's path, those of a level before those below it.
    pub fn paths(&self) -> Vec<Vec<String>> {
        fn collect(set: &FieldSet, prefix: &[String], out: &mut Vec<Vec<String>>) {
            let path = |step: &String| prefix.iter().chain([step]).cloned().collect::<Vec<_>>();
            out.extend(set.0.iter().filter(|(_, node)| node.member).map(|(step, _)| path(step)));
            for (step, node) in &set.0 {
                collect(&node.below, &path(step), out);
            }
        }
        let mut out = Vec::new();
        collect(self, &[], &mut out);
        out
    }

    /// From `fieldsV1`. Steps of unknown kinds are left out.
    pub fn decode(fields: &Value) -> Result<Self, String> {
        match fields {
            Value::Null => Ok(FieldSet::default()),
            Value::Object(map) => Ok(decode(map)?.unwrap_or_default().0),
            _ => Err("fieldsV1 is not an object".into()),
        }
    }

    /// As `fieldsV1`.
    pub fn encode(self) -> Value {
        Value::Object(self.encode_level(false))
    }

    fn encode_level(self, own: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if own && !self.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, node) in self.0 {
            map.insert(step, Value::Object(node.below.encode_level(node.member)));
        }
        map
    }
}

/// What is below a step, and whether the step itself is a member; `None` if nothing is below.
fn decode(map: &Map<String, Value>) -> Result<Option<(FieldSet, bool)>, String> {
    let mut set = FieldSet::default();
    for (step, inner) in map.iter().filter(|(step, _)| *step != ".") {
        let Some(step) = element::parse(step)? else { continue };
        let inner = inner.as_object().ok_or_else(|| format!("the value of {step:?} in fieldsV1 is not an object"))?;
        let (below, member) = decode(inner)?.unwrap_or((FieldSet::default(), true));
        set.add(step, member, below);
    }
    Ok((!set.is_empty()).then(|| (set, map.contains_key("."))))
}
