//! Each stage against its formula, and the draw against its distribution.

mod golden;

use super::*;
use crate::error::ErrorKind;

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
    s.candidates.fill(&LOGITS, None);
    s.stages[0].apply(&mut s.candidates, &s.recent, &mut s.random, &mut s.mu);
    let (seen, all) = (std::cell::Cell::new([0.0; 5]), (0..5).map(|id| (id, id as usize)).collect());
    s.candidates.adjust(&all, |logit, at| {
        let mut logits = seen.get();
        logits[*at] = logit;
        seen.set(logits);
        logit
    });
    let seen = seen.get();
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

/// Random logits of `n` tokens, as a model has them, from a fixed seed.
fn random_logits(n: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..n).map(|_| ((0..4).map(|_| random.next_unit()).sum::<f64>() * 6.0 - 12.0) as f32).collect()
}

/// softmax, by its definition.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|l| (l - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

/// What a stage leaves of `logits`, as ids in order.
fn kept(stage: &Stage, logits: &[f32], seed: u64) -> Vec<Token> {
    let mut s = Sampler::new(logits.len());
    s.add(stage.clone()).unwrap();
    s.set_seed(seed);
    s.candidates.fill(logits, None);
    stage.apply(&mut s.candidates, &s.recent, &mut s.random, &mut s.mu);
    let mut ids: Vec<Token> = (0..logits.len() as Token).filter(|id| s.candidates.probability(*id) > 0.0).collect();
    ids.sort_unstable();
    ids
}

/// How much probability stands before each token when they are ordered by their keys, smallest first.
fn before(p: &[f64], keys: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]).then(a.cmp(&b)));
    let (mut sums, mut sum) = (vec![0.0; p.len()], 0.0);
    for i in order {
        sums[i] = sum;
        sum += p[i];
    }
    sums
}

