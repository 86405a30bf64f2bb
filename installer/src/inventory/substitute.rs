//! `${VAR}` and `${VAR:-default}` in an inventory's values; `$${` stands for `${` itself.
//!
//! Values are substituted after YAML was read: nothing in a variable can change what the file means, and everything keeps its
//! place. Names of fields are left alone.

use std::borrow::Cow;

use super::decode::nearest;

/// Where variables are looked up.
pub trait Variables {
    fn get(&self, name: &str) -> Option<String>;
    /// For saying which one was probably meant.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
pub struct Environment;

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

/// The text with the variables' values. An error: how many characters stand before it, and what it is.
pub fn substitute<'t>(text: &'t str, variables: &dyn Variables) -> Result<Cow<'t, str>, (usize, String)> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let place = text[..text.len() - from.len()].chars().count();
        let Some(end) = from.find('}') else {
            return Err((place, "\"${\" without \"}\"; write $${ for these two characters themselves".into()));
        };
        out.push_str(&value(&from[2..end], variables).map_err(|message| (place, message))?);
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// As in a shell the default also stands in for a variable that is empty.
fn value(expression: &str, variables: &dyn Variables) -> Result<String, String> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("expected ${{NAME}} or ${{NAME:-default}}, found ${{{expression}}}"));
    }
    match (variables.get(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let names = variables.names();
            let meant = nearest(name, names.iter().map(String::as_str));
            let hint = meant.map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
            Err(format!("the environment variable {name} is not set; {hint}a default is written ${{{name}:-default}}"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Variables of a test.
    struct These(&'static [(&'static str, &'static str)]);

    impl Variables for These {
        fn get(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        }

        fn names(&self) -> Vec<String> {
            self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
        }
    }

    const VARIABLES: These = These(&[("HOST", "10.0.0.1"), ("EMPTY", ""), ("_x9", "${HOST}")]);

    #[test]
    fn variables_stand_for_their_values() {
        for (text, expected) in [
            ("plain $HOST $", "plain $HOST $"),
            ("${HOST}", "10.0.0.1"),
            ("a-${HOST}-${HOST}", "a-10.0.0.1-10.0.0.1"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${HOST:-x}", "10.0.0.1"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b c}", "a:-b c"),
            ("$${HOST} ${HOST}", "${HOST} 10.0.0.1"),
            ("${_x9}", "${HOST}"),
        ] {
            assert_eq!(substitute(text, &VARIABLES).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_substituted_is_told_with_its_place() {
        for (text, place, words) in [
            ("é ${HOTS}", 2, "HOTS is not set; did you mean HOST?"),
            ("${ZZZZ}", 0, "ZZZZ is not set; a default is written ${ZZZZ:-default}"),
            ("${HOST", 0, "without \"}\""),
            ("a${}", 1, "found ${}"),
            ("${9A}", 0, "expected ${NAME}"),
            ("${A B:-x}", 0, "expected ${NAME}"),
            ("${HOST}${a-b}", 7, "found ${a-b}"),
        ] {
            let (at, message) = substitute(text, &VARIABLES).unwrap_err();
            assert!(at == place && message.contains(words), "{text}: {at} {message}");
        }
    }
}
