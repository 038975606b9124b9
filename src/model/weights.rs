//! The weights of a model on a backend: read tensor by tensor, each checked against the blueprint.

use super::family::Presence;
use super::names::{Part, Role};
use super::spec::ModelSpec;
use crate::backend::{Backend, HostTensor, Linear, Norm, Rope};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::{Gguf, TensorInfo};
use crate::kernels::{self, Kernels as _, WeightRows};
use crate::sys::checksum::Checksum;
use crate::sys::job;
use crate::sys::memory::{AlignedBytes, try_vec};
use std::collections::HashSet;

/// Most bytes read in a slice of a load: a fraction of a millisecond, if the file is in memory.
const SLICE_BYTES: usize = 1 << 18;

/// One layer; shapes as [`Role`] gives them.
pub(super) struct Layer<B: Backend> {
    pub(super) attention_norm: Norm<B>,
    pub(super) query: Linear<B>,
    pub(super) key: Linear<B>,
    pub(super) value: Linear<B>,
    /// Norms of each query and key head.
    pub(super) head_norms: Option<(Norm<B>, Norm<B>)>,
    pub(super) attention_output: Linear<B>,
    pub(super) feed_forward_norm: Norm<B>,
    pub(super) gate: Linear<B>,
    pub(super) up: Linear<B>,
    pub(super) down: Linear<B>,
}

/// All weights of a model.
pub(super) struct Weights<B: Backend> {
    /// `(n_vocab, n_embd)`
    pub(super) embedding: B::Matrix,
    pub(super) layers: Vec<Layer<B>>,
    /// `(n_embd,)`
    pub(super) output_norm: Norm<B>,
    /// `(n_vocab, n_embd)`; `None` = tied to the embedding
    pub(super) output: Option<B::Matrix>,
    pub(super) rope: Rope,
    /// Bytes that they occupy.
    pub(super) n_bytes: u64,
    /// Of the tensors.
    pub(super) fingerprint: Fingerprint,
}

/// A sum of what determines keys and values.
pub(super) struct Fingerprint([Checksum; 2]);

impl Fingerprint {
    /// Bytes of a tensor between two samples: all of a large model's would take as long to sum as to read.
    const SAMPLE_EVERY: usize = 4096;
    /// Bytes of a sample: some blocks of every storage type.
    const SAMPLE: usize = 64;

    fn new() -> Self {
        Self([Checksum::new(1), Checksum::new(2)])
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|sum| sum.add(bytes));
    }

    fn add_tensor(&mut self, tensor: &HostTensor) {
        self.add(tensor.name.as_bytes());
        self.add(tensor.dtype.name().as_bytes());
        for part in tensor.data.as_slice().chunks(Self::SAMPLE_EVERY) {
            self.add(&part[..part.len().min(Self::SAMPLE)]);
        }
    }

    pub(super) fn value(&self) -> u128 {
        let [high, low] = self.0.map(|sum| u128::from(sum.value()));
        high << 64 | low
    }
}

impl<B: Backend> Weights<B> {
    /// Reads all weights of `gguf`, in slices: of a tensor's bytes, and of what the backend makes of it.
    ///
    /// # Errors
    /// `Format` for a missing tensor or a wrong shape, `Unsupported` for a tensor that the architecture does not use or a type this build does not know.
    pub(super) async fn load(gguf: &Gguf, spec: &ModelSpec, backend: &B) -> Result<Self> {
        let mut loader = Loader { gguf, spec, backend, used: HashSet::new(), n_bytes: 0, fingerprint: Fingerprint::new() };
        let (n_vocab, n_embd) = (spec.n_vocab, spec.shape.n_embd);
        let embedding = loader.matrix(Role::TokenEmbedding, 0, n_vocab, n_embd).await?;
        let mut layers = Vec::new();
        for i in 0..spec.shape.n_layers {
            layers.push(loader.layer(i).await?);
        }
        let output_norm = loader.norm(Role::OutputNorm, 0, n_embd).await?;
        let output = if spec.tied { None } else { Some(loader.matrix(Role::Output, 0, n_vocab, n_embd).await?) };
        let rope = loader.rope().await?;
        loader.refuse_unused()?;
        let Loader { n_bytes, fingerprint, .. } = loader;
        Ok(Self { embedding, layers, output_norm, output, rope, n_bytes, fingerprint })
    }

    /// The matrix of the head.
    pub(super) fn head(&self) -> &B::Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

struct Loader<'a, B: Backend> {
    gguf: &'a Gguf,
    spec: &'a ModelSpec,
    backend: &'a B,
    used: HashSet<String>,
    n_bytes: u64,
    fingerprint: Fingerprint,
}

