//! Constraints on their way from their text to a parser: beside the generations that run, which must not wait for it.

mod background;
mod grammars;

use super::model::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::job::{self, Job};
use crate::sys::panic;
use crate::text::constraint::{Constraint, ConstraintSource};
pub(in crate::engine) use background::Background;
pub(in crate::engine) use grammars::SharedGrammars;
use parking_lot::Mutex;
use std::sync::Arc;

/// What became of a compilation, once it is known.
type Outcome = Mutex<Option<Result<Constraint>>>;

/// The compilation of one generation's constraint.
pub(super) enum Compiling {
    /// In slices, by whoever has time for the generation.
    Here(Job<Result<Constraint>>),
    /// On the runtime's background thread.
    Beside(Arc<Outcome>),
    /// Until it is taken.
    Done(Option<Box<Result<Constraint>>>),
}

impl Compiling {
    /// Begins to compile `source` for the vocabulary of `model`.
    pub(super) fn start(model: &Arc<Model>, source: ConstraintSource) -> Self {
        let compiled = model.clone().compile_in_slices(source);
        if model.runtime().is_host_driven() {
            return Self::Here(Box::pin(compiled));
        }
        let outcome = Arc::new(Outcome::default());
        let told = Told { outcome: Some(outcome.clone()), model: model.clone() };
        model.runtime().background().submit(Box::pin(async move { told.tell(compiled.await) }));
        Self::Beside(outcome)
    }

    /// Goes on for a slice where that is to be done here; false if it is not.
    pub(super) fn advance(&mut self) -> bool {
        let Self::Here(job) = self else { return false };
        let result = panic::catch(|| Ok(job::advance(job))).unwrap_or_else(|panicked| Some(Err(panicked)));
        if let Some(result) = result {
            *self = Self::Done(Some(Box::new(result)));
        }
        true
    }

    /// The result, once it is there.
    pub(super) fn finished(&mut self) -> Option<Result<Constraint>> {
        match self {
            Self::Here(_) => None,
            Self::Done(result) => result.take().map(|result| *result),
            Self::Beside(outcome) => {
                // Who has the other reference will still tell; without one, nobody will.
                let is_given_up = Arc::strong_count(outcome) == 1;
                let lost = || Err(Error::new(ErrorKind::Internal, "the compilation of a constraint was given up"));
                outcome.lock().take().or_else(|| is_given_up.then(lost))
            }
        }
    }
}

/// Tells the outcome, or by its absence that there will be none.
struct Told {
    outcome: Option<Arc<Outcome>>,
    model: Arc<Model>,
}

impl Told {
    fn tell(self, result: Result<Constraint>) {
        if let Some(outcome) = &self.outcome {
            *outcome.lock() = Some(result);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.outcome = None;
        self.model.runtime().wake_driver();
    }
}
