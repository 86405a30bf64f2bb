//! JSON paths: field paths into a schema (`.spec.host`), and those of printer columns (client-go `util/jsonpath`).

use serde_json::Value;

use super::Schema;
use crate::field::Path;

/// Follows a field path through a schema, as `.a.b`, and with `keys` also `.a['b']` into maps. Gives where it leads, as a field
/// path and as a schema node.
pub fn field<'a>(schema: &'a Schema, text: &str, keys: bool) -> Result<(Path, &'a Schema), String> {
    let (mut path, mut node, mut rest) = (Path::default(), schema, text);
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            let name = &after[..end];
            if name.is_empty() {
                return Err("unexpected end of JSON path".to_owned());
            }
            node = node.properties.get(name).ok_or("does not refer to a valid field")?;
            path = path.child(name);
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[').filter(|_| keys) {
            let end = after.find(']').ok_or("unexpected end of JSON path")?;
            let token = &after[..end];
            let name = token.strip_prefix('\'').and_then(|it| it.strip_suffix('\''));
            let name = name.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
            match (node.properties.get(name), node.values()) {
                (Some(known), _) => (node, path) = (known, path.child(name)),
                (None, Some(values)) => (node, path) = (values, path.key(name)),
                (None, None) => return Err("does not refer to a valid field".to_owned()),
            }
            rest = &after[end + 1..];
        } else {
            let token = rest.split(['.', '[', ']']).next().filter(|it| !it.is_empty()).unwrap_or(&rest[..1]);
            return Err(format!("expected {} but got: {token}", if keys { "[ or ." } else { "." }));
        }
    }
    Ok((path, node))
}

/// A printer column's path, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// `*` and `[*]`
    All,
    /// `..`
    Deep,
    /// `[from:to]`, negative counted from the end; `[n]` is `[n:n+1]`.
    Slice(Option<i64>, Option<i64>),
    /// `[?(@.a == "b")]`
    Filter(Vec<Step>, Option<(Operator, Operand)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Vec<Step>),
}

const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl JsonPath {
    /// Reads `.spec.x`, `.status.conditions[?(@.type=="Ready")].status` and the like; braces around it are allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(text);
        steps(text.strip_prefix('$').unwrap_or(text)).map(JsonPath)
    }

    /// Everything the path leads to, in order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        walk(&self.0, value)
    }
}

fn steps(mut rest: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Deep);
            rest = after;
            if !rest.starts_with('[') {
                let (step, after) = name(rest)?;
                steps.push(step);
                rest = after;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            let (step, after) = name(after)?;
            steps.push(step);
            rest = after;
        } else if rest.starts_with('[') {
            let end = closing(rest).ok_or_else(|| format!("unterminated array in {rest}"))?;
            steps.push(bracket(rest[1..end].trim())?);
            rest = &rest[end + 1..];
        } else {
            return Err(format!("unrecognized character in {rest}"));
        }
    }
    Ok(steps)
}

/// A name up to the next dot or bracket; a backslash takes what follows it literally.
fn name(text: &str) -> Result<(Step, &str), String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => Err("a path must not end with a dot".to_owned()),
        "*" => Ok((Step::All, &text[end..])),
        _ => Ok((Step::Field(name), &text[end..])),
    }
}

/// The bracket that closes the first one, past quotes and brackets within.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(key) = quoted(text) {
        return Ok(Step::Field(key));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|it| it.strip_suffix(')')) {
        return filter_step(filter);
    }
    let bound = |text: &str| match text.trim() {
        "" => Ok(None),
        number => number.parse().map(Some).map_err(|_| format!("invalid array index {number}")),
    };
    match text.split_once(':') {
        Some((from, to)) => Ok(Step::Slice(bound(from)?, bound(to)?)),
        None => {
            let at: i64 = bound(text)?.ok_or_else(|| "an array index is missing".to_owned())?;
            Ok(Step::Slice(Some(at), at.checked_add(1).filter(|to| *to != 0)))
        }
    }
}

/// What stands between single or double quotes.
fn quoted(text: &str) -> Option<String> {
    let inner = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))?;
    Some(inner.replace("\\.", ".").replace("\\'", "'").replace("\\\"", "\""))
}

fn filter_step(text: &str) -> Result<Step, String> {
    let operand = |text: &str| -> Result<Operand, String> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix('@') {
            return steps(path).map(Operand::Path);
        }
        if let Some(text) = quoted(text) {
            return Ok(Operand::Literal(text.into()));
        }
        serde_json::from_str(text).map(Operand::Literal).map_err(|_| format!("unrecognized operand {text}"))
    };
    let found =
        OPERATORS.iter().filter_map(|(sign, op)| Some((outside_quotes(text, sign)?, *sign, *op))).min_by_key(|it| it.0);
    match found {
        None => match operand(text)? {
            Operand::Path(path) => Ok(Step::Filter(path, None)),
            Operand::Literal(_) => Err(format!("unrecognized filter {text}")),
        },
        Some((at, sign, op)) => match operand(&text[..at])? {
            Operand::Path(left) => Ok(Step::Filter(left, Some((op, operand(&text[at + sign.len()..])?)))),
            Operand::Literal(_) => Err(format!("unrecognized filter {text}")),
        },
    }
}

fn outside_quotes(text: &str, sign: &str) -> Option<usize> {
    let quote = text.find(['"', '\'']).unwrap_or(text.len());
    text[..quote].find(sign)
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return vec![value] };
    let next: Vec<&Value> = match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => children(value),
        Step::Deep => return deep(value).into_iter().flat_map(|it| walk(rest, it)).collect(),
        Step::Slice(from, to) => value.as_array().map(|items| slice(items, *from, *to)).unwrap_or_default(),
        Step::Filter(path, test) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().filter(|item| passes(item, path, test.as_ref())).collect()
        }
    };
    next.into_iter().flat_map(|it| walk(rest, it)).collect()
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn deep(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    all.extend(children(value).into_iter().flat_map(deep));
    all
}

fn slice(items: &[Value], from: Option<i64>, to: Option<i64>) -> Vec<&Value> {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let place = |at: i64| usize::try_from(if at < 0 { at + count } else { at }.clamp(0, count)).unwrap_or(0);
    let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(count)));
    items.get(from..to).map(|it| it.iter().collect()).unwrap_or_default()
}

fn passes(item: &Value, path: &[Step], test: Option<&(Operator, Operand)>) -> bool {
    let left = walk(path, item);
    let Some((operator, operand)) = test else { return !left.is_empty() };
    let right = match operand {
        Operand::Literal(value) => vec![value],
        Operand::Path(path) => walk(path, item),
    };
    let (Some(left), Some(right)) = (left.first(), right.first()) else { return false };
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (a, b) => (a == b).then_some(std::cmp::Ordering::Equal),
    };
    match operator {
        Operator::Equal => left == right || order.is_some_and(|o| o.is_eq()),
        Operator::NotEqual => !order.is_some_and(|o| o.is_eq()),
        Operator::Less => order.is_some_and(|o| o.is_lt()),
        Operator::LessOrEqual => order.is_some_and(|o| o.is_le()),
        Operator::Greater => order.is_some_and(|o| o.is_gt()),
        Operator::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
    }
}
