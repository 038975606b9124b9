//! How long the stages of a model take on this machine, measured while they run: so that work is cut to the time a host gives.

use crate::model::{STAGE_KINDS, StageLoad};
use parking_lot::Mutex;
use std::time::Duration;

/// Rows of the first pass within a time, when nothing was measured yet.
const FIRST_ROWS: usize = 8;

/// The newest measurement of a kind of stage.
#[derive(Clone, Copy, Default)]
struct Measured {
    rows: usize,
    ns: u64,
}

/// What the stages of one model took.
#[derive(Default)]
pub(super) struct Pace {
    kinds: Mutex<[Measured; STAGE_KINDS]>,
}

impl Pace {
    /// A stage took `time`.
    pub(super) fn note(&self, load: StageLoad, time: Duration) {
        let mut kinds = self.kinds.lock();
        let Some(known) = kinds.get_mut(load.kind) else { return };
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let expected = known.expect(load.rows);
        // Slow ones count at once, but a thread that lost its core says little; what was slow once is forgotten in a dozen stages.
        let ns = if expected == 0 { ns } else { ns.min(4 * expected).max(expected - expected / 8) };
        *known = Measured { rows: load.rows, ns };
    }

    /// What a stage will take; zero if nothing is known.
    pub(super) fn expect(&self, load: StageLoad) -> Duration {
        Duration::from_nanos(self.kinds.lock().get(load.kind).map_or(0, |known| known.expect(load.rows)))
    }

    /// The most rows of a pass whose stages take at most `time` each; at least 1.
    pub(super) fn rows_within(&self, time: Duration) -> usize {
        let kinds = self.kinds.lock();
        let target = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let rows = |known: &Measured| target.saturating_mul(known.rows as u64) / known.ns.max(1);
        // The last kind is the head: its rows are outputs.
        let measured = kinds[..STAGE_KINDS - 1].iter().filter(|known| known.rows > 0);
        measured.map(rows).min().map_or(FIRST_ROWS, |rows| usize::try_from(rows).unwrap_or(usize::MAX).max(1))
    }
}

impl Measured {
    /// More rows take in proportion more; fewer perhaps as long, as the weights are read in any case.
    fn expect(&self, rows: usize) -> u64 {
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
