//! Reads one tensor after the other, each checked against the blueprint, and counts them. Used by `weights`.

use super::checkpoint::Checkpoint;
use super::family::Presence;
use super::fingerprint::Fingerprint;
use super::names::{Part, Role};
use super::saved::Inventory;
use super::spec::ModelSpec;
use crate::backend::{Backend, FeedForwardFn, HostTensor, Linear, Norm, NormKind, Rope};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::kernels::{self, Kernels as _, WeightRows};
use crate::sys::job;
use crate::sys::mapping::Bytes;
use crate::sys::memory::{AlignedBytes, try_vec};
use std::collections::HashSet;
use std::ops::Range;

/// Most bytes read in a slice of a load: a tenth of a millisecond, if the file is in memory.
const SLICE_BYTES: usize = 1 << 18;

/// Most bytes of a tensor whose samples are summed in a slice of a load, where each sample may be a page that the system has to find.
const FINGERPRINT_BYTES: usize = 1 << 20;

/// Most weights encoded in a slice of a load: about a millisecond of one thread, and worth the others' while.
const SLICE_WEIGHTS: usize = 1 << 15;

/// The tensors of a file on their way to a backend.
pub(super) struct Loader<'a, B: Backend> {
    file: &'a dyn Checkpoint,
    pub(super) spec: &'a ModelSpec,
    backend: &'a B,
    /// Names of the tensors that were read.
    pub(super) used: HashSet<String>,
    pub(super) inventory: Inventory,
    /// Bytes that they occupy on the backend.
    pub(super) n_bytes: u64,
    pub(super) fingerprint: Fingerprint,
}

/// Where a role's rows lie: some tensors hold several roles, one below the other.
struct Place {
    role: Role,
    /// Of the tensor.
    rows: Range<usize>,
    /// Rows of the whole tensor.
    n_rows: usize,
}

impl<'a, B: Backend> Loader<'a, B> {
    pub(super) fn new(file: &'a dyn Checkpoint, spec: &'a ModelSpec, backend: &'a B) -> Self {
        Self { file, spec, backend, used: HashSet::new(), inventory: Inventory::default(), n_bytes: 0, fingerprint: Fingerprint::new() }
    }

    /// The projection of `role`, `(n_rows, n_cols)`.
    pub(super) async fn linear(&mut self, role: Role, layer: usize, n_rows: usize, n_cols: usize, bias: Presence) -> Result<Linear<B>> {
        let weight = self.matrix(role, layer, n_rows, n_cols).await?;
        let place = self.place(role, layer, n_rows);
        let name = place.role.gguf_name(layer, Part::Bias);
        let wanted = match bias {
            Presence::Required => true,
            Presence::Optional => self.file.tensor(&name).is_some(),
            Presence::Absent => false,
        };
        if !wanted {
            return Ok(Linear { weight, bias: None });
        }
        self.inventory.note(&name, DType::F32, &[place.rows.len()], (role, layer, Part::Bias));
        Ok(Linear { weight, bias: Some(self.vector(&name, place.rows, &[place.n_rows]).await?) })
    }

    pub(super) async fn matrix(&mut self, role: Role, layer: usize, n_rows: usize, n_cols: usize) -> Result<B::Matrix> {
        let place = self.place(role, layer, n_rows);
        let tensor = self.rows(&place.role.gguf_name(layer, Part::Weight), &[n_cols, place.n_rows], place.rows).await?;
        self.inventory.note(&tensor.name, tensor.dtype, &[n_cols, n_rows], (role, layer, Part::Weight));
        self.take(tensor).await
    }

    /// The projections of `role` of all experts, one below the other: `(n_experts * n_rows, n_cols)`.
    pub(super) async fn expert_linear(
        &mut self,
        role: Role,
        layer: usize,
        [n_experts, n_rows, n_cols]: [usize; 3],
        bias: Presence,
    ) -> Result<Linear<B>> {
        let n_all = n_experts * n_rows; // bounded by the blueprint
        let tensor = self.rows(&role.gguf_name(layer, Part::Weight), &[n_cols, n_rows, n_experts], 0..n_all).await?;
        self.inventory.note(&tensor.name, tensor.dtype, &[n_cols, n_rows, n_experts], (role, layer, Part::Weight));
        let weight = self.take(tensor).await?;
        if bias != Presence::Required {
            return Ok(Linear { weight, bias: None });
        }
        let (name, shape) = (role.gguf_name(layer, Part::Bias), [n_rows, n_experts]);
        self.inventory.note(&name, DType::F32, &shape, (role, layer, Part::Bias));
        Ok(Linear { weight, bias: Some(self.vector(&name, 0..n_all, &shape).await?) })
    }

