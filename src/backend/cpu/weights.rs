//! Weights as the kernels take them: matrices in their storage type, vectors in `f32`.

use super::Cpu;
use crate::backend::{HostTensor, Linear};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{Activation, WeightRows};
use crate::sys::memory::{AlignedBytes, try_vec};
use std::ops::Range;

/// A weight matrix `(n_out, n_in)`.
pub struct Matrix {
    dtype: DType,
    pub(super) n_out: usize,
    pub(super) n_in: usize,
    /// `dtype.row_bytes(n_in)`
    row_bytes: usize,
    /// `(n_out, row_bytes)`
    data: AlignedBytes,
}

/// A weight vector.
pub struct Vector {
    /// `(n,)`
    pub(super) values: Vec<f32>,
}

impl Matrix {
    /// The matrix in `tensor`, as it is stored.
    pub(super) fn new(tensor: HostTensor) -> Result<Self> {
        let row_bytes = check(&tensor)?;
        let HostTensor { dtype, n_rows, n_cols, data, .. } = tensor;
        Ok(Self { dtype, n_out: n_rows, n_in: n_cols, row_bytes, data })
    }

    /// Rows `range`, which must exist.
    pub(super) fn rows(&self, range: Range<usize>) -> WeightRows<'_> {
        let bytes = &self.data.as_slice()[range.start * self.row_bytes..range.end * self.row_bytes];
        WeightRows { dtype: self.dtype, n_cols: self.n_in, bytes }
    }

    /// How activations are stored for a product with it.
    pub(super) fn activation(&self) -> Activation {
        Activation::of(self.dtype)
    }

    /// Bytes that it occupies.
    pub(super) fn n_bytes(&self) -> usize {
        self.data.as_slice().len()
    }
}

impl Vector {
    /// The vector in `tensor`, expanded by the kernels of `cpu`.
    pub(super) fn new(cpu: &Cpu, tensor: &HostTensor) -> Result<Self> {
        check(tensor)?;
        if tensor.n_rows != 1 {
            fail!(Format, "{}: {} rows, expected a vector", tensor.name, tensor.n_rows);
        }
        let mut values = try_vec(tensor.n_cols)?;
        cpu.kernels.dequantize(tensor.dtype, tensor.data.as_slice(), &mut values);
        Ok(Self { values })
    }
}

impl Linear<Cpu> {
    /// That it maps `n_in` features to `n_out`, so that `stage` may slice without doubt.
    pub(super) fn check(&self, n_in: usize, n_out: usize, stage: &str) -> Result<()> {
        let weight = &self.weight;
        if (weight.n_in, weight.n_out) != (n_in, n_out) {
            fail!(Internal, "cpu, {stage}: a weight of ({}, {}), expected ({n_out}, {n_in})", weight.n_out, weight.n_in);
        }
        match &self.bias {
            Some(bias) => bias.check(n_out, stage),
            None => Ok(()),
        }
    }
}

impl Vector {
    /// That it has `n` elements.
    pub(super) fn check(&self, n: usize, stage: &str) -> Result<()> {
        if self.values.len() != n {
            fail!(Internal, "cpu, {stage}: a vector of {}, expected {n}", self.values.len());
        }
        Ok(())
    }
}

/// The bytes of a row of `tensor`, which is whole rows and not empty.
fn check(tensor: &HostTensor) -> Result<usize> {
    let HostTensor { name, dtype, n_rows, n_cols, data } = tensor;
    if *n_rows == 0 || *n_cols == 0 {
        fail!(Format, "{name}: an empty tensor ({n_rows}, {n_cols})");
    }
    let Some(row_bytes) = dtype.row_bytes(*n_cols) else {
        fail!(Format, "{name}: rows of {n_cols} elements are not whole {} blocks of {}", dtype.name(), dtype.block_len());
    };
    let n_bytes = data.as_slice().len();
    if row_bytes.checked_mul(*n_rows) != Some(n_bytes) {
        fail!(Format, "{name}: {n_bytes} bytes for {n_rows} rows of {row_bytes}");
    }
    Ok(row_bytes)
}
