//! What a model will need, told before it is loaded: from the header of its file alone.

use super::files;
use super::model::{LoadConfig, Model, default_n_ctx, quantized};
use super::placement::{check_device, place};
use super::runtime::Runtime;
use crate::backend::BLOCK_TOKENS;
use crate::error::Result;
use crate::fail;
use crate::model::Needs;
use crate::sys::job;
use crate::sys::machine::physical_memory;
use crate::sys::progress::Progress;
use std::sync::Arc;

/// The bytes of a model with one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What of it is host memory: without what stays in a mapped file.
    pub host_bytes: u64,
    /// What of it is memory of GPUs.
    pub device_bytes: u64,
    /// Layers on GPUs.
    pub n_layers_on_device: u32,
    /// The device of most layers: `"cpu"`, `"cuda:0"`.
    pub device: String,
}

impl Model {
    /// What `config` will need when one session fills its context. Reads the header of the file.
    ///
    /// # Errors
    /// As [`Model::load`], as far as the header tells; `Unsupported` for a file without weights.
    pub fn estimate(runtime: &Arc<Runtime>, config: &LoadConfig) -> Result<Plan> {
        let opened = job::run(files::open(runtime, config, &Arc::new(Progress::default()))).map_err(|e| files::named(e, config))?;
        let Some(file) = opened.into_model() else { fail!(Unsupported, "there are no weights to estimate") };
        check_device(runtime, config)?;
        let spec = file.spec().map_err(|e| files::named(e, config))?;
        let placed = place(runtime, config, &quantized(&file, &spec, config), &spec).map_err(|e| files::named(e, config))?;
        let n_ctx = default_n_ctx(config, spec.n_ctx_max);
        let n_blocks = n_ctx.div_ceil(BLOCK_TOKENS) as u64;
        let kv_bytes = |needs: &Needs| needs.kv_block.saturating_mul(n_blocks);
        let all = |needs: &Needs| needs.weights.saturating_add(kv_bytes(needs)).saturating_add(needs.pass);
        let host = placed.needs_on(None);
        let on_gpus: Vec<(u32, Needs)> = placed.gpus().into_iter().map(|gpu| (gpu, placed.needs_on(Some(gpu)))).collect();
        let total = on_gpus.iter().fold(host, |sum, (_, needs)| sum.with(needs));
        let logits = spec.n_vocab as u64 * size_of::<f32>() as u64;
        let host_bytes = all(&host).saturating_add(logits);
        let available = physical_memory().available;
        // What stays in a mapped file is no memory of ours, but slow where the system cannot keep it.
        let fits_host = host_bytes <= runtime.memory().left() && (available == 0 || host_bytes.saturating_add(host.mapped) <= available);
        let fits = fits_host && on_gpus.iter().all(|(gpu, needs)| all(needs) <= runtime.device_memory(*gpu).left());
        Ok(Plan {
            fits,
            n_layers: spec.layers.len() as u32,
            n_ctx: n_ctx as u32,
            weights_bytes: total.weights.saturating_add(total.mapped),
            kv_bytes_per_token: total.kv_block / BLOCK_TOKENS as u64,
            kv_bytes: kv_bytes(&total),
            scratch_bytes: total.pass.saturating_add(logits),
            host_bytes,
            device_bytes: on_gpus.iter().map(|(_, needs)| all(needs)).fold(0, u64::saturating_add),
            n_layers_on_device: placed.n_layers_on_gpus() as u32,
            device: placed.device(),
        })
    }
}
