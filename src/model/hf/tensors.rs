//! Tensors of safetensors files as a GGUF file would have them: other names, rows in its order, norms with their 1 added.

use super::families::HfFamily;
use super::names::is_computed;
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::formats::names::{NameTable, Quoted};
use crate::formats::safetensors::{self, Safetensors};
use crate::kernels::{Kernels as _, Reference, WeightRows};
use crate::model::names::{Part, Role};
use crate::model::spec::ModelSpec;
use crate::sys::mapping::MappedBytes;
use crate::sys::memory::{try_vec, try_with_capacity};

/// The embedding: its rows are the vocabulary.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Where the bytes of a tensor come from.
enum Source {
    /// A tensor of the files, by its index.
    Stored(usize),
    /// The same, each row as if GGUF's converter had moved it: of each `head_dim` rows, row `i` and row `i + head_dim / 2` become neighbours.
    Neighbours { tensor: usize, head_dim: usize },
    /// The same, widened to `f32`, plus 1.
    PlusOne(usize),
    /// Numbers of config.json.
    Values(Vec<f32>),
}

/// The tensors of a model.
pub(super) struct Tensors {
    weights: Safetensors,
    kind: HfFamily,
    /// `part` of each is its index in `sources`.
    table: NameTable<TensorInfo>,
    sources: Vec<Source>,
}

/// Rows of the embedding.
pub(super) fn n_vocab(weights: &Safetensors) -> Result<usize> {
    match weights.tensor(EMBEDDING).map(safetensors::TensorInfo::shape) {
        Some(&[rows, _]) => Ok(rows),
        Some(shape) => fail!(Format, "tensor {EMBEDDING}: shape {shape:?}, expected rows and columns"),
        None => fail!(Format, "tensor {EMBEDDING} is missing"),
    }
}

impl Tensors {
    /// The tensors of `weights`, and `factors`, which config.json holds, by their GGUF names.
    pub(super) fn new(weights: Safetensors, kind: HfFamily, spec: &ModelSpec, factors: Vec<(String, Vec<f32>)>) -> Result<Self> {
        let mut table = try_with_capacity(weights.tensors().len())?;
        let mut sources = try_with_capacity(weights.tensors().len())?;
        for (i, tensor) in weights.tensors().iter().enumerate().filter(|(_, tensor)| !is_computed(tensor.name())) {
            let Some((role, layer, part)) = kind.names.find(tensor.name()) else {
                fail!(Unsupported, "tensor {}: {} models of this build have no such tensor", Quoted(tensor.name()), kind.class);
            };
            // Files of tied models may hold the matrix twice.
            if role == Role::Output && part == Part::Weight && spec.tied {
                continue;
            }
            let source = source(kind, spec, role, i, tensor)?;
            let dtype = if matches!(source, Source::PlusOne(_)) { DType::F32 } else { tensor.dtype()? };
            let shape: Vec<usize> = tensor.shape().iter().rev().copied().collect();
            let at_file = |e: crate::error::Error| e.at(tensor.name());
            table.push(TensorInfo::of_other_format(&role.gguf_name(layer, part), dtype, &shape, sources.len()).map_err(at_file)?);
            sources.push(source);
        }
        for (name, values) in factors {
            table.push(TensorInfo::of_other_format(&name, DType::F32, &[values.len()], sources.len())?);
            sources.push(Source::Values(values));
        }
        Ok(Self { weights, kind, table: NameTable::new(table).map_err(|e| e.at("tensor"))?, sources })
    }

