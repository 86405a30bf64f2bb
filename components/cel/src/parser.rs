//! Tokens to expressions: recursive descent over the grammar of the CEL specification, bounded in depth and size.

use std::sync::Arc;

use crate::{
    ast::{Entry, Expr, Field, Item, Kind, Literal},
    lexer::{self, Lexeme, Token},
    macros,
    source::{CompileError, Problem},
};

/// Nested expressions (cel-go's `maxRecursionDepth`).
const MAX_DEPTH: usize = 250;
/// Characters of one expression (cel-go's `expressionSizeCodePointLimit`).
const MAX_CHARACTERS: usize = 100_000;
/// Nodes after expansion of macros.
const MAX_NODES: usize = 200_000;
/// Nodes below each other: chains such as `a+a+a` nest without brackets.
const MAX_TREE: usize = 2_000;

const STARTERS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A parsed expression and how many nodes it has (ids are below).
pub struct Parsed {
    pub root: Expr,
    pub nodes: usize,
}

pub fn parse(source: &str) -> Result<Parsed, CompileError> {
    let fail = |problem| CompileError::new(source, vec![problem]);
    let characters = source.chars().count();
    if characters > MAX_CHARACTERS {
        let message = format!("expression code point size exceeds limit: size: {characters}, limit {MAX_CHARACTERS}");
        return Err(CompileError::new("", vec![Problem { at: 0, message }]));
    }
    let lexemes = lexer::lex(source).map_err(fail)?;
    let mut parser = Parser { lexemes, next: 0, nodes: Nodes::default(), depth: 0 };
    let root = parser.expr().and_then(|root| {
        parser.expect_end()?;
        Ok(root)
    });
    Ok(Parsed { root: root.map_err(fail)?, nodes: parser.nodes.count })
}

/// Gives out ids; macros make nodes too.
#[derive(Default)]
pub struct Nodes {
    count: usize,
    deepest: usize,
}

impl Nodes {
    pub fn make(&mut self, at: usize, kind: Kind) -> Expr {
        let mut node = Expr { id: self.count, at, depth: 0, kind };
        let mut below = 0;
        node.each_child(|child| below = below.max(child.depth));
        node.depth = below + 1;
        self.count += 1;
        self.deepest = self.deepest.max(node.depth);
        node
    }

    pub fn call(&mut self, at: usize, function: &str, args: Vec<Expr>) -> Expr {
        self.make(at, Kind::Call { function: function.into(), target: None, args })
    }

    pub fn method(&mut self, at: usize, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        self.make(at, Kind::Call { function: function.into(), target: Some(Box::new(target)), args })
    }

    pub fn ident(&mut self, at: usize, name: &str) -> Expr {
        self.make(at, Kind::Ident(name.into()))
    }

    pub fn literal(&mut self, at: usize, literal: Literal) -> Expr {
        self.make(at, Kind::Literal(literal))
    }
}

type Result<T, E = Problem> = std::result::Result<T, E>;

struct Parser {
    lexemes: Vec<Lexeme>,
    next: usize,
    nodes: Nodes,
    depth: usize,
}

/// Operators from the loosest to the tightest binding; `?:` lies below, unary above.
const LEVELS: &[&[&str]] =
    &[&["||"], &["&&"], &["<", "<=", ">=", ">", "==", "!=", "in"], &["+", "-"], &["*", "/", "%"]];

fn operator(sign: &str) -> &'static str {
    match sign {
        "||" => "_||_",
        "&&" => "_&&_",
        "<" => "_<_",
        "<=" => "_<=_",
        ">=" => "_>=_",
        ">" => "_>_",
        "==" => "_==_",
        "!=" => "_!=_",
        "in" => "@in",
        "+" => "_+_",
        "-" => "_-_",
        "*" => "_*_",
        "/" => "_/_",
        _ => "_%_",
    }
}

impl Parser {
    fn peek(&self) -> &Lexeme {
        // the last lexeme is the end, which is never passed
        &self.lexemes[self.next.min(self.lexemes.len() - 1)]
    }

    fn at(&self) -> usize {
        self.peek().at
    }

