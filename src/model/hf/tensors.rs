//! Tensors of safetensors files as a GGUF file would have them: other names, rows in its order, norms with their 1 added, experts together.

use super::experts::{self, Form, Piece};
use super::families::HfFamily;
use super::names::{is_computed, is_stacked};
use super::source::{self, Band, Blocks, Source, Turned};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::formats::names::{NameTable, Quoted};
use crate::formats::safetensors::{self, Safetensors};
use crate::model::names::{Part, Role};
use crate::model::spec::ModelSpec;
use crate::sys::mapping::MappedBytes;
use crate::sys::memory::try_with_capacity;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The embedding: its rows are the vocabulary.
const EMBEDDING: &str = "model.embed_tokens.weight";

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

/// Rows of the layers' embedding, if there is one.
pub(super) fn n_per_layer(weights: &Safetensors) -> Option<usize> {
    weights.tensor("model.embed_tokens_per_layer.weight")?.shape().first().copied()
}

impl Tensors {
    /// The tensors of `weights`, and `factors`, which config.json holds, by their GGUF names.
    pub(super) fn new(weights: Safetensors, kind: HfFamily, spec: &ModelSpec, factors: Vec<(String, Vec<f32>)>) -> Result<Self> {
        let (table, sources) = (try_with_capacity(weights.tensors().len())?, try_with_capacity(weights.tensors().len())?);
        let mut found = Found { weights: &weights, kind, spec, table, sources, stacks: BTreeMap::new() };
        for (i, tensor) in weights.tensors().iter().enumerate() {
            found.add(i, tensor).map_err(|e| e.at(format_args!("tensor {}", Quoted(tensor.name()))))?;
        }
        found.add_stacks()?;
        let Found { mut table, mut sources, .. } = found;
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
        let inside = tensor.n_bytes().is_ok_and(|n| start.checked_add(dst.len()).is_some_and(|end| end <= n));
        match self.sources.get(tensor.part).filter(|_| inside) {
            Some(source) => source.read(&self.weights, start, dst),
            None => fail!(InvalidArgument, "tensor {} has no bytes {start}..+{}", Quoted(tensor.name()), dst.len()),
        }
    }

    /// See [`Checkpoint::mapped_range`](crate::model::checkpoint::Checkpoint::mapped_range): what is not as in the file cannot be.
    pub(super) fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        let Some(Source::Stored(i)) = self.sources.get(tensor.part) else { return Ok(None) };
        self.weights.tensors().get(*i).map_or(Ok(None), |stored| self.weights.mapped_range(stored, start, len))
    }
}

/// The tensors found so far.
struct Found<'a> {
    weights: &'a Safetensors,
    kind: HfFamily,
    spec: &'a ModelSpec,
    table: Vec<TensorInfo>,
    sources: Vec<Source>,
    /// The tensors of single experts, or streams, by layer and GGUF name: each with its number.
    stacks: BTreeMap<(usize, String), Vec<(usize, usize)>>,
}

