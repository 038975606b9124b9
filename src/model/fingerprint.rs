//! A number that tells models apart: keys and values are bound to the weights that made them. Used by `loader` and `decoder`.

use crate::dtype::DType;
use crate::sys::checksum::Checksum;

/// A sum of what determines keys and values.
pub(super) struct Fingerprint([Checksum; 2]);

impl Fingerprint {
    /// Bytes of a tensor between two samples: all of a large model's would take as long to sum as to read.
    const SAMPLE_EVERY: usize = 4096;
    /// Bytes of a sample: some blocks of every storage type.
    const SAMPLE: usize = 64;

    /// Of nothing.
    pub(super) fn new() -> Self {
        Self([Checksum::new(1), Checksum::new(2)])
    }

    /// Adds bytes as they are.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|sum| sum.add(bytes));
    }

    /// Begins a tensor.
    pub(super) fn add_name(&mut self, name: &str, dtype: DType) {
        self.add(name.as_bytes());
        self.add(dtype.name().as_bytes());
    }

    /// Adds samples of its bytes, of which all but the last come in a multiple of [`Self::SAMPLE_EVERY`].
    pub(super) fn add_samples(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(Self::SAMPLE_EVERY) {
            self.add(&part[..part.len().min(Self::SAMPLE)]);
        }
    }

    /// The sum so far.
    pub(super) fn value(&self) -> u128 {
        let [high, low] = self.0.map(|sum| u128::from(sum.value()));
        high << 64 | low
    }
}
