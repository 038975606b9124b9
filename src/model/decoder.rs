//! The one decoder: every text family is data over these stages.

use super::checkpoint::Checkpoint;
use super::family::NormPlaces;
use super::forward::{Forward, Pass, Progress, STAGE_KINDS, StageLoad};
use super::loader::Unused;
use super::saved::StoredTensor;
use super::span::Span;
use super::spec::ModelSpec;
use super::split::{Part, PartPass};
use super::weights::{AttentionInput, FeedForward, Layer, Weights};
use crate::backend::{Altup, Backend, Batch, BlockId, FeedForwardFn, Norm, Slot, StreamStage};
use crate::error::Result;
use crate::fail;
use crate::kernels::KvType;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

/// Weights that one slice of the vocabulary head multiplies: about a quarter of a millisecond of memory traffic, so that a deadline can fall between.
const HEAD_SLICE_WEIGHTS: usize = 4 << 20;

/// Outputs that a slice of the head multiplies in the time its weights take to arrive.
const HEAD_OUTPUTS: usize = 4;

/// Rows of a slice are a multiple of this, so that no tile of any kernel set is cut (and computed twice): two of the largest.
const HEAD_SLICE_ROWS: usize = 32;

/// A model, or some layers of it, on the backend `B`, with the keys and values of all its sequences.
pub struct Decoder<B: Backend> {
    backend: B,
    spec: ModelSpec,
    weights: Weights<B>,
    fingerprint: u128,
    /// Locked per stage, so that passes of several threads take turns between stages.
    kv: Mutex<B::Kv>,
}

impl<B: Backend> Decoder<B> {
    /// Reads the weights of `file`, in slices.
    ///
    /// # Errors
    /// As [`super::load`].
    pub async fn load(file: &dyn Checkpoint, spec: ModelSpec, backend: B, kv: KvType) -> Result<Self> {
        let (mut unused, span, family) = (Unused::new(file, &spec), Span::whole(&spec), spec.family.name);
        let decoder = Self::load_span(file, spec, span, backend, kv, &mut unused).await?;
        unused.refuse(file, family)?;
        Ok(decoder)
    }

    /// As [`Self::load`], of `span` alone; takes the names of its tensors from `unused`.
    ///
    /// # Errors
    /// As [`super::load`].
    pub(super) async fn load_span(
        file: &dyn Checkpoint,
        spec: ModelSpec,
        span: Span,
        backend: B,
        kv: KvType,
        unused: &mut Unused<'_>,
    ) -> Result<Self> {
        let shape = span.shape(&spec);
        let mut weights = Weights::load(file, &spec, span, &backend, unused).await?;
        weights.fingerprint.add(format!("{} {kv:?} {spec:?}", backend.name()).as_bytes());
        let fingerprint = weights.fingerprint.value();
        let kv = Mutex::new(backend.kv(&shape, kv)?);
        Ok(Self { backend, spec, weights, fingerprint, kv })
    }

    /// Runs the stage at `at` and returns the next one.
    fn run(&self, at: Stage, ws: &mut B::Workspace, batch: &Batch) -> Result<Stage> {
        let w = &self.weights;
        match at {
            Stage::Embed => {
                let Some(table) = w.embedding.as_ref().filter(|_| w.span.is_first()) else {
                    fail!(Internal, "embed: the pass begins with what layer {} computed", w.span.layers.start);
                };
                self.backend.begin(ws, batch, &w.ropes)?;
                self.backend.embed(ws, batch, table, self.spec.embedding_scale)?;
                Ok(if w.streams.is_some() { Stage::Spread } else { Stage::Layer(0, LayerStage::Project) })
            }
            Stage::Spread => {
                if let Some(streams) = &w.streams {
                    self.backend.streams(ws, batch, StreamStage::Spread(streams))?;
                }
                Ok(Stage::Layer(0, LayerStage::Predict))
            }
            Stage::Layer(i, stage) => {
                self.run_layer(i, stage, ws, batch)?;
                let has_streams = w.streams.is_some();
                Ok(match stage.next(self.shares_norm(), has_streams) {
                    Some(next) => Stage::Layer(i, next),
                    None if i + 1 < w.layers.len() => {
                        Stage::Layer(i + 1, if has_streams { LayerStage::Predict } else { LayerStage::Project })
                    }
                    None if batch.outputs.is_empty() || !w.span.is_last() => Stage::Done,
                    None if has_streams => Stage::Merge,
                    None => Stage::Head(0),
                })
            }
            Stage::Merge => {
                if let Some(streams) = &w.streams {
                    self.backend.streams(ws, batch, StreamStage::Merge(streams))?;
                }
                Ok(Stage::Head(0))
            }
            Stage::Head(start) => {
                let n_vocab = self.spec.n_vocab;
                let row_cost = self.spec.shape.n_embd * batch.outputs.len().div_ceil(HEAD_OUTPUTS);
                let end = n_vocab.min(start + (HEAD_SLICE_WEIGHTS / row_cost).max(1).next_multiple_of(HEAD_SLICE_ROWS));
                let (norm, matrix) = w.head()?;
                self.backend.head(ws, batch, norm, matrix, start..end)?;
                Ok(if end == n_vocab { Stage::Done } else { Stage::Head(end) })
            }
            Stage::Done => Ok(Stage::Done),
        }
    }