impl<B: Backend> Loader<'_, B> {
    async fn layer(&mut self, i: usize) -> Result<Layer<B>> {
        let s = self.spec.shape;
        let family = self.spec.family;
        let (q, kv) = (s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim);
        Ok(Layer {
            attention_norm: self.norm(Role::AttentionNorm, i, s.n_embd).await?,
            query: self.linear(Role::Query, i, q, s.n_embd, family.qkv_bias).await?,
            key: self.linear(Role::Key, i, kv, s.n_embd, family.qkv_bias).await?,
            value: self.linear(Role::Value, i, kv, s.n_embd, family.qkv_bias).await?,
            head_norms: match family.head_norms {
                Presence::Absent => None,
                _ => Some((self.norm(Role::QueryNorm, i, s.head_dim).await?, self.norm(Role::KeyNorm, i, s.head_dim).await?)),
            },
            attention_output: self.linear(Role::AttentionOutput, i, s.n_embd, q, family.output_bias).await?,
            feed_forward_norm: self.norm(Role::FeedForwardNorm, i, s.n_embd).await?,
            gate: self.linear(Role::Gate, i, s.n_ff, s.n_embd, Presence::Optional).await?,
            up: self.linear(Role::Up, i, s.n_ff, s.n_embd, Presence::Optional).await?,
            down: self.linear(Role::Down, i, s.n_embd, s.n_ff, Presence::Optional).await?,
        })
    }

    async fn linear(&mut self, role: Role, layer: usize, n_rows: usize, n_cols: usize, bias: Presence) -> Result<Linear<B>> {
        let weight = self.matrix(role, layer, n_rows, n_cols).await?;
        let name = role.gguf_name(layer, Part::Bias);
        let wanted = match bias {
            Presence::Required => true,
            Presence::Optional => self.gguf.tensor(&name).is_some(),
            Presence::Absent => false,
        };
        let bias = if wanted { Some(self.vector(&name, n_rows).await?) } else { None };
        Ok(Linear { weight, bias })
    }

    async fn matrix(&mut self, role: Role, layer: usize, n_rows: usize, n_cols: usize) -> Result<B::Matrix> {
        let tensor = self.read(&role.gguf_name(layer, Part::Weight), &[n_cols, n_rows]).await?;
        let name = tensor.name.clone();
        let matrix = self.backend.matrix(tensor).map_err(|e| e.at(name))?;
        self.n_bytes += self.backend.matrix_bytes(&matrix) as u64;
        Ok(matrix)
    }

    async fn norm(&mut self, role: Role, layer: usize, n: usize) -> Result<Norm<B>> {
        let weight = self.vector(&role.gguf_name(layer, Part::Weight), n).await?;
        Ok(Norm { weight, eps: self.spec.norm_eps })
    }

    async fn vector(&mut self, name: &str, n: usize) -> Result<B::Vector> {
        let tensor = self.read(name, &[n]).await?;
        self.n_bytes += n as u64 * 4;
        self.backend.vector(tensor).map_err(|e| e.at(name))
    }

    async fn rope(&mut self) -> Result<Rope> {
        let name = Role::RopeFactors.gguf_name(0, Part::Weight);
        if self.gguf.tensor(&name).is_none() {
            return self.spec.rope(None);
        }
        let n = self.spec.n_rot / 2;
        let tensor = self.read(&name, &[n]).await?;
        let mut factors: Vec<f32> = try_vec(n)?;
        kernels::Reference.dequantize(WeightRows::stored(tensor.dtype, n, tensor.data.as_slice()), &mut factors);
        self.spec.rope(Some(&factors))
    }

    /// Reads a tensor whose shape must be `shape` (contiguous dimension first; trailing ones may be missing or 1).
    async fn read(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let Some(info) = self.gguf.tensor(name) else {
            fail!(Format, "{name} is missing: {} needs it", self.spec.family.name);
        };
        check_shape(info, shape)?;
        let dtype = info.dtype()?;
        self.used.insert(name.to_owned());
        let data = self.bytes(info).await?;
        let [n_cols, rest @ ..] = shape else { fail!(Internal, "{name}: a tensor without dimensions was asked for") };
        check_blocks(name, dtype, *n_cols)?;
        let tensor = HostTensor { name: name.to_owned(), dtype, n_rows: rest.iter().product(), n_cols: *n_cols, data };
        self.fingerprint.add_tensor(&tensor);
        Ok(tensor)
    }

    /// The bytes of a tensor, read in slices.
    async fn bytes(&self, info: &TensorInfo) -> Result<AlignedBytes> {
        let n_bytes = info.n_bytes()?;
        let mut data = AlignedBytes::zeroed(n_bytes).map_err(|e| e.at(format_args!("tensor {:?}", info.name())))?;
        for (i, piece) in data.as_mut_slice().chunks_mut(SLICE_BYTES).enumerate() {
            self.gguf.read_range(info, i * SLICE_BYTES, piece)?;
            job::pause().await;
        }
        Ok(data)
    }

    /// A tensor that nothing reads means that the file needs arithmetic which this decoder does not do.
    fn refuse_unused(&self) -> Result<()> {
        match self.gguf.tensors().find(|t| !self.used.contains(t.name())) {
            None => Ok(()),
            Some(t) => fail!(Unsupported, "{}: {} models of this build have no such tensor", t.name(), self.spec.family.name),
        }
    }
}

fn check_shape(info: &TensorInfo, expected: &[usize]) -> Result<()> {
    let found = info.shape();
    let longest = found.len().max(expected.len());
    let same = (0..longest).all(|i| found.get(i).unwrap_or(&1) == expected.get(i).unwrap_or(&1));
    if same {
        return Ok(());
    }
    let text = |dims: &[usize]| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    fail!(Format, "{}: shape {} expected, file has {}", info.name(), text(expected), text(found));
}

fn check_blocks(name: &str, dtype: DType, n_cols: usize) -> Result<()> {
    if dtype.row_bytes(n_cols).is_none() {
        fail!(Format, "{name}: rows of {n_cols} elements are not whole {} blocks of {}", dtype.name(), dtype.block_len());
    }
    Ok(())
}
