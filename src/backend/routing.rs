//! Mixtures of experts: what a layer of many feed-forwards is made of, and which of them a row takes. Used by the stages `moe_up` and
//! `moe_down` of every backend, and built by `model`.

use super::{Backend, Linear, Slot};
use std::ops::Range;

/// A feed-forward that every row takes.
pub struct Mlp<B: Backend> {
    /// `(n_ff, n_embd)`; `None` where the feed-forward has no gate.
    pub gate: Option<Linear<B>>,
    /// `(n_ff, n_embd)`
    pub up: Linear<B>,
    /// `(n_embd, n_ff)`
    pub down: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    /// Calls `stage` with the projections into its slots.
    pub fn project<T>(&self, stage: impl FnOnce(&[(Slot, &Linear<B>)]) -> T) -> T {
        let up = (Slot::Up, &self.up);
        match &self.gate {
            Some(gate) => stage(&[(Slot::Gate, gate), up]),
            None => stage(&[up]),
        }
    }
}

/// Many feed-forwards, of which each row takes a few.
pub struct Experts<B: Backend> {
    /// `(n_experts, n_embd)`
    pub router: Linear<B>,
    /// `(n_experts,)`: added to the scores when experts are chosen, not when they are weighed (DeepSeek-V3).
    pub choice_bias: Option<Vec<f32>>,
    /// How they are chosen and weighed.
    pub routing: Routing,
    /// `(n_experts * n_ff, n_embd)`: one expert's rows below the other's; the bias likewise.
    pub gate: Linear<B>,
    /// `(n_experts * n_ff, n_embd)`
    pub up: Linear<B>,
    /// `(n_experts * n_embd, n_ff)`
    pub down: Linear<B>,
    /// The expert that every row takes, if there is one.
    pub shared: Option<Mlp<B>>,
    /// `(n_embd,)`: the sigmoid of its product with a row weighs the shared expert (Qwen 2).
    pub shared_gate: Option<Vec<f32>>,
}

/// The sizes of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoeShape {
    /// Experts of a layer.
    pub n_experts: usize,
    /// Experts that a row takes.
    pub n_used: usize,
    /// Width of an expert.
    pub n_ff: usize,
}

/// What a router's logits mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// Softmax over all experts (Mixtral, Qwen).
    Softmax,
    /// Softmax over the chosen ones (gpt-oss, Granite).
    SoftmaxOfChosen,
    /// Each expert's sigmoid (DeepSeek-V3, Llama 4).
    Sigmoid,
    /// SparseMixer-v2 (Liu et al. 2024, arXiv 2409.18686): one after the other, softmax over the logits that come near the best left (Phi-3.5).
    SparseMixer,
}

/// How experts are chosen and weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts that a row takes.
    pub n_used: usize,
    /// What the logits mean.
    pub scores: Scores,
    /// True if the weights of the chosen are divided by their sum.
    pub normalises: bool,
    /// Multiplies the weights.
    pub scale: f32,
    /// True if an expert's input is multiplied by its weight, not its output (Llama 4).
    pub weighs_input: bool,
    /// Experts come in groups, of which the best are looked at (DeepSeek).
    pub groups: Option<Groups>,
}

/// Groups of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Consecutive groups of equal size.
    pub n_groups: usize,
    /// Groups that a row may choose from.
    pub n_used: usize,
    /// True if a group is as good as its two best experts together (DeepSeek-V3); else as its best one.
    pub sums_two: bool,
}

/// A row's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pick {
    /// `0..n_experts`
    pub expert: usize,
    /// What its output, or its input, is multiplied by.
    pub weight: f32,
}

/// SparseMixer's jitter: logits that are farther below the best than twice this part of the larger of both magnitudes do not count. The value of
/// every published model; no GGUF key carries it.
const JITTER: f32 = 0.01;

/// Kept out of the divisor of weights that are divided by their sum: sigmoids can all be zero.
const TINY: f32 = 1e-20;

