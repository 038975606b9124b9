//! The weights of attention over latents. Newer files hold a head's two matrices as they are multiplied. Older ones, and those of `transformers`, hold
//! the matrix that would make all keys and values of a latent: [`Divided`] shows it as the two.

use super::checkpoint::Checkpoint;
use super::family::Presence;
use super::loader::Loader;
use super::names::{Part, Role};
use super::spec::ModelSpec;
use crate::backend::{Backend, Latent, LatentShape, Norm};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::formats::names::NameTable;
use crate::kernels::{Kernels as _, Reference, WeightRows};
use crate::sys::memory::{try_vec, try_with_capacity};
use half::f16;

/// Added to the mean square by the norms inside: as the authors' code and `transformers` have it, whatever the model's other norms add.
const EPS: f32 = 1e-6;

impl<B: Backend> Loader<'_, B> {
    /// The latents of layer `i`.
    pub(super) async fn latent(&mut self, i: usize, shape: LatentShape) -> Result<Latent<B>> {
        let (n_embd, n_heads, bias) = (self.spec.shape.n_embd, self.spec.shape.n_heads, self.spec.family.qkv_bias);
        let queries = n_heads * (shape.n_still + shape.n_rot);
        let (query_down, query) = match shape.query_rank {
            None => (None, self.linear(Role::Query, i, queries, n_embd, Presence::Absent).await?),
            Some(rank) => {
                let down = self.linear(Role::QueryDown, i, rank, n_embd, bias).await?;
                let norm = self.norm(Role::QueryDownNorm, i, rank).await?;
                let up = self.linear(Role::QueryUp, i, queries, rank, Presence::Absent).await?;
                (Some((down, Norm { eps: EPS, ..norm })), up)
            }
        };
        Ok(Latent {
            query_down,
            query,
            key: self.linear(Role::LatentKey, i, shape.rank + shape.n_rot, n_embd, bias).await?,
            norm: Norm { eps: EPS, ..self.norm(Role::LatentNorm, i, shape.rank).await? },
            key_up: self.expert_linear(Role::KeyUp, i, [n_heads, shape.rank, shape.n_still], Presence::Absent).await?,
            value_up: self.expert_linear(Role::ValueUp, i, [n_heads, shape.n_value, shape.rank], Presence::Absent).await?,
        })
    }
}

/// A checkpoint with the tensors of newer files in place of those of older ones.
pub(super) struct Divided<'a> {
    file: &'a dyn Checkpoint,
    shape: LatentShape,
    table: NameTable<TensorInfo>,
}

