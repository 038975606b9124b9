//! What a generation's tokens say: characters, then thinking and tool calls told apart, then stop strings.

use crate::engine::events::EventKind;
use crate::error::Result;
use crate::text::chat::{Json, OutputParser, Piece, ToolCall};
use crate::text::{DecodeOptions, Detokenizer, StopMatcher, Token, TokenType, Tokenizer};

/// The text of one answer on its way to the host.
pub(super) struct Answer {
    detokenizer: Detokenizer,
    /// For chats; other generations are text throughout.
    parser: Option<OutputParser>,
    stop: StopMatcher,
    n_calls: usize,
}

/// What the host is told, in order, and whether a stop string ended it.
#[derive(Default)]
pub(super) struct Told {
    pub(super) events: Vec<(EventKind, String)>,
    pub(super) stopped: bool,
}

impl Answer {
    pub(super) fn new(stop: StopMatcher) -> Self {
        // What is generated continues a text; control tokens are structure, not text.
        let detokenizer = Detokenizer::new(DecodeOptions { skip_special: true, at_text_start: false });
        Self { detokenizer, parser: None, stop, n_calls: 0 }
    }

    /// The answer belongs to a chat.
    pub(super) fn set_parser(&mut self, parser: OutputParser) {
        self.parser = Some(parser);
    }

    /// True if the model called a tool.
    pub(super) fn called(&self) -> bool {
        self.n_calls > 0
    }

    /// Takes the next token.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, token: Token) -> Result<Told> {
        let mut text = String::new();
        match self.mark(tokenizer, token) {
            Some(mark) => {
                self.detokenizer.finish(&mut text);
                text.push_str(&mark);
            }
            None => self.detokenizer.push(tokenizer, token, &mut text)?,
        }
        let mut told = Told::default();
        match &mut self.parser {
            None => self.tell_text(&text, &mut told),
            Some(parser) => {
                let mut pieces = Vec::new();
                parser.push(&text, &mut pieces);
                self.tell_pieces(pieces, &mut told);
            }
        }
        Ok(told)
    }

    /// No token follows: what was held back is told.
    pub(super) fn finish(&mut self) -> Told {
        let (mut text, mut told) = (String::new(), Told::default());
        self.detokenizer.finish(&mut text);
        match &mut self.parser {
            None => self.tell_text(&text, &mut told),
            Some(parser) => {
                let mut pieces = Vec::new();
                parser.push(&text, &mut pieces);
                parser.finish(&mut pieces);
                self.tell_pieces(pieces, &mut told);
            }
        }
        if !told.stopped {
            self.release(&mut told);
        }
        told
    }

    /// The text of `token` if it is a control token that the parser looks for.
    fn mark(&self, tokenizer: &Tokenizer, token: Token) -> Option<String> {
        let parser = self.parser.as_ref()?;
        let is_control = matches!(tokenizer.token_type(token)?, TokenType::Control | TokenType::Unknown);
        let text = std::str::from_utf8(tokenizer.token_bytes(token).ok().filter(|_| is_control)?).ok()?;
        parser.knows(text).then(|| text.to_owned())
    }

    fn tell_pieces(&mut self, pieces: Vec<Piece>, told: &mut Told) {
        for piece in pieces {
            if told.stopped {
                return;
            }
            match piece {
                Piece::Text(text) => self.tell_text(&text, told),
                Piece::Thinking(text) => self.tell(EventKind::Thinking, text, told),
                Piece::Call(call) => {
                    self.n_calls += 1;
                    let json = described(call, self.n_calls);
                    self.tell(EventKind::ToolCall, json, told);
                }
                Piece::Broken(raw) => {
                    let raw =
                        Json::Object(vec![("error".into(), Json::String("not a whole call".into())), ("raw".into(), Json::String(raw))]);
                    self.tell(EventKind::ToolCall, raw.to_string(), told);
                }
            }
        }
    }

    /// Text goes through the stop strings.
    fn tell_text(&mut self, text: &str, told: &mut Told) {
        let mut out = String::new();
        told.stopped = self.stop.push(text, &mut out).is_some();
        if !out.is_empty() {
            told.events.push((EventKind::Text, out));
        }
    }

    /// What is no text ends what a stop string could have been.
    fn tell(&mut self, kind: EventKind, text: String, told: &mut Told) {
        self.release(told);
        told.events.push((kind, text));
    }

    fn release(&mut self, told: &mut Told) {
        let mut held = String::new();
        self.stop.flush(&mut held);
        if !held.is_empty() {
            told.events.push((EventKind::Text, held));
        }
    }
}

/// `{"id":..,"name":..,"arguments":{..}}`; calls without a name of their own are numbered.
fn described(call: ToolCall, number: usize) -> String {
    let id = call.id.unwrap_or_else(|| format!("call_{number}"));
    let fields = [("id", Json::String(id)), ("name", Json::String(call.name)), ("arguments", call.arguments)];
    Json::Object(fields.map(|(key, value)| (key.to_owned(), value)).to_vec()).to_string()
}
