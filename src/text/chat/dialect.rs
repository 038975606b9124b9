//! What templates say in Python's Jinja and the engine reads differently, said in its words. Lines stay where they are.

use std::borrow::Cow;

/// The filter that [`environment`](super::environment) defines for what is looped over.
pub(super) const LOOPED: &str = "looped_over";

/// `source` in the words of our engine.
///
/// `{% generation %}`, which marks for training what a model answered, is a scope, as `{% with %}`. And a loop over none is an error, as in Python:
/// a template that needs tools refuses a chat without them.
pub(super) fn translate(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some((kind, start)) = next_opening(source, at) {
        let Some(end) = source[start..].find(kind.closing()).map(|n| start + n) else { break };
        at = end;
        if kind == Kind::Statement
            && let Some(replaced) = statement(&source[start..end])
        {
            out.push_str(&source[copied..start]);
            out.push_str(&replaced);
            copied = end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(source);
    }
    out.push_str(&source[copied..]);
    Cow::Owned(out)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Statement,
    Expression,
    Comment,
}

impl Kind {
    fn closing(self) -> &'static str {
        match self {
            Self::Statement => "%}",
            Self::Expression => "}}",
            Self::Comment => "#}",
        }
    }
}

/// The next opening bracket from `at` on, and where its inside begins.
fn next_opening(source: &str, mut at: usize) -> Option<(Kind, usize)> {
    loop {
        let brace = at + source[at..].find('{')?;
        let kind = match source.as_bytes().get(brace + 1)? {
            b'%' => Kind::Statement,
            b'{' => Kind::Expression,
            b'#' => Kind::Comment,
            _ => {
                at = brace + 1;
                continue;
            }
        };
        return Some((kind, brace + 2));
    }
}

/// The inside of a statement in other words, if it needs some.
fn statement(inside: &str) -> Option<String> {
    match inside.trim_matches(['-', '+']).trim() {
        "generation" => Some(inside.replacen("generation", "with", 1)),
        "endgeneration" => Some(inside.replacen("endgeneration", "endwith", 1)),
        words if words.starts_with("for ") => {
            let list = inside.find(" in ")? + " in ".len();
            let list = list + inside[list..].len() - inside[list..].trim_start().len();
            let end = list + path_len(&inside[list..]);
            // Only where the list is a name, or an entry of one: anything longer makes its own list.
            let follows = inside[end..].trim_start_matches(char::is_whitespace);
            let is_all = ["", "-", "+"].contains(&follows) || follows.starts_with("if ") || follows.starts_with("recursive");
            (end > list && is_all).then(|| format!("{}|{LOOPED}{}", &inside[..end], &inside[end..]))
        }
        _ => None,
    }
}

/// Bytes of the path `text` begins with: `a.b["c"].d`.
fn path_len(text: &str) -> usize {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "_.[]'\"".contains(c);
    text.find(|c| !is_path(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_changed() {
        for same in ["", "{", "{%", "{{ x", "a {% if generation %} {# {% generation %} #}{{ '{% generation %}' }}", "{% for x in a + b %}"]
        {
            assert_eq!(translate(same), same);
        }
        let generation = "a{%- generation -%}b\n{% endgeneration +%}c";
        assert_eq!(translate(generation), "a{%- with -%}b\n{% endwith +%}c");
        let loops = "{%- for m in messages -%}{% for k, v in m['a'].b if k %}{% for t in tools%}{% for x in f(y) %}";
        let expected = "{%- for m in messages|looped_over -%}{% for k, v in m['a'].b|looped_over if k %}{% for t in tools|looped_over%}{% for x in f(y) %}";
        assert_eq!(translate(loops), expected);
    }
}
