//! Moves cached keys to earlier positions: a context that is full drops what it can spare, and what is behind it moves up.
//!
//! Rotations add: a key that was rotated for position p and is rotated by the angles of -d is the key of position p - d (RoPE, arXiv 2104.09864).
//! Values know no positions.

use super::Cpu;
use super::kv::{Half, Kv};
use crate::backend::{BlockId, Rope};
use crate::error::Result;
use crate::fail;
use crate::kernels::turn_keys;
use crate::sys::memory::try_vec;

/// See [`crate::backend::Backend::turn_back`].
pub(super) fn turn_back(cpu: &Cpu, kv: &mut Kv, blocks: &[BlockId], n_positions: usize, rope: &Rope) -> Result<()> {
    // The model's magnitude is in the keys already; a pure rotation keeps it.
    let n_pairs = rope.inv_freq.len();
    let (mut cos, mut sin) = (try_vec::<f32>(n_pairs)?, try_vec::<f32>(n_pairs)?); // (n_pairs,)
    for ((cos, sin), inv_freq) in cos.iter_mut().zip(&mut sin).zip(&rope.inv_freq) {
        // In f64: at a few thousand positions an f32 angle is off by more than a stored key's rounding.
        let angle = -(n_positions as f64) * f64::from(*inv_freq);
        (*cos, *sin) = (angle.cos() as f32, angle.sin() as f32);
    }
    let (layout, n_blocks) = (kv.layout, kv.blocks.len());
    let mut scratch = try_vec::<Vec<f32>>(cpu.pool.n_threads())?;
    for key in &mut scratch {
        *key = try_vec(layout.head_dim)?;
    }
    let head_bytes = layout.tile(0, Half::Keys, 1).start; // keys and values of a head
    let keys_bytes = layout.tile(0, Half::Values, 0).start;
    for &id in blocks {
        let Some(block) = kv.blocks.get_mut(id as usize) else { fail!(Internal, "cpu, turn_back: block {id} of {n_blocks}") };
        cpu.pool.for_chunks_with(block.as_mut_slice(), head_bytes, &mut scratch, &|_, head, key| {
            turn_keys(layout.kind, rope.style, &mut head[..keys_bytes], (&cos, &sin), key);
        })?;
    }
    Ok(())
}
