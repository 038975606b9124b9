//! llama.cpp's grammars (GBNF) in llguidance's Lark, which cuts text into terminals before it looks at rules.
//!
//! What is not recursive becomes terminals, as large as possible: inside one, any text matches that can. Where a terminal meets a recursive rule, it takes as
//! much text as it can, as a lexer does; grammars of programming and data languages mean it so.

mod read;

use crate::error::Result;
use std::fmt::Write;

/// A thing that matches text.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// These characters.
    Text(String),
    /// One character of these ranges, or of none of them.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Any character.
    Any,
    /// What the rule of this index matches.
    Rule(usize),
    /// One of these.
    Group(Vec<Sequence>),
    /// `min` times or more, at most `max` times.
    Repeat { node: Box<Node>, min: u32, max: Option<u32> },
}

/// Things one behind the other.
type Sequence = Vec<Node>;

/// A grammar: rule 0 is `root`.
type Rules = Vec<Vec<Sequence>>;

/// The same grammar in Lark.
///
/// # Errors
/// `Constraint` with the byte offset.
pub(super) fn to_lark(text: &str) -> Result<String> {
    let rules = read::rules(text)?;
    let regular = regular_rules(&rules);
    let mut writer = Writer { regular: &regular, lark: String::new(), n_terminals: 0 };
    let root = writer.name(0);
    writer.line("start", &root);
    for (i, alternatives) in rules.iter().enumerate() {
        let (name, body) = (writer.name(i), if regular[i] { writer.terminal(alternatives) } else { writer.rule(alternatives) });
        writer.line(&name, &body);
    }
    Ok(writer.lark)
}

/// The rules that lead to no recursion.
fn regular_rules(rules: &Rules) -> Vec<bool> {
    let mut regular = vec![false; rules.len()];
    loop {
        let is_new = |i: &usize| !regular[*i] && rules[*i].iter().flatten().all(|node| is_regular(node, &regular));
        let new: Vec<usize> = (0..rules.len()).filter(is_new).collect();
        if new.is_empty() {
            return regular;
        }
        new.into_iter().for_each(|i| regular[i] = true);
    }
}

fn is_regular(node: &Node, regular: &[bool]) -> bool {
    match node {
        Node::Text(_) | Node::Class { .. } | Node::Any => true,
        Node::Rule(i) => regular[*i],
        Node::Group(alternatives) => alternatives.iter().flatten().all(|node| is_regular(node, regular)),
        Node::Repeat { node, .. } => is_regular(node, regular),
    }
}

struct Writer<'a> {
    regular: &'a [bool],
    lark: String,
    n_terminals: usize,
}