    /// The rows of `role`, `(n, n_cols)` for as many tokens of the vocabulary as it has: to be looked up, and never multiplied.
    pub(super) async fn table(&mut self, role: Role, n_cols: usize) -> Result<B::Matrix> {
        let name = role.gguf_name(0, Part::Weight);
        let n_rows = self.file.tensor(&name).and_then(|info| info.shape().get(1).copied());
        let n_rows = n_rows.unwrap_or(1).clamp(1, self.spec.n_vocab);
        let tensor = self.rows(&name, &[n_cols, n_rows], 0..n_rows).await?;
        self.inventory.note(&name, tensor.dtype, &[n_cols, n_rows], (role, 0, Part::Weight));
        let table = self.backend.table(tensor).map_err(|e| e.at(name))?;
        self.n_bytes += self.backend.matrix_bytes(&table) as u64;
        Ok(table)
    }

    /// Gives a matrix to the backend.
    async fn take(&mut self, tensor: HostTensor) -> Result<B::Matrix> {
        let name = tensor.name.clone();
        let matrix = self.backend.matrix_in_slices(tensor).await.map_err(|e| e.at(name))?;
        self.n_bytes += self.backend.matrix_bytes(&matrix) as u64;
        Ok(matrix)
    }

    /// The norm of `n` elements.
    pub(super) async fn norm(&mut self, role: Role, layer: usize, n: usize) -> Result<Norm<B>> {
        // Queries and keys have been normalised without a mean in every family so far.
        let kind = if matches!(role, Role::QueryNorm | Role::KeyNorm) { NormKind::Rms } else { self.spec.family.norm };
        let weight = self.norm_part(role, layer, Part::Weight, n).await?;
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.norm_part(role, layer, Part::Bias, n).await?),
        };
        Ok(Norm { weight, bias, eps: self.spec.norm_eps, kind })
    }

    async fn norm_part(&mut self, role: Role, layer: usize, part: Part, n: usize) -> Result<B::Vector> {
        let name = role.gguf_name(layer, part);
        self.inventory.note(&name, DType::F32, &[n], (role, layer, part));
        self.vector(&name, 0..n, &[n]).await
    }

    /// The norm of a head that multiplies by ones.
    pub(super) fn ones(&self) -> Result<Norm<B>> {
        let n = self.spec.shape.head_dim;
        let mut data = AlignedBytes::zeroed(n * size_of::<f32>())?;
        data.as_mut_slice().chunks_exact_mut(4).for_each(|to| to.copy_from_slice(&1_f32.to_le_bytes()));
        let weight =
            self.backend.vector(HostTensor { name: "ones".to_owned(), dtype: DType::F32, n_rows: 1, n_cols: n, data: data.into() })?;
        Ok(Norm { weight, bias: None, eps: self.spec.norm_eps, kind: NormKind::Rms })
    }

    /// `(n_vocab,)`: what Phi-2 adds to its logits.
    pub(super) async fn output_bias(&mut self) -> Result<Option<Vec<f32>>> {
        self.values_if_there(&Role::Output.gguf_name(0, Part::Bias), self.spec.n_vocab).await
    }

    /// The vector called `name`, if the file has it.
    pub(super) async fn values_if_there(&mut self, name: &str, n: usize) -> Result<Option<Vec<f32>>> {
        if self.has(name) { self.values(name, n).await.map(Some) } else { Ok(None) }
    }

    /// The vector called `name`, `(n,)`, for those that keep it as it is, or in another form.
    pub(super) async fn values(&mut self, name: &str, n: usize) -> Result<Vec<f32>> {
        self.shaped_values(name, &[n]).await
    }

    /// As [`Self::values`], of more dimensions; `shape` has columns first.
    pub(super) async fn shaped_values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.floats(name, shape).await?;
        self.n_bytes += size_of_val(&values[..]) as u64;
        self.inventory.note_values(name, shape, &values);
        Ok(values)
    }

    /// True if the file has a tensor called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// The ropes of the blueprint, with the factors that the file has for the first of them.
    pub(super) async fn ropes(&mut self) -> Result<Vec<Rope>> {
        let (spec, style) = (self.spec, self.spec.family.rope_style);
        let (chosen, other) = match spec.takes_long_factors() {
            true => (Role::RopeFactorsLong, Role::RopeFactorsShort),
            false => (Role::RopeFactorsShort, Role::RopeFactorsLong),
        };
        let n_factors = spec.ropes.first().map_or(0, |rope| rope.n_rot / 2);
        let mut factors = None;
        // The last one counts; what does not is read to be saved.
        for role in [other, Role::RopeFactors, chosen] {
            let name = role.gguf_name(0, Part::Weight);
            if let Some(values) = self.values_if_there(&name, n_factors).await? {
                factors = Some((name, values)).filter(|_| role != other);
            }
        }
        let mut ropes = Vec::new();
        for (i, rope) in spec.ropes.iter().enumerate() {
            let factors = factors.as_ref().filter(|_| i == 0);
            ropes.push(rope.rope(style, factors.map(|(name, factors)| (name.as_str(), &factors[..])))?);
        }
        Ok(ropes)
    }

    /// Where the `n_rows` rows of `role` are.
    fn place(&self, role: Role, layer: usize, n_rows: usize) -> Place {
        let s = self.spec.shape;
        let (q, kv) = (s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim);
        let has = |role: Role| self.file.tensor(&role.gguf_name(layer, Part::Weight)).is_some();
        let gated = matches!(self.spec.family.feed_forward, FeedForwardFn::Gated(_));
        let (fused, start, all) = match role {
            Role::Query => (Role::QueryKeyValue, 0, q + 2 * kv),
            Role::Key => (Role::QueryKeyValue, q, q + 2 * kv),
            Role::Value => (Role::QueryKeyValue, q + kv, q + 2 * kv),
            Role::Gate => (Role::GateUp, 0, 2 * n_rows),
            Role::Up if gated => (Role::GateUp, n_rows, 2 * n_rows),
            _ => (role, 0, n_rows),
        };
        let whole = if role == Role::Up { has(Role::Gate) } else { has(role) };
        if whole || !has(fused) {
            return Place { role, rows: 0..n_rows, n_rows };
        }
        Place { role: fused, rows: start..start + n_rows, n_rows: all }
    }

    /// Elements `part` of the tensor called `name`, of this shape.
    pub(super) async fn vector(&mut self, name: &str, part: Range<usize>, shape: &[usize]) -> Result<B::Vector> {
        let values = self.floats(name, shape).await?;
        let values = &values[part];
        let mut data = AlignedBytes::zeroed(size_of_val(values)).map_err(|e| e.at(name))?;
        data.as_mut_slice().chunks_exact_mut(4).zip(values).for_each(|(to, x)| to.copy_from_slice(&x.to_le_bytes()));
        self.n_bytes += data.as_slice().len() as u64;
        let tensor = HostTensor { name: name.to_owned(), dtype: DType::F32, n_rows: 1, n_cols: values.len(), data: data.into() };
        self.backend.vector(tensor).map_err(|e| e.at(name))
    }

    /// All elements of the tensor called `name`, of this shape.
    pub(super) async fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let n_rows = shape.iter().skip(1).product();
        let tensor = self.rows(name, shape, 0..n_rows).await?;
        let mut values = try_vec(n_rows.saturating_mul(tensor.n_cols)).map_err(|e| e.at(name))?;
        let rows = tensor.data.as_slice().chunks(tensor.data.as_slice().len() / n_rows);
        for (row, values) in rows.zip(values.chunks_mut(tensor.n_cols)) {
            kernels::Reference.dequantize(WeightRows::stored(tensor.dtype, tensor.n_cols, row), values);
        }
        Ok(values)
    }

    /// Reads `rows` of a tensor that must have this shape, columns first.
    async fn rows(&mut self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<HostTensor> {
        let n_cols = shape.first().copied().unwrap_or(1);
        let Some(info) = self.file.tensor(name) else {
            fail!(Format, "{} is missing: {} needs it", self.file.label(name), self.spec.family.name);
        };
        check_shape(&self.file.label(name), info.shape(), shape)?;
        let dtype = info.dtype()?;
        self.used.insert(name.to_owned());
        let storage = self.file.storage(info)?;
        let Some(row_bytes) = dtype.row_bytes(n_cols) else {
            fail!(Format, "{name}: rows of {n_cols} elements are not whole {} blocks of {}", dtype.name(), dtype.block_len());
        };
        let too_large = || Error::new(ErrorKind::Format, format!("{name}: more bytes than memory can have"));
        let start = row_bytes.checked_mul(rows.start).ok_or_else(too_large)?;
        let n_bytes = row_bytes.checked_mul(rows.len()).ok_or_else(too_large)?;
        let mapped = if stays_mapped(self.backend, dtype, storage) { self.file.mapped_range(info, start, n_bytes)? } else { None };
        let data = match mapped {
            Some(mapped) => Bytes::Mapped(mapped),
            None if storage == dtype => self.bytes(info, start, n_bytes).await?.into(),
            None => self.encoded(info, start, n_cols, rows.len(), storage).await?.into(),
        };
        self.fingerprint.add_name(name, storage);
        for (i, piece) in data.as_slice().chunks(FINGERPRINT_BYTES).enumerate() {
            self.fingerprint.add_samples(piece);
            // The pages of a mapping come when they are looked at.
            if data.is_mapped() && i > 0 {
                job::pause().await;
            }
        }
        Ok(HostTensor { name: name.to_owned(), dtype: storage, n_rows: rows.len(), n_cols, data })
    }

    /// Bytes of a tensor from `start` on, read in slices.
    async fn bytes(&self, info: &TensorInfo, start: usize, n_bytes: usize) -> Result<AlignedBytes> {
        let mut data = AlignedBytes::zeroed(n_bytes).map_err(|e| e.at(format_args!("tensor {:?}", info.name())))?;
        for (i, piece) in data.as_mut_slice().chunks_mut(SLICE_BYTES).enumerate() {
            self.file.read_range(info, start.saturating_add(i * SLICE_BYTES), piece)?;
            job::pause().await;
        }
        Ok(data)
    }

    /// `n_rows` rows of a float tensor from byte `start` on, in another `storage` type: read, encoded and dropped a slice at a time, so that no more
    /// than a slice is in memory as it was.
    async fn encoded(&self, info: &TensorInfo, start: usize, n_cols: usize, n_rows: usize, storage: DType) -> Result<AlignedBytes> {
        let place = |e: Error| e.at(format_args!("tensor {:?}", info.name()));
        let dtype = info.dtype()?;
        let sizes = dtype.row_bytes(n_cols).zip(storage.row_bytes(n_cols)).and_then(|(from, to)| Some((from, to, to.checked_mul(n_rows)?)));
        let Some((row_bytes, out_bytes, n_bytes)) = sizes else { fail!(Format, "{}: more bytes than memory can have", info.name()) };
        let mut data = AlignedBytes::zeroed(n_bytes).map_err(place)?;
        let rows_per_slice = (SLICE_WEIGHTS / n_cols).clamp(1, n_rows);
        let mut slice = try_vec(rows_per_slice.saturating_mul(row_bytes)).map_err(place)?;
        for (i, out) in data.as_mut_slice().chunks_mut(rows_per_slice * out_bytes).enumerate() {
            let rows = &mut slice[..out.len() / out_bytes * row_bytes];
            self.file.read_range(info, start.saturating_add(i * rows_per_slice * row_bytes), rows)?;
            self.backend.encode(dtype, storage, n_cols, rows, out).map_err(place)?;
            job::pause().await;
        }
        Ok(data)
    }
}