/// What a tensor of [`Divided`] is.
enum Origin<'a> {
    /// A tensor of the file.
    Itself,
    /// The rows that make values of this one.
    Values(&'a TensorInfo),
    /// The rows that make keys of this one, each head's turned round.
    Keys(&'a TensorInfo),
}

impl<'a> Divided<'a> {
    /// `file` with its tensors divided; `None` if there is nothing to divide.
    ///
    /// # Errors
    /// `Format` for a tensor of another shape, `OutOfMemory`.
    pub(super) fn new(file: &'a dyn Checkpoint, spec: &ModelSpec) -> Result<Option<Self>> {
        let Some(shape) = spec.shape.latent else { return Ok(None) };
        let is_both = |i: usize| file.tensor(&Role::LatentUp.gguf_name(i, Part::Weight)).is_some();
        if !(0..spec.layers.len()).any(is_both) {
            return Ok(None);
        }
        let n_heads = spec.shape.n_heads;
        let mut tensors = try_with_capacity(file.tensors().len() + spec.layers.len())?;
        for tensor in file.tensors() {
            match tensor.name().strip_suffix(&Self::suffix(Role::LatentUp)) {
                Some(layer) => tensors.extend(Self::halves(tensor, layer, n_heads, shape, &file.label(tensor.name()))?),
                None => tensors.push(tensor.clone()),
            }
        }
        Ok(Some(Self { file, shape, table: NameTable::new(tensors).map_err(|e| e.at("tensor"))? }))
    }

    /// What the name of a tensor ends in, behind its layer.
    fn suffix(role: Role) -> String {
        role.gguf_name(0, Part::Weight).replace("blk.0", "")
    }

    /// The two tensors that `both` becomes.
    fn halves(both: &TensorInfo, layer: &str, n_heads: usize, shape: LatentShape, label: &str) -> Result<[TensorInfo; 2]> {
        let LatentShape { rank, n_still, n_value, .. } = shape;
        if both.shape() != [rank, n_heads * (n_still + n_value)] {
            fail!(Format, "{label}: shape {rank}x{} expected, file has {:?}", n_heads * (n_still + n_value), both.shape());
        }
        let half =
            |role, dtype, shape: [usize; 3]| TensorInfo::of_other_format(&format!("{layer}{}", Self::suffix(role)), dtype, &shape, 0);
        let keys = half(Role::KeyUp, turned(both.dtype()?), [n_still, rank, n_heads])?;
        Ok([keys, half(Role::ValueUp, both.dtype()?, [rank, n_value, n_heads])?])
    }

    fn origin(&self, name: &str) -> Origin<'a> {
        let of = |role| {
            let layer = name.strip_suffix(&Self::suffix(role))?;
            self.file.tensor(&format!("{layer}{}", Self::suffix(Role::LatentUp)))
        };
        match (of(Role::KeyUp), of(Role::ValueUp)) {
            (Some(both), _) => Origin::Keys(both),
            (None, Some(both)) => Origin::Values(both),
            (None, None) => Origin::Itself,
        }
    }

    /// Bytes of the values' rows: of each head those behind its keys' rows.
    fn read_values(&self, both: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let LatentShape { rank, n_still, n_value, .. } = self.shape;
        let row_bytes = both.dtype()?.row_bytes(rank).unwrap_or(0);
        let (head_bytes, own_bytes) = ((n_still + n_value) * row_bytes, n_value * row_bytes);
        let (mut at, mut dst) = (start, dst);
        while !dst.is_empty() {
            let (head, in_head) = (at / own_bytes, at % own_bytes);
            let (part, rest) = dst.split_at_mut((own_bytes - in_head).min(dst.len()));
            self.file.read_range(both, head * head_bytes + n_still * row_bytes + in_head, part)?;
            (at, dst) = (at + part.len(), rest);
        }
        Ok(())
    }

    /// Elements of the keys' rows, `(n_heads, rank, n_still)` of what is stored as `(n_heads, n_still, rank)`.
    fn read_keys(&self, both: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let LatentShape { rank, n_still, .. } = self.shape;
        let size = turned(both.dtype()?).block_bytes();
        let (mut at, mut dst) = (start / size, dst);
        while !dst.is_empty() {
            let (head, first) = (at / (rank * n_still), at % (rank * n_still));
            let (part, rest) = dst.split_at_mut(((rank * n_still - first) * size).min(dst.len()));
            let stored = self.head_keys(both, head)?; // (n_still, rank)
            for (i, out) in (first..).zip(part.chunks_exact_mut(size)) {
                out.copy_from_slice(&stored[(i % n_still * rank + i / n_still) * size..][..size]);
            }
            (at, dst) = (at + part.len() / size, rest);
        }
        Ok(())
    }

    /// The keys' rows of one head as they are stored, in a type that has no blocks.
    fn head_keys(&self, both: &TensorInfo, head: usize) -> Result<Vec<u8>> {
        let LatentShape { rank, n_still, n_value, .. } = self.shape;
        let stored = both.dtype()?;
        let row_bytes = stored.row_bytes(rank).unwrap_or(0);
        let mut rows = try_vec(n_still * row_bytes)?;
        self.file.read_range(both, head * (n_still + n_value) * row_bytes, &mut rows)?;
        if turned(stored) == stored {
            return Ok(rows);
        }
        let (mut values, mut halves) = (try_vec::<f32>(rank)?, try_with_capacity(n_still * rank * 2)?);
        for row in rows.chunks_exact(row_bytes) {
            Reference.dequantize(WeightRows::stored(stored, rank, row), &mut values);
            halves.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
        }
        Ok(halves)
    }
}

/// The type of what is turned round: quantised rows cannot be, and half precision rounds them by less than their own steps.
fn turned(stored: DType) -> DType {
    if matches!(stored, DType::F32 | DType::F16 | DType::BF16) { stored } else { DType::F16 }
}

