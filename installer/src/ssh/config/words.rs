//! Lines, words, patterns and tokens of ssh_config(5).

use std::path::{Path, PathBuf};

use crate::ssh::known_hosts::glob;

/// A `%` letter and what it stands for.
pub type Token<'a> = (char, &'a str);

/// The keyword in small letters and the rest of the line; `None` for comments and empty lines.
pub fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    Some((keyword.to_ascii_lowercase(), rest))
}

/// Words with quotes of both kinds; a `#` that begins a word begins a comment.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        match characters.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(c) = characters.next_if(|c| quote.is_some() || !c.is_whitespace()) {
            match c {
                '\\' if characters.peek().is_some_and(|next| "\"'\\".contains(*next)) => word.extend(characters.next()),
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                c => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed".into());
        }
        words.push(word);
    }
}

/// One of the patterns fits and none of the negated ones.
pub fn matches(patterns: &[&str], text: &str) -> bool {
    let fits = |pattern: &str| glob(pattern.as_bytes(), text.as_bytes());
    let (negated, plain): (Vec<&str>, Vec<&str>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
    plain.into_iter().any(&fits) && !negated.into_iter().any(|pattern| fits(&pattern[1..]))
}

/// Replaces `%h` and the like.
pub fn expand(text: &str, tokens: &[Token<'_>]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('%') => out.push('%'),
            Some(letter) => match tokens.iter().find(|(known, _)| *known == letter) {
                Some((_, value)) => out.push_str(value),
                None => return Err(format!("%{letter} means nothing here, in {text:?}")),
            },
            None => return Err(format!("a single % ends {text:?}")),
        }
    }
    Ok(out)
}

/// Tokens, `${VARIABLE}` and a leading `~/`.
pub fn expand_path(text: &str, tokens: &[Token<'_>]) -> Result<PathBuf, String> {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| format!("${{ is not closed in {text:?}"))?;
        let value = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?;
        plain.push_str(before);
        plain.push_str(&value);
        rest = after;
    }
    plain.push_str(rest);
    // patterns of includes hold no tokens
    let expanded = if tokens.is_empty() { plain } else { expand(&plain, tokens)? };
    Ok(match expanded.strip_prefix("~/") {
        Some(below) => std::env::home_dir().unwrap_or_default().join(below),
        None => PathBuf::from(expanded),
    })
}

/// The files that a path with `*` and `?` means, in the order of their names.
pub fn files(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        if !name.contains(['*', '?']) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        found = found
            .iter()
            .flat_map(|directory| {
                let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
                let hidden = name.starts_with('.');
                let mut names: Vec<_> = entries
                    .filter(|entry| {
                        let entry = entry.file_name().to_string_lossy().into_owned();
                        (hidden || !entry.starts_with('.')) && glob(name.as_bytes(), entry.as_bytes())
                    })
                    .map(|entry| entry.path())
                    .collect();
                names.sort();
                names
            })
            .collect();
    }
    found.retain(|path| path.is_file());
    found
}
