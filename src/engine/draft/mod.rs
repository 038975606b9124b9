//! Guesses of the next tokens, to be verified by the model in one pass. Used by generations: what is said does not depend on them.
//!
//! They come from repetitions in the session's own text, or from a smaller model (Leviathan et al., arXiv 2211.17192).

mod model;
mod policy;
mod repetition;

pub(super) use model::DraftModel;

use crate::text::Token;
use policy::Policy;
use repetition::Match;

/// Guesses for one generation.
pub(super) struct Drafter {
    policy: Policy,
    model: Option<Box<DraftModel>>,
    /// Tokens to be guessed for the next pass; `None` = not decided yet.
    wanted: Option<usize>,
}

impl Drafter {
    /// Guesses of up to `most` tokens, by `model` if there is one.
    pub(super) fn new(most: usize, model: Option<DraftModel>) -> Self {
        Self { policy: Policy::new(most), model: model.map(Box::new), wanted: None }
    }

    /// Has the draft model guess what follows `tokens`, `room` tokens at most, in passes of its own. Does nothing without one, or when it is at it.
    pub(super) fn prepare(&mut self, tokens: &[Token], room: usize) {
        let Some(model) = self.model.as_mut().filter(|_| self.wanted.is_none()) else { return };
        let wanted = self.policy.next_len().min(room);
        self.wanted = Some(wanted);
        if wanted > 0 && model.follow(tokens).is_err() {
            self.give_up_model();
        }
    }

    /// The draft model, if it has to run before the next pass.
    pub(super) fn at_work(&mut self) -> Option<&mut DraftModel> {
        let wanted = self.wanted?;
        self.model.as_deref_mut().filter(|model| model.guess().len() < wanted)
    }

    /// The generation goes on without the draft model: it lacks memory or context, or has failed.
    pub(super) fn give_up_model(&mut self) {
        self.model = None;
        self.policy = Policy::new(0);
    }

    /// What may follow `tokens`, at most `room` tokens; often nothing.
    pub(super) fn guess(&mut self, tokens: &[Token], room: usize) -> Vec<Token> {
        match &self.model {
            Some(model) if self.wanted.is_some_and(|wanted| wanted > 0) => model.guess().iter().copied().take(room).collect(),
            Some(_) => Vec::new(),
            None => self.repetition(tokens, room).unwrap_or_default(),
        }
    }

    fn repetition(&mut self, tokens: &[Token], room: usize) -> Option<Vec<Token>> {
        if !self.policy.guesses() {
            return None;
        }
        let found = Match::of_end(tokens)?;
        Some(found.continuation(tokens, self.policy.len_after(found.len).min(room)))
    }

    /// Learns that the first `n_right` of `n_guessed` tokens were right.
    pub(super) fn learn(&mut self, n_guessed: usize, n_right: usize) {
        self.wanted = None;
        self.policy.learn(n_guessed, n_right);
    }
}
