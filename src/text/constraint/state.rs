//! A compiled constraint at one place of a text: which tokens may follow, and what follows from the one that was taken.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::stack::on_stack_of;
use crate::text::Token;
use llguidance::TokenParser;
use llguidance::api::StopReason;
use llguidance::toktrie::{INVALID_TOKEN, SimpleVob};
use std::collections::VecDeque;
use std::sync::Arc;

/// Stack for one token: the parser works with lists, and with expressions as deep as the grammar.
const STACK_BYTES: usize = 4 << 20;

/// The tokens that may come next.
pub enum Allowed<'a> {
    /// Just this one.
    One(Token),
    /// Those whose bit is set, `(ceil(n_vocab / 32),)`.
    Bits(&'a [u32]),
}

/// A constraint, and how far a text has gone through it. A copy has a state of its own: what one does, no other sees.
pub struct Constraint {
    start: Arc<Start>,
    parser: TokenParser,
    /// Tokens that must come next, one after the other.
    forced: VecDeque<Token>,
    /// Any tokens will do that say what must come next.
    any_tokens: bool,
    /// What may come next, once it was computed.
    mask: Option<Result<SimpleVob>>,
    /// Nothing may follow but the end.
    complete: bool,
}

/// A constraint as it was compiled.
struct Start {
    parser: TokenParser,
    forced: Vec<Token>,
}

impl Constraint {
    /// To be called on a stack of our own.
    pub(super) fn new(mut parser: TokenParser) -> Self {
        parser.start_without_prompt();
        let forced = parser.compute_ff_tokens();
        Self::at(Arc::new(Start { parser, forced }))
    }

    fn at(start: Arc<Start>) -> Self {
        let (parser, forced) = (start.parser.deep_clone(), start.forced.clone().into());
        Self { start, parser, forced, any_tokens: false, mask: None, complete: false }
    }

    /// Back to the beginning.
    pub fn reset(&mut self) {
        *self = Self::at(self.start.clone());
    }

    /// True if [`Self::allowed`] has nothing left to compute.
    pub fn is_ready(&self) -> bool {
        self.mask.is_some() || !self.forced.is_empty()
    }

    /// Computes what may come next, so that [`Self::allowed`] does not have to; it also keeps the error for that.
    pub fn prepare(&mut self) {
        if !self.is_ready() {
            self.mask = Some(self.compute());
        }
    }

    /// The tokens that may come next: at least one.
    ///
    /// # Errors
    /// `DeadEnd` if there is none: the grammar needs what the vocabulary cannot say. `Constraint` if the grammar takes more work per token than any useful one.
    pub fn allowed(&mut self) -> Result<Allowed<'_>> {
        self.prepare();
        match (&self.mask, self.forced.front()) {
            (Some(Err(e)), _) => Err(e.clone()),
            (_, Some(&token)) => Ok(Allowed::One(token)),
            (Some(Ok(mask)), None) => Ok(Allowed::Bits(mask.as_slice())),
            (None, None) => fail!(Internal, "a constraint without a mask"),
        }
    }

    fn compute(&mut self) -> Result<SimpleVob> {
        let parser = &mut self.parser;
        if self.complete {
            let trie = parser.token_env.tok_trie();
            return if trie.eos_token() == INVALID_TOKEN { Err(dead_end(StopReason::NoExtension)) } else { Ok(trie.eos_token_set()) };
        }
        if self.any_tokens {
            return on_stack_of(STACK_BYTES, || any_tokens(parser));
        }
        on_stack_of(STACK_BYTES, || parser.compute_mask().map_err(|_| dead_end(parser.stop_reason())))
    }

    /// The token that must come next, if there is only one way to go on. To be accepted like any other.
    pub fn next_forced(&self) -> Option<Token> {
        self.forced.front().copied()
    }

    /// Text that must come next may be said with other tokens than [`Self::next_forced`]: for a host that forbids that one.
    pub fn allow_any_tokens(&mut self) {
        if !self.forced.is_empty() {
            self.forced.clear();
            (self.any_tokens, self.mask) = (true, None);
        }
    }

    /// Takes the token that came.
    ///
    /// # Errors
    /// `InvalidArgument` if the constraint does not allow it, or the error that [`Self::allowed`] has: nothing has changed.
    pub fn accept(&mut self, token: Token) -> Result<()> {
        if !self.allows(token)? {
            fail!(InvalidArgument, "token {token}: the constraint does not allow it here");
        }
        let is_end = self.is_end(token);
        if self.complete && is_end {
            return Ok(());
        }
        let is_forced = self.forced.pop_front() == Some(token);
        let keeps = is_forced && !self.forced.is_empty();
        let parser = &mut self.parser;
        let advanced = on_stack_of(STACK_BYTES, || {
            let complete = parser.consume_token(token).and_then(|_| parser.check_stop());
            let complete = complete.map_err(|_| dead_end(parser.stop_reason()))? || is_end;
            Ok((complete, if complete || keeps { Vec::new() } else { parser.compute_ff_tokens() }))
        });
        (self.mask, self.complete) = match advanced {
            Ok((complete, forced)) => {
                self.forced = if keeps { std::mem::take(&mut self.forced) } else { forced.into() };
                self.any_tokens = false;
                (None, complete)
            }
            Err(e) => (Some(Err(e)), false),
        };
        Ok(())
    }

    fn is_end(&self, token: Token) -> bool {
        self.parser.token_env.tok_trie().eos_tokens().contains(&token)
    }

    fn allows(&mut self, token: Token) -> Result<bool> {
        match &self.mask {
            Some(Err(e)) => Err(e.clone()),
            Some(Ok(mask)) => Ok((token as usize) < mask.len() && mask.is_allowed(token)),
            None if self.forced.front() == Some(&token) => Ok(true),
            None if self.complete => Ok(self.is_end(token)),
            None => {
                let parser = &mut self.parser;
                on_stack_of(STACK_BYTES, || Ok(parser.validate_tokens_raw(&[token]).is_ok_and(|n| n == 1)))
            }
        }
    }
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        Self {
            start: self.start.clone(),
            parser: self.parser.deep_clone(),
            mask: self.mask.clone(),
            forced: self.forced.clone(),
            any_tokens: self.any_tokens,
            complete: self.complete,
        }
    }
}

