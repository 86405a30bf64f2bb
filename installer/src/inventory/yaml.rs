//! YAML as a tree in which every node knows its line and column.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::substitute::{Variables, substitute};

/// Where something stands in the file, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos {
    pub line: usize,
    pub column: usize,
}

impl From<Span> for Pos {
    fn from(span: Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub pos: Pos,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    /// `quoted`: written with quotes or as a block, so never a number, boolean or null.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub pos: Pos,
}

impl Node {
    /// What this is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// More nodes than any inventory has; bounds what aliases can blow up to.
const MAX_NODES: usize = 1_000_000;

/// A place in the file, and what is wrong there.
pub type Fault = (Pos, String);

/// Every document of `text` but empty ones, its values with the variables they name. The error: what makes the text no YAML, or
/// every variable that is missing.
pub fn documents(text: &str, variables: &dyn Variables) -> Result<Vec<Node>, Vec<Fault>> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        variables,
        missing: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let documents = builder.documents().map_err(|fault| vec![with_hint(fault, text)])?;
    if builder.missing.is_empty() { Ok(documents) } else { Err(builder.missing) }
}

/// YAML ends plain text in brackets at a brace.
fn with_hint((pos, message): Fault, text: &str) -> Fault {
    let names_variable = text.lines().nth(pos.line.saturating_sub(1)).is_some_and(|line| line.contains("${"));
    let hint = if names_variable { "; inside {…} and […] a value with ${…} needs quotes" } else { "" };
    (pos, format!("{message}{hint}"))
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    variables: &'a dyn Variables,
    missing: Vec<Fault>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err((
                Pos { line: error.marker().line(), column: error.marker().col() + 1 },
                format!("this is not YAML: {}", error.info()),
            )),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn documents(&mut self) -> Result<Vec<Node>, Fault> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => return Ok(documents),
                other => {
                    let node = self.node(other, span)?;
                    if !matches!(node.value, Value::Null) {
                        documents.push(node);
                    }
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Fault> {
        let pos = Pos::from(span);
        self.count(1, pos)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (self.scalar(&text, style, pos), anchor),
            Event::SequenceStart(anchor, _) => (self.list()?, anchor),
            Event::MappingStart(anchor, _) => (self.map()?, anchor),
            Event::Alias(id) => {
                let node =
                    self.anchors.get(&id).cloned().ok_or((pos, "this alias names no anchor before it".to_owned()))?;
                self.count(size(&node), pos)?;
                return Ok(node);
            }
            other => return Err((pos, format!("unexpected {other:?}"))),
        };
        let node = Node { pos, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// What is plain and empty by its variables is as if nothing stood there.
    fn scalar(&mut self, text: &str, style: ScalarStyle, pos: Pos) -> Value {
        match substitute(text, self.variables) {
            Ok(text) => scalar(&text, style),
            Err((before, message)) => {
                // in longer texts lines are folded and escapes are read, so only the place of the whole is known
                let at = match style {
                    ScalarStyle::Plain => before,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => before + 1,
                    ScalarStyle::Literal | ScalarStyle::Folded => 0,
                };
                self.missing.push((Pos { column: pos.column + at, ..pos }, message));
                Value::Null
            }
        }
    }

    fn count(&mut self, nodes: usize, pos: Pos) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES { Err((pos, "the file grows too large by its aliases".into())) } else { Ok(()) }
    }

    fn list(&mut self) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let pos = Pos::from(span);
            let text = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err((pos, "a key must be a plain word".into())),
            };
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.text == text) {
                return Err((
                    pos,
                    format!("{text:?} is already set at line {}; each field may stand once", first.pos.line),
                ));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            entries.push((Key { text, pos }, value));
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let quoted = style != ScalarStyle::Plain;
    if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar { text: text.to_owned(), quoted }
}
