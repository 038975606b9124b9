//! A number that tells models apart: keys and values are bound to the weights that made them. Used by `loader` and `decoder`.

use crate::backend::HostTensor;
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

    /// Adds a sample of a tensor.
    pub(super) fn add_tensor(&mut self, tensor: &HostTensor) {
        self.add(tensor.name.as_bytes());
        self.add(tensor.dtype.name().as_bytes());
        for part in tensor.data.as_slice().chunks(Self::SAMPLE_EVERY) {
            self.add(&part[..part.len().min(Self::SAMPLE)]);
        }
    }

    /// The sum so far.
    pub(super) fn value(&self) -> u128 {
        let [high, low] = self.0.map(|sum| u128::from(sum.value()));
        high << 64 | low
    }
}
