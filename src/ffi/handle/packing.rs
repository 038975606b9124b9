//! The bits of a handle.

use super::slot::Stamp;

/// How kind, generation and index share a pointer: `| kind | generation | index |`, from the top.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    index_bits: u32,
    generation_bits: u32,
    /// 0: there is no room, and only the slot knows the kind.
    kind_bits: u32,
}

impl Packing {
    /// 64-bit pointers. A kind is never 0 and never 15, so neither a small number, nor an address of user space, nor -1 is a handle;
    /// and on x86-64 no handle is a canonical address, so a host that dereferences one faults at once.
    const WIDE: Self = Self { index_bits: 28, generation_bits: 32, kind_bits: 4 };

    /// 32-bit pointers: a million handles at once, each slot used 4095 times.
    const NARROW: Self = Self { index_bits: 20, generation_bits: 12, kind_bits: 0 };

    /// The packing of this target.
    pub(super) const NATIVE: Self = if usize::BITS >= 64 { Self::WIDE } else { Self::NARROW };

    /// Slots that an index can name.
    pub(super) const fn max_slots(self) -> u32 {
        1 << self.index_bits
    }

    /// The last generation that a handle can name. The slot is not used again after it, so that an old handle never comes back to life.
    pub(super) const fn last_generation(self) -> u32 {
        u32::MAX >> (32 - self.generation_bits)
    }

    /// The handle's bits.
    pub(super) const fn pack(self, index: u32, stamp: Stamp) -> usize {
        let kind = if self.kind_bits == 0 { 0 } else { stamp.kind as u64 };
        let bits = (kind << self.generation_bits | stamp.generation as u64) << self.index_bits | index as u64;
        bits as usize
    }

    /// Index and stamp of a handle that must be of `kind`; `None` if its bits name another one.
    pub(super) const fn unpack(self, bits: usize, kind: u8) -> Option<(u32, Stamp)> {
        let bits = bits as u64;
        let index = (bits & (self.max_slots() as u64 - 1)) as u32;
        let generation = (bits >> self.index_bits) as u32 & self.last_generation();
        let found = bits >> (self.index_bits + self.generation_bits);
        let expected = if self.kind_bits == 0 { 0 } else { kind as u64 };
        if found == expected { Some((index, Stamp { generation, kind })) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks_the_corners() {
        for (packing, width) in [(Packing::WIDE, 64), (Packing::NARROW, 32)] {
            assert_eq!(packing.index_bits + packing.generation_bits + packing.kind_bits, width);
            for index in [0, 1, packing.max_slots() - 1] {
                for generation in [1, 2, packing.last_generation()] {
                    for kind in [1, 14] {
                        let stamp = Stamp { generation, kind };
                        let bits = packing.pack(index, stamp);
                        assert_ne!(bits, 0);
                        assert_eq!(packing.unpack(bits, kind), Some((index, stamp)));
                    }
                }
            }
        }
    }

    #[test]
    fn wide_handles_show_their_kind() {
        let bits = Packing::WIDE.pack(3, Stamp { generation: 9, kind: 2 });
        assert_eq!(Packing::WIDE.unpack(bits, 3), None);
        for not_ours in [0, 1, 0x7FFF_FFFF_FFFF, usize::MAX, usize::MAX - 1] {
            assert!((1..15).all(|kind| Packing::WIDE.unpack(not_ours, kind).is_none()), "{not_ours:#x}");
        }
    }
}
