//! What pays for the blocks of a model: the memory of the host, and of each device that holds layers.

use crate::error::Result;
use crate::sys::budget::{Budget, Charge};
use std::sync::Arc;

/// The charges of a number of blocks.
pub(super) struct BlockMemory {
    /// Each with its bytes of a block; the last one is the limit of the model.
    shares: Vec<(Charge, u64)>,
}

impl BlockMemory {
    /// No blocks, of `block_bytes` each, of which each account pays a part; `most_bytes` at most for all of them (0 = unlimited).
    ///
    /// # Errors
    /// None in practice: nothing is charged yet.
    pub(super) fn new(accounts: Vec<(Arc<Budget>, u64)>, block_bytes: u64, most_bytes: u64) -> Result<Self> {
        let limit = (Budget::new("KV memory of the model", most_bytes), block_bytes);
        let shares = accounts.into_iter().chain([limit]).map(|(account, bytes)| Ok((account.charge(0)?, bytes)));
        Ok(Self { shares: shares.collect::<Result<_>>()? })
    }

    /// Charges for `n` blocks more.
    ///
    /// # Errors
    /// `Budget`; nothing is charged then.
    pub(super) fn grow(&mut self, n: u64) -> Result<()> {
        for i in 0..self.shares.len() {
            let (charge, bytes) = &mut self.shares[i];
            if let Err(e) = charge.grow(n.saturating_mul(*bytes)) {
                self.shares[..i].iter_mut().for_each(|(charge, bytes)| charge.shrink(n.saturating_mul(*bytes)));
                return Err(e);
            }
        }
        Ok(())
    }

    /// Gives back what `n` blocks cost.
    pub(super) fn shrink(&mut self, n: u64) {
        self.shares.iter_mut().for_each(|(charge, bytes)| charge.shrink(n.saturating_mul(*bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_pays_its_part_or_none_does() {
        let (host, device) = (Budget::new("host", 100), Budget::new("device", 35));
        let mut memory = BlockMemory::new(vec![(host.clone(), 20), (device.clone(), 10)], 30, 0).unwrap();
        memory.grow(3).unwrap();
        assert_eq!((host.now(), device.now()), (60, 30));
        assert!(memory.grow(1).unwrap_err().message().contains("device"));
        assert_eq!((host.now(), device.now()), (60, 30));
        memory.shrink(2);
        assert_eq!((host.now(), device.now()), (20, 10));
        let mut limited = BlockMemory::new(vec![(host.clone(), 20)], 20, 30).unwrap();
        assert!(limited.grow(2).unwrap_err().message().contains("KV memory of the model"));
        assert_eq!(host.now(), 20);
    }
}
