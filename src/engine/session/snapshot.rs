//! Saving and restoring a session.

use super::Session;
use crate::error::Result;
use crate::sys::file::{self, FileSource};
use std::path::Path;

impl Session {
    /// Its tokens, keys and values as bytes that [`Self::restore`] of this model takes, in this process or another one with the same build.
    ///
    /// # Errors
    /// `Busy`, `OutOfMemory`, `Shutdown`, `Unsupported` by the backend.
    pub fn save(&self) -> Result<Vec<u8>> {
        let fingerprint = self.model.fingerprint()?;
        self.with_state(|state| state.sequence.save(fingerprint))
    }

    /// Bytes that [`Self::save`] returns now.
    ///
    /// # Errors
    /// `Busy`, `OutOfMemory`, `Shutdown`.
    pub fn saved_bytes(&self) -> Result<usize> {
        let fingerprint = self.model.fingerprint()?;
        self.with_state(|state| state.sequence.saved_bytes(fingerprint))
    }

    /// Becomes what was saved, or stays what it is. What is generated then has the same bits as where it was saved.
    ///
    /// # Errors
    /// `StateMismatch` for bytes that are no state, are damaged, or are of another model, version or KV type; `ContextFull`, `Budget`, `OutOfMemory`, `Busy`,
    /// `Shutdown`, `Unsupported` by the backend.
    pub fn restore(&self, bytes: &[u8]) -> Result<()> {
        let fingerprint = self.model.fingerprint()?;
        self.with_state(|state| {
            state.sequence.restore(bytes, fingerprint)?;
            self.give_up_pass(state);
            state.prefill = (0, state.sequence.n_queued() as u32);
            Ok(())
        })
    }

    /// Saves to a file: afterwards, and after a crash at any moment, it has the old content or the new one.
    ///
    /// # Errors
    /// `Io`, and as [`Self::save`].
    pub fn save_file(&self, path: &Path) -> Result<()> {
        file::replace(path, &self.save()?)
    }

    /// Restores from a file.
    ///
    /// # Errors
    /// `Io`, and as [`Self::restore`].
    pub fn restore_file(&self, path: &Path) -> Result<()> {
        self.restore(&file::read_all(&FileSource::open(path)?, usize::MAX)?)
    }
}
