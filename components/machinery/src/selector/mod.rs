//! Label and field selectors (apimachinery `pkg/labels`, `pkg/fields`, and metav1.LabelSelector).

mod fields;

use std::fmt;

use serde_json::{Map, Value};

use crate::{names, value};

pub use fields::{FieldSelector, FieldTerm};

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// All requirements must hold; without any, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

impl Requirement {
    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let label = labels.and_then(|l| l.get(&self.key)).and_then(Value::as_str);
        let listed = |l: &str| self.values.iter().any(|v| v == l);
        match self.operator {
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::In | Operator::Equals => label.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(listed),
            Operator::GreaterThan => self.compare(label, |l, v| l > v),
            Operator::LessThan => self.compare(label, |l, v| l < v),
        }
    }

    fn compare(&self, label: Option<&str>, test: fn(i64, i64) -> bool) -> bool {
        let number = |s: &str| s.parse::<i64>().ok();
        match (label.and_then(number), self.values.first().and_then(|v| number(v))) {
            (Some(label), Some(value)) => test(label, value),
            _ => false,
        }
    }

    fn check(self) -> Result<Self, SelectorError> {
        if let Some(problem) = names::qualified_name(&self.key).into_iter().next() {
            return Err(SelectorError(format!("key: Invalid value: \"{}\": {problem}", self.key)));
        }
        let numeric = matches!(self.operator, Operator::GreaterThan | Operator::LessThan);
        for (i, value) in self.values.iter().enumerate() {
            if numeric && value.parse::<i64>().is_err() {
                return Err(SelectorError(format!(
                    "values[{i}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
                )));
            }
            if let Some(problem) = names::label_value(value).into_iter().next() {
                return Err(SelectorError(format!("values[{i}][{}]: Invalid value: \"{value}\": {problem}", self.key)));
            }
        }
        Ok(self)
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        LabelSelector { requirements: Vec::new(), nothing: true }
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The form of the `labelSelector` parameter: `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>5`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { rest: text.trim() };
        let mut requirements = Vec::new();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?.check()?);
            if parser.rest.is_empty() {
                break;
            }
            parser.expect(',')?;
            if parser.rest.is_empty() {
                return Err(SelectorError("found '', expected: identifier after ','".into()));
            }
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// The object form: an absent or null selector selects nothing, an empty one everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, label) in value::map_at(selector, "matchLabels").into_iter().flatten() {
            let values = vec![label.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values }.check()?);
        }
        for expression in value::list_at(selector, "matchExpressions") {
            requirements.push(from_expression(expression)?.check()?);
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// A plain map of labels, as in a Service's `spec.selector`.
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let requirement = |(key, label): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![label.as_str().unwrap_or_default().to_owned()],
        };
        LabelSelector { requirements: labels.iter().map(requirement).collect(), nothing: false }
    }

    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    pub fn matches_object(&self, object: &Value) -> bool {
        self.is_everything() || self.matches(value::map_at(object, "metadata.labels"))
    }
}

fn from_expression(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = value::str_at(expression, "operator");
    let operator = match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return Err(SelectorError(format!("\"{text}\" is not a valid label selector operator"))),
    };
    let values: Vec<String> =
        value::list_at(expression, "values").iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
    let set = matches!(operator, Operator::In | Operator::NotIn);
    if set && values.is_empty() {
        return Err(SelectorError(
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into(),
        ));
    }
    if !set && !values.is_empty() {
        return Err(SelectorError(
            "values: Invalid value: values set must be empty for exists and does not exist".into(),
        ));
    }
    Ok(Requirement { key: value::str_at(expression, "key").to_owned(), operator, values })
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let first = self.values.first().map(String::as_str).unwrap_or_default();
        let mut sorted = self.values.clone();
        sorted.sort();
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={first}"),
            Operator::NotEquals => write!(f, "{key}!={first}"),
            Operator::GreaterThan => write!(f, "{key}>{first}"),
            Operator::LessThan => write!(f, "{key}<{first}"),
            Operator::In => write!(f, "{key} in ({})", sorted.join(",")),
            Operator::NotIn => write!(f, "{key} notin ({})", sorted.join(",")),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.requirements.iter().map(Requirement::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let end = self.rest.find(|c: char| c.is_whitespace() || "=!<>(),".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), SelectorError> {
        let mut buffer = [0; 4];
        if self.take(token.encode_utf8(&mut buffer)) {
            return Ok(());
        }
        Err(SelectorError(format!("unable to parse requirement: found '{}', expected: '{token}'", self.rest)))
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.take("!");
        let key = self.word().to_owned();
        if key.is_empty() {
            return Err(SelectorError(format!(
                "unable to parse requirement: found '{}', expected: identifier",
                self.rest
            )));
        }
        let requirement = |operator, values| Requirement { key: key.clone(), operator, values };
        if negated {
            return Ok(requirement(Operator::DoesNotExist, Vec::new()));
        }
        for (token, operator) in [
            ("==", Operator::Equals),
            ("=", Operator::Equals),
            ("!=", Operator::NotEquals),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ] {
            if self.take(token) {
                return Ok(requirement(operator, vec![self.word().to_owned()]));
            }
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(requirement(Operator::Exists, Vec::new()));
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                return Err(SelectorError(format!(
                    "unable to parse requirement: found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        Ok(requirement(operator, self.values()?))
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        self.expect('(')?;
        let mut values = vec![self.word().to_owned()];
        while self.take(",") {
            values.push(self.word().to_owned());
        }
        self.expect(')')?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn selects(text: &str, labels: Value) -> bool {
        LabelSelector::parse(text).unwrap().matches(labels.as_object())
    }

    #[test]
    fn all_operators() {
        let labels = || json!({"a": "b", "n": "5"});
        for text in [
            "",
            "a",
            "a=b",
            "a==b",
            "a in (x,b)",
            "a!=c",
            "!z",
            "z!=1",
            "a notin (c, d)",
            "z notin (1)",
            "n>4",
            "n<6",
            "a=b , n",
        ] {
            assert!(selects(text, labels()), "{text}");
        }
        for text in ["z", "a=c", "a in (x)", "a!=b", "!a", "a notin (b)", "n>5", "n<5", "z>1", "a=b,z", "a=", "a in ()"]
        {
            assert!(!selects(text, labels()), "{text}");
        }
        assert!(selects("e=", json!({"e": ""})));
        assert!(selects("x/y.z=1", json!({"x/y.z": "1"})));
    }

    #[test]
    fn bad_syntax_is_refused() {
        for text in ["a b", ",", "a=b,", "a in b", "a in (b", "=x", "a=b=c", "n>x", "a=!", "-bad=1"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn display_parses_back() {
        for text in ["a", "!a", "a=b", "a!=b", "a in (x,y)", "a notin (x,y)", "a>1,b<2"] {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.to_string(), text);
            assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    #[test]
    fn object_form() {
        let object = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]});
        let selector = LabelSelector::from_object(Some(&object)).unwrap();
        assert!(selector.matches(json!({"a": "b"}).as_object()));
        assert!(!selector.matches(json!({"a": "b", "c": "d"}).as_object()));
        assert!(!LabelSelector::from_object(None).unwrap().matches(None));
        assert!(LabelSelector::from_object(Some(&json!({}))).unwrap().matches(None));
        assert!(
            LabelSelector::from_object(Some(&json!({"matchExpressions": [{"key": "c", "operator": "In"}]}))).is_err()
        );
    }
}