    fn is(&self, sign: &str) -> bool {
        matches!(&self.peek().token, Token::Sign(s) if *s == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.mismatch(&format!("'{sign}'")))
    }

    fn expect_end(&mut self) -> Result<()> {
        if self.peek().token == Token::End { Ok(()) } else { Err(self.mismatch("<EOF>")) }
    }

    fn mismatch(&self, expected: &str) -> Problem {
        let found = self.peek();
        Problem {
            at: found.at,
            message: format!("Syntax error: mismatched input '{}' expecting {expected}", found.text),
        }
    }

    /// One level deeper, or the refusal of an expression that nests too much.
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            return Err(Problem { at: self.at(), message });
        }
        self.bounded()?;
        let result = stacker::maybe_grow(64 * 1024, 1024 * 1024, || f(self));
        self.depth -= 1;
        result
    }

    fn bounded(&self) -> Result<()> {
        let fail = |message| Err(Problem { at: self.at(), message });
        match self.nodes {
            Nodes { deepest, .. } if deepest > MAX_TREE => {
                fail(format!("expression recursion limit exceeded: {MAX_TREE}"))
            }
            Nodes { count, .. } if count > MAX_NODES => fail(format!("expression has more than {MAX_NODES} nodes")),
            _ => Ok(()),
        }
    }

    fn expr(&mut self) -> Result<Expr> {
        self.deeper(|p| {
            let condition = p.binary(0)?;
            let at = p.at();
            if !p.take("?") {
                return Ok(condition);
            }
            let yes = p.binary(0)?;
            p.expect(":")?;
            let no = p.expr()?;
            Ok(p.nodes.call(at, "_?_:_", vec![condition, yes, no]))
        })
    }

    fn binary(&mut self, level: usize) -> Result<Expr> {
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let first = self.binary(level + 1)?;
        let mut rest: Vec<(usize, &'static str, Expr)> = Vec::new();
        while let Some(sign) = signs.iter().find(|s| self.is(s)) {
            let at = self.at();
            self.next += 1;
            rest.push((at, operator(sign), self.binary(level + 1)?));
        }
        if level < 2 && rest.len() > 1 {
            return Ok(self.balance(first, rest));
        }
        rest.into_iter().try_fold(first, |left, (at, function, right)| {
            self.bounded()?;
            Ok(self.nodes.call(at, function, vec![left, right]))
        })
    }

    /// Long chains of `&&` and `||` become a tree whose depth is the logarithm of their length.
    fn balance(&mut self, first: Expr, mut rest: Vec<(usize, &'static str, Expr)>) -> Expr {
        let middle = rest.len() / 2;
        let mut right = rest.split_off(middle);
        let (at, function, right_first) = right.remove(0);
        let left = if rest.is_empty() { first } else { self.balance(first, rest) };
        let right = if right.is_empty() { right_first } else { self.balance(right_first, right) };
        self.nodes.call(at, function, vec![left, right])
    }

    fn unary(&mut self) -> Result<Expr> {
        let at = self.at();
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if !self.is(sign) {
                continue;
            }
            self.next += 1;
            if sign == "-" {
                match self.peek().token.clone() {
                    Token::Int(text) => {
                        self.next += 1;
                        let literal = self.int(at, &text, true)?;
                        return self.member(literal);
                    }
                    Token::Literal(Literal::Double(value)) => {
                        self.next += 1;
                        let literal = self.nodes.literal(at, Literal::Double(-value));
                        return self.member(literal);
                    }
                    _ => {}
                }
            }
            let mut odd = true;
            while self.take(sign) {
                odd = !odd;
            }
            let operand = self.deeper(Self::unary)?;
            return Ok(if odd { self.nodes.call(at, function, vec![operand]) } else { operand });
        }
        let primary = self.primary()?;
        self.member(primary)
    }

    fn int(&mut self, at: usize, text: &str, negative: bool) -> Result<Expr> {
        let (digits, radix) = match text.get(..2) {
            Some("0x" | "0X") => (&text[2..], 16),
            _ => (text, 10),
        };
        let value = i128::from_str_radix(digits, radix).ok().map(|v| if negative { -v } else { v });
        match value.and_then(|v| i64::try_from(v).ok()) {
            Some(value) => Ok(self.nodes.literal(at, Literal::Int(value))),
            None => Err(Problem { at, message: "invalid int literal".into() }),
        }
    }

    fn name(&mut self) -> Result<Arc<str>> {
        match self.peek().token.clone() {
            Token::Ident(name) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.mismatch("IDENTIFIER")),
        }
    }

    fn member(&mut self, mut operand: Expr) -> Result<Expr> {
        loop {
            self.bounded()?;
            let at = self.at();
            if self.take(".") {
                if self.take("?") {
                    let name_at = self.at();
                    let name = self.name()?;
                    let field = self.nodes.literal(name_at, Literal::String(name));
                    operand = self.nodes.call(at, "_?._", vec![operand, field]);
                    continue;
                }
                let name = self.name()?;
                let open = self.at();
                if self.take("(") {
                    let args = self.arguments(")")?;
                    operand = macros::method(&mut self.nodes, open, &name, operand, args)?;
                } else {
                    operand =
                        self.nodes.make(at, Kind::Select { operand: Box::new(operand), field: name, test: false });
                }
            } else if self.take("[") {
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.nodes.call(at, function, vec![operand, index]);
            } else if self.is("{") {
                let Some(name) = operand.qualified_name() else { return Ok(operand) };
                self.next += 1;
                let fields = self.fields()?;
                operand = self.nodes.make(at, Kind::Struct { name: name.into(), fields });
            } else {
                return Ok(operand);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        let at = self.at();
        if self.is(".") && matches!(self.lexemes.get(self.next + 1).map(|l| &l.token), Some(Token::Ident(_))) {
            // a leading dot names the root container, the only one there is
            self.next += 1;
        }
        match self.peek().token.clone() {
            Token::Literal(literal) => {
                self.next += 1;
                Ok(self.nodes.literal(at, literal))
            }
            Token::Int(text) => {
                self.next += 1;
                self.int(at, &text, false)
            }
            Token::Ident(name) => {
                self.next += 1;
                if RESERVED.contains(&&*name) {
                    return Err(Problem { at, message: format!("reserved identifier: {name}") });
                }
                let open = self.at();
                if self.take("(") {
                    let args = self.arguments(")")?;
                    return macros::global(&mut self.nodes, open, &name, args);
                }
                Ok(self.nodes.ident(at, &name))
            }
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.next += 1;
                let items = self.list()?;
                Ok(self.nodes.make(at, Kind::List(items)))
            }
            Token::Sign("{") => {
                self.next += 1;
                let entries = self.entries()?;
                Ok(self.nodes.make(at, Kind::Map(entries)))
            }
            _ => Err(self.mismatch(STARTERS)),
        }
    }

    /// Expressions up to the closing bracket.
    fn arguments(&mut self, close: &str) -> Result<Vec<Expr>> {
        let mut args = Vec::new();
        while !self.take(close) {
            if !args.is_empty() {
                self.expect(",")?;
            }
            args.push(self.expr()?);
        }
        Ok(args)
    }

    /// Calls `one` for each element up to `close`; a comma may follow the last one.
    fn separated(&mut self, close: &str, mut one: impl FnMut(&mut Self, bool) -> Result<()>) -> Result<()> {
        while !self.take(close) {
            let optional = self.take("?");
            one(self, optional)?;
            if !self.is(close) {
                self.expect(",")?;
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        self.separated("]", |p, optional| {
            items.push(Item { value: p.expr()?, optional });
            Ok(())
        })?;
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.separated("}", |p, optional| {
            let key = p.expr()?;
            p.expect(":")?;
            entries.push(Entry { key, value: p.expr()?, optional });
            Ok(())
        })?;
        Ok(entries)
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        self.separated("}", |p, optional| {
            let at = p.at();
            let name = p.name()?;
            p.expect(":")?;
            fields.push(Field { name, at, value: p.expr()?, optional });
            Ok(())
        })?;
        Ok(fields)
    }
}
