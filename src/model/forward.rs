//! What the engine sees of a model: passes it can start, advance stage by stage, and drop. Hides which backend computes.

use super::saved::StoredTensor;
use super::spec::ModelSpec;
use crate::backend::{Batch, BlockId};
use crate::error::Result;
use std::io::Write;
use std::sync::Arc;

/// A loaded model on some backend.
pub trait Forward: Send + Sync {
    /// The validated blueprint.
    fn spec(&self) -> &ModelSpec;

    /// Bytes that the weights occupy.
    fn weight_bytes(&self) -> u64;

    /// Its tensors as a file would store them.
    fn stored(&self) -> &[StoredTensor];

    /// Writes the bytes of tensor `i` of [`Self::stored`].
    ///
    /// # Errors
    /// `Unsupported` by the backend, `Io` from `out`, `OutOfMemory`.
    fn write_stored(&self, i: usize, out: &mut dyn Write) -> Result<()>;

    /// Makes KV blocks `0..n_blocks` exist.
    ///
    /// # Errors
    /// `OutOfMemory`; the blocks that existed stay.
    fn grow_kv(&self, n_blocks: usize) -> Result<()>;

    /// Bytes of a KV block.
    fn kv_block_bytes(&self) -> u64;

    /// Copies block `from` to block `to`, of all layers.
    ///
    /// # Errors
    /// `Internal` if one of them does not exist.
    fn copy_kv(&self, from: BlockId, to: BlockId) -> Result<()>;

    /// Rotates the keys of `blocks` back by `n_positions`.
    ///
    /// # Errors
    /// `Unsupported` by the backend, `Internal`.
    fn turn_back(&self, blocks: &[BlockId], n_positions: usize) -> Result<()>;

    /// Copies block `id` into `out`, [`Self::kv_block_bytes`] long.
    ///
    /// # Errors
    /// As [`Self::turn_back`].
    fn read_block(&self, id: BlockId, out: &mut [u8]) -> Result<()>;

    /// The reverse of [`Self::read_block`].
    ///
    /// # Errors
    /// As [`Self::turn_back`].
    fn write_block(&self, id: BlockId, bytes: &[u8]) -> Result<()>;

    /// A number that differs where keys and values differ: of the weights (by a sample), the blueprint, the KV type, the backend.
    fn fingerprint(&self) -> u128;

    /// True if the bits of a row depend on its sequence alone, so that sequences may share what one of them computed.
    fn is_bit_stable(&self) -> bool;

    /// Memory for passes of up to `max_rows` rows, `max_outputs` of them with logits. Kept and used for many passes.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn new_pass(self: Arc<Self>, max_rows: usize, max_outputs: usize) -> Result<Box<dyn Pass>>;
}

/// Whether a pass has stages left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    Running,
    /// The logits can be read.
    Done,
}

/// Kinds of stages that a pass distinguishes, for those who measure them; the last one is the head.
pub const STAGE_KINDS: usize = 12;

/// What a stage computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLoad {
    /// `0..STAGE_KINDS`
    pub kind: usize,
    /// Rows; in the head, outputs.
    pub rows: usize,
}

/// One forward pass as a value: begun with a batch, advanced stage by stage, dropped or begun again at any point.
///
/// A pass that is not finished leaves nothing but KV rows at positions which no sequence counts as computed.
pub trait Pass: Send {
    /// Starts over with the batch that `fill` makes.
    ///
    /// # Errors
    /// `InvalidArgument` if a token is not in the vocabulary; the pass is then empty.
    fn begin(&mut self, fill: &mut dyn FnMut(&mut Batch)) -> Result<()>;

    /// The stage that [`Self::advance`] will run.
    fn next_stage(&self) -> StageLoad;

    /// Runs one stage.
    ///
    /// # Errors
    /// Whatever the backend meets; the pass must be begun again.
    fn advance(&mut self) -> Result<Progress>;

    /// Bytes of its activations.
    fn n_bytes(&self) -> u64;

    /// Copies the logits of output `i` of the batch into `out`, `(n_vocab,)`.
    ///
    /// # Errors
    /// `Internal` if the pass is not done or has no such output.
    fn logits(&self, i: usize, out: &mut [f32]) -> Result<()>;
}