    /// The description of the tensor that GGUF calls `name`.
    pub(super) fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.table.get(name)
    }

    /// All descriptions.
    pub(super) fn all(&self) -> &[TensorInfo] {
        self.table.items()
    }

    /// What messages call it.
    pub(super) fn label(&self, name: &str) -> String {
        self.kind.names.label(name)
    }

    /// See [`Checkpoint::read_range`](crate::model::checkpoint::Checkpoint::read_range).
    pub(super) fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let stored = match self.sources.get(tensor.part) {
            Some(Source::Stored(i) | Source::PlusOne(i) | Source::Neighbours { tensor: i, .. }) => self.weights.tensors().get(*i),
            _ => None,
        };
        match (self.sources.get(tensor.part), stored) {
            (Some(Source::Stored(_)), Some(stored)) => self.weights.read_range(stored, start, dst),
            (Some(Source::Neighbours { head_dim, .. }), Some(stored)) => self.read_neighbours(stored, *head_dim, start, dst),
            (Some(Source::PlusOne(_)), Some(stored)) => self.read_plus_one(stored, start, dst),
            (Some(Source::Values(values)), _) if start / 4 + dst.len() / 4 <= values.len() => {
                put_floats(dst, values[start / 4..].iter().copied());
                Ok(())
            }
            _ => fail!(InvalidArgument, "tensor {} has no bytes {start}..+{}", Quoted(tensor.name()), dst.len()),
        }
    }

    /// See [`Checkpoint::mapped_range`](crate::model::checkpoint::Checkpoint::mapped_range): what is not as in the file cannot be.
    pub(super) fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        let Some(Source::Stored(i)) = self.sources.get(tensor.part) else { return Ok(None) };
        self.weights.tensors().get(*i).map_or(Ok(None), |stored| self.weights.mapped_range(stored, start, len))
    }

    /// Rows of each `head_dim` in the order `0, head_dim / 2, 1, head_dim / 2 + 1, ..`: a read per row, of kilobytes.
    fn read_neighbours(&self, stored: &safetensors::TensorInfo, head_dim: usize, start: usize, dst: &mut [u8]) -> Result<()> {
        let n_rows = stored.shape().first().copied().unwrap_or(1).max(1);
        let row_bytes = (stored.n_bytes() / n_rows).max(1);
        let (mut at, mut dst) = (start, dst);
        while !dst.is_empty() {
            let (row, in_row) = (at / row_bytes, at % row_bytes);
            let (head, i) = (row / head_dim, row % head_dim);
            let from = head * head_dim + i % 2 * (head_dim / 2) + i / 2;
            let (part, rest) = dst.split_at_mut((row_bytes - in_row).min(dst.len()));
            self.weights.read_range(stored, from.saturating_mul(row_bytes).saturating_add(in_row), part)?;
            at += part.len();
            dst = rest;
        }
        Ok(())
    }

    /// Elements of a norm as `f32`, plus 1; `start` and `dst` count the bytes of `f32`.
    fn read_plus_one(&self, stored: &safetensors::TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let dtype = stored.dtype()?;
        let (first, n) = (start / 4, dst.len() / 4);
        let mut bytes = try_vec(n.saturating_mul(dtype.block_bytes()))?;
        self.weights.read_range(stored, first.saturating_mul(dtype.block_bytes()), &mut bytes)?;
        let mut values = try_vec(n)?;
        Reference.dequantize(WeightRows::stored(dtype, n, &bytes), &mut values);
        put_floats(dst, values.into_iter().map(|x: f32| x + 1.0));
        Ok(())
    }
}

/// How tensor `i`, for `role`, is read.
fn source(kind: HfFamily, spec: &ModelSpec, role: Role, i: usize, tensor: &safetensors::TensorInfo) -> Result<Source> {
    let head_dim = spec.shape.head_dim;
    Ok(match role {
        Role::Query | Role::Key if kind.neighbours => {
            let rows = tensor.shape().first().copied().unwrap_or(0);
            if !head_dim.is_multiple_of(2) || !rows.is_multiple_of(head_dim) {
                fail!(Format, "tensor {}: {rows} rows are not whole heads of {head_dim}, half of which rotate", Quoted(tensor.name()));
            }
            Source::Neighbours { tensor: i, head_dim }
        }
        _ if kind.norms_add_one && role.is_norm() => Source::PlusOne(i),
        _ => Source::Stored(i),
    })
}

/// Writes as many of `values` as `dst` holds, little-endian.
fn put_floats(dst: &mut [u8], values: impl Iterator<Item = f32>) {
    dst.as_chunks_mut().0.iter_mut().zip(values).for_each(|(to, x)| *to = x.to_le_bytes());
}
