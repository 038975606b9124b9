//! One generation on the driver: from its prompt to its final event.

use super::answer::{Answer, Told};
use super::logprobs::Logprobs;
use crate::backend::Batch;
use crate::engine::compiling::Compiling;
use crate::engine::draft::{DraftModel, Drafter};
use crate::engine::events::{Event, EventKind, Finish, Usage};
use crate::engine::generation::{GenerateParams, Prompt};
use crate::engine::model::Model;
use crate::engine::sampler::Sampler;
use crate::engine::session::{Borrower, Session, State};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::model::Pass;
use crate::text::constraint::ConstraintSource;
use crate::text::{EncodeOptions, StopStrings, Token};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Tokens that a draft model guesses at once when the host does not say.
const DEFAULT_DRAFT: usize = 8;

/// A generation while it runs. Holds the session's state; brings it back before the final event, whatever happens.
pub(in crate::engine) struct Task {
    session: Arc<Session>,
    borrower: Arc<Borrower>,
    /// Present until the end, but for one that waits.
    state: Option<Box<State>>,
    /// It was promised the state, which a cancelled generation still has.
    waits: bool,
    /// Taken when the prompt was appended.
    prompt: Option<Prompt>,
    max_tokens: u32,
    n_draft: usize,
    sampler: Sampler,
    /// Taken when the prompt was appended.
    constraint: Option<ConstraintSource>,
    /// Until the sampler has it.
    compiling: Option<Compiling>,
    answer: Answer,
    logprobs: Option<Logprobs>,
    /// Chosen tokens whose text was not told yet.
    untold: Vec<Token>,
    usage: Usage,
    /// Tokens that were queued when it began.
    n_prompt: u32,
    lacks_memory: bool,
    /// The model that drafts, until the prompt is appended.
    draft: Option<Arc<Model>>,
    drafter: Drafter,
    /// What it guessed for the pass in flight.
    guess: Vec<Token>,
    started: Instant,
    first_token: Option<Instant>,
}

impl Task {
    pub(in crate::engine) fn new(session: Arc<Session>, borrower: Arc<Borrower>, params: GenerateParams, sampler: Sampler) -> Result<Self> {
        let answer = Answer::new(StopStrings::new(params.stop)?.matcher());
        Ok(Self {
            session,
            borrower,
            state: None,
            waits: false,
            prompt: Some(params.prompt),
            max_tokens: params.max_tokens,
            n_draft: params.n_draft as usize,
            sampler,
            constraint: params.constraint,
            compiling: None,
            answer,
            logprobs: params.logprobs.map(Logprobs::new),
            untold: Vec::new(),
            usage: Usage::default(),
            n_prompt: 0,
            lacks_memory: false,
            drafter: Drafter::new(params.n_draft as usize, None),
            draft: params.draft,
            guess: Vec::new(),
            started: Instant::now(),
            first_token: None,
        })
    }

    pub(in crate::engine) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Takes the state that the session lent; `None` = a cancelled generation still has it.
    pub(in crate::engine) fn adopt(&mut self, state: Option<Box<State>>) {
        self.waits = state.is_none();
        self.state = state;
    }

    /// Gives the state back, or the promise of it.
    pub(super) fn give_back(&self, state: Option<Box<State>>) {
        match state {
            Some(state) => self.session.take_back_from(&self.borrower, state),
            None => self.session.renounce(&self.borrower),
        }
    }