impl Routing {
    /// Fills `picks` (`(n_used,)`) with the experts of a row, best first, from its `logits` (`(n_experts,)`, overwritten). Of equal scores the first one
    /// counts. `bias` (`(n_experts,)`) is added for the choice.
    pub(super) fn choose(&self, logits: &mut [f32], bias: Option<&[f32]>, picks: &mut [Pick]) {
        if self.scores == Scores::SparseMixer {
            return sparse_mixer(logits, picks);
        }
        if self.scores == Scores::Softmax {
            softmax(logits);
        }
        let scores = &*logits;
        let weight = |expert: usize| if self.scores == Scores::Sigmoid { sigmoid(scores[expert]) } else { scores[expert] };
        // Without a bias, logits say who is best also where sigmoids are all one.
        let merit = |expert: usize| bias.map_or(scores[expert], |bias| weight(expert) + bias[expert]);
        let open = self.groups.map_or(u64::MAX, |groups| groups.open(scores.len(), &merit));
        let group_len = self.groups.map_or(scores.len(), |groups| groups.len(scores.len()));
        for i in 0..picks.len() {
            let (before, rest) = picks.split_at_mut(i);
            let free = |expert: &usize| open >> (expert / group_len) & 1 == 1 && before.iter().all(|pick| pick.expert != *expert);
            let expert = best((0..scores.len()).filter(free), &merit);
            rest[0] = Pick { expert, weight: weight(expert) };
        }
        self.weigh(picks);
    }

    /// Makes weights of the chosen scores.
    fn weigh(&self, picks: &mut [Pick]) {
        if self.scores == Scores::SoftmaxOfChosen {
            let largest = picks.iter().fold(f32::NEG_INFINITY, |largest, pick| largest.max(pick.weight));
            picks.iter_mut().for_each(|pick| pick.weight = (pick.weight - largest).exp());
        }
        if self.normalises || self.scores == Scores::SoftmaxOfChosen {
            let sum = picks.iter().map(|pick| pick.weight).sum::<f32>() + TINY;
            picks.iter_mut().for_each(|pick| pick.weight /= sum);
        }
        picks.iter_mut().for_each(|pick| pick.weight *= self.scale);
    }
}

impl Groups {
    /// More groups than any published model has.
    pub const MOST: usize = u64::BITS as usize;

    /// Experts of a group.
    fn len(self, n_experts: usize) -> usize {
        (n_experts / self.n_groups).max(1)
    }

    /// The groups that may be chosen from, as bits.
    fn open(self, n_experts: usize, merit: &dyn Fn(usize) -> f32) -> u64 {
        let mut worth = [f32::NEG_INFINITY; Self::MOST];
        for (group, worth) in worth.iter_mut().enumerate().take(self.n_groups) {
            *worth = self.worth(group * self.len(n_experts)..(group + 1) * self.len(n_experts), merit);
        }
        (0..self.n_used).fold(0, |open, _| {
            let closed = (0..self.n_groups.min(Self::MOST)).filter(|group| open >> group & 1 == 0);
            open | 1 << best(closed, &|group| worth[group])
        })
    }

    /// What a group of `experts` is worth.
    fn worth(self, experts: Range<usize>, merit: &dyn Fn(usize) -> f32) -> f32 {
        let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for merit in experts.map(merit) {
            (best, second) = if merit > best { (merit, best) } else { (best, second.max(merit)) };
        }
        if self.sums_two { best + second } else { best }
    }
}

/// The first of the `experts` that no other beats. A NaN is never the best; where all are, or there are none, it is expert 0.
fn best(experts: impl Iterator<Item = usize>, merit: &dyn Fn(usize) -> f32) -> usize {
    let better = |best: Option<usize>, expert: usize| match best {
        Some(best) if merit(best) >= merit(expert) || merit(expert).is_nan() => Some(best),
        _ => Some(expert),
    };
    experts.fold(None, better).unwrap_or(0)
}