impl Checkpoint for Divided<'_> {
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.table.get(name)
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.table.items()
    }

    fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        if !start.checked_add(dst.len()).is_some_and(|end| tensor.n_bytes().is_ok_and(|n| end <= n)) {
            fail!(InvalidArgument, "tensor {:?} has no bytes {start}..+{}", tensor.name(), dst.len());
        }
        match self.origin(tensor.name()) {
            Origin::Itself => self.file.read_range(tensor, start, dst),
            Origin::Values(both) => self.read_values(both, start, dst),
            Origin::Keys(both) => self.read_keys(both, start, dst),
        }
    }

    fn storage(&self, tensor: &TensorInfo) -> Result<DType> {
        self.file.storage(tensor)
    }

    fn label(&self, name: &str) -> String {
        self.file.label(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::gguf::{Gguf, GgufWriter};
    use crate::sys::file::MemorySource;
    use std::sync::Arc;

    const SHAPE: LatentShape = LatentShape { rank: 32, n_rot: 2, n_still: 3, n_value: 2, query_rank: None };

    /// Two heads of `attn_kv_b`, element `(row, column)` = `100 * row + column` in F32, or that in Q8_0.
    fn file(dtype: DType) -> Gguf {
        let mut data = Vec::new();
        for row in 0..10 {
            let values: Vec<f32> = (0..32).map(|column| (100 * row + column) as f32).collect();
            let start = data.len();
            data.resize(start + dtype.row_bytes(32).unwrap(), 0);
            match dtype {
                DType::F32 => data[start..].chunks_mut(4).zip(values).for_each(|(to, x)| to.copy_from_slice(&x.to_le_bytes())),
                _ => crate::kernels::encode(dtype, &values, &mut data[start..]),
            }
        }
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", "deepseek2").unwrap();
        writer.tensor("blk.0.attn_kv_b.weight", dtype, &[32, 10], data).unwrap();
        Gguf::from_source(Arc::new(MemorySource::new(writer.to_bytes().unwrap()))).unwrap()
    }

    fn divided(file: &Gguf) -> Divided<'_> {
        let both = file.tensor("blk.0.attn_kv_b.weight").unwrap();
        let tensors = Divided::halves(both, "blk.0", 2, SHAPE, "kv_b").unwrap().to_vec();
        Divided { file, shape: SHAPE, table: NameTable::new(tensors).unwrap() }
    }

    #[test]
    fn rows_are_divided_and_keys_turned_round() {
        let file = file(DType::F32);
        let divided = divided(&file);
        let floats = |name: &str, start: usize, n: usize| {
            let mut bytes = vec![0; 4 * n];
            divided.read_range(divided.tensor(name).unwrap(), 4 * start, &mut bytes).unwrap();
            bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect::<Vec<_>>()
        };
        assert_eq!(floats("blk.0.attn_k_b.weight", 0, 6), [0.0, 100.0, 200.0, 1.0, 101.0, 201.0]);
        assert_eq!(floats("blk.0.attn_k_b.weight", 3 * 32 - 1, 3), [231.0, 500.0, 600.0], "across two heads");
        assert_eq!(floats("blk.0.attn_v_b.weight", 0, 2), [300.0, 301.0]);
        assert_eq!(floats("blk.0.attn_v_b.weight", 2 * 32 - 1, 2), [431.0, 800.0], "across two heads");
    }

    #[test]
    fn what_is_quantised_stays_so_unless_it_is_turned_round() {
        let file = file(DType::Q8_0);
        let divided = divided(&file);
        let dtype = |name: &str| divided.tensor(name).unwrap().dtype().unwrap();
        assert_eq!((dtype("blk.0.attn_k_b.weight"), dtype("blk.0.attn_v_b.weight")), (DType::F16, DType::Q8_0));
        let mut bytes = [0; 4];
        divided.read_range(divided.tensor("blk.0.attn_k_b.weight").unwrap(), 2 * 3, &mut bytes).unwrap();
        let second = f16::from_le_bytes([bytes[2], bytes[3]]).to_f32();
        assert!((second - 101.0).abs() < 1.0, "{second}");
    }
}