#[test]
fn truncations_keep_what_their_formulas_keep() {
    for (seed, n) in [(1, 7), (2, 150), (3, 700), (4, 3000)] {
        let logits = random_logits(n, seed);
        let p = softmax(&logits.iter().map(|l| f64::from(*l)).collect::<Vec<_>>());
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        let likely = before(&p, &p.iter().map(|p| -p).collect::<Vec<_>>());
        let typical = before(&p, &p.iter().map(|p| (-p.ln() - entropy).abs()).collect::<Vec<_>>());
        let mean = logits.iter().map(|l| f64::from(*l)).sum::<f64>() / n as f64;
        let sigma = (logits.iter().map(|l| (f64::from(*l) - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let largest = p.iter().copied().fold(0.0, f64::max);
        let ids = |wanted: &dyn Fn(usize) -> bool| (0..n).filter(|&i| wanted(i)).map(|i| i as Token).collect::<Vec<_>>();
        for x in [0.1f32, 0.5, 0.9, 0.99] {
            let limit = f64::from(x);
            assert_eq!(kept(&Stage::TopP(x), &logits, 0), ids(&|i| likely[i] < limit), "top_p {x}, {n}");
            assert_eq!(kept(&Stage::TypicalP(x), &logits, 0), ids(&|i| typical[i] < limit), "typical_p {x}, {n}");
            assert_eq!(kept(&Stage::MinP(x), &logits, 0), ids(&|i| p[i] >= limit * largest * (1.0 - 1e-6)), "min_p {x}, {n}");
            let near = ids(&|i| f64::from(logits[i]) >= f64::from(max) - limit * sigma);
            assert_eq!(kept(&Stage::TopNSigma(x), &logits, 0), near, "top_n_sigma {x}, {n}");
        }
        let rank = before(&vec![1.0; n], &logits.iter().map(|l| -f64::from(*l)).collect::<Vec<_>>());
        for k in [1u32, 2, 40, 100] {
            assert_eq!(kept(&Stage::TopK(k), &logits, 0), ids(&|i| rank[i] < f64::from(k)), "top_k {k}, {n}");
        }
        for bits in [2.0f32, 5.0, 9.0] {
            let unsurprising = ids(&|i| -p[i].log2() <= f64::from(bits) || logits[i] == max);
            assert_eq!(kept(&Stage::Mirostat { tau: bits / 2.0, eta: 0.1 }, &logits, 0), unsurprising, "mirostat {bits}, {n}");
        }
    }
}

#[test]
fn ties_and_forbidden_tokens_are_no_trouble_for_any_size() {
    let mut logits = vec![1.0f32; 5000];
    logits[4000..].fill(f32::NEG_INFINITY);
    logits[3999] = 2.0;
    assert_eq!(kept(&Stage::TopK(3), &logits, 0), [0, 1, 3999]);
    assert_eq!(kept(&Stage::TopK(4500), &logits, 0).len(), 4000);
    assert_eq!(kept(&Stage::TopP(1e-9), &logits, 0), [3999]);
}

#[test]
fn xtc_drops_the_top_but_the_least_of_it_as_often_as_it_is_told() {
    // softmax of LOGITS = .086 .636 .234 .012 .032
    let xtc = |probability, threshold| Stage::Xtc { probability, threshold };
    assert_eq!(kept(&xtc(1.0, 0.05), &LOGITS, 1), [0, 3, 4]);
    assert_eq!(kept(&xtc(1.0, 0.2), &LOGITS, 1), [0, 2, 3, 4]);
    assert_eq!(kept(&xtc(1.0, 0.3), &LOGITS, 1), [0, 1, 2, 3, 4], "one token alone stays");
    assert_eq!(kept(&xtc(1.0, 0.6), &LOGITS, 1), [0, 1, 2, 3, 4], "above one half it is off");
    let dropped = (0..2000).filter(|&seed| kept(&xtc(0.25, 0.2), &LOGITS, seed).len() == 4).count();
    // 2000 draws with p = 0.25: the standard deviation is 19.4.
    assert!((430..570).contains(&dropped), "{dropped}");
    let counts = histogram(&[xtc(1.0, 0.05)], 20_000);
    let inf = f64::NEG_INFINITY;
    assert!(chi_square(&counts, [1.0, inf, inf, -1.0, 0.0]) < 13.8, "{counts:?}");
}

#[test]
fn dynamic_temperature_follows_the_entropy() {
    let p = softmax(&LOGITS.map(f64::from));
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    let t = 0.5 + (1.5 - 0.5) * (entropy / 5f64.ln()).powf(2.0);
    let counts = histogram(&[Stage::DynamicTemperature { min: 0.5, max: 1.5, exponent: 2.0 }], 100_000);
    assert!(chi_square(&counts, LOGITS.map(|l| f64::from(l) / t)) < 18.5, "{counts:?}");
}

#[test]
fn biases_and_repetitions_change_logits_as_written() {
    let bias = Stage::LogitBias(Arc::new(HashMap::from([(0, 1.0), (1, f32::NEG_INFINITY), (4, -2.0)])));
    let counts = histogram(&[bias.clone(), Stage::Temperature(1.0)], 100_000);
    assert!(counts[1] == 0 && chi_square(&counts, [2.0, f64::NEG_INFINITY, 2.0, -1.0, -2.0]) < 16.3, "{counts:?}");
    assert_eq!(sampler(&[bias], 0).pick(&LOGITS).unwrap(), 0, "the lowest id of two that are as likely");

    // 1 2 3 1 2: a 3 would continue a repetition of two tokens.
    let dry = |allowed_len| Stage::Dry { multiplier: 2.0, base: 1.5, allowed_len, last_n: 100, breakers: Arc::default() };
    let logit_of_3 = |stage: Stage| {
        let mut s = sampler(std::slice::from_ref(&stage), 0);
        [1, 2, 3, 1, 2].iter().for_each(|token| s.accept(*token).unwrap());
        s.candidates.fill(&[0.0; 5], None);
        stage.apply(&mut s.candidates, &s.recent, &mut s.random, &mut s.mu);
        (s.candidates.probability(3) / s.candidates.probability(4)).ln()
    };
    for (allowed, expected) in [(1, -2.0 * 1.5), (2, -2.0), (3, 0.0)] {
        assert!((logit_of_3(dry(allowed)) - expected).abs() < 1e-6, "allowed {allowed}");
    }
}

#[test]
fn mirostat_learns_from_what_it_draws() {
    let logits = random_logits(500, 9);
    let (tau, eta) = (3.0, 0.1);
    let mut s = Sampler::new(logits.len());
    s.add(Stage::Mirostat { tau: tau as f32, eta: eta as f32 }).unwrap();
    s.set_seed(3);
    let p = softmax(&logits.iter().map(|l| f64::from(*l)).collect::<Vec<_>>());
    let mut mu = 2.0 * tau;
    for _ in 0..200 {
        let token = s.pick(&logits).unwrap() as usize;
        let largest = p.iter().copied().fold(0.0, f64::max);
        let total: f64 = p.iter().filter(|p| -p.log2() <= mu || **p == largest).sum();
        mu -= f64::from(eta as f32) * (-(p[token] / total).log2() - tau);
        assert!((s.mu.unwrap() - mu).abs() < 1e-6);
    }
}

/// How often each token is drawn in `n` draws after `history`, which stays as it is.
fn histogram_after(stage: &Stage, history: &[Token], n: u64) -> [u64; 5] {
    let mut s = sampler(&[stage.clone(), Stage::Temperature(1.0)], 11);
    history.iter().for_each(|token| s.accept(*token).unwrap());
    let mut counts = [0; 5];
    (0..n).for_each(|_| counts[s.draw(&LOGITS, None).unwrap() as usize] += 1);
    counts
}

#[test]
fn what_is_left_is_drawn_by_its_probability() {
    let out = f64::NEG_INFINITY;
    let [a, b, c, d, e] = LOGITS.map(f64::from);
    let dry = Stage::Dry { multiplier: 1.5, base: 2.0, allowed_len: 1, last_n: 100, breakers: Arc::default() };
    // softmax = .086 .636 .234 .012 .032, entropy 1.0, standard deviation of the logits 1.41
    for (stage, history, logits) in [
        (Stage::TopP(0.9), &[][..], [a, b, c, out, out]),
        (Stage::MinP(0.04), &[], [a, b, c, out, e]),
        (Stage::TypicalP(0.9), &[], [a, b, c, out, out]),
        (Stage::TopNSigma(1.5), &[], [a, b, c, out, out]),
        (Stage::TopK(4), &[], [a, b, c, out, e]),
        // Learning nothing, it allows twice 2 bits.
        (Stage::Mirostat { tau: 2.0, eta: 0.0 }, &[], [a, b, c, out, out]),
        (
            Stage::Penalties { last_n: 3, repeat: 2.0, frequency: 0.5, presence: 0.25 },
            &[1, 1, 3],
            [a, b / 2.0 - 1.25, c, d * 2.0 - 0.75, e],
        ),
        (dry, &[1, 2, 3, 1, 2], [a, b, c, d - 1.5 * 2.0, e]),
    ] {
        let counts = histogram_after(&stage, history, 100_000);
        let expected_none = (0..5).filter(|&i| logits[i] == out).all(|i| counts[i] == 0);
        assert!(expected_none && chi_square(&counts, logits) < 18.5, "{stage:?}: {counts:?}");
    }
}

#[test]
fn a_forced_token_that_is_forbidden_is_said_otherwise_or_not_at_all() {
    use crate::text::constraint::{Allowed, ConstraintKind, ConstraintSource, Grammars};
    use crate::text::{Alphabet, Model, TokenType, Tokenizer, VocabularyData};
    // Bytes, which are what this tokenizer makes of any text, an end, and a word that says two of them.
    let mut data = VocabularyData::empty(Alphabet::Characters);
    data.tokens = (0..256).map(|byte| format!("<0x{byte:02X}>").into_bytes().into()).collect();
    data.types = vec![TokenType::Byte; 256];
    for (text, kind) in [("</s>", TokenType::Control), ("ab", TokenType::Normal)] {
        data.tokens.push(text.as_bytes().into());
        data.types.push(kind);
    }
    (data.model, data.eos) = (Model::Scores(vec![0.0; 258]), Some(256));
    let grammars = Grammars::new(&Arc::new(Tokenizer::new(&data).unwrap())).unwrap();
    let compile = |text: &str| grammars.compile(&ConstraintSource { kind: ConstraintKind::Regex, text: text.into() }).unwrap();
    let never = |token| Stage::LogitBias(Arc::new(HashMap::from([(token, f32::NEG_INFINITY)])));
    let say = |s: &mut Sampler, logits: &[f32]| -> Result<Vec<Token>> {
        let mut said = Vec::new();
        while said.last() != Some(&256) {
            said.push(s.pick(logits)?);
        }
        Ok(said)
    };
    let flat = vec![0.0; 258];
    let (a, b, ab) = (u32::from(b'a'), u32::from(b'b'), 257);
    let mut free = Sampler::new(258);
    free.set_constraint(Some(compile("abab")));
    assert!(matches!(free.constraint.as_mut().unwrap().allowed(), Ok(Allowed::One(token)) if token == a), "nothing is tested otherwise");
    assert_eq!(say(&mut free, &flat).unwrap(), [a, b, a, b, 256]);
    // Whichever comes first: the bias or the constraint, or a logit that the host took out.
    let mut biased = Sampler::new(258);
    biased.add(never(a)).unwrap();
    biased.set_constraint(Some(compile("abab")));
    assert_eq!(say(&mut biased, &flat).unwrap(), [ab, ab, 256]);
    biased.reset();
    assert_eq!(biased.next_forced(), None);
    assert_eq!(say(&mut biased.clone(), &flat).unwrap(), [ab, ab, 256]);
    let mut late = Sampler::new(258);
    late.set_constraint(Some(compile("abab")));
    late.add(never(a)).unwrap();
    assert_eq!(say(&mut late, &flat).unwrap(), [ab, ab, 256]);
    let mut edited = flat.clone();
    edited[a as usize] = f32::NEG_INFINITY;
    free.reset();
    assert_eq!(say(&mut free, &edited).unwrap(), [ab, ab, 256]);
    // There is no other way to say it.
    late.add(never(ab)).unwrap();
    late.reset();
    assert_eq!(say(&mut late, &flat).unwrap_err().kind(), ErrorKind::DeadEnd);
}
