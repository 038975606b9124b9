//! Each stage against its formula, and the draw against its distribution.

use super::*;

const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 0.0];

fn sampler(stages: &[Stage], seed: u64) -> Sampler {
    let mut s = Sampler::new(LOGITS.len());
    stages.iter().for_each(|stage| s.add(stage.clone()).unwrap());
    s.set_seed(seed);
    s
}

/// How often each token is drawn in `n` picks.
fn histogram(stages: &[Stage], n: u64) -> [u64; 5] {
    let mut counts = [0; 5];
    let mut s = sampler(stages, 7);
    (0..n).for_each(|_| counts[s.pick(&LOGITS).unwrap() as usize] += 1);
    counts
}

/// Pearson's chi-square of `counts` against softmax of `logits` (only the finite ones).
fn chi_square(counts: &[u64; 5], logits: [f64; 5]) -> f64 {
    let n: u64 = counts.iter().sum();
    let total: f64 = logits.iter().map(|l| l.exp()).sum();
    let expected = logits.map(|l| l.exp() / total * n as f64);
    (0..5).filter(|&i| expected[i] > 0.0).map(|i| (counts[i] as f64 - expected[i]).powi(2) / expected[i]).sum()
}

#[test]
fn an_empty_chain_is_greedy_and_the_lowest_id_wins_a_tie() {
    assert_eq!(sampler(&[], 0).pick(&LOGITS).unwrap(), 1);
    assert_eq!(sampler(&[], 0).pick(&[2.0, 5.0, 5.0, f32::NAN, f32::INFINITY]).unwrap(), 1);
}

#[test]
fn temperature_zero_is_greedy_and_penalties_alone_do_not_draw() {
    let chain = [Stage::TopK(3), Stage::Temperature(0.0)];
    assert_eq!(histogram(&chain, 50), [0, 50, 0, 0, 0]);
    let mut s = sampler(&[Stage::Penalties { last_n: 1, repeat: 4.0, frequency: 0.0, presence: 0.0 }], 0);
    assert_eq!((0..4).map(|_| s.pick(&LOGITS).unwrap()).collect::<Vec<_>>(), [1, 2, 1, 2]);
}

#[test]
fn draws_follow_softmax_with_temperature() {
    // 4 degrees of freedom: chi-square exceeds 18.5 once in a thousand; the seed is fixed, so this never flickers.
    let counts = histogram(&[Stage::Temperature(1.0)], 100_000);
    assert!(chi_square(&counts, LOGITS.map(f64::from)) < 18.5, "{counts:?}");
    let counts = histogram(&[Stage::Temperature(2.0)], 100_000);
    assert!(chi_square(&counts, LOGITS.map(|l| f64::from(l) / 2.0)) < 18.5, "{counts:?}");
}

#[test]
fn truncations_keep_exactly_the_right_tokens() {
    let inf = f64::NEG_INFINITY;
    let counts = histogram(&[Stage::TopK(2)], 20_000);
    assert!(counts[0] + counts[3] + counts[4] == 0 && chi_square(&counts, [inf, 3.0, 2.0, inf, inf]) < 10.8, "{counts:?}");
    // softmax = .086 .636 .234 .012 .032: 0.85 needs the first two, 0.9 the first three.
    assert_eq!(histogram(&[Stage::TopP(0.85)], 2_000).map(|c| c > 0), [false, true, true, false, false]);
    assert_eq!(histogram(&[Stage::TopP(0.9)], 2_000).map(|c| c > 0), [true, true, true, false, false]);
    // relative to the best: .135 1 .368 .018 .050
    assert_eq!(histogram(&[Stage::MinP(0.1)], 5_000).map(|c| c > 0), [true, true, true, false, false]);
    assert_eq!(histogram(&[Stage::MinP(1.0)], 100).map(|c| c > 0), [false, true, false, false, false]);
}

#[test]
fn penalties_follow_their_formulas() {
    let mut s = sampler(&[Stage::Penalties { last_n: 3, repeat: 2.0, frequency: 0.5, presence: 0.25 }], 0);
    [1, 1, 3].iter().for_each(|t| s.accept(*t).unwrap());
    s.candidates.fill(&LOGITS);
    s.stages[0].apply(&mut s.candidates, &s.recent);
    let mut seen = [0.0; 5];
    s.candidates.edit(|t, l| seen[t as usize] = *l);
    assert_eq!(seen, [1.0, 3.0 / 2.0 - 1.25, 2.0, -2.0 - 0.75, 0.0]);
}

#[test]
fn the_seed_decides_and_a_clone_continues() {
    let picks = |s: &mut Sampler| (0..64).map(|_| s.pick(&LOGITS).unwrap()).collect::<Vec<_>>();
    let mut a = sampler(&[Stage::Temperature(1.5)], 42);
    let first = picks(&mut a);
    let mut b = a.clone();
    assert_eq!(picks(&mut a), picks(&mut b));
    a.reset();
    assert_eq!(picks(&mut a), first);
    assert_ne!(picks(&mut sampler(&[Stage::Temperature(1.5)], 43)), first);
}

#[test]
fn bad_numbers_are_refused_and_change_nothing() {
    let mut s = sampler(&[], 0);
    for stage in [Stage::Temperature(f32::NAN), Stage::Temperature(-1.0), Stage::TopP(0.0), Stage::TopP(f32::NAN), Stage::MinP(1.5)] {
        assert_eq!(s.add(stage).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert!(s.add(Stage::Penalties { last_n: 1, repeat: 0.0, frequency: 0.0, presence: 0.0 }).is_err());
    assert!(s.stages.is_empty());
    assert!(s.pick(&[1.0]).is_err() && s.pick(&[f32::NAN; 5]).is_err() && s.accept(5).is_err());
    assert_eq!(s.pick(&LOGITS).unwrap(), 1);
}

/// No chain of valid numbers makes an unlikely token win, or finds none.
#[test]
fn extreme_numbers_keep_the_order() {
    let tiny = f32::from_bits(1);
    let hot = |repeat, frequency| Stage::Penalties { last_n: 9, repeat, frequency, presence: 0.0 };
    for t in [tiny, 1e-38, 1e-7, 1e-3] {
        assert_eq!(histogram(&[Stage::Temperature(t)], 50), [0, 50, 0, 0, 0], "temperature {t}");
    }
    for stages in
        [[hot(tiny, 0.0), Stage::MinP(1.0)], [hot(tiny, f32::MAX), Stage::TopP(tiny)], [hot(f32::MAX, -f32::MAX), Stage::MinP(tiny)]]
    {
        assert_eq!(histogram(&stages, 50).iter().sum::<u64>(), 50, "{stages:?}");
    }
    let mut s = sampler(&[Stage::Temperature(0.5)], 1);
    assert_eq!(s.pick(&[f32::MIN, f32::MAX, f32::MIN, 0.0, f32::NAN]).unwrap(), 1);
}

#[test]
fn a_failed_pick_uses_up_no_random_number() {
    let (mut a, mut b) = (sampler(&[Stage::Temperature(1.0)], 5), sampler(&[Stage::Temperature(1.0)], 5));
    assert!(a.pick(&[f32::NAN; 5]).is_err());
    assert_eq!(
        (0..16).map(|_| a.pick(&LOGITS).unwrap()).collect::<Vec<_>>(),
        (0..16).map(|_| b.pick(&LOGITS).unwrap()).collect::<Vec<_>>()
    );
}
