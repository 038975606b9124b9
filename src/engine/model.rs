//! A loaded model: weights, tokenizer, KV blocks, and the passes that sessions borrow. Immutable to its users.

use super::blocks::{BlockPool, KvUsage};
use super::companions::Companions;
use super::compiling::SharedGrammars;
use super::files;
use super::log::LogLevel;
use super::metered::Metered;
use super::pace::Pace;
use super::placement::{check_device, place};
use super::recommended::Recommended;
use super::runtime::Runtime;
use super::sampler::Sampler;
use crate::backend::BLOCK_TOKENS;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::gguf::{Metadata, TensorInfo};
use crate::formats::names::QuotedBytes;
use crate::kernels::KvType;
use crate::model::{self, Checkpoint, Forward, ModelFile, ModelSpec, Pass, Quantization, Quantized, Rules};
use crate::sys::budget::Charge;
use crate::sys::file::ReadAt;
use crate::sys::job;
use crate::sys::progress::Progress;
use crate::text::chat::{ChatRequest, ChatTemplates, OutputParser, Rendered};
use crate::text::constraint::ConstraintSource;
use crate::text::{Token, Tokenizer};
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Context when the host does not say: enough for a conversation, and small enough for any machine.
const DEFAULT_N_CTX: usize = 4096;
/// Passes kept for reuse; more sessions than this step at once only on large hosts, and then they pay an allocation.
const KEPT_PASSES: usize = 4;

/// Which backend computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// Our own kernels.
    #[default]
    Cpu,
    /// candle on the CPU: slower, the oracle of our own.
    Candle,
}

/// What to load, and how.
#[derive(Clone, Debug, Default)]
pub struct LoadConfig {
    /// A GGUF file (one of a split set finds the others), or all parts of a split set; or a Hugging Face directory, or its files. With
    /// `vocab_only` also a `tokenizer.json`, or the directory that it lies in.
    pub paths: Vec<PathBuf>,
    /// What is not a path: memory, readers, open files. A whole model, or parts of a split set, also together with `paths`.
    pub sources: Vec<Arc<dyn ReadAt>>,
    /// `""` or `"auto"`, `"cpu"`, `"cuda:0"`, or the UUID of a GPU.
    pub device: String,
    /// Devices of some of the layers.
    pub devices: Rules<String>,
    /// Where a device has too little memory for all layers, put as many on it as fit.
    pub fit: bool,
    /// Bytes of a device to leave to others.
    pub reserve_device_bytes: u64,
    /// Context that sessions get by default; 0 = 4096, or less if the model has less.
    pub n_ctx: u32,
    /// How keys and values are stored; `None` = f16.
    pub kv: Option<KvType>,
    /// Most bytes for keys and values of all sessions together; 0 = what the runtime's limit leaves.
    pub kv_bytes: u64,
    /// Load the tokenizer and no weights.
    pub vocab_only: bool,
    /// Cut text by this pre-tokenizer instead of the one that the file names or lacks.
    pub pre_tokenizer: Option<String>,
    /// Use weights that are stored as F32, F16, BF16 or Q8_0 in their files, which are mapped: those given by path. They must not change then.
    pub mmap: bool,
    /// In which storage types weights are held.
    pub quantization: Quantization,
    /// Which backend computes.
    pub backend: BackendKind,
    /// A chat template instead of those in the file.
    pub chat_template: Option<String>,
}

/// Facts about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Longest context it was made for; 0 without weights.
    pub n_ctx_max: u32,
    /// Width of the residual stream; 0 without weights.
    pub n_embd: u32,
    /// Layers; 0 without weights.
    pub n_layers: u32,
    /// True if it can generate.
    pub generates: bool,
    /// Beginning of text.
    pub bos: Option<Token>,
    /// End of text.
    pub eos: Option<Token>,
    /// Weights, counted as numbers.
    pub n_params: u64,
    /// `"llama"`, `"qwen2"`, ...
    pub architecture: String,
    /// The storage type that most of the weights have: `"Q4_K"`.
    pub quantization: String,
    /// `"cpu"`
    pub device: String,
}

/// The computing half of a model; a file without weights has none.
struct Weights {
    forward: Arc<dyn Forward>,
    blocks: Arc<BlockPool>,
    passes: Mutex<Vec<Box<dyn Pass>>>,
    pace: Pace,
    /// The device of most layers.
    device: String,
    /// Of the weights, by device.
    _memory: Vec<Charge>,
}

/// A loaded model.
pub struct Model {
    runtime: Arc<Runtime>,
    metadata: Metadata,
    tokenizer: Arc<Tokenizer>,
    grammars: SharedGrammars,
    weights: Option<Weights>,
    info: ModelInfo,
    n_ctx: usize,
    chat: ChatTemplates,
    /// Of files beside the model's own; `None` = the metadata tell.
    recommendation: Option<Recommended>,
    /// Read when it is first asked for: a file with bad recommendations still serves a host that brings its own chain.
    recommended: OnceCell<Sampler>,
}

