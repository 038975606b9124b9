//! What the plugin offers: candle on the GPUs of NVIDIA's driver. Only in a build with the feature `cuda`.
//!
//! The driver and NVIDIA's other libraries are not linked: `tools/cuda/stand_in.c` stands in for them until [`Cuda::new`] has looked for them, so that the
//! plugin loads on any machine and can say what is missing.

mod check;

use super::{Candle, Precision};
use crate::backend::plugin::{DeviceRow, Provider};
use crate::error::Result;
use crate::fail;
use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys};
use once_cell::sync::OnceCell;
use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// The GPUs that the kernels were compiled for, as `tools/cuda/environment.sh` has them: `"80 90 100 120"`, of the last one also in a form that later
/// GPUs can translate.
const ARCHS: &str = env!("CUDA_ARCHS");

/// The version of CUDA that they were compiled with: `13000`. Older drivers do not know it.
const CUDA_VERSION: &str = env!("CUDARC_CUDA_VERSION");

unsafe extern "C" {
    /// Loads the libraries in `wanted` (bits, see [`Library`]) and returns those that are loaded.
    fn inf_stand_in_load(wanted: u32) -> u32;
    /// Why library `i` is not loaded: a text of the plugin's, empty without a reason.
    fn inf_stand_in_error(i: u32) -> *const c_char;
}

/// NVIDIA's libraries, numbered as in `tools/cuda/stand_in.py`.
#[derive(Clone, Copy)]
enum Library {
    Driver = 0,
    Cublas = 1,
}

/// The GPUs of this machine.
pub struct Cuda {
    /// By index: made when it is first looked at.
    gpus: Vec<OnceCell<Gpu>>,
}

/// A GPU that was looked at.
struct Gpu {
    /// Keeps the driver's context alive; `None` if it cannot be made.
    context: Option<Arc<CudaContext>>,
    unusable: Option<String>,
}

impl Cuda {
    /// Looks for the driver, and counts its GPUs.
    ///
    /// # Errors
    /// `NoDevice`: no driver, one that is too old, or no GPU.
    pub fn new() -> Result<Self> {
        // Both before the first context: candle makes a handle of cuBLAS with it, and that must not change hands.
        // SAFETY: the stand-in's own function; it locks.
        let loaded = unsafe { inf_stand_in_load(1 << Library::Driver as u32 | 1 << Library::Cublas as u32) };
        if loaded >> Library::Driver as u32 & 1 == 0 {
            fail!(NoDevice, "no driver: {}", why_not(Library::Driver));
        }
        let mut version = 0;
        // SAFETY: writes a number.
        let known = unsafe { sys::cuDriverGetVersion(&raw mut version) } == sys::CUresult::CUDA_SUCCESS;
        let needed: i32 = CUDA_VERSION.parse().unwrap_or(0);
        if !known || version / 1000 < needed / 1000 {
            let version = if known { format!("{}.{}", version / 1000, version % 1000 / 10) } else { "an unknown version".to_owned() };
            fail!(NoDevice, "the driver is too old: it has CUDA {version}, needed is {}.{}", needed / 1000, needed % 1000 / 10);
        }
        match CudaContext::device_count() {
            Ok(n) if n > 0 => Ok(Self { gpus: (0..n).map(|_| OnceCell::new()).collect() }),
            Ok(_) => fail!(NoDevice, "the driver has no GPU"),
            Err(e) => fail!(NoDevice, "the driver has no GPU: {e}"),
        }
    }

    fn gpu(&self, i: u32) -> Result<&Gpu> {
        match self.gpus.get(i as usize) {
            Some(gpu) => Ok(gpu.get_or_init(|| look_at(i))),
            None => fail!(NoDevice, "GPU {i} of {}", self.gpus.len()),
        }
    }
}

/// Why a library is not there.
fn why_not(library: Library) -> String {
    // SAFETY: a text that is never freed, or changed after a load that failed.
    unsafe { CStr::from_ptr(inf_stand_in_error(library as u32)) }.to_string_lossy().into_owned()
}

fn look_at(i: u32) -> Gpu {
    match CudaContext::new(i as usize) {
        Ok(context) => Gpu { unusable: check::unusable(&context, i), context: Some(context) },
        Err(e) => Gpu { context: None, unusable: Some(format!("its context cannot be made: {e}")) },
    }
}

impl Provider for Cuda {
    type Backend = Candle;

    fn n_devices(&self) -> Result<u32> {
        Ok(self.gpus.len() as u32)
    }

    fn device(&self, i: u32) -> Result<DeviceRow> {
        let gpu = self.gpu(i)?;
        let (context, reason) = (gpu.context.as_ref(), gpu.unusable.as_deref().unwrap_or_default());
        let (free, total) = context.and_then(|context| context.mem_get_info().ok()).unwrap_or((0, 0));
        let name = context.and_then(|context| context.name().ok()).unwrap_or_else(|| "GPU".to_owned());
        let uuid = context
            .and_then(|context| context.uuid().ok())
            .map_or_else(String::new, |uuid| check::uuid_text(&uuid.bytes.map(|byte| byte as u8)));
        Ok(DeviceRow {
            memory_total: total as u64,
            memory_free: free as u64,
            usable: u32::from(reason.is_empty()),
            reserved: 0,
            uuid: text(&uuid),
            name: text(&name),
            reason: text(reason),
        })
    }

    fn open(&self, i: u32) -> Result<Candle> {
        if let Some(why) = &self.gpu(i)?.unusable {
            fail!(NoDevice, "GPU {i}: {why}");
        }
        match Device::new_cuda(i as usize) {
            Ok(device) => Ok(Candle::new(device, Precision::Quantized)),
            Err(e) => fail!(NoDevice, "GPU {i}: {e}"),
        }
    }
}

/// `text`, cut between characters, and a zero.
fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    let len = (0..N.min(text.len() + 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
    field
}
