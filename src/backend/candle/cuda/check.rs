//! Whether a GPU can be used: the plugin has code for it, the libraries that are needed are there, and a product comes out right.

use super::{ARCHS, Library, why_not};
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

/// Sizes of the product that is tried: whole blocks of every type, and rows for both of candle's ways, that of few and that of many.
const SHAPE: (usize, usize) = (64, 256);
const ROWS: [usize; 2] = [1, 32];

/// Largest difference to the CPU, relative to the largest value. Rounded activations make 0.01.
const TOLERANCE: f32 = 0.05;

/// Why the GPU cannot be used; `None` if it can.
pub(super) fn unusable(context: &CudaContext, i: u32) -> Option<String> {
    let capability = match context.compute_capability() {
        Ok((major, minor)) => (major * 10 + minor) as u32,
        Err(e) => return Some(format!("its compute capability is unknown: {e}")),
    };
    if !is_covered(capability) {
        return Some(format!("compute capability {}.{}: the plugin has code for {ARCHS}", capability / 10, capability % 10));
    }
    let cublas = why_not(Library::Cublas);
    if !cublas.is_empty() {
        return Some(format!("attention needs cuBLAS: {cublas}"));
    }
    match self_test(i) {
        Ok(difference) if difference <= TOLERANCE => None,
        Ok(difference) => Some(format!("self-test failed: a product is off by {difference}")),
        Err(e) => Some(format!("self-test failed: {e}")),
    }
}

/// True if the plugin has code for a GPU of compute capability `capability` (`86` is 8.6): compiled for an earlier one of the same generation, or in a form
/// that the driver translates for everything that came after the last.
fn is_covered(capability: u32) -> bool {
    let mut archs = ARCHS.split_whitespace().filter_map(|arch| arch.parse::<u32>().ok());
    let last = archs.clone().next_back();
    archs.any(|arch| arch / 10 == capability / 10 && arch <= capability) || last.is_some_and(|last| capability >= last)
}

/// The largest difference between a product on the GPU and on the CPU. Candle does not look whether its kernels of blocks were launched, and what was not
/// launched is garbage without an error.
fn self_test(i: u32) -> candle_core::Result<f32> {
    let gpu = Device::new_cuda(i as usize)?;
    let (n_out, n_in) = SHAPE;
    let weights = (0..n_out * n_in).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect::<Vec<_>>();
    let weights = Tensor::from_vec(weights, SHAPE, &Device::Cpu)?; // (n_out, n_in)
    let mut worst = 0.0_f32;
    for n_rows in ROWS {
        let x = (0..n_rows * n_in).map(|i| ((i * 53 % 89) as f32 - 44.0) / 44.0).collect::<Vec<_>>();
        let x = Tensor::from_vec(x, (n_rows, n_in), &Device::Cpu)?; // (n_rows, n_in)
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
            let blocks = QTensor::quantize(&weights, dtype)?;
            let expected = x.matmul(&blocks.dequantize(&Device::Cpu)?.t()?)?; // (n_rows, n_out)
            let on_gpu = QTensor::new(candle_core::quantized::QStorage::from_data(blocks.data()?, &gpu, dtype)?, SHAPE)?;
            let found = x.to_device(&gpu)?.apply_op1_no_bwd(&on_gpu)?.to_device(&Device::Cpu)?; // (n_rows, n_out)
            let largest = |x: &Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
            let difference = largest(&found.sub(&expected)?)? / largest(&expected)?;
            // Not `f32::max`, which drops a NaN.
            worst = if difference.is_nan() { f32::INFINITY } else { worst.max(difference) };
        }
    }
    Ok(worst)
}

/// As the vendor's tools write it.
pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