impl Model {
    /// Reads and packs a model in slices, as long as `progress` is not cancelled.
    pub(super) async fn build(runtime: &Arc<Runtime>, config: &LoadConfig, progress: &Arc<Progress>) -> Result<Arc<Self>> {
        check_device(runtime, config)?;
        let started = Instant::now();
        let in_file = |e: Error| files::named(e, config);
        let opened = job::boxed(|| files::open(runtime, config, progress)).await.map_err(in_file)?;
        job::pause().await;
        let mut tokenizer = job::boxed(|| opened.tokenizer(config, progress)).await.map_err(in_file)?;
        let companions = Companions::find(config).map_err(in_file)?;
        let ends = companions.recommended.iter().flat_map(|recommended| &recommended.ends);
        ends.copied().try_for_each(|token| tokenizer.add_end(token)).map_err(|e| Error::new(ErrorKind::Format, e.message().to_owned()))?;
        let tokenizer = Arc::new(tokenizer);
        let file = opened.into_model();
        job::pause().await;
        let weights = job::boxed(|| load_weights(runtime, config, file.as_ref(), &tokenizer, progress)).await.map_err(in_file)?;
        let device = weights.as_ref().map_or_else(|| "cpu".to_owned(), |weights| weights.device.clone());
        job::pause().await;
        let spec = weights.as_ref().map(|w| w.forward.spec());
        let n_ctx_max = spec.map_or(0, |s| s.n_ctx_max);
        let n_ctx = default_n_ctx(config, n_ctx_max);
        let info = describe(config, file.as_ref(), &tokenizer, spec, device);
        runtime.log().line(LogLevel::Info, || {
            let seconds = started.elapsed().as_secs_f32();
            format!("model: {} {}, {} parameters, loaded in {seconds:.2} s", info.architecture, info.quantization, info.n_params)
        });
        let metadata = file.map_or_else(Metadata::empty, |file| Ok(file.into_metadata()))?;
        let chat = match &config.chat_template {
            Some(source) => ChatTemplates::new(&tokenizer, Some(source.clone()), None),
            None => match companions.templates {
                Some((default, with_tools)) => ChatTemplates::new(&tokenizer, Some(default), with_tools),
                None => ChatTemplates::from_gguf(&metadata, &tokenizer).map_err(in_file)?,
            },
        };
        let (grammars, recommended, recommendation) = (SharedGrammars::default(), OnceCell::new(), companions.recommended);
        Ok(Arc::new(Self {
            runtime: runtime.clone(),
            metadata,
            tokenizer,
            grammars,
            weights,
            info,
            n_ctx,
            chat,
            recommendation,
            recommended,
        }))
    }

    /// Facts about it.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The metadata of its file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The prompt of a chat, by the template of its file or the one given at the load.
    ///
    /// # Errors
    /// `Template` with line and cause; `Unsupported` without a template; `InvalidArgument` for an option that nobody knows.
    pub fn render_chat(&self, request: &ChatRequest) -> Result<Rendered> {
        self.chat.render(&self.tokenizer, request)
    }

    /// What tells thinking and tool calls apart in answers to `rendered`, the prompt of `request`.
    pub(super) fn chat_parser(&self, request: &ChatRequest, rendered: &Rendered) -> Result<OutputParser> {
        Ok(OutputParser::new(self.chat.source(request)?, &rendered.text(), request.tools()))
    }

    /// What an answer to `rendered`, the prompt of `request`, must match; `None` if it is free.
    ///
    /// # Errors
    /// `InvalidArgument` if a tool is to be called that the chat does not have, `Unsupported` if the template's notation of calls is not known.
    pub(super) fn chat_constraint(&self, request: &ChatRequest, rendered: &Rendered) -> Result<Option<ConstraintSource>> {
        request.constraint(&self.tokenizer, self.chat.source(request)?, &rendered.text())
    }

    /// What its constraints share.
    pub(super) fn grammars(&self) -> &SharedGrammars {
        &self.grammars
    }

    pub(super) fn shared_tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The tokens whose text holds one of `texts`.
    pub(super) fn tokens_with(&self, texts: &[String]) -> HashSet<Token> {
        let holds = |token: &Token| {
            let piece = String::from_utf8_lossy(self.tokenizer.token_bytes(*token).unwrap_or_default());
            texts.iter().any(|text| piece.contains(text.as_str()))
        };
        (0..self.info.n_vocab).filter(holds).collect()
    }

    /// True if `token` ends a generation.
    pub fn is_end_of_generation(&self, token: Token) -> bool {
        self.tokenizer.is_eog(token)
    }

