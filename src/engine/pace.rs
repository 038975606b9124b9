//! How long the stages of a model take on this machine, measured while they run: so that work is cut to the time a host gives.

use crate::model::{STAGE_KINDS, StageLoad};
use parking_lot::Mutex;
use std::time::Duration;

/// Rows of the first pass within a time, when nothing was measured yet.
const FIRST_ROWS: usize = 8;
/// Numbers of rows are measured apart by powers of two: few rows take as long as reading the weights does, many in proportion.
const SIZES: usize = 10;
/// The most rows that times are told for.
const MAX_ROWS: usize = 1 << SIZES;

/// The newest measurement of a kind of stage with about so many rows; 0 rows = none.
#[derive(Clone, Copy, Default)]
struct Measured {
    rows: usize,
    ns: u64,
}

/// The measurements of a kind of stage: entry `i` of passes from `1 << i` rows on.
type Sizes = [Measured; SIZES];

/// What the stages of one model took.
#[derive(Default)]
pub(super) struct Pace {
    kinds: Mutex<[Sizes; STAGE_KINDS]>,
}

impl Pace {
    /// A stage took `time`.
    pub(super) fn note(&self, load: StageLoad, time: Duration) {
        let mut kinds = self.kinds.lock();
        let Some(known) = kinds.get_mut(load.kind).and_then(|sizes| sizes.get_mut(size_of_pass(load.rows))) else { return };
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let expected = known.scaled(load.rows);
        // Slow ones count at once, but a thread that lost its core says little; what was slow once is forgotten in a dozen stages.
        let ns = if known.rows == 0 { ns } else { ns.min(expected.saturating_mul(4)).max(expected - expected / 8) };
        *known = Measured { rows: load.rows, ns };
    }

    /// What a stage will take; zero if nothing is known.
    pub(super) fn expect(&self, load: StageLoad) -> Duration {
        Duration::from_nanos(self.kinds.lock().get(load.kind).and_then(|sizes| expect(sizes, load.rows)).unwrap_or(0))
    }

    /// The most rows of a pass whose stages take at most `time` each; at least 1.
    pub(super) fn rows_within(&self, time: Duration) -> usize {
        let kinds = self.kinds.lock();
        let target = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // The last kind is the head: its rows are outputs.
        kinds[..STAGE_KINDS - 1].iter().filter_map(|sizes| rows_within(sizes, target)).min().unwrap_or(FIRST_ROWS)
    }
}

/// The entry for passes of `rows` rows.
fn size_of_pass(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(SIZES - 1)
}

/// What `rows` rows will take, in ns: as what was measured with as many, else with more, else in proportion to less.
fn expect(sizes: &Sizes, rows: usize) -> Option<u64> {
    let (fewer, more) = sizes.split_at(size_of_pass(rows));
    let known = more.iter().chain(fewer.iter().rev()).find(|known| known.rows > 0);
    known.map(|known| known.scaled(rows))
}

/// The most rows, at least 1, that take at most `target` ns.
fn rows_within(sizes: &Sizes, target: u64) -> Option<usize> {
    expect(sizes, 1)?;
    let fits = |rows: usize| expect(sizes, rows).is_some_and(|ns| ns <= target);
    let (mut rows, mut step) = (1, MAX_ROWS / 2);
    while step > 0 {
        if fits(rows + step) {
            rows += step;
        }
        step /= 2;
    }
    Some(rows)
}

impl Measured {
    /// More rows take in proportion more; fewer perhaps as long, as the weights are read in any case.
    fn scaled(&self, rows: usize) -> u64 {
        if rows <= self.rows { self.ns } else { self.ns.saturating_mul(rows as u64) / self.rows.max(1) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_slowest_stage() {
        let pace = Pace::default();
        let us = Duration::from_micros;
        assert_eq!((pace.rows_within(us(100)), pace.expect(StageLoad { kind: 1, rows: 5 })), (FIRST_ROWS, us(0)));
        pace.note(StageLoad { kind: 1, rows: 8 }, us(80));
        pace.note(StageLoad { kind: 2, rows: 8 }, us(400));
        assert_eq!((pace.rows_within(us(1000)), pace.rows_within(us(10))), (20, 1));
        assert_eq!((pace.expect(StageLoad { kind: 2, rows: 16 }), pace.expect(StageLoad { kind: 2, rows: 1 })), (us(800), us(400)));
    }

    #[test]
    fn few_and_many_rows_in_turn_do_not_wind_each_other_up() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.note(StageLoad { kind: 1, rows: 1 }, Duration::from_micros(10));
            pace.note(StageLoad { kind: 1, rows: 64 }, Duration::from_micros(100));
        }
        let expect = |rows| pace.expect(StageLoad { kind: 1, rows }).as_micros();
        assert_eq!((expect(1), expect(2), expect(64), expect(128)), (10, 100, 100, 200));
    }

    #[test]
    fn one_slow_stage_is_capped_and_forgotten() {
        let pace = Pace::default();
        let load = StageLoad { kind: 1, rows: 1 };
        pace.note(load, Duration::from_micros(100));
        pace.note(load, Duration::from_secs(1));
        assert_eq!(pace.expect(load), Duration::from_micros(400));
        (0..20).for_each(|_| pace.note(load, Duration::from_micros(100)));
        assert_eq!(pace.expect(load), Duration::from_micros(100));
    }
}
