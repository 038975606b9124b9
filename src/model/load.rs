//! From an open file to a model on a backend.

use super::decoder::Decoder;
use super::forward::Forward;
use super::spec::ModelSpec;
use crate::backend::candle::{Candle, Precision};
use crate::backend::cpu::Cpu;
use crate::error::Result;
use crate::formats::gguf::Gguf;
use crate::kernels::{Kernels, KvType};
use crate::sys::job;
use crate::sys::pool::Pool;
use std::sync::Arc;

/// Where a model computes.
pub enum Placement {
    /// Our kernels on a pool of threads.
    Cpu {
        /// The runtime's threads.
        pool: Arc<Pool>,
        /// The instruction set.
        kernels: &'static dyn Kernels,
    },
    /// candle on the CPU, in full float precision: the oracle.
    Candle,
}

/// Reads the weights of `gguf` onto a backend.
///
/// # Errors
/// `Format`, `Unsupported`, `Io`, `OutOfMemory`: naming the tensor.
pub fn load(gguf: &Gguf, spec: ModelSpec, placement: Placement, kv: KvType) -> Result<Arc<dyn Forward>> {
    job::run(load_in_slices(gguf, spec, placement, kv))
}

/// As [`load`], with pauses.
///
/// # Errors
/// As [`load`].
pub async fn load_in_slices(gguf: &Gguf, spec: ModelSpec, placement: Placement, kv: KvType) -> Result<Arc<dyn Forward>> {
    match placement {
        Placement::Cpu { pool, kernels } => Ok(Arc::new(Decoder::load(gguf, spec, Cpu::new(pool, kernels), kv).await?)),
        Placement::Candle => Ok(Arc::new(Decoder::load(gguf, spec, Candle::cpu(Precision::Float), kv).await?)),
    }
}
