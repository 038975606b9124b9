//! From an open file to a model on one backend, or on several.

use super::checkpoint::Checkpoint;
use super::decoder::Decoder;
use super::forward::Forward;
use super::loader::Unused;
use super::span::Span;
use super::spec::ModelSpec;
use super::split::{Part, Split};
use crate::backend::candle::{Candle, Precision};
use crate::backend::cpu::Cpu;
use crate::backend::plugin::Remote;
use crate::backend::{Backend, Shape};
use crate::error::Result;
use crate::fail;
use crate::kernels::{Kernels, KvType};
use crate::sys::job;
use crate::sys::pool::Pool;
use std::ops::Range;
use std::sync::Arc;

/// Where a model computes.
#[derive(Clone)]
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
    /// A device of a plugin.
    Remote(Remote),
    /// Layers in several places: ranges in order that cover all layers, none of them split again.
    Split(Vec<(Range<usize>, Placement)>),
}

impl Placement {
    /// The places of the spans of a model, in order.
    ///
    /// # Errors
    /// `InvalidArgument` unless the ranges follow each other and cover its layers.
    fn spans(&self, spec: &ModelSpec) -> Result<Vec<(Span, &Self)>> {
        let Self::Split(parts) = self else { return Ok(vec![(Span::whole(spec), self)]) };
        let mut next = 0;
        for (layers, _) in parts {
            if layers.start != next || layers.is_empty() {
                fail!(InvalidArgument, "placement: layers {layers:?}, expected some from {next} on");
            }
            next = layers.end;
        }
        if next != spec.shape.n_layers {
            fail!(InvalidArgument, "placement: {next} of {} layers", spec.shape.n_layers);
        }
        Ok(parts.iter().map(|(layers, place)| (Span::new(spec, layers.clone()), place)).collect())
    }
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
    match placement {
        Placement::Cpu { pool, kernels } => Ok(Arc::new(Decoder::load(file, spec, Cpu::new(pool, kernels), kv).await?)),
        Placement::Candle => Ok(Arc::new(Decoder::load(file, spec, Candle::cpu(Precision::Float), kv).await?)),
        Placement::Remote(device) => Ok(Arc::new(Decoder::load(file, spec, device, kv).await?)),
        Placement::Split(_) => {
            let (mut parts, mut unused) = (Vec::new(), Unused::new(file));
            for (span, place) in placement.spans(&spec)? {
                parts.push(load_part(file, &spec, span, place, kv, &mut unused).await?);
            }
            unused.refuse(file, spec.family.name)?;
            Ok(Arc::new(Split::new(parts)?))
        }
    }
}

async fn load_part(
    file: &dyn Checkpoint,
    spec: &ModelSpec,
    span: Span,
    place: &Placement,
    kv: KvType,
    unused: &mut Unused<'_>,
) -> Result<Arc<dyn Part>> {
    let spec = spec.clone();
    match place {
        Placement::Cpu { pool, kernels } => {
            Ok(Arc::new(Decoder::load_span(file, spec, span, Cpu::new(pool.clone(), *kernels), kv, unused).await?))
        }
        Placement::Candle => Ok(Arc::new(Decoder::load_span(file, spec, span, Candle::cpu(Precision::Float), kv, unused).await?)),
        Placement::Remote(device) => Ok(Arc::new(Decoder::load_span(file, spec, span, device.clone(), kv, unused).await?)),
        Placement::Split(_) => fail!(Internal, "placement: layers {:?} are split again", span.layers),
    }
}

/// What a model will need, from the header of its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the weights, as they are held.
    pub weights: u64,
    /// Bytes of a KV block.
    pub kv_block: u64,
    /// Bytes of the activations of a pass.
    pub pass: u64,
}

impl Needs {
    /// Both together.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        Self {
            weights: self.weights.saturating_add(other.weights),
            kv_block: self.kv_block.saturating_add(other.kv_block),
            pass: self.pass.saturating_add(other.pass),
        }
    }
}

/// What each part of a model of `file` will need at `placement`, with passes of `n_rows` rows and one output: summed over the tensors of the header.
///
/// # Errors
/// `Format`, `Unsupported` for tensors that cannot be.
pub fn needs(file: &dyn Checkpoint, spec: &ModelSpec, placement: &Placement, kv: KvType, n_rows: usize) -> Result<Vec<Needs>> {
    let of_part = |(span, place): (Span, &Placement)| match place {
        Placement::Cpu { pool, kernels } => needs_on(&Cpu::new(pool.clone(), *kernels), file, spec, &span, kv, n_rows),
        Placement::Candle => needs_on(&Candle::cpu(Precision::Float), file, spec, &span, kv, n_rows),
        Placement::Remote(device) => needs_on(device, file, spec, &span, kv, n_rows),
        Placement::Split(_) => fail!(Internal, "placement: layers {:?} are split again", span.layers),
    };
    placement.spans(spec)?.into_iter().map(of_part).collect()
}

fn needs_on<B: Backend>(backend: &B, file: &dyn Checkpoint, spec: &ModelSpec, span: &Span, kv: KvType, n_rows: usize) -> Result<Needs> {
    let mut weights = 0_u64;
    for tensor in file.tensors().iter().filter(|tensor| span.reads(tensor.name(), spec)) {
        let bytes = match tensor.shape() {
            // Vectors are held in f32.
            [n] => (*n as u64).saturating_mul(size_of::<f32>() as u64),
            [n_cols, rest @ ..] => backend.planned_bytes(file.storage(tensor)?, rest.iter().product(), *n_cols),
            [] => 0,
        };
        weights = weights.saturating_add(bytes);
    }
    let shape = Shape { n_layers: span.layers.len(), ..spec.shape };
    let kv_block = backend.kv_block_bytes(&backend.kv(&shape, kv)?) as u64;
    Ok(Needs { weights, kv_block, pass: backend.workspace_bytes(&shape, n_rows, 1) })
}
