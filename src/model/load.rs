//! From an open file to a model on one backend, or on several.

use super::checkpoint::Checkpoint;
use super::decoder::Decoder;
use super::forward::Forward;
use super::latent::Divided;
use super::loader::{Unused, stays_mapped};
use super::names::{Part as TensorPart, Role};
use super::span::Span;
use super::spec::ModelSpec;
use super::split::{Part, Split};
use crate::backend::Backend;
use crate::backend::candle::{Candle, Precision};
use crate::backend::cpu::Cpu;
use crate::backend::plugin::Remote;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::kernels::{Kernels, KvType};
use crate::sys::job;
use crate::sys::pool::Pool;
use hashbrown::{HashMap, HashSet};
use std::ops::Range;
use std::pin::Pin;
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
    /// `InvalidArgument` unless the ranges follow each other and cover its layers; `Unsupported` for a model that cannot be divided.
    fn spans(&self, spec: &ModelSpec) -> Result<Vec<(Span, &Self)>> {
        let Self::Split(parts) = self else { return Ok(vec![(Span::whole(spec), self)]) };
        let mut next = 0;
        for (layers, _) in parts {
            if layers.start != next || layers.is_empty() {
                fail!(InvalidArgument, "placement: layers {layers:?}, expected some from {next} on");
            }
            next = layers.end;
        }
        if next != spec.layers.len() {
            fail!(InvalidArgument, "placement: {next} of {} layers", spec.layers.len());
        }
        if let Some((layers, _)) = parts.iter().find(|(layers, _)| !spec.can_part(layers)) {
            let family = spec.family.name;
            fail!(
                Unsupported,
                "placement: {family}: layers {layers:?} read more of the others than one residual; this build has {family} on one device"
            );
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
    let divided = Divided::new(file, &spec)?;
    let file = divided.as_ref().map_or(file, |divided| divided);
    match placement {
        Placement::Cpu { pool, kernels } => whole(file, spec, Cpu::new(pool, kernels), kv).await,
        Placement::Candle => whole(file, spec, Candle::cpu(Precision::Float), kv).await,
        Placement::Remote(device) => whole(file, spec, device, kv).await,
        Placement::Split(_) => {
            let (mut parts, mut unused) = (Vec::new(), Unused::new(file, &spec));
            for (span, place) in placement.spans(&spec)? {
                parts.push(load_part(file, &spec, span, place, kv, &mut unused).await?);
            }
            unused.refuse(file, spec.family.name)?;
            Ok(Arc::new(Split::new(parts)?))
        }
    }
}

/// A step of a load in a box of its own.
type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// All layers on `backend`.
///
/// Boxed, in a frame of its own, as `part` is: the state of a load has many kilobytes, and a host's thread may have 64 in all.
#[inline(never)]
fn whole<'a, B: Backend>(file: &'a dyn Checkpoint, spec: ModelSpec, backend: B, kv: KvType) -> Step<'a, Arc<dyn Forward>> {
    Box::pin(async move { Ok(Arc::new(Decoder::load(file, spec, backend, kv).await?) as Arc<dyn Forward>) })
}

/// The layers of `span` on `backend`.
#[inline(never)]
fn part<'a, B: Backend>(
    file: &'a dyn Checkpoint,
    spec: ModelSpec,
    span: Span,
    backend: B,
    kv: KvType,
    unused: &'a mut Unused<'_>,
) -> Step<'a, Arc<dyn Part>> {
    Box::pin(async move { Ok(Arc::new(Decoder::load_span(file, spec, span, backend, kv, unused).await?) as Arc<dyn Part>) })
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
        Placement::Cpu { pool, kernels } => part(file, spec, span, Cpu::new(pool.clone(), *kernels), kv, unused).await,
        Placement::Candle => part(file, spec, span, Candle::cpu(Precision::Float), kv, unused).await,
        Placement::Remote(device) => part(file, spec, span, device.clone(), kv, unused).await,
        Placement::Split(_) => fail!(Internal, "placement: layers {:?} are split again", span.layers),
    }
}

/// What a model will need, from the header of its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl Needs {
    /// Both together.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        Self {
            weights: self.weights.saturating_add(other.weights),
            mapped: self.mapped.saturating_add(other.mapped),
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
    let divided = Divided::new(file, spec)?;
    let file = divided.as_ref().map_or(file, |divided| divided);
    let of_part = |(span, place): (Span, &Placement)| match place {
        Placement::Cpu { pool, kernels } => needs_on(&Cpu::new(pool.clone(), *kernels), file, spec, &span, kv, n_rows),
        Placement::Candle => needs_on(&Candle::cpu(Precision::Float), file, spec, &span, kv, n_rows),
        Placement::Remote(device) => needs_on(device, file, spec, &span, kv, n_rows),
        Placement::Split(_) => fail!(Internal, "placement: layers {:?} are split again", span.layers),
    };
    placement.spans(spec)?.into_iter().map(of_part).collect()
}

fn needs_on<B: Backend>(backend: &B, file: &dyn Checkpoint, spec: &ModelSpec, span: &Span, kv: KvType, n_rows: usize) -> Result<Needs> {
    let (mut weights, mut mapped) = (0_u64, 0_u64);
    let (fused, small) = (fused(file, spec), small(spec));
    let table = Role::PerLayerEmbedding.gguf_name(0, TensorPart::Weight);
    for tensor in file.tensors().iter().filter(|tensor| span.reads(tensor.name(), spec) && !spec.ignores(tensor.name())) {
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
    let shape = span.shape(spec);
    let kv_block = backend.kv_block_bytes(&backend.kv(&shape, kv)?) as u64;
    Ok(Needs { weights, mapped, kv_block, pass: backend.workspace_bytes(&shape, n_rows, 1) })
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
    (0..n_layers).flat_map(|layer| roles.map(|role| role.gguf_name(layer, TensorPart::Weight))).collect()
}

/// Tensors that are several projections in one, and are held as these: their names, and the rows of each.
fn fused(file: &dyn Checkpoint, spec: &ModelSpec) -> HashMap<String, Vec<usize>> {
    let (q, kv) = (spec.shape.n_heads * spec.shape.head_dim, spec.shape.n_kv_heads * spec.shape.head_dim);
    let mut fused = HashMap::new();
    for layer in 0..spec.layers.len() {
        let name = |role: Role| role.gguf_name(layer, TensorPart::Weight);
        fused.insert(name(Role::QueryKeyValue), vec![q, kv, kv]);
        if file.tensor(&name(Role::Gate)).is_none() {
            fused.insert(name(Role::GateUp), vec![spec.shape.n_ff; 2]);
        }
    }
    fused
}