    /// Runs a stage of layer `i` of the span.
    fn run_layer(&self, i: usize, stage: LayerStage, ws: &mut B::Workspace, batch: &Batch) -> Result<()> {
        let (b, first, layer) = (&self.backend, self.weights.span.layers.start, &self.weights.layers[i]);
        let spec = &self.spec.layers[first + i];
        // A part has the keys and values that its layers read, and these alone.
        let kv_index = spec.kv.index - first;
        match stage {
            LayerStage::Predict => self.stream_stage(layer, ws, batch, StreamStage::Predict),
            LayerStage::Project => {
                let norm = layer.attention_norm.as_ref();
                match &layer.attention {
                    AttentionInput::Heads { query, key_value: Some((key, value)) } => {
                        b.norm_project(ws, norm, &[(Slot::Query, query), (Slot::Key, key), (Slot::Value, value)])?;
                    }
                    AttentionInput::Heads { query, key_value: None } => b.norm_project(ws, norm, &[(Slot::Query, query)])?,
                    AttentionInput::Latent(latent) => b.latent_project(ws, norm, latent)?,
                }
                // Before attention changes the residual.
                if self.shares_norm() { self.gate_up(layer, layer.attention_norm.as_ref(), ws) } else { Ok(()) }
            }
            LayerStage::Append if spec.kv.layer != first + i => {
                b.rope_query(ws, batch, layer.head_norms.as_ref().map(|norms| &norms.query), spec.rope)
            }
            LayerStage::Append => b.rope_append(ws, batch, kv_index, layer.own_head_norms(), spec.rope, &mut self.kv.lock()),
            LayerStage::Attend => b.attend(ws, batch, kv_index, &spec.attention, layer.sinks.as_ref(), &self.kv.lock()),
            LayerStage::Laurel => match &layer.attention_norm {
                Some(norm) => self.stream_stage(layer, ws, batch, |altup| StreamStage::Laurel(altup, norm)),
                None => fail!(Internal, "layer {i}: a learned residual without a norm"),
            },
            LayerStage::Output => {
                if let AttentionInput::Latent(latent) = &layer.attention {
                    b.latent_values(ws, latent)?;
                }
                b.project_add(ws, &layer.attention_output, &layer.attention_join)
            }
            LayerStage::GateUp => self.gate_up(layer, layer.feed_forward_norm.as_ref(), ws),
            LayerStage::Down => self.down(layer, spec.feed_forward, ws),
            LayerStage::Correct => self.stream_stage(layer, ws, batch, |altup| StreamStage::Correct(altup, first + i)),
        }
    }

    /// Runs a stage of `layer` that only models with several residual streams have.
    fn stream_stage<'a>(
        &self,
        layer: &'a Layer<B>,
        ws: &mut B::Workspace,
        batch: &Batch,
        stage: impl FnOnce(&'a Altup<B>) -> StreamStage<'a, B>,
    ) -> Result<()> {
        match &layer.altup {
            Some(altup) => self.backend.streams(ws, batch, stage(altup)),
            None => fail!(Internal, "{}: a stage of a model with several residual streams", self.spec.family.name),
        }
    }

    /// The projections into the feed-forward.
    fn gate_up(&self, layer: &Layer<B>, norm: Option<&Norm<B>>, ws: &mut B::Workspace) -> Result<()> {
        match &layer.feed_forward {
            FeedForward::Every(mlp) => mlp.project(|projections| self.backend.norm_project(ws, norm, projections)),
            FeedForward::Experts(experts) => self.backend.moe_up(ws, norm, experts),
        }
    }

