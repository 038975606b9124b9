//! The header, edited blindly: cut at every byte, every integer set to extremes, every bit flipped.

use crate::bench::{Bench, stride};
use crate::fields::Fields;
use crate::small::{GOLDEN, golden, seeds};

/// What integers are set to.
const EXTREMES: [u64; 6] = [0, 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX];
/// Of the golden models, which are larger, a normal test tries so few.
const GOLDEN_SHARE: usize = 23;

/// Every valid file, and of which of its edits a normal test tries one.
fn files() -> Vec<(&'static str, Vec<u8>, usize)> {
    let small = seeds().into_iter().map(|(name, parts)| (name, parts.bytes(), 1));
    small.chain(GOLDEN.map(|name| (name, golden(name), GOLDEN_SHARE))).collect()
}

#[test]
fn cut_at_every_byte_of_the_header_and_at_fifty_places_in_the_data() {
    let mut bench = Bench::new("cut");
    for (name, bytes, share) in files() {
        let data = Fields::of(&bytes).end.next_multiple_of(32);
        bench.set_base(&bytes);
        bench.intact(name);
        for len in (0..data).step_by(stride(share)) {
            assert!(!bench.cut(format_args!("{name} cut at {len}"), len), "{name}, cut at {len}, was accepted");
        }
        for len in (data..bytes.len()).step_by((bytes.len() - data).div_ceil(50)) {
            bench.cut(format_args!("{name} cut at {len}"), len);
        }
    }
    bench.finish(5_000);
}

#[test]
fn every_integer_of_the_header_set_to_extremes() {
    let mut bench = Bench::new("integers");
    for (name, bytes, share) in files() {
        bench.set_base(&bytes);
        for &(at, width) in Fields::of(&bytes).integers.iter().step_by(stride(share)) {
            let mut values = EXTREMES.map(|value| value.to_le_bytes()[..width].to_vec()).to_vec();
            values.sort();
            values.dedup();
            for value in values {
                bench.patched(format_args!("{name}: {value:?} at {at}"), at, &value);
            }
        }
    }
    bench.finish(2_300);
}

/// Nine is odd, so that a normal test flips some bit of every byte, and each bit of some.
#[test]
fn every_bit_of_the_header_flipped() {
    let mut bench = Bench::new("bits");
    for (name, bytes, share) in files() {
        bench.set_base(&bytes);
        let n_bits = Fields::of(&bytes).end * 8;
        for bit in (0..n_bits).step_by(stride(9 * share)) {
            let at = bit / 8;
            bench.patched(format_args!("{name}: bit {bit}"), at, &[bytes[at] ^ 1 << (bit % 8)]);
        }
    }
    bench.finish(4_200);
}

/// Two edits at once reach what one alone does not: the checks that guard each other.
#[test]
fn random_edits_of_several_bytes() {
    let mut bench = Bench::new("random edits");
    let mut random = crate::random::Random(3);
    for (name, bytes, share) in files() {
        let fields = Fields::of(&bytes);
        for i in 0..stride_count(600 / share.min(10)) {
            let mut edited = bytes.clone();
            for _ in 0..=random.below(3) {
                let (at, width) = fields.integers[random.below(fields.integers.len()) as usize];
                // Near what was there: such edits get furthest.
                edited[at] = edited[at].wrapping_add(random.below(5) as u8).wrapping_sub(2);
                edited[at + width - 1] ^= u8::from(random.below(8) == 0);
            }
            bench.whole(format_args!("{name}: random edit {i}"), &edited);
        }
    }
    bench.finish(1_000);
}

fn stride_count(n: usize) -> usize {
    if crate::bench::is_torture() { 20 * n } else { n }
}
