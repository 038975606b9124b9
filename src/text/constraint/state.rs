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
    /// As it was compiled.
    start: Arc<TokenParser>,
    parser: TokenParser,
    /// What may come next, once it was computed.
    mask: Option<Result<SimpleVob>>,
    /// Tokens that must come next, if that was computed.
    forced: Option<VecDeque<Token>>,
    /// Nothing may follow but the end.
    complete: bool,
}

impl Constraint {
    pub(super) fn new(mut parser: TokenParser) -> Self {
        parser.start_without_prompt();
        let start = Arc::new(parser);
        Self { parser: start.deep_clone(), start, mask: None, forced: None, complete: false }
    }

    /// Back to the beginning.
    pub fn reset(&mut self) {
        *self = Self { parser: self.start.deep_clone(), start: self.start.clone(), mask: None, forced: None, complete: false };
    }

    /// True if [`Self::allowed`] has nothing left to compute.
    pub fn is_ready(&self) -> bool {
        self.mask.is_some() || self.forced.as_ref().is_some_and(|forced| !forced.is_empty())
    }

    /// Computes what may come next, so that [`Self::allowed`] does not have to; it also keeps the error for that.
    pub fn prepare(&mut self) {
        if self.next_forced().is_none() && self.mask.is_none() {
            self.mask = Some(self.compute());
        }
    }

    /// The tokens that may come next: at least one.
    ///
    /// # Errors
    /// `DeadEnd` if there is none: the grammar needs what the vocabulary cannot say. `Constraint` if the grammar takes more work per token than any useful one.
    pub fn allowed(&mut self) -> Result<Allowed<'_>> {
        self.prepare();
        match (&self.mask, self.forced.as_ref().and_then(VecDeque::front)) {
            (_, Some(&token)) => Ok(Allowed::One(token)),
            (Some(Ok(mask)), None) => Ok(Allowed::Bits(mask.as_slice())),
            (Some(Err(e)), None) => Err(e.clone()),
            (None, None) => fail!(Internal, "a constraint without a mask"),
        }
    }

    fn compute(&mut self) -> Result<SimpleVob> {
        let Self { parser, complete, .. } = self;
        let ends = || {
            let set = parser.token_env.tok_trie().eos_token_set();
            if parser.token_env.tok_trie().eos_token() == INVALID_TOKEN { Err(dead_end(StopReason::NoExtension)) } else { Ok(set) }
        };
        if *complete {
            return ends();
        }
        on_stack_of(STACK_BYTES, || parser.compute_mask().map_err(|_| dead_end(parser.stop_reason())))
    }

    /// The token that must come next, if there is only one way to go on. To be accepted like any other.
    pub fn next_forced(&mut self) -> Option<Token> {
        if self.forced.is_none() {
            let parser = &mut self.parser;
            let known = self.complete || self.mask.is_some();
            let forced = if known { Ok(Vec::new()) } else { on_stack_of(STACK_BYTES, || Ok(parser.compute_ff_tokens())) };
            match forced {
                Ok(tokens) => self.forced = Some(tokens.into()),
                Err(e) => (self.mask, self.forced) = (Some(Err(e)), Some(VecDeque::new())),
            }
        }
        self.forced.as_ref().and_then(|forced| forced.front().copied())
    }

    /// Takes the token that came.
    ///
    /// # Errors
    /// `InvalidArgument` if the constraint does not allow it: nothing has changed. `Constraint` if the grammar takes too much work.
    pub fn accept(&mut self, token: Token) -> Result<()> {
        let is_end = self.parser.token_env.tok_trie().eos_tokens().contains(&token);
        if !self.allows(token)? {
            fail!(InvalidArgument, "token {token}: the constraint does not allow it here");
        }
        if self.complete && is_end {
            return Ok(());
        }
        let parser = &mut self.parser;
        let stopped = on_stack_of(STACK_BYTES, || {
            let consumed = parser.consume_token(token).and_then(|_| parser.check_stop());
            consumed.map_err(|_| dead_end(parser.stop_reason()))
        });
        self.mask = None;
        let is_forced = self.forced.as_mut().is_some_and(|forced| forced.pop_front() == Some(token));
        self.forced = self.forced.take().filter(|forced| is_forced && !forced.is_empty());
        match stopped {
            Ok(stopped) => self.complete = stopped || is_end,
            Err(e) => (self.mask, self.forced) = (Some(Err(e)), Some(VecDeque::new())),
        }
        Ok(())
    }

    fn allows(&mut self, token: Token) -> Result<bool> {
        match &self.mask {
            _ if self.forced.as_ref().and_then(VecDeque::front) == Some(&token) => Ok(true),
            Some(Ok(mask)) => Ok((token as usize) < mask.len() && mask.is_allowed(token)),
            Some(Err(e)) => Err(e.clone()),
            None if self.complete => Ok(self.parser.token_env.tok_trie().eos_tokens().contains(&token)),
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
            complete: self.complete,
        }
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