    /// What the feed-forward makes of them, and joins to the residual.
    fn down(&self, layer: &Layer<B>, f: FeedForwardFn, ws: &mut B::Workspace) -> Result<()> {
        let join = &layer.feed_forward_join;
        match &layer.feed_forward {
            FeedForward::Every(mlp) => self.backend.glu(ws, f, &mlp.down, join),
            FeedForward::Experts(experts) => self.backend.moe_down(ws, f, experts, join.scale),
        }
    }

    /// True if attention and feed-forward read the same norm, so that one stage projects for both.
    fn shares_norm(&self) -> bool {
        self.spec.family.norms == NormPlaces::Shared
    }

    /// What stands between the head's products and the logits.
    fn finish_logits(&self, logits: &mut [f32]) {
        if self.spec.logit_scale != 1.0 {
            logits.iter_mut().for_each(|x| *x *= self.spec.logit_scale);
        }
        if let Some(bias) = &self.weights.output_bias {
            logits.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
        if let Some(cap) = self.spec.logit_softcap {
            logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        }
    }
}

impl<B: Backend> Forward for Decoder<B> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn weight_bytes(&self) -> u64 {
        self.weights.n_bytes
    }

    fn stored(&self) -> &[StoredTensor] {
        &self.weights.inventory.tensors
    }

    fn write_stored(&self, i: usize, out: &mut dyn Write) -> Result<()> {
        self.weights.inventory.write(i, &self.weights, &self.backend, out)
    }

    fn grow_kv(&self, n_blocks: usize) -> Result<()> {
        self.backend.grow_kv(&mut self.kv.lock(), n_blocks)
    }

    fn kv_block_bytes(&self) -> u64 {
        self.backend.kv_block_bytes(&self.kv.lock()) as u64
    }

    fn copy_kv(&self, from: BlockId, to: BlockId) -> Result<()> {
        self.backend.copy_block(&mut self.kv.lock(), from, to)
    }

    fn turn_back(&self, blocks: &[BlockId], n_positions: usize) -> Result<()> {
        if self.spec.layers.iter().any(|layer| layer.rope != Some(0)) {
            fail!(
                Unsupported,
                "{}: its layers rotate differently; a shift of the context is not in this build for them",
                self.spec.family.name
            );
        }
        let Some(rope) = self.weights.ropes.first() else { fail!(Internal, "turn_back: a model without a rope") };
        self.backend.turn_back(&mut self.kv.lock(), blocks, n_positions, rope)
    }

    fn read_block(&self, id: BlockId, out: &mut [u8]) -> Result<()> {
        self.backend.read_block(&self.kv.lock(), id, out)
    }

    fn write_block(&self, id: BlockId, bytes: &[u8]) -> Result<()> {
        self.backend.write_block(&mut self.kv.lock(), id, bytes)
    }

    fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    fn is_bit_stable(&self) -> bool {
        B::BIT_STABLE
    }

    fn new_pass(self: Arc<Self>, max_rows: usize, max_outputs: usize) -> Result<Box<dyn Pass>> {
        Ok(Box::new(DecoderPass::new(self, max_rows, max_outputs)?))
    }
}

impl<B: Backend> Part for Decoder<B> {
    fn new_part_pass(self: Arc<Self>, max_rows: usize, max_outputs: usize) -> Result<Box<dyn PartPass>> {
        Ok(Box::new(DecoderPass::new(self, max_rows, max_outputs)?))
    }
}

/// Where a pass is: the next stage to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Embed,
    /// Of a model with several residual streams, as [`Self::Merge`].
    Spread,
    /// Of the span.
    Layer(usize, LayerStage),
    Merge,
    /// The vocabulary from this row on.
    Head(usize),
    Done,
}

/// The stages of one layer, in order; the first, the fifth and the last are those of models with several residual streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayerStage {
    Predict,
    Project,
    Append,
    Attend,
    Laurel,
    Output,
    GateUp,
    Down,
    Correct,
}

