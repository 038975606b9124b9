//! Weights on a candle device: made from a file's bytes, multiplied, and looked up. Used by every stage that has weights.

use super::error::InStage;
use super::{Precision, memory};
use crate::backend::HostTensor;
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{Kernels as _, Reference, WeightRows};
use crate::sys::memory::try_vec;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Weights `(n_out, n_in)`. A clone is the same weights.
#[derive(Clone)]
pub struct Matrix(Storage);

/// Products are in `f32` whatever the storage: half-precision weights are widened for each one, so that the only roundings are
/// those of the file and of `f32` (candle's own product in `bf16` would round the activations too).
#[derive(Clone)]
enum Storage {
    /// `(n_out, n_in)` in `f32`, or in the half precision it was stored in.
    Float(Tensor),
    /// `(n_out, n_in)` in blocks, multiplied without being expanded.
    Blocks(Arc<QTensor>),
}

impl Matrix {
    /// Puts `tensor` on `device`: expanded to `f32`, or as it is stored, as `precision` says.
    ///
    /// # Errors
    /// `Format` if the bytes are not what the shape says, `OutOfMemory`.
    pub(super) fn new(tensor: &HostTensor, device: &Device, precision: Precision) -> Result<Self> {
        let storage = match precision {
            Precision::Float => Storage::Float(to_f32(tensor, device)?),
            Precision::Quantized => match (float_dtype(tensor.dtype), ggml_dtype(tensor.dtype)) {
                (Some(dtype), _) => Storage::Float(float_tensor(tensor, dtype, device)?),
                (None, Some(dtype)) => Storage::Blocks(Arc::new(block_tensor(tensor, dtype, device)?)),
                (None, None) => Storage::Float(to_f32(tensor, device)?),
            },
        };
        Ok(Self(storage))
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        match &self.0 {
            Storage::Float(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Storage::Blocks(weight) => weight.storage_size_in_bytes(),
        }
    }

    /// `x W^T`: `(rows, n_in) -> (rows, n_out)`.
    pub(super) fn product(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match &self.0 {
            Storage::Float(weight) => x.matmul(&weight.to_dtype(candle_core::DType::F32)?.t()?),
            // `QMatMul` would do the same, but reads environment variables on the way.
            Storage::Blocks(weight) => x.apply_op1_no_bwd(&**weight),
        }
    }

    /// The columns `range` of [`Self::product`], or more columns from `range.start` on: blocks cannot be cut, so they give all
    /// columns at once.
    pub(super) fn product_from(&self, x: &Tensor, range: Range<usize>) -> candle_core::Result<Tensor> {
        match &self.0 {
            Storage::Float(weight) => {
                let part = weight.narrow(0, range.start, range.len())?; // (range, n_in)
                x.matmul(&part.to_dtype(candle_core::DType::F32)?.t()?)
            }
            Storage::Blocks(weight) => {
                let all = x.apply_op1_no_bwd(&**weight)?; // (rows, n_out)
                let n_out = all.dim(1)?;
                all.narrow(1, range.start, n_out.saturating_sub(range.start))
            }
        }
    }

    /// The rows `ids`: `(n,) -> (n, n_in)` in `f32`. The caller has checked that they exist: a device does not.
    pub(super) fn rows(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        match &self.0 {
            Storage::Float(weight) => weight.index_select(ids, 0)?.to_dtype(candle_core::DType::F32),
            Storage::Blocks(weight) => weight.embedding(ids),
        }
    }

    /// Output features.
    pub(super) fn n_rows(&self) -> candle_core::Result<usize> {
        match &self.0 {
            Storage::Float(weight) => weight.dim(0),
            Storage::Blocks(weight) => weight.shape().dims2().map(|(n_rows, _)| n_rows),
        }
    }
}

/// `tensor` as a vector `(n,)` in `f32`.
pub(super) fn vector(tensor: &HostTensor, device: &Device) -> Result<Tensor> {
    if tensor.n_rows != 1 {
        fail!(Format, "{}: {} rows where a vector, one row, was expected", tensor.name, tensor.n_rows);
    }
    to_f32(tensor, device)?.flatten_all().stage(&tensor.name)
}

/// Bytes of a row of a matrix on the device.
pub(super) fn row_bytes(dtype: DType, n_cols: usize, precision: Precision) -> usize {
    let is_known = float_dtype(dtype).is_some() || ggml_dtype(dtype).is_some();
    match precision {
        Precision::Quantized if is_known => dtype.row_bytes(n_cols).unwrap_or(0),
        _ => n_cols.saturating_mul(size_of::<f32>()),
    }
}

/// `(n_rows, n_cols)` in `f32`, by candle's own reading of the storage types that it knows.
fn to_f32(tensor: &HostTensor, device: &Device) -> Result<Tensor> {
    memory::reserve(device, tensor.n_rows.checked_mul(tensor.n_cols), size_of::<f32>()).map_err(|e| e.at(&tensor.name))?;
    match (float_dtype(tensor.dtype), ggml_dtype(tensor.dtype)) {
        (Some(dtype), _) => float_tensor(tensor, dtype, device)?.to_dtype(candle_core::DType::F32).stage(&tensor.name),
        (None, Some(dtype)) => block_tensor(tensor, dtype, device)?.dequantize(device).stage(&tensor.name),
        (None, None) => expanded(tensor, device),
    }
}

/// `(n_rows, n_cols)` in `f32`, of a storage type that candle does not have: read by our reference kernels.
fn expanded(tensor: &HostTensor, device: &Device) -> Result<Tensor> {
    let (bytes, n_cols) = (checked_bytes(tensor)?, tensor.n_cols);
    let mut values = try_vec::<f32>(tensor.n_rows.saturating_mul(n_cols))?;
    for (out, row) in values.chunks_exact_mut(n_cols).zip(bytes.chunks_exact(bytes.len() / tensor.n_rows)) {
        Reference.dequantize(WeightRows::stored(tensor.dtype, n_cols, row), out);
    }
    Tensor::from_vec(values, (tensor.n_rows, n_cols), device).stage(&tensor.name)
}

/// `(n_rows, n_cols)` in `dtype`, which is how `tensor` is stored.
fn float_tensor(tensor: &HostTensor, dtype: candle_core::DType, device: &Device) -> Result<Tensor> {
    let bytes = checked_bytes(tensor)?;
    memory::reserve(device, Some(bytes.len()), 1).map_err(|e| e.at(&tensor.name))?;
    Tensor::from_raw_buffer(bytes, dtype, &[tensor.n_rows, tensor.n_cols], device).stage(&tensor.name)
}

/// `(n_rows, n_cols)` in blocks of `dtype`, which is how `tensor` is stored.
fn block_tensor(tensor: &HostTensor, dtype: GgmlDType, device: &Device) -> Result<QTensor> {
    let bytes = checked_bytes(tensor)?;
    memory::reserve(device, Some(bytes.len()), 1).map_err(|e| e.at(&tensor.name))?;
    QStorage::from_data(Cow::Borrowed(bytes), device, dtype)
        .and_then(|storage| QTensor::new(storage, (tensor.n_rows, tensor.n_cols)))
        .stage(&tensor.name)
}

/// The bytes of `tensor`, which candle takes at their word: a wrong length is a panic, or a read past the end, further on.
fn checked_bytes(tensor: &HostTensor) -> Result<&[u8]> {
    let bytes = tensor.data.as_slice();
    let expected = tensor.dtype.row_bytes(tensor.n_cols).and_then(|row| row.checked_mul(tensor.n_rows));
    if expected != Some(bytes.len()) || bytes.is_empty() {
        let (name, dtype) = (&tensor.name, tensor.dtype.name());
        fail!(Format, "{name}: {} bytes do not hold ({}, {}) elements of {dtype}", bytes.len(), tensor.n_rows, tensor.n_cols);
    }
    Ok(bytes)
}

/// Candle's name for a type without blocks.
fn float_dtype(dtype: DType) -> Option<candle_core::DType> {
    match dtype {
        DType::F32 => Some(candle_core::DType::F32),
        DType::F16 => Some(candle_core::DType::F16),
        DType::BF16 => Some(candle_core::DType::BF16),
        _ => None,
    }
}

/// Candle's name for a storage type; `None` if it does not have it.
pub(super) fn ggml_dtype(dtype: DType) -> Option<GgmlDType> {
    Some(match dtype {
        DType::F32 => GgmlDType::F32,
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        DType::Q4_0 => GgmlDType::Q4_0,
        DType::Q4_1 => GgmlDType::Q4_1,
        DType::Q5_0 => GgmlDType::Q5_0,
        DType::Q5_1 => GgmlDType::Q5_1,
        DType::Q8_0 => GgmlDType::Q8_0,
        DType::Q2_K => GgmlDType::Q2K,
        DType::Q3_K => GgmlDType::Q3K,
        DType::Q4_K => GgmlDType::Q4K,
        DType::Q5_K => GgmlDType::Q5K,
        DType::Q6_K => GgmlDType::Q6K,
        DType::IQ4_NL | DType::IQ4_XS | DType::MXFP4 => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;
    use crate::backend::naive::{self, assert_close, noise, widen};
    use crate::error::ErrorKind;
    use crate::sys::memory::AlignedBytes;

    const ROWS: usize = 17;
    const COLS: usize = 512;

    fn stored(dtype: DType) -> (HostTensor, Vec<f32>) {
        tests::stored(&noise(ROWS * COLS, 5), COLS, dtype)
    }

    /// The storage types that candle has.
    fn known_types() -> impl Iterator<Item = DType> {
        DType::ALL.into_iter().filter(|&dtype| ggml_dtype(dtype).is_some())
    }

    fn values(x: candle_core::Result<Tensor>) -> Vec<f32> {
        x.unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn float_is_exact_and_quantized_within_its_noise() {
        let x = noise(3 * COLS, 6);
        let input = Tensor::from_slice(&x, (3, COLS), &Device::Cpu).unwrap();
        for dtype in known_types() {
            let (tensor, expanded) = stored(dtype);
            let want = naive::project(&widen(&x), &expanded, None, COLS); // (3, ROWS)
            let float = Matrix::new(&tensor, &Device::Cpu, Precision::Float).unwrap();
            assert_close(dtype.name(), &values(float.product(&input)), &want, 1e-6);
            assert_eq!(float.bytes(), 4 * ROWS * COLS);
            let quantized = Matrix::new(&tensor, &Device::Cpu, Precision::Quantized).unwrap();
            // An int8 activation is off by up to 1/254; the worst sum of 512 of them measured is 0.0041 of the largest result.
            let noise = if float_dtype(dtype).is_some() { 1e-6 } else { 0.01 };
            assert_close(dtype.name(), &values(quantized.product(&input)), &want, noise);
            assert_eq!(quantized.bytes(), tensor.data.as_slice().len());
        }
    }

    #[test]
    fn every_type_means_what_our_kernels_read() {
        for dtype in known_types() {
            let (tensor, _) = stored(dtype);
            let ids = Tensor::arange(0, ROWS as u32, &Device::Cpu).unwrap();
            let got = Matrix::new(&tensor, &Device::Cpu, Precision::Float).unwrap().rows(&ids);
            let mut want = vec![0.0; COLS];
            let row_bytes = tensor.data.as_slice().len() / ROWS;
            for (bytes, got) in tensor.data.as_slice().chunks(row_bytes).zip(values(got).chunks(COLS)) {
                Reference.dequantize(WeightRows::stored(dtype, want.len(), bytes), &mut want);
                assert_close(dtype.name(), got, &widen(&want), 1e-7);
            }
        }
    }

    #[test]
    fn types_that_candle_does_not_have_are_expanded() {
        let ids = Tensor::arange(0, ROWS as u32, &Device::Cpu).unwrap();
        for dtype in DType::ALL.into_iter().filter(|&dtype| ggml_dtype(dtype).is_none()) {
            let mut data = AlignedBytes::zeroed(ROWS * dtype.row_bytes(COLS).unwrap()).unwrap();
            data.as_mut_slice().iter_mut().zip((0..60).cycle()).for_each(|(byte, x)| *byte = x); // no scale is huge
            let tensor = HostTensor { name: "test".into(), dtype, n_rows: ROWS, n_cols: COLS, data: data.into() };
            let mut want = vec![0.0; ROWS * COLS];
            let row_bytes = tensor.data.as_slice().len() / ROWS;
            for (bytes, want) in tensor.data.as_slice().chunks(row_bytes).zip(want.chunks_mut(COLS)) {
                Reference.dequantize(WeightRows::stored(dtype, COLS, bytes), want);
            }
            for precision in [Precision::Float, Precision::Quantized] {
                let matrix = Matrix::new(&tensor, &Device::Cpu, precision).unwrap();
                assert_eq!(values(matrix.rows(&ids)), want, "{dtype:?}");
                assert_eq!(matrix.bytes(), ROWS * super::row_bytes(dtype, COLS, precision));
            }
        }
    }

    #[test]
    fn rows_and_parts_are_those_of_the_whole() {
        let ids = Tensor::new(&[16_u32, 0, 5], &Device::Cpu).unwrap();
        let input = Tensor::from_vec(noise(2 * COLS, 7), (2, COLS), &Device::Cpu).unwrap();
        for dtype in known_types() {
            let (tensor, expanded) = stored(dtype);
            let want: Vec<f32> = [16, 0, 5].iter().flat_map(|&i| expanded[i * COLS..][..COLS].to_vec()).collect();
            for precision in [Precision::Float, Precision::Quantized] {
                let matrix = Matrix::new(&tensor, &Device::Cpu, precision).unwrap();
                assert_eq!(values(matrix.rows(&ids)), want, "{dtype:?}, {precision:?}");
                let part = matrix.product_from(&input, 3..9).and_then(|part| part.narrow(1, 0, 6));
                let whole = matrix.product(&input).and_then(|whole| whole.narrow(1, 3, 6));
                assert_close(dtype.name(), &values(part), &widen(&values(whole)), 1e-6);
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused_before_candle_sees_them() {
        let kind = |tensor: HostTensor, precision| Matrix::new(&tensor, &Device::Cpu, precision).map(|_| ()).map_err(|e| e.kind());
        for dtype in known_types() {
            for precision in [Precision::Float, Precision::Quantized] {
                let with = |n_rows, n_cols| kind(HostTensor { n_rows, n_cols, ..stored(dtype).0 }, precision);
                assert_eq!(with(ROWS + 1, COLS), Err(ErrorKind::Format));
                assert_eq!(with(ROWS, COLS + 1), Err(ErrorKind::Format));
                assert_eq!(with(0, COLS), Err(ErrorKind::Format));
                assert!(matches!(with(usize::MAX, COLS), Err(ErrorKind::Format | ErrorKind::OutOfMemory)));
            }
            assert_eq!(vector(&stored(dtype).0, &Device::Cpu).map_err(|e| e.kind()).err(), Some(ErrorKind::Format));
        }
    }
}
