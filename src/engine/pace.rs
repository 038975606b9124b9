//! How long the stages of a model take on this machine, measured while they run: so that work is cut to the time a host gives.

use crate::model::{STAGE_KINDS, StageLoad};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rows of the first pass within a time, when nothing was measured yet.
const FIRST_ROWS: usize = 8;

/// What a row more of a pass is taken to cost before that was measured, in multiples of a pass of one: less than it does, so that it is tried.
const UNKNOWN_ROW: f64 = 0.1;

/// Classes of rows: one for each power of two up to the largest pass.
const CLASSES: usize = 16;

/// What a kind of stage took lately with about so many rows.
#[derive(Clone, Copy, Default)]
struct Measured {
    rows: usize,
    /// What is to be expected: rather too much, for who has a deadline.
    ns: u64,
    /// What it usually takes, for who compares: a thread that loses its core now and then does not move it.
    usual: u64,
}

/// The measurements of a kind of stage by class of rows, where there are some. Classes do not mix: a stage of few rows reads weights, one of many
/// multiplies.
type Kind = [Option<Measured>; CLASSES];

/// What the stages of one model took.
#[derive(Default)]
pub(super) struct Pace {
    kinds: Mutex<[Kind; STAGE_KINDS]>,
    /// Whole passes, in which every row has an output.
    passes: Mutex<Kind>,
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
        *known = Some(Measured::with(*known, load.rows.max(1), ns));
    }

    /// A task took `time` to take in its results.
    pub(super) fn note_collect(&self, time: Duration) {
        let known = self.collect.load(Ordering::Relaxed);
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.collect.store(smooth(known, known, ns), Ordering::Relaxed);
    }

    /// What that will take the next time.
    pub(super) fn expect_collect(&self) -> Duration {
        Duration::from_nanos(self.collect.load(Ordering::Relaxed))
    }

    /// A pass with one output per row took `time`, all its stages together.
    pub(super) fn note_pass(&self, rows: usize, time: Duration) {
        let mut passes = self.passes.lock();
        let known = &mut passes[class(rows)];
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        *known = Some(Measured::with(*known, rows.max(1), ns));
    }

    /// How much longer such a pass takes with `more` rows than with `rows`; a guess, where that was not measured.
    pub(super) fn ratio(&self, rows: usize, more: usize) -> f64 {
        let passes = self.passes.lock();
        let take = |rows: usize| passes[class(rows)].map(|known| known.ns.max(known.scaled(rows)) as f64);
        match (take(rows.max(1)), take(rows.max(1) + more)) {
            (Some(without), Some(with)) => (with / without).max(1.0),
            _ => 1.0 + UNKNOWN_ROW * more as f64,
        }
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

    /// The most rows of a pass that takes at most `times` as long as one of `rows` rows, as far as that is known; at least `rows`. Between measured numbers of
    /// rows, time is taken to grow evenly.
    pub(super) fn rows_beside(&self, rows: usize, times: f64) -> usize {
        let mut kinds = self.kinds.lock();
        let Some(alone) = total(&kinds, class(rows)) else { return usize::MAX };
        let limit = alone.usual as f64 * times;
        let (mut below, mut next) = (Measured { rows, ..alone }, class(rows) + 1);
        while let Some(known) = total(&kinds, next) {
            if known.usual as f64 > limit {
                // What is not tried any more is slowly forgotten: it may have been slow by accident.
                kinds.iter_mut().filter_map(|kind| kind[next].as_mut()).for_each(|known| known.usual -= known.usual / 64);
                let part = (limit - below.usual as f64) / (known.usual - below.usual) as f64;
                return below.rows + (part.max(0.0) * known.rows.saturating_sub(below.rows) as f64) as usize;
            }
            (below, next) = (Measured { usual: known.usual.max(below.usual), ..known }, next + 1);
        }
        // More than was ever tried is tried with care: the next class at its lower end, and as if it took in proportion more.
        let most = (below.rows as f64 * limit / below.usual as f64) as usize;
        rows.max(most.min(1 << next))
    }
}