/// See [`Scores::SparseMixer`]. An expert that was chosen leaves the softmax of those behind it.
fn sparse_mixer(logits: &mut [f32], picks: &mut [Pick]) {
    for pick in picks {
        let expert = best(0..logits.len(), &|expert| logits[expert]);
        let largest = logits[expert];
        let is_far = |x: f32| (largest - x) / x.abs().max(largest) > 2.0 * JITTER;
        let sum: f32 = logits.iter().filter(|x| !is_far(**x)).map(|x| (x - largest).exp()).sum();
        *pick = Pick { expert, weight: 1.0 / sum };
        logits[expert] = f32::NEG_INFINITY;
    }
}

fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

/// `1 / (1 + exp(-x))`
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Routing = Routing { n_used: 2, scores: Scores::Softmax, normalises: false, scale: 1.0, weighs_input: false, groups: None };

    fn picks(routing: Routing, logits: &[f32], bias: Option<&[f32]>) -> Vec<(usize, f32)> {
        let mut picks = vec![Pick::default(); routing.n_used];
        routing.choose(&mut logits.to_vec(), bias, &mut picks);
        picks.iter().map(|pick| (pick.expert, (pick.weight * 1e4).round() / 1e4)).collect()
    }

    /// `exp` of these is 1, 2, 3, 2.
    fn logits() -> [f32; 4] {
        [1.0_f32, 2.0, 3.0, 2.0].map(f32::ln)
    }

    #[test]
    fn softmax_over_all_or_over_the_chosen() {
        assert_eq!(picks(PLAIN, &logits(), None), [(2, 0.375), (1, 0.25)]);
        assert_eq!(picks(Routing { normalises: true, scale: 2.0, ..PLAIN }, &logits(), None), [(2, 1.2), (1, 0.8)]);
        assert_eq!(picks(Routing { scores: Scores::SoftmaxOfChosen, ..PLAIN }, &logits(), None), [(2, 0.6), (1, 0.4)]);
    }

    #[test]
    fn a_bias_chooses_and_does_not_weigh() {
        let sigmoid = Routing { scores: Scores::Sigmoid, ..PLAIN };
        assert_eq!(picks(sigmoid, &[0.0, 3.0_f32.ln(), 0.0, 0.0], Some(&[0.0, 0.0, 0.0, 1.0])), [(3, 0.5), (1, 0.75)]);
    }

    #[test]
    fn only_the_best_groups_are_looked_at() {
        let of = |sums_two| Routing { groups: Some(Groups { n_groups: 2, n_used: 1, sums_two }), scores: Scores::Sigmoid, ..PLAIN };
        let logits = [9.0, -9.0, 2.0, 2.0];
        let none = Some(&[0.0; 4][..]);
        assert_eq!(picks(of(false), &logits, none).iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(picks(of(true), &logits, none).iter().map(|p| p.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn sparse_mixer_counts_near_logits_only() {
        let mixer = Routing { scores: Scores::SparseMixer, ..PLAIN };
        assert_eq!(picks(mixer, &[1.0, 2.0, 5.0, 4.0], None), [(2, 1.0), (3, 1.0)]);
        // 4.95 is 1 % below 5: both count, first together, then the second alone.
        assert_eq!(picks(mixer, &[1.0, 2.0, 5.0, 4.95], None), [(2, 0.5125), (3, 1.0)]);
    }

    #[test]
    fn numbers_that_are_none_choose_somebody() {
        for scores in [Scores::Softmax, Scores::SoftmaxOfChosen, Scores::Sigmoid, Scores::SparseMixer] {
            let chosen = picks(Routing { scores, ..PLAIN }, &[f32::NAN; 4], None);
            assert!(chosen.iter().all(|(expert, _)| *expert < 4), "{scores:?}: {chosen:?}");
        }
    }
}
