//! What the constraints of one model share: made once, by whoever needs it first, in slices that all who wait for it take turns at.

use crate::engine::model::Model;
use crate::error::Result;
use crate::sys::job::{self, Job};
use crate::sys::panic;
use crate::text::Tokenizer;
use crate::text::constraint::{Constraint, ConstraintSource, Grammars};
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::sync::Arc;

/// The grammars of a model, once there are some.
#[derive(Default)]
pub(in crate::engine) struct SharedGrammars {
    made: OnceCell<Grammars>,
    making: Mutex<Option<Job<Result<Grammars>>>>,
}

impl SharedGrammars {
    async fn get(&self, tokenizer: &Arc<Tokenizer>) -> Result<&Grammars> {
        while self.made.get().is_none() {
            self.advance(tokenizer)?;
            job::pause().await;
        }
        self.made.get_or_try_init(|| Grammars::new(tokenizer))
    }

    /// One slice; what another thread made in the meantime is taken as it is.
    fn advance(&self, tokenizer: &Arc<Tokenizer>) -> Result<()> {
        let mut making = self.making.lock();
        if self.made.get().is_some() {
            return Ok(());
        }
        let job = making.get_or_insert_with(|| Box::pin(Grammars::build(tokenizer.clone())));
        match panic::catch(|| Ok(job::advance(job))) {
            Ok(None) => {}
            Ok(Some(result)) => {
                *making = None;
                let made = result?;
                self.made.get_or_init(|| made);
            }
            Err(panicked) => {
                *making = None;
                return Err(panicked);
            }
        }
        Ok(())
    }
}

impl Model {
    /// Compiles a constraint for its vocabulary. The first one takes longer: it makes what all share.
    ///
    /// # Errors
    /// `Constraint` with `detail[0]` = byte offset; `Unsupported` for a vocabulary that no grammar can be matched against.
    pub fn compile(&self, source: &ConstraintSource) -> Result<Constraint> {
        job::run(self.grammars().get(self.shared_tokenizer()))?.compile(source)
    }

    /// [`Self::compile`] in slices; the last one is the compilation itself.
    pub(super) async fn compile_in_slices(self: Arc<Self>, source: ConstraintSource) -> Result<Constraint> {
        self.grammars().get(self.shared_tokenizer()).await?.compile(&source)
    }
}
