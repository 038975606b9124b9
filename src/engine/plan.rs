//! What a model will need, told before it is loaded: from the header of its file alone.

use super::files;
use super::model::{LoadConfig, Model, default_n_ctx, kv_type, placement, quantized};
use super::runtime::Runtime;
use super::session::DEFAULT_CHUNK;
use crate::backend::BLOCK_TOKENS;
use crate::error::Result;
use crate::fail;
use crate::model::needs;
use crate::sys::job;
use crate::sys::machine::physical_memory;
use crate::sys::progress::Progress;
use std::sync::Arc;

/// The bytes of a model with one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// It fits the runtime's limit, and the memory that the machine has free.
    pub fits: bool,
    /// Layers.
    pub n_layers: u32,
    /// Context of the session.
    pub n_ctx: u32,
    /// Weights, as they will be held; also those that stay in a mapped file.
    pub weights_bytes: u64,
    /// Keys and values of a token.
    pub kv_bytes_per_token: u64,
    /// Keys and values of the whole context.
    pub kv_bytes: u64,
    /// Activations of a pass, and the session's logits.
    pub scratch_bytes: u64,
    /// All of it but what stays in a mapped file: host memory.
    pub host_bytes: u64,
}

impl Model {
    /// What `config` will need when one session fills its context. Reads the header of the file.
    ///
    /// # Errors
    /// As [`Model::load`], as far as the header tells; `Unsupported` for a file without weights.
    pub fn estimate(runtime: &Arc<Runtime>, config: &LoadConfig) -> Result<Plan> {
        let opened = job::run(files::open(runtime, config, &Arc::new(Progress::default()))).map_err(|e| files::named(e, config))?;
        let Some(file) = opened.into_model() else { fail!(Unsupported, "there are no weights to estimate") };
        let spec = file.spec().map_err(|e| files::named(e, config))?;
        let needs = needs(&quantized(&file, &spec, config), &spec, &placement(runtime, config)?, kv_type(config), DEFAULT_CHUNK)
            .map_err(|e| files::named(e, config))?;
        let n_ctx = default_n_ctx(config, spec.n_ctx_max);
        let kv_bytes = needs.kv_block.saturating_mul(n_ctx.div_ceil(BLOCK_TOKENS) as u64);
        let scratch_bytes = needs.pass.saturating_add(spec.n_vocab as u64 * size_of::<f32>() as u64);
        let host_bytes = needs.weights.saturating_add(kv_bytes).saturating_add(scratch_bytes);
        let available = physical_memory().available;
        // What stays in a mapped file is no memory of ours, but slow where the system cannot keep it.
        let fits = host_bytes <= runtime.memory().left() && (available == 0 || host_bytes.saturating_add(needs.mapped) <= available);
        Ok(Plan {
            fits,
            n_layers: spec.layers.len() as u32,
            n_ctx: n_ctx as u32,
            weights_bytes: needs.weights.saturating_add(needs.mapped),
            kv_bytes_per_token: needs.kv_block / BLOCK_TOKENS as u64,
            kv_bytes,
            scratch_bytes,
            host_bytes,
        })
    }
}