/// The tensors of a file that no part of a model has read so far.
pub(super) struct Unused<'a>(Vec<&'a str>);

impl<'a> Unused<'a> {
    /// All of them, but those that a model like `spec` may have and does not read.
    pub(super) fn new(file: &'a dyn Checkpoint, spec: &ModelSpec) -> Self {
        Self(file.tensors().iter().map(TensorInfo::name).filter(|name| !spec.ignores(name)).collect())
    }

    pub(super) fn remove(&mut self, used: &HashSet<String>) {
        self.0.retain(|&name| !used.contains(name));
    }

    /// A tensor that nothing reads means that the file needs arithmetic which this decoder does not do.
    ///
    /// # Errors
    /// `Unsupported`, naming one.
    pub(super) fn refuse(&self, file: &dyn Checkpoint, family: &str) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(name) => fail!(Unsupported, "{}: {family} models of this build have no such tensor", file.label(name)),
        }
    }
}

/// True if a tensor that is stored as `dtype`, to be held as `storage`, is used in its file where that is mapped.
pub(super) fn stays_mapped<B: Backend>(backend: &B, dtype: DType, storage: DType) -> bool {
    storage == dtype && backend.uses_stored(dtype)
}

/// That the tensor called `name` has the shape `expected` (contiguous dimension first; trailing ones may be missing or 1).
fn check_shape(name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
    let longest = found.len().max(expected.len());
    let same = (0..longest).all(|i| found.get(i).unwrap_or(&1) == expected.get(i).unwrap_or(&1));
    if same {
        return Ok(());
    }
    let text = |dims: &[usize]| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    fail!(Format, "{name}: shape {} expected, file has {}", text(expected), text(found));
}