/// What is to be expected after `ns`, where from `least` to `most` was expected before; 0 = nothing was. Slow ones count at once, but a thread that lost its
/// core says little; what was slow once is forgotten in a dozen.
fn smooth(least: u64, most: u64, ns: u64) -> u64 {
    if least == 0 { ns } else { ns.min(most.saturating_mul(4)).max(least - least / 8) }
}

/// What a pass with rows of `class` takes without its head, if all its stages were measured.
fn total(kinds: &[Kind; STAGE_KINDS], class: usize) -> Option<Measured> {
    let kinds = kinds[..STAGE_KINDS - 1].iter().filter(|kind| kind.iter().any(Option::is_some));
    let add = |sum: Measured, known: Measured| Measured {
        rows: sum.rows.min(known.rows),
        ns: sum.ns.saturating_add(known.ns),
        usual: sum.usual.saturating_add(known.usual),
    };
    let none = Measured { rows: usize::MAX, ns: 0, usual: 0 };
    kinds.map(|kind| kind.get(class).copied().flatten()).try_fold(none, |sum, known| Some(add(sum, known?))).filter(|sum| sum.usual > 0)
}

impl Measured {
    /// After `ns` with `rows`, where `known` was measured before.
    fn with(known: Option<Self>, rows: usize, ns: u64) -> Self {
        let Some(known) = known else { return Self { rows, ns, usual: ns } };
        // Fewer rows may have taken as long, more rows may take in proportion more.
        let range = |known_ns: u64, scaled: u64| (known_ns.min(scaled), known_ns.max(scaled));
        let (least, most) = range(known.ns, known.scaled(rows));
        let (usual_least, usual_most) = range(known.usual, known.usual.saturating_mul(rows as u64) / known.rows as u64);
        // Steps of equal size up and down lead to the median.
        let usual = ns.clamp(usual_least, usual_most);
        let usual = if ns > usual { usual + usual / 16 } else { usual - usual / 16 * u64::from(ns < usual) };
        Self { rows, ns: smooth(least, most, ns), usual }
    }

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
        assert_eq!(pace.rows_beside(1, 3.0), usize::MAX, "nothing is known");
        let note = |rows, us| pace.note(StageLoad { kind: 1, rows }, Duration::from_micros(us));
        note(1, 100);
        assert_eq!(pace.rows_beside(1, 3.0), 2, "the next class is tried at its lower end");
        note(2, 120);
        assert_eq!(pace.rows_beside(1, 3.0), 4);
        note(4, 150);
        note(8, 280);
        assert_eq!(pace.rows_beside(1, 3.0), 8, "more rows would probably be too many");
        note(24, 600);
        assert_eq!((pace.rows_beside(1, 4.0), pace.rows_beside(1, 1.5), pace.rows_beside(20, 1.0)), (14, 4, 20));
        (0..200).for_each(|_| assert!(pace.rows_beside(1, 4.0) >= 14));
        assert!(pace.rows_beside(1, 4.0) > 20, "the slow one is slowly forgotten");
    }

    #[test]
    fn what_happens_once_changes_little_of_what_is_usual() {
        let pace = Pace::default();
        let note = |rows, us| pace.note(StageLoad { kind: 1, rows }, Duration::from_micros(us));
        (0..20).for_each(|_| note(1, 100));
        note(4, 200);
        note(8, 800);
        let usual = pace.rows_beside(1, 3.0);
        note(1, 5000);
        assert!(pace.rows_beside(1, 3.0) <= usual + 1, "from {usual}");
        assert!(pace.expect(StageLoad { kind: 1, rows: 1 }) > Duration::from_micros(300));
    }

    #[test]
    fn what_more_rows_cost_is_measured_and_before_that_guessed() {
        let pace = Pace::default();
        assert_eq!(pace.ratio(1, 5), 1.5);
        pace.note_pass(1, Duration::from_micros(100));
        assert_eq!(pace.ratio(1, 5), 1.5);
        pace.note_pass(6, Duration::from_micros(240));
        assert_eq!((pace.ratio(1, 5), pace.ratio(1, 3), pace.ratio(6, 1)), (2.4, 2.4, 280.0 / 240.0));
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