impl Found<'_> {
    /// Adds what tensor `i` holds.
    fn add(&mut self, i: usize, tensor: &safetensors::TensorInfo) -> Result<()> {
        let name = tensor.name();
        let place = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
        let place = place.and_then(|(layer, module)| Some((layer.parse::<usize>().ok()?, module)));
        let is_later = self.kind.has_later_layers && place.is_some_and(|(layer, _)| layer >= self.spec.layers.len());
        if is_computed(name) || is_later || experts::is_scales(name) {
            return Ok(());
        }
        if let Some((layer, module)) = place {
            if let Some((role, expert)) = module.strip_suffix(".weight").and_then(experts::of_one_expert) {
                self.stacks.entry((layer, role.gguf_name(layer, Part::Weight))).or_default().push((expert, i));
                return Ok(());
            }
            if let Some(pieces) = experts::of_all_experts(module) {
                return pieces.iter().try_for_each(|piece| self.add_piece(i, tensor, layer, *piece));
            }
        }
        let Some((role, layer, part)) = self.kind.names.find(name) else {
            fail!(Unsupported, "{} models of this build have no such tensor", self.kind.class);
        };
        // Files of tied models may hold the matrix twice.
        if role == Role::Output && part == Part::Weight && self.spec.tied {
            return Ok(());
        }
        if is_stacked(role) {
            self.stacks.entry((0, role.gguf_name(0, part))).or_default().push((layer, i));
            return Ok(());
        }
        let source = source(self.kind, self.spec, role, i, tensor)?;
        self.push(&role.gguf_name(layer, part), source, tensor, tensor.shape())
    }

    /// Adds the tensor that GGUF calls `name`, of this shape, outermost dimension first.
    fn push(&mut self, name: &str, source: Source, tensor: &safetensors::TensorInfo, shape: &[usize]) -> Result<()> {
        let shape: Vec<usize> = shape.iter().rev().copied().collect();
        let dtype = source::dtype(&source, tensor)?;
        self.table.push(TensorInfo::of_other_format(name, dtype, &shape, self.sources.len())?);
        self.sources.push(source);
        Ok(())
    }

    /// Adds the part of tensor `i` that is a role's.
    fn add_piece(&mut self, i: usize, tensor: &safetensors::TensorInfo, layer: usize, (role, part, form): Piece) -> Result<()> {
        let shape = tensor.shape();
        let n_dims = match form {
            Form::Turn(_) => 2,
            Form::Blocks | Form::BlocksTurn(_) => 4,
            Form::Whole if part == Part::Bias => 2,
            Form::Half(_) if shape.len() == 2 => 2, // of the shared expert
            _ => 3,
        };
        // Rows are the dimension that roles share.
        let rows_at = match form {
            Form::Turned | Form::TurnedHalf(_) | Form::TurnedTurn(_) => 2,
            Form::Half(_) => n_dims - 2,
            _ => 1,
        };
        if shape.len() != n_dims || shape.contains(&0) || !shape[rows_at].is_multiple_of(form.n_roles()) {
            fail!(Format, "shape {shape:?}, expected {n_dims} dimensions, and rows for {}", form.n_roles());
        }
        let (n_all, n_rows) = (shape[rows_at], shape[rows_at] / form.n_roles());
        let name = role.gguf_name(layer, part);
        let turned = |n_columns, first, step| {
            Ok::<_, crate::error::Error>(Source::Turned(Turned {
                tensor: i,
                n_columns,
                n_all,
                n_rows,
                first,
                step,
                size: tensor.dtype()?.block_bytes(),
                band: Mutex::new(Band::default()),
            }))
        };
        match form {
            Form::Whole => self.push(&name, Source::Stored(i), tensor, shape),
            Form::Half(half) => {
                let stride = tensor.n_bytes() / shape[..rows_at].iter().product::<usize>();
                let source = Source::Part { tensor: i, start: half * (stride / 2), len: stride / 2, stride };
                let mut own = shape.to_vec();
                own[rows_at] = n_rows;
                self.push(&name, source, tensor, &own)
            }
            Form::Turned => self.push(&name, turned(shape[1], 0, 1)?, tensor, &[shape[0], n_rows, shape[1]]),
            Form::TurnedHalf(half) => self.push(&name, turned(shape[1], half * n_rows, 1)?, tensor, &[shape[0], n_rows, shape[1]]),
            Form::TurnedTurn(first) => self.push(&name, turned(shape[1], first, 2)?, tensor, &[shape[0], n_rows, shape[1]]),
            Form::Turn(first) => self.push(&name, turned(1, first, 2)?, tensor, &[shape[0], n_rows]),
            Form::Blocks => self.add_blocks(&name, i, tensor, [n_all, n_rows, 0, 1]),
            Form::BlocksTurn(first) => self.add_blocks(&name, i, tensor, [n_all, n_rows, first, 2]),
        }
    }

    /// Adds blocks of MXFP4.
    fn add_blocks(
        &mut self,
        name: &str,
        i: usize,
        tensor: &safetensors::TensorInfo,
        [n_all, n_rows, first, step]: [usize; 4],
    ) -> Result<()> {
        let Some(scales_name) = experts::scales_of(tensor.name()) else { fail!(Internal, "blocks of another name") };
        let Some(scales) = self.weights.tensors().iter().position(|other| other.name() == scales_name) else {
            fail!(Format, "{scales_name} is missing");
        };
        let (shape, of_scales) = (tensor.shape(), &self.weights.tensors()[scales]);
        let whole = shape[3] == 16 && tensor.n_bytes() == shape.iter().product::<usize>();
        if !whole || of_scales.shape() != &shape[..3] || of_scales.n_bytes() * 16 != tensor.n_bytes() {
            fail!(Format, "shape {shape:?} with scales of {:?}, expected blocks of 16 bytes with a scale of one", of_scales.shape());
        }
        let n_blocks = shape[2];
        let source = Source::Blocks(Blocks { blocks: i, scales, n_blocks, n_all, n_rows, first, step });
        self.push(name, source, tensor, &[shape[0], n_rows, n_blocks * DType::MXFP4.block_len()])
    }

    /// Adds the tensors of single experts, or streams, those of a role and a layer as one.
    fn add_stacks(&mut self) -> Result<()> {
        let (what, n) = match (self.spec.moe, self.spec.shape.altup) {
            // The active stream is taken as it is.
            (_, Some(altup)) => ("stream", altup.n_streams - 1),
            (moe, None) => ("expert", moe.map_or(0, |moe| moe.shape.n_experts)),
        };
        for ((_, name), mut stack) in std::mem::take(&mut self.stacks) {
            stack.sort_unstable();
            let tensors = self.weights.tensors();
            let first = &tensors[stack[0].1];
            if let Some((number, i)) = stack.iter().find(|(number, _)| *number >= n) {
                fail!(Format, "tensor {}: {what} {number} of {n}", Quoted(tensors[*i].name()));
            }
            if let Some(missing) = (0..n).find(|number| stack.get(*number).is_none_or(|(other, _)| other != number)) {
                fail!(Format, "the weight of {what} {missing} is missing: there are {} like {}", stack.len(), Quoted(first.name()));
            }
            for (_, i) in &stack {
                let other = &tensors[*i];
                if other.shape() != first.shape() || other.dtype()? != first.dtype()? {
                    let (name, shape) = (Quoted(other.name()), other.shape());
                    fail!(Format, "tensor {name}: shape {shape:?} or type, expected those of {}", Quoted(first.name()));
                }
            }
            let shape: Vec<usize> = [n].iter().chain(first.shape()).copied().collect();
            let source = Source::Stacked(stack.into_iter().map(|(_, i)| i).collect());
            self.push(&name, source, first, &shape)?;
        }
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
                fail!(Format, "{rows} rows are not whole heads of {head_dim}, half of which rotate");
            }
            Source::Neighbours { tensor: i, head_dim }
        }
        _ if kind.norms_add_one && role.is_norm() => Source::PlusOne(i),
        _ => Source::Stored(i),
    })
}
