//! A model in parts, each on a device of its own: the hidden state crosses where one part ends, keys and values stay with their layers.
//!
//! To the engine it is one model: a KV block is the blocks of all parts, a pass is their passes one after the other.

use super::forward::{Forward, Pass, Progress, StageLoad};
use super::saved::StoredTensor;
use super::spec::ModelSpec;
use crate::backend::{Batch, BlockId};
use crate::error::Result;
use crate::fail;
use crate::sys::checksum::Checksum;
use crate::sys::memory::try_vec;
use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

/// Some layers of a model on some backend.
pub(super) trait Part: Forward {
    /// As [`Forward::new_pass`].
    fn new_part_pass(self: Arc<Self>, max_rows: usize, max_outputs: usize) -> Result<Box<dyn PartPass>>;
}

/// A pass over a part.
pub(super) trait PartPass: Pass {
    /// Takes the hidden state of the part before, `(rows, n_embd)`. Follows `begin`, unless the part is the first.
    ///
    /// # Errors
    /// `Internal`, or what the device meets.
    fn enter(&mut self, residual: &[f32]) -> Result<()>;

    /// Copies the hidden state, `(rows, n_embd)`, into `residual`, when the pass is done.
    ///
    /// # Errors
    /// As [`Self::enter`].
    fn leave(&self, residual: &mut [f32]) -> Result<()>;
}

/// A model in parts, in the order of their layers.
pub(super) struct Split {
    parts: Vec<Arc<dyn Part>>,
    /// The tensors of all parts, each once.
    stored: Vec<StoredTensor>,
    /// Of each: part, and number there.
    places: Vec<(usize, usize)>,
    fingerprint: u128,
}

impl Split {
    /// The model that `parts` make: at least one.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn new(parts: Vec<Arc<dyn Part>>) -> Result<Self> {
        if parts.is_empty() {
            fail!(Internal, "a model of no parts");
        }
        let (mut stored, mut places, mut names) = (Vec::new(), Vec::new(), HashSet::new());
        for (p, part) in parts.iter().enumerate() {
            // A tied embedding and what every part reads are there more than once.
            for (i, tensor) in part.stored().iter().enumerate().filter(|(_, tensor)| names.insert(tensor.name.clone())) {
                stored.push(tensor.clone());
                places.push((p, i));
            }
        }
        let fingerprint = fingerprint(&parts);
        Ok(Self { parts, stored, places, fingerprint })
    }

    /// Each part with its piece of a KV block.
    fn pieces<'a, T>(
        &'a self,
        block: T,
        cut: impl Fn(T, usize) -> Option<(T, T)> + 'a,
    ) -> impl Iterator<Item = Result<(&'a dyn Part, T)>> + 'a
    where
        T: 'a,
    {
        let mut rest = Some(block);
        self.parts.iter().map(move |part| {
            let n_bytes = part.kv_block_bytes() as usize;
            let Some((piece, behind)) = rest.take().and_then(|block| cut(block, n_bytes)) else {
                fail!(Internal, "a KV block that is too short for its parts");
            };
            rest = Some(behind);
            Ok((part.as_ref(), piece))
        })
    }
}

/// Of the parts: each layer's keys and values are bound to weights and backend of its own part, and to where it begins.
fn fingerprint(parts: &[Arc<dyn Part>]) -> u128 {
    let mut sums = [Checksum::new(1), Checksum::new(2)];
    for part in parts {
        sums.iter_mut().for_each(|sum| sum.add(&part.fingerprint().to_le_bytes()));
    }
    let [high, low] = sums.map(|sum| u128::from(sum.value()));
    high << 64 | low
}

impl Forward for Split {
    fn spec(&self) -> &ModelSpec {
        self.parts[0].spec()
    }