    /// The chain its file recommends (`general.sampling.*`, or a `generation_config.json` beside it), else temperature 0.8 on the top 40,
    /// top-p 0.95 and min-p 0.05.
    ///
    /// # Errors
    /// `Format` if the file recommends a number out of range.
    pub fn recommended_sampler(&self) -> Result<Sampler> {
        let chain = self.recommended.get_or_try_init(|| {
            let read = || Recommended::from_gguf(&self.metadata);
            recommended_chain(&self.recommendation.clone().map_or_else(read, Ok)?, self.n_vocab())
        })?;
        let mut sampler = chain.clone();
        sampler.reseed();
        Ok(sampler)
    }

    /// The runtime it belongs to.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Tokens in the vocabulary: the length of logits.
    pub fn n_vocab(&self) -> usize {
        self.info.n_vocab as usize
    }

    /// That `draft` may guess for it, as far as that can be told at once; its tokens are compared by [`Self::check_vocabulary_of`].
    ///
    /// # Errors
    /// `InvalidArgument`, `Unsupported` for a draft without weights.
    pub(super) fn check_draft(&self, draft: &Self) -> Result<()> {
        if !Arc::ptr_eq(&self.runtime, &draft.runtime) {
            fail!(InvalidArgument, "the draft model belongs to another runtime");
        }
        draft.weights().map(|_| ())
    }

    /// That tokens of `draft` mean what its own mean. Vocabularies may be padded differently at their ends.
    ///
    /// # Errors
    /// `InvalidArgument`, naming a token.
    pub(super) fn check_vocabulary_of(&self, draft: &Self) -> Result<()> {
        let text = |model: &Self, token| model.tokenizer.token_bytes(token).map(<[u8]>::to_vec).unwrap_or_default();
        let n = self.info.n_vocab.min(draft.info.n_vocab);
        match (0..n).find(|&token| self.tokenizer.token_bytes(token).ok() != draft.tokenizer.token_bytes(token).ok()) {
            None => Ok(()),
            Some(token) => fail!(
                InvalidArgument,
                "the draft model has another vocabulary: its token {token} is {}, the model's {}",
                QuotedBytes(&text(draft, token)),
                QuotedBytes(&text(self, token))
            ),
        }
    }

    /// The context of a session that asks for `wanted` (0 = the default).
    pub(super) fn context_length(&self, wanted: u32) -> Result<usize> {
        let Some(weights) = &self.weights else { fail!(Unsupported, "the model was loaded without weights: it can only tokenize") };
        let max = weights.forward.spec().n_ctx_max;
        let n_ctx = if wanted == 0 { self.n_ctx } else { wanted as usize };
        if n_ctx > max {
            fail!(InvalidArgument, "n_ctx {n_ctx}: the model was made for at most {max} tokens");
        }
        Ok(n_ctx)
    }

    /// What its KV memory is used for; nothing without weights.
    pub fn kv_usage(&self) -> KvUsage {
        self.weights.as_ref().map_or_else(KvUsage::default, |weights| weights.blocks.usage())
    }

    pub(super) fn blocks(&self) -> Result<Arc<BlockPool>> {
        Ok(self.weights()?.blocks.clone())
    }

    /// What keys and values of it are bound to.
    pub(super) fn fingerprint(&self) -> Result<u128> {
        Ok(self.weights()?.forward.fingerprint())
    }

    /// What its stages take.
    pub(super) fn pace(&self) -> Result<&Pace> {
        Ok(&self.weights()?.pace)
    }

    /// A pass for `n_rows` rows; give it back with [`Self::keep_pass`].
    pub(super) fn take_pass(&self, n_rows: usize) -> Result<Box<dyn Pass>> {
        let weights = self.weights()?;
        let kept = weights.passes.lock().pop();
        match kept {
            Some(pass) => Ok(pass),
            None => Ok(Box::new(Metered::new(weights.forward.clone().new_pass(n_rows, 1)?, self.runtime.memory())?)),
        }
    }

    /// Keeps a pass for the next user.
    pub(super) fn keep_pass(&self, pass: Box<dyn Pass>) {
        if let Some(weights) = &self.weights {
            let mut passes = weights.passes.lock();
            if passes.len() < KEPT_PASSES {
                passes.push(pass);
            }
        }
    }

    /// The computing half, if there is one.
    pub(super) fn forward(&self) -> Option<&Arc<dyn Forward>> {
        self.weights.as_ref().map(|weights| &weights.forward)
    }

    fn weights(&self) -> Result<&Weights> {
        self.weights.as_ref().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the model was loaded without weights"))
    }
}

/// How keys and values are stored.
pub(super) fn kv_type(config: &LoadConfig) -> KvType {
    config.kv.unwrap_or(KvType::F16)
}

