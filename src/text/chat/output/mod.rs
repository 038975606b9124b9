//! What a model generates in a chat, told apart while it arrives: text, thinking, calls of tools. For the generation loop.
//!
//! One machine for all families; `formats` is the table of their marks, `calls` reads what stands inside a call. The result does not depend on how the
//! text is cut into pieces: what could be the beginning of a mark is held back until it is known.

mod calls;
mod formats;
mod grammar;
mod notation;

use super::json::Json;
pub use calls::ToolCall;
use formats::{Format, INSIDE};
pub(super) use grammar::Answer;

/// Bytes of one call: more is no call but a model that has lost its way.
const MAX_CALL_BYTES: usize = 1 << 20;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// For the reader.
    Text(String),
    /// What the model tells itself.
    Thinking(String),
    /// A whole call.
    Call(ToolCall),
    /// What was to be a call and is none, or did not end: everything of it.
    Broken(String),
}

/// What the text belongs to that arrives now.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Text,
    Thinking,
    /// Inside a call that this mark began; nothing = an answer that is a call as a whole.
    Call(&'static str),
    /// Between a channel's mark and its content.
    Header,
    /// The content of a channel that is a call: `body` begins with the tool's name.
    ChannelCall,
}

/// The state of one answer.
#[derive(Clone, Debug)]
pub struct OutputParser {
    format: Format,
    thinking: Option<(&'static str, &'static str)>,
    tools: Vec<Json>,
    mode: Mode,
    /// What is not understood yet.
    buffer: String,
    /// Of the call or header that has begun.
    body: String,
    /// White space that shows only if something follows it.
    space: String,
    /// White space is dropped until something comes: a mark stood there.
    after_mark: bool,
    /// Nothing came yet.
    at_start: bool,
    /// The prompt has begun the header of a message with a channel.
    in_header: bool,
}

impl OutputParser {
    /// A parser for answers to `prompt`, which `template` rendered. `tools` are those of the chat: without any, only thinking is told apart.
    pub fn new(template: &str, prompt: &str, tools: &[Json]) -> Self {
        let (mut format, thinking) = formats::detect(template);
        if tools.is_empty() && !format.channels {
            (format.calls, format.bare_json) = (&[], false);
        }
        let prompt = prompt.trim_end();
        let thinks = thinking.is_some_and(|(open, _)| prompt.ends_with(open));
        let mut parser = Self {
            format,
            thinking,
            tools: tools.to_vec(),
            mode: if thinks { Mode::Thinking } else { Mode::Text },
            buffer: String::new(),
            body: String::new(),
            space: String::new(),
            after_mark: thinks,
            at_start: true,
            in_header: format.channels && prompt.ends_with("<|start|>assistant"),
        };
        // Some templates end with the mark that begins the answer.
        if let Some((open, _)) = parser.format.calls.iter().find(|(open, close)| close.is_empty() && prompt.ends_with(open)) {
            parser.buffer.push_str(open);
        }
        parser
    }

    /// True if `control`, the text of a control token, means something to it.
    pub fn knows(&self, control: &str) -> bool {
        self.marks().any(|mark| mark.contains(control))
            || (!self.format.calls.is_empty() || self.format.channels) && INSIDE.contains(&control)
    }

