//! Text to tokens (the lexical rules of the CEL specification).

use std::sync::Arc;

use crate::{ast::Literal, source::Problem};

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Ident(Arc<str>),
    Literal(Literal),
    /// An integer without sign: its text, read once the sign is known.
    Int(String),
    /// Operators, brackets and the word `in`.
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub struct Lexeme {
    pub token: Token,
    pub at: usize,
    /// As written, for error texts.
    pub text: String,
}

const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%",
    "<", ">",
];

pub fn lex(source: &str) -> Result<Vec<Lexeme>, Problem> {
    let chars: Vec<char> = source.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0 };
    let mut lexemes = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token()?;
        let text: String = chars.get(at..lexer.at).unwrap_or_default().iter().collect();
        let end = token == Token::End;
        lexemes.push(Lexeme { token, at, text: if end { "<EOF>".into() } else { text } });
        if end {
            return Ok(lexemes);
        }
    }
}

struct Lexer<'s> {
    chars: &'s [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip_blank(&mut self) {
        loop {
            if self.at < self.chars.len() && matches!(self.peek(0), ' ' | '\t' | '\r' | '\n' | '\x0c') {
                self.at += 1;
            } else if self.peek(0) == '/' && self.peek(1) == '/' {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Problem> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        if let Some(string) = self.string()? {
            return Ok(Token::Literal(string));
        }
        let first = self.peek(0);
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if first == '_' || first.is_ascii_alphabetic() {
            return Ok(self.word());
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(i, c)| self.peek(i) == c) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        Err(self.problem(self.at, format!("Syntax error: token recognition error at: '{first}'")))
    }

    fn problem(&self, at: usize, message: impl Into<String>) -> Problem {
        Problem { at, message: message.into() }
    }

    fn word(&mut self) -> Token {
        let begin = self.at;
        while self.peek(0) == '_' || self.peek(0).is_ascii_alphanumeric() {
            self.at += 1;
        }
        let text: String = self.chars[begin..self.at].iter().collect();
        match text.as_str() {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Sign("in"),
            _ => Token::Ident(text.into()),
        }
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let begin = self.at;
        let hex = self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') && self.peek(2).is_ascii_hexdigit();
        let mut float = false;
        if hex {
            self.at += 2;
            self.skip(|c| c.is_ascii_hexdigit());
        } else {
            self.skip(|c| c.is_ascii_digit());
            if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
                float = true;
                self.at += 1;
                self.skip(|c| c.is_ascii_digit());
            }
            let signed = usize::from(matches!(self.peek(1), '+' | '-'));
            if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + signed).is_ascii_digit() {
                float = true;
                self.at += 1 + signed;
                self.skip(|c| c.is_ascii_digit());
            }
        }
        let text: String = self.chars[begin..self.at].iter().collect();
        if float {
            let value = text.parse().map_err(|_| self.problem(begin, "invalid double literal"))?;
            return Ok(Token::Literal(Literal::Double(value)));
        }
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            let value = match text.get(2..).filter(|_| hex) {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.parse(),
            };
            return Ok(Token::Literal(Literal::Uint(value.map_err(|_| self.problem(begin, "invalid uint literal"))?)));
        }
        Ok(Token::Int(text))
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        while wanted(self.peek(0)) {
            self.at += 1;
        }
    }

    /// A string or bytes literal, if one begins here: prefixes `r` and `b`, one or three quotes.
    fn string(&mut self) -> Result<Option<Literal>, Problem> {
        let begin = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        loop {
            match self.peek(ahead) {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                '"' | '\'' => break,
                _ => return Ok(None),
            }
            ahead += 1;
        }
        let quote = self.peek(ahead);
        let long = self.peek(ahead + 1) == quote && self.peek(ahead + 2) == quote;
        let width = if long { 3 } else { 1 };
        self.at += ahead + width;
        let mut out = Vec::new();
        loop {
            let c = self.peek(0);
            if self.at >= self.chars.len() || (!long && matches!(c, '\n' | '\r')) {
                let text: String = self.chars[begin..self.at].iter().collect();
                return Err(self.problem(begin, format!("Syntax error: token recognition error at: '{text}'")));
            }
            if (0..width).all(|i| self.peek(i) == quote) {
                self.at += width;
                break;
            }
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                if c == '\\' {
                    // a raw string keeps the backslash, and what follows it never ends the string
                    push_char(&mut out, c);
                    let next = self.peek(0);
                    if self.at < self.chars.len() {
                        self.at += 1;
                        push_char(&mut out, next);
                    }
                    continue;
                }
                push_char(&mut out, c);
            }
        }
        if bytes {
            return Ok(Some(Literal::Bytes(out.into())));
        }
        let text = String::from_utf8(out).map_err(|_| self.problem(begin, "invalid string literal"))?;
        Ok(Some(Literal::String(text.into())))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), Problem> {
        let begin = self.at - 1;
        let c = self.peek(0);
        self.at += 1;
        let plain = match c {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' | '\'' | '"' | '`' | '?' => c,
            'x' | 'X' => return self.code(begin, 2, 16, bytes, out),
            'u' if !bytes => return self.code(begin, 4, 16, false, out),
            'U' if !bytes => return self.code(begin, 8, 16, false, out),
            '0'..='3' => {
                self.at -= 1;
                return self.code(begin, 3, 8, bytes, out);
            }
            _ => return Err(self.problem(begin, format!("Syntax error: token recognition error at: '\\{c}'"))),
        };
        push_char(out, plain);
        Ok(())
    }

    fn code(&mut self, begin: usize, digits: usize, radix: u32, raw: bool, out: &mut Vec<u8>) -> Result<(), Problem> {
        let mut value = 0u32;
        for _ in 0..digits {
            let digit = self.peek(0).to_digit(radix).ok_or_else(|| self.problem(begin, "invalid escape sequence"))?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
            self.at += 1;
        }
        match (raw, char::from_u32(value)) {
            (true, _) => out.push(value as u8),
            (false, Some(c)) => push_char(out, c),
            (false, None) => return Err(self.problem(begin, "invalid unicode code point")),
        }
        Ok(())
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