    /// Takes the state, if it waits for it and the generation before it has ended.
    pub(super) fn collect_state(&mut self) {
        if self.waits && !self.is_cancelled() {
            self.state = self.session.collect(&self.borrower);
            self.waits = self.state.is_none();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.borrower.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.is_none() && !self.waits
    }

    /// True if it can be given rows now: a reader that is behind pauses it, and so do keys that a shift has moved and not turned, and a constraint that is still
    /// compiled when the logits are there.
    pub(super) fn is_ready(&self) -> bool {
        let has_room = self.prompt.is_none() && self.borrower.events.has_room();
        let may_choose = self.compiling.is_none() || !self.has_logits();
        has_room && may_choose && self.state.as_ref().is_some_and(|state| !state.sequence.owes_turns())
    }

    /// Turns the keys of a block that a shift has moved; false if there is none.
    pub(super) fn turn_block(&mut self) -> Result<bool> {
        let Some(state) = self.state.as_mut().filter(|state| state.sequence.owes_turns()) else { return Ok(false) };
        let turned = state.sequence.turn_block();
        self.lacks_memory = turned.as_ref().is_err_and(Error::is_shortage);
        turned.map(|()| true)
    }

    /// True if its prompt was not appended yet.
    pub(super) fn is_new(&self) -> bool {
        self.prompt.is_some() && self.state.is_some()
    }

    /// Appends the prompt, once.
    pub(super) fn prepare(&mut self) -> Result<()> {
        let Some(prompt) = self.prompt.take() else { return Ok(()) };
        let state = self.state.as_mut().ok_or_else(lost_state)?;
        let held = state.sequence.len();
        let model = self.session.model();
        match prompt {
            Prompt::Tokens(tokens) => state.sequence.append(&tokens)?,
            Prompt::Text(text) => {
                let options = EncodeOptions { add_special: held == 0, parse_special: false };
                state.sequence.append(&model.tokenizer().encode(text.as_bytes(), options)?)?;
            }
            Prompt::Chat(request) => {
                let rendered = model.render_chat(&request)?;
                state.sequence.become_tokens(&model.tokenizer().encode_chat(&rendered)?)?;
                self.answer.set_parser(model.chat_parser(&request, &rendered)?);
                self.constraint = model.chat_constraint(&request, &rendered)?.or(self.constraint.take());
            }
        }
        if let Some(draft) = self.draft.take() {
            model.check_vocabulary_of(&draft)?;
            let most = if self.n_draft == 0 { DEFAULT_DRAFT } else { self.n_draft };
            self.drafter = Drafter::new(most, Some(DraftModel::new(&draft, state.sequence.n_ctx())?));
        }
        if state.sequence.len() == 0 {
            fail!(InvalidArgument, "nothing to continue: the prompt is empty and so is the session");
        }
        self.compiling = self.constraint.take().map(|source| Compiling::start(model, source));
        self.session.publish(state);
        self.usage.cached_tokens = (state.sequence.len() - state.sequence.n_queued()) as u32;
        self.n_prompt = state.sequence.n_queued() as u32;
        self.usage.prompt_tokens = self.n_prompt;
        Ok(())
    }

    /// Goes on compiling its constraint for a slice, if that is to be done here; false if there is nothing to do.
    pub(super) fn advance_compiling(&mut self) -> bool {
        !self.is_finished() && self.compiling.as_mut().is_some_and(Compiling::advance)
    }

    /// Gives the sampler its constraint, once that is compiled.
    pub(super) fn adopt_constraint(&mut self) -> Result<()> {
        if let Some(result) = self.compiling.as_mut().and_then(Compiling::finished) {
            self.compiling = None;
            self.sampler.set_constraint(Some(result?));
        }
        Ok(())
    }

    /// Takes over what other sessions have computed of the prompt.
    pub(super) fn adopt_blocks(&mut self) {
        let adopted = self.state.as_mut().map_or(0, |state| state.sequence.adopt());
        self.adopted(adopted);
    }

    /// As [`Self::adopt_blocks`], of a part of a block; true if there was one.
    pub(super) fn adopt_start(&mut self) -> bool {
        let adopted = self.state.as_mut().map_or(0, |state| state.sequence.adopt_start());
        self.adopted(adopted);
        adopted > 0
    }

    fn adopted(&mut self, n: usize) {
        if n > 0 && self.first_token.is_none() {
            self.usage.cached_tokens += n as u32;
            self.usage.prompt_tokens = self.usage.prompt_tokens.saturating_sub(n as u32);
            self.tell_progress();
        }
    }

    /// True if it waits for what `ahead` is computing: both begin with the same tokens.
    pub(super) fn follows(&self, ahead: &Self) -> bool {
        match (&self.state, &ahead.state) {
            (Some(own), Some(other)) => own.sequence.follows(&other.sequence),
            _ => false,
        }
    }

    /// True if it has keys and values that could be computed again.
    pub(super) fn can_be_evicted(&self) -> bool {
        self.n_computed() > 0 && self.state.as_ref().is_some_and(|state| state.sequence.is_pure())
    }

    /// Gives its keys and values back, to be computed again later.
    pub(super) fn evict(&mut self) {
        if let Some(state) = &mut self.state {
            state.sequence.evict();
        }
    }

    /// The positions to compute next, at most `room`, in a pass with `n_streams` streams; KV room is made for them.
    pub(super) fn schedule(&mut self, room: usize, n_streams: usize) -> Result<Range<usize>> {
        let pace = self.session.model().pace()?;
        let state = self.state.as_mut().ok_or_else(lost_state)?;
        let mut rows = state.sequence.next_rows(room.min(state.chunk));
        self.guess.clear();
        if self.first_token.is_some() && rows.len() == 1 && rows.end == state.sequence.len() {
            // Each guess that is right is one token of the answer; the pass gives another one behind it.
            let left = (self.max_tokens as usize).wrapping_sub(self.usage.output_tokens as usize + 1);
            let room = left.min(room - 1).min(state.sequence.n_ctx() - rows.end);
            let known = |token: &Token| (*token as usize) < self.session.model().n_vocab();
            self.guess
                .extend(self.drafter.guess(state.sequence.tokens(), room, &|len| pace.ratio(n_streams, len)).into_iter().take_while(known));
            rows.end += self.guess.len();
        }
        let reserved = state.sequence.reserve(&rows);
        if reserved.is_ok() {
            state.sequence.begin_work();
        }
        self.lacks_memory = reserved.as_ref().is_err_and(Error::is_shortage);
        reserved.map(|()| rows)
    }

    /// True if there was no KV memory for it when it was scheduled last.
    pub(super) fn lacks_memory(&self) -> bool {
        self.lacks_memory && !self.is_finished()
    }

    /// Has the draft model guess what comes next, if there is one and its turn has come.
    /// `n_streams` are in its passes.
    pub(super) fn prepare_draft(&mut self, n_streams: usize) {
        let Ok(pace) = self.session.model().pace() else { return };
        let Some(state) = self.state.as_ref().filter(|state| self.first_token.is_some() && state.sequence.n_queued() == 1) else { return };
        let left = (self.max_tokens as usize).wrapping_sub(self.usage.output_tokens as usize + 1);
        self.drafter
            .prepare(state.sequence.tokens(), left.min(state.sequence.n_ctx() - state.sequence.len()), &|len| pace.ratio(n_streams, len));
    }

    /// The draft model, if it has to run before the next pass of this task.
    pub(super) fn drafting(&mut self) -> Option<&mut DraftModel> {
        if self.state.is_some() { self.drafter.at_work() } else { None }
    }

    /// Goes on without guesses.
    pub(super) fn give_up_draft(&mut self) {
        self.drafter.give_up_model();
    }

    /// The urgency of its session; higher is sooner.
    pub(super) fn priority(&self) -> i32 {
        self.state.as_ref().map_or(0, |state| state.priority)
    }

    /// True if it waits for its next token only.
    pub(super) fn is_decoding(&self) -> bool {
        self.first_token.is_some() && self.state.as_ref().is_some_and(|state| state.sequence.n_queued() <= 1)
    }

    /// Tokens that are computed.
    pub(super) fn n_computed(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.sequence.len() - state.sequence.n_queued())
    }