    fn weight_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.weight_bytes()).sum()
    }

    fn stored(&self) -> &[StoredTensor] {
        &self.stored
    }

    fn write_stored(&self, i: usize, out: &mut dyn Write) -> Result<()> {
        match self.places.get(i) {
            Some(&(part, i)) => self.parts[part].write_stored(i, out),
            None => fail!(Internal, "tensor {i} of {}", self.places.len()),
        }
    }

    fn grow_kv(&self, n_blocks: usize) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.grow_kv(n_blocks))
    }

    fn kv_block_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.kv_block_bytes()).sum()
    }

    fn copy_kv(&self, from: BlockId, to: BlockId) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.copy_kv(from, to))
    }

    fn turn_back(&self, blocks: &[BlockId], n_positions: usize) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.turn_back(blocks, n_positions))
    }

    fn read_block(&self, id: BlockId, out: &mut [u8]) -> Result<()> {
        self.pieces(out, |block, n| block.split_at_mut_checked(n)).try_for_each(|piece| {
            let (part, out) = piece?;
            part.read_block(id, out)
        })
    }

    fn write_block(&self, id: BlockId, bytes: &[u8]) -> Result<()> {
        self.pieces(bytes, |block, n| block.split_at_checked(n)).try_for_each(|piece| {
            let (part, bytes) = piece?;
            part.write_block(id, bytes)
        })
    }

    fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    fn is_bit_stable(&self) -> bool {
        self.parts.iter().all(|part| part.is_bit_stable())
    }

    fn new_pass(self: Arc<Self>, max_rows: usize, max_outputs: usize) -> Result<Box<dyn Pass>> {
        let n_embd = self.spec().shape.n_embd;
        let passes = self.parts.iter().map(|part| part.clone().new_part_pass(max_rows, max_outputs)).collect::<Result<_>>()?;
        let residual = try_vec(max_rows.saturating_mul(n_embd))?;
        Ok(Box::new(SplitPass { passes, at: 0, batch: Batch::default(), n_embd, residual }))
    }
}

/// A pass over all parts, one after the other.
struct SplitPass {
    passes: Vec<Box<dyn PartPass>>,
    /// The part that computes.
    at: usize,
    batch: Batch,
    n_embd: usize,
    /// What crosses: `(rows, n_embd)`. Only ever grows.
    residual: Vec<f32>,
}

impl SplitPass {
    /// Hands the hidden state to the next part.
    fn cross(&mut self) -> Result<()> {
        let n = self.batch.n_rows() * self.n_embd;
        if self.residual.len() < n {
            self.residual = try_vec(n)?;
        }
        let residual = &mut self.residual[..n];
        self.passes[self.at].leave(residual)?;
        self.at += 1;
        self.passes[self.at].enter(residual)
    }
}

impl Pass for SplitPass {
    fn begin(&mut self, fill: &mut dyn FnMut(&mut Batch)) -> Result<()> {
        self.at = 0;
        self.batch.clear();
        fill(&mut self.batch);
        for pass in &mut self.passes {
            pass.begin(&mut |batch| batch.clone_from(&self.batch))?;
        }
        Ok(())
    }

    fn next_stage(&self) -> StageLoad {
        self.passes[self.at].next_stage()
    }

    fn advance(&mut self) -> Result<Progress> {
        let progress = self.passes[self.at].advance()?;
        if progress == Progress::Running || self.at + 1 == self.passes.len() || self.batch.n_rows() == 0 {
            return Ok(progress);
        }
        self.cross()?;
        Ok(Progress::Running)
    }

    fn n_bytes(&self) -> u64 {
        let residual = size_of_val(&self.residual[..]) as u64;
        self.passes.iter().fold(residual, |sum, pass| sum.saturating_add(pass.n_bytes()))
    }

    fn logits(&self, i: usize, out: &mut [f32]) -> Result<()> {
        match self.passes.last() {
            Some(last) if self.at + 1 == self.passes.len() => last.logits(i, out),
            _ => fail!(Internal, "logits {i} of a pass that is in part {} of {}", self.at, self.passes.len()),
        }
    }
}
