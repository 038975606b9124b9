//! How long the stages of a model take on this machine, measured while they run: so that work is cut to the time a host gives.

use crate::model::{STAGE_KINDS, StageLoad};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rows of the first pass within a time, when nothing was measured yet.
const FIRST_ROWS: usize = 8;

/// Classes of rows: one for each power of two up to the largest pass.
const CLASSES: usize = 16;

/// What a kind of stage took lately with about so many rows.
#[derive(Clone, Copy, Default)]
struct Measured {
    rows: usize,
    ns: u64,
}

/// The measurements of a kind of stage by class of rows, where there are some. Classes do not mix: a stage of few rows reads weights, one of many
/// multiplies.
type Kind = [Option<Measured>; CLASSES];

/// What the stages of one model took.
#[derive(Default)]
pub(super) struct Pace {
    kinds: Mutex<[Kind; STAGE_KINDS]>,
    /// Nanoseconds in which a task takes in what a pass computed for it: its logits are copied, a token is chosen and told.
    collect: AtomicU64,
}

fn class(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(CLASSES - 1)
}

impl Pace {
    /// A stage took `time`.
    pub(super) fn note(&self, load: StageLoad, time: Duration) {
        let mut kinds = self.kinds.lock();
        let Some(known) = kinds.get_mut(load.kind).and_then(|kind| kind.get_mut(class(load.rows))) else { return };
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        *known = Some(Measured { rows: load.rows.max(1), ns: smooth(known.map_or(0, |known| known.ns), ns) });
    }

    /// A task took `time` to take in its results.
    pub(super) fn note_collect(&self, time: Duration) {
        let known = self.collect.load(Ordering::Relaxed);
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.collect.store(smooth(known, ns), Ordering::Relaxed);
    }

    /// What that will take the next time.
    pub(super) fn expect_collect(&self) -> Duration {
        Duration::from_nanos(self.collect.load(Ordering::Relaxed))
    }

    /// What a stage will take; zero if nothing is known.
    pub(super) fn expect(&self, load: StageLoad) -> Duration {
        let kinds = self.kinds.lock();
        let Some(kind) = kinds.get(load.kind) else { return Duration::ZERO };
        let (smaller, larger) = kind.split_at((class(load.rows) + 1).min(CLASSES));
        let below = smaller.iter().rev().flatten().next();
        let scaled = below.map(|known| if class(known.rows) == class(load.rows) { known.ns } else { known.scaled(load.rows) });
        // Fewer rows perhaps take as long, as the weights are read in any case.
        Duration::from_nanos(scaled.or(larger.iter().flatten().next().map(|known| known.ns)).unwrap_or(0))
    }

    /// The most rows of a pass whose stages take at most `time` each; at least 1.
    pub(super) fn rows_within(&self, time: Duration) -> usize {
        let target = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let kinds = self.kinds.lock();
        let rows = |kind: &Kind| {
            let fits = kind.iter().rev().flatten().find(|known| known.ns <= target);
            let known = fits.or(kind.iter().flatten().next())?;
            Some(target.saturating_mul(known.rows as u64) / known.ns)
        };
        // The last kind is the head: its rows are outputs.
        let most = kinds[..STAGE_KINDS - 1].iter().filter_map(rows).min();
        most.map_or(FIRST_ROWS, |rows| usize::try_from(rows).unwrap_or(usize::MAX).max(1))
    }

    /// The most rows of a pass that takes at most `times` as long as one of `rows` rows, as far as that is known; at least `rows`.
    pub(super) fn rows_beside(&self, rows: usize, times: u32) -> usize {
        let mut kinds = self.kinds.lock();
        let mut class = class(rows);
        let Some(limit) = total(&kinds, class).map(|alone| alone.saturating_mul(times.into())) else { return usize::MAX };
        while total(&kinds, class).is_some() && class + 1 < CLASSES {
            if total(&kinds, class + 1).is_some_and(|ns| ns > limit) {
                // What is not tried any more is slowly forgotten: it may have been slow by accident.
                kinds.iter_mut().filter_map(|kind| kind[class + 1].as_mut()).for_each(|known| known.ns -= known.ns / 64);
                return rows.max((2 << class) - 1);
            }
            class += 1;
        }
        // A class that was not measured yet is entered at its lower end.
        rows.max(1 << class)
    }
}

/// What is to be expected after `ns`, where `known` was expected before; 0 = nothing was. Slow ones count at once, but a thread that lost its core says
/// little; what was slow once is forgotten in a dozen.
fn smooth(known: u64, ns: u64) -> u64 {
    if known == 0 { ns } else { ns.min(known.saturating_mul(4)).max(known - known / 8) }
}

/// What a pass with rows of `class` takes without its head, if all its stages were measured.
fn total(kinds: &[Kind; STAGE_KINDS], class: usize) -> Option<u64> {
    let kinds = kinds[..STAGE_KINDS - 1].iter().filter(|kind| kind.iter().any(Option::is_some));
    kinds.map(|kind| kind[class].map(|known| known.ns)).try_fold(0_u64, |sum, ns| Some(sum.saturating_add(ns?)))
}

impl Measured {
    /// More rows take at most in proportion more.
    fn scaled(&self, rows: usize) -> u64 {
        self.ns.saturating_mul(rows as u64) / self.rows as u64
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
        let expect = |rows| pace.expect(StageLoad { kind: 2, rows });
        assert_eq!((expect(16), expect(15), expect(1)), (us(800), us(400), us(400)));
    }

    #[test]
    fn a_prompt_beside_streams_gets_the_rows_that_delay_them_little() {
        let pace = Pace::default();
        assert!(pace.rows_beside(1, 3) >= 1 << 15, "nothing is known");
        let note = |rows, us| pace.note(StageLoad { kind: 1, rows }, Duration::from_micros(us));
        note(1, 100);
        assert_eq!(pace.rows_beside(1, 3), 2, "the next class is tried at its lower end");
        note(2, 120);
        note(4, 150);
        note(8, 280);
        note(16, 500);
        assert_eq!((pace.rows_beside(1, 3), pace.rows_beside(1, 2), pace.rows_beside(20, 2)), (15, 7, 32));
    }

    #[test]
    fn few_and_many_rows_in_turn_do_not_drive_each_other_up() {
        let pace = Pace::default();
        for _ in 0..100 {
            for rows in [1, 3, 16, 31, 128] {
                pace.note(StageLoad { kind: 1, rows }, Duration::from_micros(50 + rows as u64));
            }
        }
        assert_eq!(pace.expect(StageLoad { kind: 1, rows: 128 }), Duration::from_micros(178));
        assert!(pace.expect(StageLoad { kind: 1, rows: 31 }) <= Duration::from_micros(81));
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
