//! A sequence as bytes, and back. Used by sessions that are saved.

use super::Sequence;
use crate::backend::BLOCK_TOKENS;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::state::StateHeader;
use crate::sys::memory::{try_vec, try_with_capacity};
use crate::text::Token;

impl Sequence {
    /// Its state as bytes, for a model of this fingerprint. Full blocks are saved; what is behind them is computed again after a restore.
    ///
    /// # Errors
    /// `Budget`, `OutOfMemory`, `Unsupported` by the backend.
    pub(in crate::engine) fn save(&mut self, fingerprint: u128) -> Result<Vec<u8>> {
        self.table.settle()?;
        let header = self.state_header(fingerprint)?;
        let mut state = try_vec(header.state_bytes()?)?;
        header.write(&mut state, |i, block| self.table.read(i, block))?;
        Ok(state)
    }

    /// Bytes of [`Self::save`].
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(in crate::engine) fn saved_bytes(&self, fingerprint: u128) -> Result<usize> {
        self.state_header(fingerprint)?.state_bytes()
    }

    fn state_header(&self, fingerprint: u128) -> Result<StateHeader> {
        let mut tokens = try_with_capacity(self.tokens.len())?;
        tokens.extend_from_slice(&self.tokens);
        let n_blocks = (self.n_computed / BLOCK_TOKENS) as u32;
        Ok(StateHeader { fingerprint, ended: self.ended, tokens, block_bytes: self.table.block_bytes(), n_blocks })
    }

    /// Becomes what `state` says, or stays what it is.
    ///
    /// # Errors
    /// `StateMismatch` for a state of something else, `ContextFull` if it has more tokens than fit, `Budget`, `OutOfMemory`, `Unsupported` by the backend.
    pub(in crate::engine) fn restore(&mut self, state: &[u8], fingerprint: u128) -> Result<()> {
        let (header, blocks) = StateHeader::read(state, fingerprint)?;
        let StateHeader { ended, tokens, block_bytes, n_blocks, .. } = header;
        let n_computed = n_blocks as usize * BLOCK_TOKENS;
        let known = |token: &Token| (*token as usize) < self.logits.len();
        if block_bytes != self.table.block_bytes() || n_computed > tokens.len() || !tokens.iter().all(known) {
            fail!(StateMismatch, "a saved state that this model cannot have written");
        }
        if tokens.len() > self.n_ctx {
            let message = format!("the state has {} tokens, the context holds {}", tokens.len(), self.n_ctx);
            return Err(Error::new(ErrorKind::ContextFull, message).with_detail([tokens.len() as i64, self.n_ctx as i64]));
        }
        let table = self.table.restored(blocks.chunks_exact(block_bytes.max(1) as usize))?;
        (self.table, self.tokens, self.ended) = (table, tokens, ended);
        (self.n_computed, self.has_logits) = (n_computed, false);
        self.claim.give_up();
        Ok(())
    }
}