impl LayerStage {
    /// The next one; `up_is_done` if the projections for attention were also those for the feed-forward.
    fn next(self, up_is_done: bool, has_streams: bool) -> Option<Self> {
        Some(match self {
            Self::Predict => Self::Project,
            Self::Project => Self::Append,
            Self::Append => Self::Attend,
            Self::Attend if has_streams => Self::Laurel,
            Self::Attend | Self::Laurel => Self::Output,
            Self::Output if up_is_done => Self::Down,
            Self::Output => Self::GateUp,
            Self::GateUp => Self::Down,
            Self::Down if has_streams => Self::Correct,
            Self::Down | Self::Correct => return None,
        })
    }
}

/// A pass over a [`Decoder`]: its batch, its activations, its place.
struct DecoderPass<B: Backend> {
    decoder: Arc<Decoder<B>>,
    workspace: B::Workspace,
    max_rows: usize,
    max_outputs: usize,
    batch: Batch,
    at: Stage,
}

impl<B: Backend> DecoderPass<B> {
    fn new(decoder: Arc<Decoder<B>>, max_rows: usize, max_outputs: usize) -> Result<Self> {
        let workspace = decoder.backend.workspace(&decoder.spec.shape, max_rows, max_outputs)?;
        Ok(Self { decoder, workspace, max_rows, max_outputs, batch: Batch::default(), at: Stage::Done })
    }

    /// Replaces the workspace if the batch needs a larger one.
    fn fit(&mut self) -> Result<()> {
        let (rows, outputs) = (self.batch.n_rows().max(self.max_rows), self.batch.outputs.len().max(self.max_outputs));
        if (rows, outputs) != (self.max_rows, self.max_outputs) {
            self.workspace = self.decoder.backend.workspace(&self.decoder.spec.shape, rows, outputs)?;
            (self.max_rows, self.max_outputs) = (rows, outputs);
        }
        Ok(())
    }
}

impl<B: Backend> Pass for DecoderPass<B> {
    fn begin(&mut self, fill: &mut dyn FnMut(&mut Batch)) -> Result<()> {
        self.at = Stage::Done;
        self.batch.clear();
        fill(&mut self.batch);
        let n_vocab = self.decoder.spec.n_vocab;
        if let Some(token) = self.batch.tokens.iter().find(|t| **t as usize >= n_vocab) {
            fail!(InvalidArgument, "token {token}: expected 0..{n_vocab}");
        }
        self.fit()?;
        self.at = if self.batch.tokens.is_empty() { Stage::Done } else { Stage::Embed };
        Ok(())
    }

    fn next_stage(&self) -> StageLoad {
        match self.at {
            Stage::Embed | Stage::Done => StageLoad { kind: 0, rows: self.batch.n_rows() },
            Stage::Spread => StageLoad { kind: 1, rows: self.batch.n_rows() },
            Stage::Layer(_, stage) => StageLoad { kind: 2 + stage as usize, rows: self.batch.n_rows() },
            Stage::Merge | Stage::Head(_) => StageLoad { kind: STAGE_KINDS - 1, rows: self.batch.outputs.len() },
        }
    }

    fn advance(&mut self) -> Result<Progress> {
        self.at = self.decoder.run(self.at, &mut self.workspace, &self.batch)?;
        Ok(if self.at == Stage::Done { Progress::Done } else { Progress::Running })
    }

    fn n_bytes(&self) -> u64 {
        self.decoder.backend.workspace_bytes(&self.decoder.spec.shape, self.max_rows, self.max_outputs)
    }

    fn logits(&self, i: usize, out: &mut [f32]) -> Result<()> {
        if self.at != Stage::Done || i >= self.batch.outputs.len() {
            fail!(Internal, "logits {i} of a pass with {} outputs at {:?}", self.batch.outputs.len(), self.at);
        }
        self.decoder.backend.logits(&self.workspace, i, out)?;
        self.decoder.finish_logits(out);
        Ok(())
    }
}

impl<B: Backend> PartPass for DecoderPass<B> {
    fn enter(&mut self, residual: &[f32]) -> Result<()> {
        let Decoder { backend, weights, .. } = &*self.decoder;
        backend.begin(&mut self.workspace, &self.batch, &weights.ropes)?;
        backend.set_residual(&mut self.workspace, &self.batch, residual)?;
        self.at = Stage::Layer(0, LayerStage::Project);
        Ok(())
    }

    fn leave(&self, residual: &mut [f32]) -> Result<()> {
        self.decoder.backend.residual(&self.workspace, residual)
    }
}