impl Writer<'_> {
    fn line(&mut self, name: &str, body: &str) {
        self.lark.extend([name, ": ", body, "\n"]);
    }

    /// Lark tells terminals from rules by their case.
    fn name(&self, rule: usize) -> String {
        if self.regular[rule] { format!("R{rule}") } else { format!("r{rule}") }
    }

    /// The body of a rule: what is regular in it becomes terminals of their own.
    fn rule(&mut self, alternatives: &[Sequence]) -> String {
        let (regular, others): (Vec<Sequence>, Vec<Sequence>) =
            alternatives.iter().cloned().partition(|sequence| sequence.iter().all(|node| is_regular(node, self.regular)));
        let mut parts = Vec::new();
        if !regular.is_empty() {
            parts.push(self.own_terminal(&regular));
        }
        for sequence in &others {
            let runs = sequence.chunk_by(|a, b| is_regular(a, self.regular) && is_regular(b, self.regular));
            let items: Vec<String> = runs.map(|run| self.run(run)).collect();
            parts.push(items.join(" "));
        }
        parts.join(" | ")
    }

    /// Regular things in a row, or one that is not regular.
    fn run(&mut self, run: &[Node]) -> String {
        match run {
            [Node::Rule(i)] => self.name(*i),
            [node] if !is_regular(node, self.regular) => match node {
                Node::Group(alternatives) => format!("({})", self.rule(alternatives)),
                Node::Repeat { node, min, max } => format!("({}){}", self.run(std::slice::from_ref(node)), times(*min, *max)),
                _ => String::new(),
            },
            regular => self.own_terminal(&[regular.to_vec()]),
        }
    }

    fn own_terminal(&mut self, alternatives: &[Sequence]) -> String {
        let body = self.terminal(alternatives);
        let name = format!("T{}", self.n_terminals);
        self.n_terminals += 1;
        self.line(&name, &body);
        name
    }

    fn terminal(&self, alternatives: &[Sequence]) -> String {
        let sequences: Vec<String> = alternatives.iter().map(|sequence| self.sequence(sequence)).collect();
        sequences.join(" | ")
    }

    fn sequence(&self, sequence: &[Node]) -> String {
        let items: Vec<String> = sequence.iter().map(|node| self.item(node)).collect();
        if items.is_empty() { "\"\"".to_owned() } else { items.join(" ") }
    }

    fn item(&self, node: &Node) -> String {
        match node {
            Node::Text(text) => quoted(text),
            Node::Class { negated, ranges } => class(*negated, ranges),
            Node::Any => "/(?s:.)/".to_owned(),
            Node::Rule(i) => self.name(*i),
            Node::Group(alternatives) => format!("({})", self.terminal(alternatives)),
            Node::Repeat { node, min, max } => format!("({}){}", self.item(node), times(*min, *max)),
        }
    }
}

fn times(min: u32, max: Option<u32>) -> String {
    match (min, max) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    }
}

/// A string as Lark takes it: JSON, without characters that would have to be escaped there.
pub(in crate::text) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\u{1F}' | '\u{7F}' => write!(out, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out + "\""
}

fn class(negated: bool, ranges: &[(char, char)]) -> String {
    let mut out = String::from(if negated { "/[^" } else { "/[" });
    for &(first, last) in ranges {
        write!(out, "\\x{{{:X}}}-\\x{{{:X}}}", u32::from(first), u32::from(last)).unwrap_or_default();
    }
    out + "]/"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_recursive_becomes_terminals() {
        let lark = to_lark("root ::= item (\",\" item)* # comment\nitem ::= [a-z]+ | \"\\x41\\n\" .{2,3}\n").unwrap();
        let expected = "start: R0\nR0: R1 (\",\" R1)*\nR1: (/[\\x{61}-\\x{7A}]/)+ | \"A\\u000a\" (/(?s:.)/){2,3}\n";
        assert_eq!(lark, expected.replace("(\",\" R1)*", "((\",\" R1))*"));
        let lark = to_lark("root ::= \"(\" ws root? \")\" | [^ab]\nws ::= \" \"*").unwrap();
        assert!(lark.contains("r0: T0 | T1 (r0)? T2") && lark.contains("T1: \"(\" R1\n") && lark.contains("R1: (\" \")*\n"), "{lark}");
    }

    #[test]
    fn errors_have_their_place() {
        for (text, at, says) in [
            ("", 0, "root"),
            ("a ::= \"x\"", 0, "\"root\" is missing"),
            ("root ::= \"x", 9, "\""),
            ("root ::= (\"x\"", 13, ")"),
            ("root ::= b", 9, "\"b\""),
            ("root ::= [z-a]", 10, "range"),
            ("root ::= *", 9, "repeat"),
            ("root = \"x\"", 5, "::="),
            ("root ::= \"\\q\"", 10, "escape"),
            ("root ::= \"x\"{3,2}", 12, "{3,2}"),
            ("root ::= \"a\"\nroot ::= \"b\"", 13, "twice"),
        ] {
            let error = to_lark(text).unwrap_err();
            assert!(error.detail()[0] == at && error.message().contains(says), "{text}: {error}");
        }
        assert!(to_lark(&format!("root ::= {}\"x\"", "(".repeat(100_000))).unwrap_err().message().contains("deeper"));
    }
}
