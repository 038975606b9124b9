//! What a chain does against repetition: penalties for tokens that occurred, and DRY for sequences that begin again.

use crate::text::Token;
use std::collections::{HashMap, HashSet, VecDeque};

/// How often each token occurs in `recent`.
pub(super) fn counts<'a>(recent: impl Iterator<Item = &'a Token>) -> HashMap<Token, u32> {
    let mut counts: HashMap<Token, u32> = HashMap::new();
    for token in recent {
        let count = counts.entry(*token).or_default();
        *count = count.saturating_add(1);
    }
    counts
}

/// Keskar et al. (CTRL, 2019) for `repeat`; the OpenAI API's formula for `frequency` and `presence`.
pub(super) fn penalised(logit: f32, count: u32, repeat: f32, frequency: f32, presence: f32) -> f32 {
    let logit = if logit > 0.0 { logit / repeat } else { logit * repeat };
    logit - (count as f32 * frequency + presence)
}

/// The longest repetition that each token would continue, where it is at least `allowed` tokens (p-e-w's "don't repeat yourself").
///
/// `recent` are the latest `last_n` tokens, newest last. A repetition does not reach across a token of `breakers`.
pub(super) fn repetitions(recent: &VecDeque<Token>, last_n: usize, allowed: usize, breakers: &HashSet<Token>) -> HashMap<Token, usize> {
    // Newest first, so that what repeats is a prefix.
    let newest_first: Vec<Token> = recent.iter().rev().take(last_n).copied().collect();
    let limit = newest_first.iter().position(|token| breakers.contains(token)).unwrap_or(newest_first.len());
    let mut longest: HashMap<Token, usize> = HashMap::new();
    if limit < allowed {
        return longest;
    }
    for (at, &matched) in prefix_lengths(&newest_first).iter().enumerate().skip(1) {
        let length = matched.min(limit);
        if length >= allowed.max(1) {
            // What came after that place the last time.
            let continued = longest.entry(newest_first[at - 1]).or_default();
            *continued = (*continued).max(length);
        }
    }
    longest
}

/// The Z function: at each place, how much of what begins there is the beginning of all (Gusfield 1997). O(n).
fn prefix_lengths(text: &[Token]) -> Vec<usize> {
    let mut z = vec![0; text.len()];
    let (mut left, mut right) = (0, 0);
    for i in 1..text.len() {
        let known = if i < right { z[i - left].min(right - i) } else { 0 };
        let more = text[known..].iter().zip(&text[i + known..]).take_while(|(a, b)| a == b).count();
        z[i] = known + more;
        if i + z[i] > right {
            (left, right) = (i, i + z[i]);
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By definition: every place, every length.
    fn naive(recent: &[Token], allowed: usize, breakers: &HashSet<Token>) -> HashMap<Token, usize> {
        let mut longest = HashMap::new();
        let n = recent.len();
        for end in 1..n {
            let same =
                (1..=end).take_while(|len| recent[end - len..end] == recent[n - len..] && !breakers.contains(&recent[n - len])).count();
            if same >= allowed.max(1) {
                let entry = longest.entry(recent[end]).or_default();
                *entry = same.max(*entry);
            }
        }
        longest
    }

    proptest! {
        #[test]
        fn repetitions_are_those_of_the_definition(
            recent in prop::collection::vec(0u32..4, 0..24),
            allowed in 0usize..4,
            breakers in prop::collection::hash_set(0u32..4, 0..2),
        ) {
            let queue: VecDeque<Token> = recent.iter().copied().collect();
            prop_assert_eq!(repetitions(&queue, 100, allowed, &breakers), naive(&recent, allowed, &breakers));
        }
    }
}