    /// Takes the next text, and appends to `out` what is certain now.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.buffer.push_str(text);
        while self.advance(out) {}
    }

    /// No text follows: appends to `out` what was held back.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        while self.advance(out) {}
        let rest = std::mem::take(&mut self.buffer);
        match self.mode {
            Mode::Text | Mode::Thinking => {
                self.emit(&rest, out);
                if !self.after_mark {
                    let space = std::mem::take(&mut self.space);
                    self.give(space, out);
                }
            }
            Mode::Header if rest.contains("to=") => out.push(Piece::Broken(rest)),
            Mode::Header => {}
            Mode::Call(_) | Mode::ChannelCall => {
                self.body.push_str(&rest);
                self.end_call(out);
            }
        }
    }

    /// Every mark that ends ordinary text.
    fn marks(&self) -> impl Iterator<Item = &'static str> + use<> {
        let channels: &[&str] = if self.format.channels { &["<|channel|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>"] } else { &[] };
        let thinking = self.thinking.into_iter().flat_map(|(open, close)| [open, close]);
        thinking
            .chain(self.format.calls.iter().map(|(open, _)| *open))
            .chain(self.format.noise.iter().copied())
            .chain(channels.iter().copied())
    }

    /// Does one step; false if more text is needed.
    fn advance(&mut self, out: &mut Vec<Piece>) -> bool {
        match self.mode {
            Mode::Text if self.at_start && self.format.bare_json => self.look_for_bare_json(),
            Mode::Text if self.at_start && self.in_header => self.look_for_recipient(),
            Mode::Text => self.advance_text(out),
            Mode::Thinking => self.advance_thinking(out),
            Mode::Header => self.advance_header(),
            Mode::Call(open) => {
                let close = self.format.calls.iter().find(|(o, _)| *o == open).map_or("", |(_, close)| close);
                let next = if open.is_empty() { "" } else { open };
                // Without a closing mark, the next call ends this one.
                self.advance_call(if close.is_empty() { next } else { close }, !close.is_empty(), out)
            }
            Mode::ChannelCall => self.advance_channel_call(out),
        }
    }

    fn look_for_bare_json(&mut self) -> bool {
        let Some(first) = self.buffer.trim_start().chars().next() else { return false };
        self.at_start = false;
        if first == '{' {
            self.mode = Mode::Call("");
        }
        true
    }

    /// A message may say whom it is for before its channel: ` to=functions.f<|channel|>commentary`.
    fn look_for_recipient(&mut self) -> bool {
        let text = self.buffer.trim_start();
        if text.len() < "to=".len() && "to=".starts_with(text) {
            return false;
        }
        self.in_header = false;
        if text.starts_with("to=") {
            self.mode = Mode::Header;
        }
        true
    }

    fn advance_text(&mut self, out: &mut Vec<Piece>) -> bool {
        let Some((at, mark)) = self.take_until(self.marks().collect::<Vec<_>>().as_slice(), out) else { return false };
        let _ = at;
        self.mark_passed();
        let opens_thinking = self.thinking.is_some_and(|(open, _)| open == mark);
        self.mode = match mark {
            _ if opens_thinking => Mode::Thinking,
            "<|channel|>" | "<|start|>" if self.format.channels => Mode::Header,
            _ if self.format.noise.contains(&mark) => Mode::Text,
            _ if self.format.calls.iter().any(|(open, _)| *open == mark) => Mode::Call(mark),
            _ => Mode::Text,
        };
        true
    }

    fn advance_thinking(&mut self, out: &mut Vec<Piece>) -> bool {
        let closing: Vec<&'static str> =
            if self.format.channels { self.marks().collect() } else { self.thinking.into_iter().map(|(_, close)| close).collect() };
        let Some((_, mark)) = self.take_until(&closing, out) else { return false };
        self.mark_passed();
        self.mode = if self.format.channels && ["<|channel|>", "<|start|>"].contains(&mark) { Mode::Header } else { Mode::Text };
        true
    }

    /// `assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>`, from behind the first mark on.
    fn advance_header(&mut self) -> bool {
        let Some((header, rest)) = self.buffer.split_once("<|message|>") else { return false };
        let (header, rest) = (header.to_owned(), rest.to_owned());
        self.buffer = rest;
        self.body.clear();
        let tool = header.split("to=").nth(1).map(|to| to.split(|c: char| c.is_whitespace() || c == '<').next().unwrap_or_default());
        self.mode = match tool {
            Some(tool) if !tool.is_empty() && tool != "assistant" => {
                self.body = format!("{tool}\n");
                Mode::ChannelCall
            }
            _ if header.contains("analysis") => Mode::Thinking,
            _ => Mode::Text,
        };
        true
    }

    fn advance_channel_call(&mut self, out: &mut Vec<Piece>) -> bool {
        let ends = ["<|call|>", "<|end|>", "<|start|>", "<|channel|>", "<|return|>"];
        let Some((at, mark)) = earliest(&self.buffer, &ends) else { return self.collect("") };
        self.body.push_str(&self.buffer[..at]);
        self.buffer.drain(..at + mark.len());
        self.end_call(out);
        self.mode = if ["<|channel|>", "<|start|>"].contains(&mark) { Mode::Header } else { Mode::Text };
        true
    }

    /// Inside a call that `close` ends; with `closed`, nothing else does.
    fn advance_call(&mut self, close: &str, closed: bool, out: &mut Vec<Piece>) -> bool {
        let found = if close.is_empty() { None } else { self.buffer.find(close) };
        let Some(at) = found else { return self.collect(close) };
        self.body.push_str(&self.buffer[..at]);
        let end = if closed { at + close.len() } else { at };
        self.buffer.drain(..end);
        self.end_call(out);
        self.mark_passed();
        self.mode = Mode::Text;
        true
    }

    /// Moves what cannot be part of `close` from the buffer to the body. Always false: more text is needed.
    fn collect(&mut self, close: &str) -> bool {
        let held = held_back(&self.buffer, &[close]);
        let sure = self.buffer.len() - held;
        if close.is_empty() && self.mode == Mode::ChannelCall {
            return false;
        }
        if self.body.len() + sure <= MAX_CALL_BYTES {
            self.body.push_str(&self.buffer[..sure]);
            self.buffer.drain(..sure);
        }
        false
    }

    /// Reads the call whose text is complete.
    fn end_call(&mut self, out: &mut Vec<Piece>) {
        let body = std::mem::take(&mut self.body);
        let open = if let Mode::Call(open) = self.mode { open } else { "" };
        let notation = if open.ends_with('=') { format!("={body}") } else { body.clone() };
        match calls::parse(&notation, &self.tools) {
            Some(calls) => out.extend(calls.into_iter().map(Piece::Call)),
            // An answer in JSON that is no call is an answer.
            None if open.is_empty() && self.mode != Mode::ChannelCall => out.push(Piece::Text(body)),
            None => out.push(Piece::Broken(format!("{open}{body}"))),
        }
    }

    /// Emits text up to the first of `marks` and takes the mark away; `None` if none is whole: then what is sure is emitted.
    fn take_until(&mut self, marks: &[&'static str], out: &mut Vec<Piece>) -> Option<(usize, &'static str)> {
        let held = held_back(&self.buffer, marks);
        let found = earliest(&self.buffer, marks);
        // A mark may be the beginning of a longer one that is not whole yet.
        let found =
            found.filter(|(at, mark)| self.buffer.len() - held > *at || !marks.iter().any(|m| m.len() > mark.len() && m.starts_with(mark)));
        let end = found.map_or(self.buffer.len() - held, |(at, _)| at);
        let text = self.buffer[..end].to_owned();
        self.buffer.drain(..end + found.map_or(0, |(_, mark)| mark.len()));
        self.emit(&text, out);
        found
    }

    fn mark_passed(&mut self) {
        self.space.clear();
        self.after_mark = true;
    }

    /// Gives out `text`; white space waits until something follows it.
    fn emit(&mut self, text: &str, out: &mut Vec<Piece>) {
        let text = if self.after_mark { text.trim_start() } else { text };
        let content = text.trim_end();
        if !content.is_empty() {
            let whole = std::mem::take(&mut self.space) + content;
            (self.after_mark, self.at_start) = (false, false);
            self.give(whole, out);
        }
        self.space.push_str(&text[content.len()..]);
    }

    fn give(&self, text: String, out: &mut Vec<Piece>) {
        match (self.mode, out.last_mut()) {
            _ if text.is_empty() => {}
            (Mode::Thinking, Some(Piece::Thinking(last))) => last.push_str(&text),
            (Mode::Thinking, _) => out.push(Piece::Thinking(text)),
            (_, Some(Piece::Text(last))) => last.push_str(&text),
            _ => out.push(Piece::Text(text)),
        }
    }
}

/// The first of `marks` in `text`, the longest of several at one place.
fn earliest(text: &str, marks: &[&'static str]) -> Option<(usize, &'static str)> {
    let found = marks.iter().filter_map(|mark| Some((text.find(mark)?, *mark)));
    found.min_by_key(|(at, mark)| (*at, std::cmp::Reverse(mark.len())))
}

/// Bytes at the end of `text` that may be the beginning of one of `marks`.
fn held_back(text: &str, marks: &[&str]) -> usize {
    let begins =
        |n: &usize| text.is_char_boundary(text.len() - n) && marks.iter().any(|m| m.len() > *n && m.starts_with(&text[text.len() - n..]));
    let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
    (1..=longest.min(text.len())).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests;