/// The tokens that begin what must come next, or go on behind it.
fn any_tokens(parser: &mut TokenParser) -> Result<SimpleVob> {
    let (text, masks) = (parser.force_bytes(), parser.bias_computer.clone());
    let mask = parser.parser.compute_bias(&*masks, &text);
    match parser.parser.get_error() {
        Some(error) => Err(dead_end(error.stop_reason())),
        None if mask.is_zero() => Err(dead_end(StopReason::NoExtensionBias)),
        None => Ok(mask),
    }
}

/// Why no token can follow.
fn dead_end(reason: StopReason) -> Error {
    match reason {
        StopReason::LexerTooComplex | StopReason::ParserTooComplex => {
            Error::new(ErrorKind::Constraint, "the constraint takes more work per token than is allowed: it is too ambiguous or too large")
        }
        _ => Error::new(ErrorKind::DeadEnd, "the constraint admits no token here: the vocabulary cannot say what must follow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::constraint::{ConstraintKind, ConstraintSource, Grammars};
    use crate::text::{Alphabet, Model, TokenType, Tokenizer, VocabularyData};

    /// Bytes, an end, and words of every kind and length that masks tell apart.
    fn grammars() -> Grammars {
        let mut data = VocabularyData::empty(Alphabet::Characters);
        data.tokens = (0..256).map(|byte| format!("<0x{byte:02X}>").into_bytes().into()).collect();
        data.types = vec![TokenType::Byte; 256];
        data.tokens.push(b"</s>".into());
        data.types.push(TokenType::Control);
        let words = [
            "a",
            "ab",
            "abc",
            "abcdefghij",
            "abcdefghijk",
            "12",
            "1.5",
            "-0",
            "true",
            "{\"",
            "\":",
            "\", \"",
            "é",
            "éa",
            "日本",
            "\\n",
            "\\\"",
            " ",
            "  ",
            "\n",
            "\"name\"",
            "}]",
            "]}",
            "x,y",
        ];
        let long = [
            "z".repeat(10),
            "z".repeat(11),
            "z".repeat(30),
            "z".repeat(31),
            "é".repeat(10),
            "é".repeat(11),
            format!("{}\"", "z".repeat(12)),
        ];
        for word in words.iter().map(|word| (*word).to_owned()).chain(long) {
            data.tokens.push(word.into_bytes().into());
            data.types.push(TokenType::Normal);
        }
        (data.model, data.eos) = (Model::Scores(vec![0.0; data.tokens.len()]), Some(256));
        Grammars::new(&Arc::new(Tokenizer::new(&data).unwrap())).unwrap()
    }

    fn is_set(bits: &[u32], token: Token) -> bool {
        bits[token as usize / 32] >> (token % 32) & 1 == 1
    }

    #[test]
    fn masks_allow_what_the_parser_takes_token_by_token() {
        let (grammars, mut random) = (grammars(), 5u64);
        let mut next = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % n
        };
        let mut n_any = 0;
        for (kind, text) in [
            (ConstraintKind::AnyJson, ""),
            (
                ConstraintKind::JsonSchema,
                r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12},"n":{"type":"number"}},"required":["name"]}"#,
            ),
            (ConstraintKind::Regex, "(ab|é){2,9}z{3,40}[^x]*"),
            (ConstraintKind::Regex, "(?s:.*)"),
            (ConstraintKind::Gbnf, "root ::= \"ab\" root \"ab\" | [a-z0-9]{1,20} | \"{\" root \"}\""),
        ] {
            let mut constraint = grammars.compile(&ConstraintSource { kind, text: text.into() }).unwrap();
            for _ in 0..40 {
                n_any += usize::from(constraint.next_forced().is_some());
                constraint.allow_any_tokens();
                let Ok(Allowed::Bits(bits)) = constraint.allowed() else { panic!("{text}: a mask") };
                let bits = bits.to_vec();
                let mask = constraint.mask.take();
                for token in (0..bits.len() as u32 * 32).filter(|token| *token != 256) {
                    let taken = (token as usize) < constraint.parser.token_env.tok_trie().vocab_size() && constraint.allows(token).unwrap();
                    assert_eq!(is_set(&bits, token), taken, "{text}: token {token}");
                }
                constraint.mask = mask;
                let allowed: Vec<Token> = (0..bits.len() as u32 * 32).filter(|&token| is_set(&bits, token)).collect();
                let token = allowed[next(allowed.len())];
                constraint.accept(token).unwrap();
                if token == 256 {
                    break;
                }
            }
        }
        assert!(n_any > 0, "nothing was ever forced");
    }
}