/// The context that a session gets by default.
pub(super) fn default_n_ctx(config: &LoadConfig, n_ctx_max: usize) -> usize {
    let wanted = if config.n_ctx == 0 { DEFAULT_N_CTX } else { config.n_ctx as usize };
    wanted.min(n_ctx_max)
}

fn recommended_chain(recommended: &Recommended, n_vocab: usize) -> Result<Sampler> {
    let mut sampler = Sampler::new(n_vocab);
    for stage in recommended.stages() {
        // The number is the file's, not the caller's.
        sampler.add(stage).map_err(|e| Error::new(ErrorKind::Format, e.message().to_owned()).at("recommended sampling"))?;
    }
    Ok(sampler)
}

async fn load_weights(
    runtime: &Arc<Runtime>,
    config: &LoadConfig,
    file: Option<&ModelFile>,
    tokenizer: &Tokenizer,
    progress: &Progress,
) -> Result<Option<Weights>> {
    let Some(file) = file.filter(|file| !config.vocab_only && !file.checkpoint().tensors().is_empty()) else { return Ok(None) };
    let spec = file.spec()?;
    let checkpoint = &quantized(file, &spec, config);
    let n_ctx = default_n_ctx(config, spec.n_ctx_max);
    let spec = spec.for_context(n_ctx);
    if spec.n_vocab != tokenizer.n_vocab() {
        fail!(Format, "token_embd.weight has {} rows, the tokenizer has {} tokens", spec.n_vocab, tokenizer.n_vocab());
    }
    let placed = place(runtime, config, checkpoint, &spec)?;
    // Before anything is read: a load that cannot fit fails at once.
    let mut memory = placed.charges(runtime)?;
    // All tensors are read, each once: one that nothing reads is an error.
    progress.plan(checkpoint.tensors().iter().map(|t| t.n_bytes().unwrap_or(0) as u64).sum());
    let (device, accounts) = (placed.device(), placed.accounts(runtime));
    let forward = model::load_in_slices(checkpoint, spec, placed.placement, kv_type(config)).await?;
    let on_devices = memory[1..].iter().map(Charge::bytes).sum();
    memory[0].set(forward.weight_bytes().saturating_sub(on_devices))?;
    let n_ctx = default_n_ctx(config, forward.spec().n_ctx_max);
    let blocks = BlockPool::new(forward.clone(), accounts, config.kv_bytes, n_ctx.div_ceil(BLOCK_TOKENS))?;
    Ok(Some(Weights { forward, blocks, passes: Mutex::default(), pace: Pace::default(), device, _memory: memory }))
}

fn describe(config: &LoadConfig, file: Option<&ModelFile>, tokenizer: &Tokenizer, spec: Option<&ModelSpec>, device: String) -> ModelInfo {
    let tensors = file.map_or(&[][..], |file| file.checkpoint().tensors());
    let held = file.zip(spec).map(|(file, spec)| main_dtype(&quantized(file, spec, config)));
    ModelInfo {
        n_vocab: tokenizer.n_vocab() as u32,
        n_ctx_max: spec.map_or(0, |s| s.n_ctx_max) as u32,
        n_embd: spec.map_or(0, |s| s.shape.n_embd) as u32,
        n_layers: spec.map_or(0, |s| s.layers.len()) as u32,
        generates: spec.is_some(),
        bos: tokenizer.bos(),
        eos: tokenizer.eos(),
        n_params: tensors.iter().fold(0u64, |sum, t| sum.saturating_add(t.n_elements() as u64)),
        architecture: file.and_then(|file| file.metadata().str("general.architecture").ok()).unwrap_or("").to_owned(),
        quantization: held.or_else(|| file.map(|file| main_dtype(file.checkpoint()))).unwrap_or_default(),
        device,
    }
}

/// The tensors of `file` as `config` wants them held.
pub(super) fn quantized<'a>(file: &'a ModelFile, spec: &ModelSpec, config: &'a LoadConfig) -> Quantized<'a> {
    Quantized { file: file.checkpoint(), quantization: &config.quantization, tied: spec.tied }
}

/// The storage type that holds most of the weights.
fn main_dtype(checkpoint: &dyn Checkpoint) -> String {
    let held_as = |t: &&TensorInfo, dtype: DType| checkpoint.storage(t) == Ok(dtype);
    let weights_of = |dtype| -> usize { checkpoint.tensors().iter().filter(|t| held_as(t, dtype)).map(TensorInfo::n_elements).sum() };
    let most = DType::ALL.into_iter().max_by_key(|&dtype| weights_of(dtype)).filter(|&dtype| weights_of(dtype) > 0);
    most.map_or_else(String::new, |dtype| dtype.name().to_owned())
}