    /// Adds `rows` to the batch; returns for how many logits were asked.
    pub(super) fn fill(&self, batch: &mut Batch, rows: &Range<usize>) -> usize {
        let Some(state) = &self.state else { return 0 };
        if self.guess.is_empty() {
            return usize::from(state.sequence.fill(batch, rows));
        }
        state.sequence.fill_with_guess(batch, rows, &self.guess);
        rows.len()
    }

    /// Takes in a finished pass: `output` is the index of its logits, if it has some.
    pub(super) fn collect(&mut self, rows: &Range<usize>, pass: &dyn Pass, output: Option<usize>) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(lost_state)?;
        let Some(output) = output else {
            state.sequence.computed(rows);
            self.tell_progress();
            return Ok(());
        };
        let guess = std::mem::take(&mut self.guess);
        let first = rows.start..rows.end - guess.len();
        state.sequence.computed_with_logits(&first, |out| pass.logits(output, out))?;
        if self.first_token.is_none() {
            self.tell_progress();
        }
        self.adopt_constraint()?;
        if self.compiling.is_some() {
            return Ok(()); // the logits wait for it
        }
        self.choose()?;
        let n_right = self.verify(&guess, first.end, pass, output)?;
        self.drafter.learn(guess.len(), n_right);
        Ok(())
    }

    /// Goes on with the guesses as long as the choice is the same: then the row behind it is computed already. The first one is at position `start`. Returns
    /// how many were right.
    fn verify(&mut self, guess: &[Token], start: usize, pass: &dyn Pass, output: usize) -> Result<usize> {
        for (i, guessed) in guess.iter().enumerate() {
            let Some(state) = &mut self.state else { return Ok(i) };
            let row = start + i..start + i + 1;
            if state.sequence.tokens().get(row.start) != Some(guessed) {
                return Ok(i);
            }
            if state.sequence.len() > row.end {
                // What follows was forced, and needs no logits.
                state.sequence.computed(&row);
                continue;
            }
            state.sequence.computed_with_logits(&row, |out| pass.logits(output + 1 + i, out))?;
            self.choose()?;
        }
        Ok(guess.len())
    }

    /// Chooses the next token from the sequence's logits and tells its text; with it come those that a constraint forces behind it.
    pub(super) fn choose(&mut self) -> Result<()> {
        if !self.make_room()? {
            return Ok(());
        }
        let state = self.state.as_mut().ok_or_else(lost_state)?;
        let token = state.sequence.pick(&mut self.sampler)?;
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.note(self.session.model().tokenizer(), token, state.sequence.logits());
        }
        self.say(token)?;
        while !self.is_finished()
            && let Some(token) = self.sampler.next_forced()
            && self.make_room()?
        {
            self.sampler.accept(token)?;
            if let Some(logprobs) = &mut self.logprobs {
                logprobs.note(self.session.model().tokenizer(), token, None);
            }
            self.say(token)?;
        }
        Ok(())
    }

    /// Makes room for a token; where there is none, this was the end, and false is returned.
    fn make_room(&mut self) -> Result<bool> {
        let state = self.state.as_mut().ok_or_else(lost_state)?;
        if !state.sequence.can_grow() {
            self.finish_with_tail(Finish::ContextFull)?;
            return Ok(false);
        }
        state.sequence.make_room(1)?;
        Ok(true)
    }

    /// Adds `token` to the session and tells its text.
    fn say(&mut self, token: Token) -> Result<()> {
        let state = self.state.as_mut().ok_or_else(lost_state)?;
        let model = self.session.model().clone();
        let ends = model.is_end_of_generation(token);
        state.sequence.accept(token, ends)?;
        self.session.publish(state);
        self.first_token.get_or_insert_with(Instant::now);
        self.usage.output_tokens += 1;
        self.untold.push(token);
        if ends {
            return self.finish_with_tail(Finish::EndOfGeneration);
        }
        let told = self.answer.push(model.tokenizer(), token)?;
        if self.tell(told) {
            self.finish(Finish::Stop, None);
        } else if self.usage.output_tokens == self.max_tokens {
            return self.finish_with_tail(Finish::MaxTokens);
        }
        Ok(())
    }

    /// Computes what its constraint allows next, if that is not known yet; true if it did. Meanwhile a pass computes the logits.
    pub(super) fn prepare_choice(&mut self) -> bool {
        let wanted = !self.is_finished() && self.sampler.is_unprepared();
        if wanted {
            self.sampler.prepare();
        }
        wanted
    }

    /// True if the logits of the last position are there already, so that no pass is needed.
    pub(super) fn has_logits(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.sequence.logits().is_some())
    }

    /// Sends what a token said to the host; true if a stop string ended it.
    fn tell(&mut self, told: Told) -> bool {
        for (kind, text) in told.events {
            let tokens = std::mem::take(&mut self.untold);
            let logprobs = self.take_logprobs();
            self.borrower.events.push(Event { kind, text, tokens, logprobs, usage: self.usage, ..Event::default() });
        }
        told.stopped
    }

    /// The probabilities of the tokens that are told now, if they were asked for.
    fn take_logprobs(&mut self) -> String {
        self.logprobs.as_mut().map_or_else(String::new, Logprobs::take)
    }

    fn tell_progress(&self) {
        let n_queued = self.state.as_ref().map_or(0, |state| state.sequence.n_queued()) as u32;
        let n_total = self.n_prompt;
        let n_done = n_total.saturating_sub(n_queued);
        self.borrower.events.push(Event { kind: EventKind::Progress, n_done, n_total, ..Event::default() });
    }

    /// Ends after telling what was held back: an incomplete character, the beginning of a stop string or of a mark, a call.
    fn finish_with_tail(&mut self, finish: Finish) -> Result<()> {
        let told = self.answer.finish();
        let finish = match (self.tell(told), finish) {
            (true, _) => Finish::Stop,
            (false, Finish::EndOfGeneration) if self.answer.called() => Finish::ToolCall,
            (false, finish) => finish,
        };
        self.finish(finish, None);
        Ok(())
    }

    /// Ends with an error.
    pub(super) fn fail(&mut self, error: Error) {
        self.finish(Finish::Error, Some(error));
    }

    /// Brings the state back, then tells the end. Does nothing the second time.
    pub(super) fn finish(&mut self, finish: Finish, error: Option<Error>) {
        if self.is_finished() {
            return;
        }
        let now = Instant::now();
        let first = self.first_token.unwrap_or(now);
        self.usage.prefill_ms = (first - self.started).as_secs_f32() * 1e3;
        self.usage.decode_ms = (now - first).as_secs_f32() * 1e3;
        let state = self.state.take();
        self.give_back(state);
        self.waits = false;
        let tokens = std::mem::take(&mut self.untold);
        let logprobs = self.take_logprobs();
        let event = Event { kind: EventKind::Done, finish: Some(finish), tokens, logprobs, error, usage: self.usage, ..Event::default() };
        self.borrower.events.finish(event);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.finish(Finish::Cancelled, None);
    }
}

fn lost_state() -> Error {
    Error::new(ErrorKind::Internal, "a finished generation was run again")
}
