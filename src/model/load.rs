//! From an open file to a model on a backend.

use super::checkpoint::Checkpoint;
use super::decoder::Decoder;
use super::forward::Forward;
use super::latent::Divided;
use super::loader::stays_mapped;
use super::names::{Part, Role};
use super::spec::ModelSpec;
use crate::backend::Backend;
use crate::backend::candle::{Candle, Precision};
use crate::backend::cpu::Cpu;
use crate::error::Result;
use crate::formats::gguf::TensorInfo;
use crate::kernels::{Kernels, KvType};
use crate::sys::job;
use crate::sys::pool::Pool;
use hashbrown::{HashMap, HashSet};
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

/// Reads the weights of `file` onto a backend.
///
/// # Errors
/// `Format`, `Unsupported`, `Io`, `OutOfMemory`: naming the tensor.
pub fn load(file: &dyn Checkpoint, spec: ModelSpec, placement: Placement, kv: KvType) -> Result<Arc<dyn Forward>> {
    job::run(load_in_slices(file, spec, placement, kv))
}

/// As [`load`], with pauses.
///
/// # Errors
/// As [`load`].
pub async fn load_in_slices(file: &dyn Checkpoint, spec: ModelSpec, placement: Placement, kv: KvType) -> Result<Arc<dyn Forward>> {
    let divided = Divided::new(file, &spec)?;
    let file = divided.as_ref().map_or(file, |divided| divided);
    match placement {
        Placement::Cpu { pool, kernels } => Ok(Arc::new(Decoder::load(file, spec, Cpu::new(pool, kernels), kv).await?)),
        Placement::Candle => Ok(Arc::new(Decoder::load(file, spec, Candle::cpu(Precision::Float), kv).await?)),
    }
}

/// What a model will need, from the header of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the weights, as they are held in memory.
    pub weights: u64,
    /// Bytes of the weights that stay in their file, which is mapped.
    pub mapped: u64,
    /// Bytes of a KV block.
    pub kv_block: u64,
    /// Bytes of the activations of a pass.
    pub pass: u64,
}

/// What a model of `file` will need at `placement`, with passes of `n_rows` rows and one output: summed over the tensors of the header.
///
/// # Errors
/// `Format`, `Unsupported` for tensors that cannot be.
pub fn needs(file: &dyn Checkpoint, spec: &ModelSpec, placement: &Placement, kv: KvType, n_rows: usize) -> Result<Needs> {
    let divided = Divided::new(file, spec)?;
    let file = divided.as_ref().map_or(file, |divided| divided);
    match placement {
        Placement::Cpu { pool, kernels } => needs_on(&Cpu::new(pool.clone(), *kernels), file, spec, kv, n_rows),
        Placement::Candle => needs_on(&Candle::cpu(Precision::Float), file, spec, kv, n_rows),
    }
}

fn needs_on<B: Backend>(backend: &B, file: &dyn Checkpoint, spec: &ModelSpec, kv: KvType, n_rows: usize) -> Result<Needs> {
    let (mut weights, mut mapped) = (0_u64, 0_u64);
    let (fused, small) = (fused(file, spec), small(spec));
    let table = Role::PerLayerEmbedding.gguf_name(0, Part::Weight);
    for tensor in file.tensors().iter().filter(|tensor| !spec.ignores(tensor.name())) {
        let bytes = match tensor.shape() {
            [n_cols, n_rows] if tensor.name() == table => backend.planned_table_bytes(file.storage(tensor)?, *n_rows, *n_cols),
            // Vectors are held in f32, and so are those of experts and matrices of few elements.
            shape if shape.len() == 1 || tensor.name().ends_with(".bias") || small.contains(tensor.name()) => {
                (shape.iter().product::<usize>() as u64).saturating_mul(size_of::<f32>() as u64)
            }
            _ if is_mapped(backend, file, tensor)? => {
                mapped = mapped.saturating_add(tensor.n_bytes()? as u64);
                0
            }
            [n_cols, rest @ ..] => {
                let (storage, n_rows) = (file.storage(tensor)?, rest.iter().product());
                let parts = fused.get(tensor.name()).filter(|parts| parts.iter().sum::<usize>() == n_rows);
                let whole = [n_rows];
                let parts = parts.map_or(&whole[..], |parts| &parts[..]);
                parts.iter().fold(0_u64, |sum, part| sum.saturating_add(backend.planned_bytes(storage, *part, *n_cols)))
            }
            [] => 0,
        };
        weights = weights.saturating_add(bytes);
    }
    let kv_block = backend.kv_block_bytes(&backend.kv(&spec.shape, kv)?) as u64;
    Ok(Needs { weights, mapped, kv_block, pass: backend.workspace_bytes(&spec.shape, n_rows, 1) })
}

/// True if `tensor` is used in its file.
fn is_mapped<B: Backend>(backend: &B, file: &dyn Checkpoint, tensor: &TensorInfo) -> Result<bool> {
    let stays = stays_mapped(backend, tensor.dtype()?, file.storage(tensor)?);
    Ok(stays && file.mapped_range(tensor, 0, tensor.n_bytes()?)?.is_some())
}

/// The names of matrices that are kept as a few numbers, beside the packed ones.
fn small(spec: &ModelSpec) -> HashSet<String> {
    let roles = [Role::StreamRouter, Role::StreamPredict, Role::StreamCorrect];
    let n_layers = spec.altup.map_or(0, |_| spec.layers.len());
    (0..n_layers).flat_map(|layer| roles.map(|role| role.gguf_name(layer, Part::Weight))).collect()
}

/// Tensors that are several projections in one, and are held as these: their names, and the rows of each.
fn fused(file: &dyn Checkpoint, spec: &ModelSpec) -> HashMap<String, Vec<usize>> {
    let (q, kv) = (spec.shape.n_heads * spec.shape.head_dim, spec.shape.n_kv_heads * spec.shape.head_dim);
    let mut fused = HashMap::new();
    for layer in 0..spec.layers.len() {
        let name = |role: Role| role.gguf_name(layer, Part::Weight);
        fused.insert(name(Role::QueryKeyValue), vec![q, kv, kv]);
        if file.tensor(&name(Role::Gate)).is_none() {
            fused.insert(name(Role::GateUp), vec![spec.shape.n_ff; 2]);
        }
    }
    fused
}
