//! A fast check sum that no change of a few neighbouring bytes survives. Against damage, not against forgery.

/// An odd number with evenly spread bits: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Independent sums, so that a processor computes them side by side.
const LANES: usize = 4;

/// The sum of a stream of byte strings; where one ends and the next begins counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    lanes: [u64; LANES],
}

impl Checksum {
    /// The sum of nothing. Sums with different seeds are independent.
    pub fn new(seed: u64) -> Self {
        Self { lanes: std::array::from_fn(|i| MIX.wrapping_mul(seed.wrapping_add(1 + i as u64))) }
    }

    /// Adds `bytes`. Every step is a bijection of a lane for given bytes, and of the bytes for a given lane: a change within 8 bytes always shows.
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for stripe in words.chunks(LANES) {
            for (lane, word) in self.lanes.iter_mut().zip(stripe) {
                *lane = step(*lane, u64::from_le_bytes(*word));
            }
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.lanes[0] = step(self.lanes[0], u64::from_le_bytes(last));
        self.lanes[1] = step(self.lanes[1], bytes.len() as u64);
    }

    /// The sum.
    pub fn value(&self) -> u64 {
        self.lanes.iter().fold(0, |sum, lane| step(sum, *lane))
    }
}

fn step(lane: u64, word: u64) -> u64 {
    (lane ^ word).wrapping_mul(MIX).rotate_left(29)
}

/// The sum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::new(0);
    sum.add(bytes);
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_and_every_length_shows() {
        let bytes: Vec<u8> = (0..100).collect();
        let whole = checksum(&bytes);
        for n in 0..bytes.len() {
            assert_ne!(checksum(&bytes[..n]), whole, "{n} bytes");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[n] ^= 1 << bit;
                assert_ne!(checksum(&changed), whole, "byte {n}, bit {bit}");
            }
        }
        assert_ne!(checksum(&[0; 8]), checksum(&[0; 16]));
    }

    #[test]
    fn borders_and_seeds_count() {
        let of = |seed, parts: &[&[u8]]| {
            let mut sum = Checksum::new(seed);
            parts.iter().for_each(|part| sum.add(part));
            sum.value()
        };
        assert_ne!(of(0, &[b"ab", b"c"]), of(0, &[b"a", b"bc"]));
        assert_ne!(of(0, &[b"abc"]), of(1, &[b"abc"]));
    }
}
