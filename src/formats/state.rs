//! The saved state of a session as bytes: who may read it, its tokens, its keys and values. Written and read by `engine::snapshot`.
//!
//! All numbers are little-endian. `magic | version | flags | fingerprint | n_tokens | n_blocks | block_bytes | tokens | blocks | check sum`: what a
//! reader needs to refuse a state comes first, the sum of everything before it comes last.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::checksum::checksum;
use crate::sys::memory::try_with_capacity;

/// The first bytes of every state.
const MAGIC: [u8; 8] = *b"INFSTATE";

/// Raised when the layout of states or of KV blocks changes: an older state is then refused.
const VERSION: u32 = 1;

/// Flag: the last token ended a generation.
const ENDED: u32 = 1;

/// Bytes before the tokens.
const HEADER_BYTES: usize = 8 + 4 + 4 + 16 + 4 + 4 + 8;

/// Bytes of the check sum.
const SUM_BYTES: usize = 8;

/// The facts about a state that come before its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateHeader {
    /// Of the model and its KV type.
    pub fingerprint: u128,
    /// The last token ended a generation.
    pub ended: bool,
    /// All tokens, computed or not.
    pub tokens: Vec<u32>,
    /// Bytes of a KV block.
    pub block_bytes: u64,
    /// Full blocks, from the first token on.
    pub n_blocks: u32,
}

impl StateHeader {
    /// Bytes of the state.
    ///
    /// # Errors
    /// `OutOfMemory` if no memory can hold so many.
    pub fn state_bytes(&self) -> Result<usize> {
        size(self.tokens.len(), self.n_blocks, self.block_bytes)
            .filter(|_| u32::try_from(self.tokens.len()).is_ok())
            .ok_or_else(|| Error::new(ErrorKind::OutOfMemory, "the state has more bytes than memory can have"))
    }

    /// Writes the state into `out`, [`Self::state_bytes`] long; `block` fills block `i`, `(block_bytes,)`.
    ///
    /// # Errors
    /// `Internal` for another length; those of `block`.
    pub fn write(&self, out: &mut [u8], mut block: impl FnMut(usize, &mut [u8]) -> Result<()>) -> Result<()> {
        let n_bytes = self.state_bytes()?;
        let Some((body, sum)) =
            out.split_last_chunk_mut::<SUM_BYTES>().filter(|(body, _)| body.len().checked_add(SUM_BYTES) == Some(n_bytes))
        else {
            fail!(Internal, "a buffer that is not as long as a state of {n_bytes} bytes");
        };
        let n_tokens = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        let mut rest = &mut *body;
        let mut put = |bytes: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            place.copy_from_slice(bytes);
            rest = after;
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&(if self.ended { ENDED } else { 0 }).to_le_bytes());
        put(&self.fingerprint.to_le_bytes());
        put(&n_tokens.to_le_bytes());
        put(&self.n_blocks.to_le_bytes());
        put(&self.block_bytes.to_le_bytes());
        self.tokens.iter().for_each(|token| put(&token.to_le_bytes()));
        let block_bytes = usize::try_from(self.block_bytes).unwrap_or(usize::MAX).max(1);
        for (i, place) in rest.chunks_exact_mut(block_bytes).enumerate() {
            block(i, place)?;
        }
        sum.copy_from_slice(&checksum(body).to_le_bytes());
        Ok(())
    }

    /// Reads a state: its header, and its blocks, `(n_blocks, block_bytes)`.
    ///
    /// # Errors
    /// `StateMismatch` for anything that was not written by [`Self::write`] of this version for `fingerprint`, or was damaged since; `OutOfMemory`.
    pub fn read(state: &[u8], fingerprint: u128) -> Result<(Self, &[u8])> {
        let Some((body, sum)) = state.split_last_chunk::<SUM_BYTES>() else { return refuse("too short") };
        let mut rest = body;
        if take(&mut rest)? != MAGIC {
            return refuse("it does not begin as one");
        }
        let version = u32::from_le_bytes(take(&mut rest)?);
        if version != VERSION {
            fail!(StateMismatch, "a saved state of version {version}: this build reads version {VERSION}");
        }
        let flags = u32::from_le_bytes(take(&mut rest)?);
        if u128::from_le_bytes(take(&mut rest)?) != fingerprint {
            fail!(StateMismatch, "the state was saved with another model or another type of keys and values");
        }
        let n_tokens = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).unwrap_or(usize::MAX);
        let n_blocks = u32::from_le_bytes(take(&mut rest)?);
        let block_bytes = u64::from_le_bytes(take(&mut rest)?);
        if flags & !ENDED != 0 || size(n_tokens, n_blocks, block_bytes) != Some(state.len()) {
            return refuse("its sizes do not fit each other");
        }
        if checksum(body) != u64::from_le_bytes(*sum) {
            return refuse("its check sum is wrong: it was damaged");
        }
        let (bytes, blocks) = rest.split_at_checked(n_tokens.saturating_mul(size_of::<u32>())).unwrap_or((&[], rest));
        let mut tokens = try_with_capacity(n_tokens)?;
        tokens.extend(bytes.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)));
        Ok((Self { fingerprint, ended: flags & ENDED != 0, tokens, block_bytes, n_blocks }, blocks))
    }
}

fn size(n_tokens: usize, n_blocks: u32, block_bytes: u64) -> Option<usize> {
    let tokens = n_tokens.checked_mul(size_of::<u32>())?;
    let blocks = usize::try_from(u64::from(n_blocks).checked_mul(block_bytes)?).ok()?;
    (HEADER_BYTES + SUM_BYTES).checked_add(tokens)?.checked_add(blocks)
}

/// Takes the next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    match rest.split_first_chunk() {
        Some((taken, after)) => {
            *rest = after;
            Ok(*taken)
        }
        None => refuse("too short"),
    }
}

fn refuse<T>(why: &str) -> Result<T> {
    fail!(StateMismatch, "not a saved state: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> StateHeader {
        StateHeader { fingerprint: 1 << 100 | 7, ended: true, tokens: vec![1, 2, 70_000], block_bytes: 5, n_blocks: 2 }
    }

    fn written() -> Vec<u8> {
        let mut out = vec![0; header().state_bytes().unwrap()];
        let fill = |i, place: &mut [u8]| {
            place.fill(40 + i as u8);
            Ok(())
        };
        header().write(&mut out, fill).unwrap();
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let state = written();
        let (read, blocks) = StateHeader::read(&state, header().fingerprint).unwrap();
        assert_eq!((read, blocks), (header(), &[40, 40, 40, 40, 40, 41, 41, 41, 41, 41][..]));
    }

    #[test]
    fn every_changed_bit_every_cut_and_every_addition_is_refused() {
        let state = written();
        let refused = |bytes: &[u8]| StateHeader::read(bytes, header().fingerprint).unwrap_err().kind() == ErrorKind::StateMismatch;
        for i in 0..state.len() {
            assert!(refused(&state[..i]), "cut at {i}");
            for bit in 0..8 {
                let mut changed = state.clone();
                changed[i] ^= 1 << bit;
                assert!(refused(&changed), "byte {i}, bit {bit}");
            }
        }
        assert!(refused(&[&state[..], &[0]].concat()));
        assert!(StateHeader::read(&state, 8).unwrap_err().message().contains("another model"));
    }

    #[test]
    fn sizes_that_lie_allocate_nothing() {
        let mut state = written();
        state[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        state[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(StateHeader::read(&state, header().fingerprint).is_err());
    }
}
