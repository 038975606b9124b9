//! Reads GBNF: `name ::= alternatives`, with literals, character classes, groups and repetitions.

use super::{Node, Rules, Sequence};
use crate::error::Result;
use crate::text::constraint::compile::refused;
use crate::text::constraint::place::MAX_NESTING;
use hashbrown::HashMap;

/// Repetitions of one thing, as in llama.cpp.
const MAX_TIMES: u32 = 2_000;

/// The rules of `text`, `root` first.
pub(super) fn rules(text: &str) -> Result<Rules> {
    let mut reader = Reader { text, at: 0, depth: 0, names: HashMap::new(), rules: Vec::new() };
    reader.rule_index("root", 0);
    reader.space(true);
    while reader.at < text.len() {
        reader.rule()?;
        reader.space(true);
    }
    let missing = reader.names.iter().filter(|(_, (i, _))| reader.rules[*i].is_none()).min_by_key(|(_, (_, at))| *at);
    if let Some((name, (_, at))) = missing {
        return Err(refused(*at, format!("rule {name:?} is missing")));
    }
    Ok(reader.rules.into_iter().flatten().collect())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// Index of each rule, and where its name occurs first.
    names: HashMap<&'a str, (usize, usize)>,
    rules: Vec<Option<Vec<Sequence>>>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Skips spaces and comments, and `lines` too.
    fn space(&mut self, lines: bool) {
        loop {
            let rest = self.rest();
            let after = rest.trim_start_matches(|c: char| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')));
            let after = if after.starts_with('#') { &after[after.find('\n').unwrap_or(after.len())..] } else { after };
            self.at += rest.len() - after.len();
            if rest.len() == after.len() {
                return;
            }
        }
    }

    fn rule_index(&mut self, name: &'a str, at: usize) -> usize {
        let n = self.names.len();
        let index = self.names.entry(name).or_insert((n, at)).0;
        self.rules.resize(self.names.len(), None);
        index
    }

    fn name(&mut self) -> Result<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            return Err(refused(self.at, "expected the name of a rule"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn rule(&mut self) -> Result<()> {
        let start = self.at;
        let name = self.name()?;
        self.space(false);
        if !self.eat("::=") {
            return Err(refused(self.at, "expected ::="));
        }
        self.space(true);
        let alternatives = self.alternatives()?;
        let index = self.rule_index(name, start);
        match self.rest().chars().next() {
            None | Some('\n' | '\r') => {}
            Some(c) => return Err(refused(self.at, format!("unexpected {c:?}"))),
        }
        match self.rules[index].replace(alternatives) {
            None => Ok(()),
            Some(_) => Err(refused(start, format!("rule {name:?} is defined twice"))),
        }
    }

    fn alternatives(&mut self) -> Result<Vec<Sequence>> {
        let mut alternatives = vec![self.sequence()?];
        loop {
            // An alternative may begin on the next line.
            let before = self.at;
            self.space(true);
            if !self.eat("|") {
                self.at = if self.depth > 0 { self.at } else { before };
                return Ok(alternatives);
            }
            self.space(true);
            alternatives.push(self.sequence()?);
        }
    }

    fn sequence(&mut self) -> Result<Sequence> {
        let mut items = Vec::new();
        loop {
            let node = match self.rest().chars().next() {
                None | Some('|' | ')' | '\n' | '\r') => return Ok(items),
                Some(_) => self.item()?,
            };
            items.push(self.repeated(node)?);
            self.space(self.depth > 0);
        }
    }

    fn item(&mut self) -> Result<Node> {
        let start = self.at;
        match self.rest().chars().next() {
            Some('"') => self.literal(),
            Some('[') => self.class(),
            Some('(') => self.group(),
            Some('.') => {
                self.at += 1;
                Ok(Node::Any)
            }
            Some('*' | '+' | '?' | '{') => Err(refused(start, "nothing to repeat")),
            _ => {
                let name = self.name()?;
                Ok(Node::Rule(self.rule_index(name, start)))
            }
        }
    }

    fn group(&mut self) -> Result<Node> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(refused(self.at, format!("groups inside each other, deeper than {MAX_NESTING}")));
        }
        self.space(true);
        let alternatives = self.alternatives()?;
        self.depth -= 1;
        if !self.eat(")") {
            return Err(refused(self.at, "expected )"));
        }
        Ok(Node::Group(alternatives))
    }

    fn literal(&mut self) -> Result<Node> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while !self.eat("\"") {
            match self.character()? {
                Some(c) => text.push(c),
                None => return Err(refused(start, "a text without its closing \"")),
            }
        }
        Ok(Node::Text(text))
    }

    fn class(&mut self) -> Result<Node> {
        let start = self.at;
        self.at += 1;
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let at = self.at;
            let missing = || refused(start, "a character class without its closing ]");
            let first = self.character()?.ok_or_else(missing)?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = if is_range && self.eat("-") { self.character()?.ok_or_else(missing)? } else { first };
            if last < first {
                return Err(refused(at, "a range whose end is below its beginning"));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() {
            return if negated { Ok(Node::Any) } else { Err(refused(start, "an empty character class")) };
        }
        Ok(Node::Class { negated, ranges })
    }

    /// The next character of a literal or class, escaped or not; `None` at the end of the text.
    fn character(&mut self) -> Result<Option<char>> {
        let start = self.at;
        let Some('\\') = self.rest().chars().next() else { return Ok(self.next()) };
        self.at += 1;
        let unknown = || refused(start, "an unknown escape");
        let c = match self.next().ok_or_else(unknown)? {
            'x' => self.code(2).ok_or_else(unknown)?,
            'u' => self.code(4).ok_or_else(unknown)?,
            'U' => self.code(8).ok_or_else(unknown)?,
            't' => '\t',
            'r' => '\r',
            'n' => '\n',
            c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '/') => c,
            _ => return Err(unknown()),
        };
        Ok(Some(c))
    }

    /// The character with a code of `n` hexadecimal digits.
    fn code(&mut self, n: usize) -> Option<char> {
        let code = u32::from_str_radix(self.rest().get(..n)?, 16).ok()?;
        self.at += n;
        char::from_u32(code)
    }

    /// `node` with the repetition that stands behind it.
    fn repeated(&mut self, node: Node) -> Result<Node> {
        let (min, max) = match self.rest().chars().next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(node),
            _ => return Ok(node),
        };
        self.at += 1;
        Ok(Node::Repeat { node: Box::new(node), min, max })
    }

    /// `node` with `{n}`, `{n,}` or `{n,m}` behind it.
    fn counted(&mut self, node: Node) -> Result<Node> {
        let start = self.at;
        let written = self.rest().split_once('}').map_or(self.rest(), |(inside, _)| inside);
        let wrong = || refused(start, format!("{written}}}: expected {{n}}, {{n,}} or {{n,m}}, with numbers up to {MAX_TIMES}"));
        let inside = written[1..].trim();
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n <= MAX_TIMES);
        let (min, max) = match inside.split_once(',') {
            None => (number(inside).ok_or_else(wrong)?, number(inside)),
            Some((min, "")) => (number(min).ok_or_else(wrong)?, None),
            Some((min, max)) => (number(min).ok_or_else(wrong)?, Some(number(max).ok_or_else(wrong)?)),
        };
        self.at += written.len();
        if !self.eat("}") || max.is_some_and(|max| max < min) {
            return Err(wrong());
        }
        Ok(Node::Repeat { node: Box::new(node), min, max })
    }
}
