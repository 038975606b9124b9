//! Byte-pair merging: symbols become longer symbols, the most urgent pair first, of equal ones the leftmost.
//!
//! For `encode`. SentencePiece's merging by score and BPE's merging by rank are the same table here (Sennrich et al. 2016,
//! Kudo and Richardson 2018). `tokenizers` has such a loop too; it panics on crafted merges, and this one is faster.

use crate::error::Result;
use crate::fail;
use crate::formats::names::QuotedBytes;
use crate::text::limits::{MAX_CUTS_PER_TOKEN, MAX_SCORED_TOKEN_BYTES, MIN_MAX_CUTS};
use crate::text::vocabulary::{Vocabulary, out_of_memory};
use crate::text::{Token, TokenType, VocabularyData};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to so many symbols are scanned for the best pair; more go through a heap, which wins from about here on.
const MAX_SCANNED: usize = 24;

/// What two neighbours become.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Merge {
    /// Smaller is sooner.
    priority: u32,
    token: Token,
}

/// No merge: later than every other one.
const NO_MERGE: Merge = Merge { priority: u32::MAX, token: 0 };

/// Two neighbours as one key.
fn pair(left: Token, right: Token) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Which neighbours merge, and which first: as in [`Model`](crate::text::Model).
#[derive(Clone, Copy)]
pub(super) enum MergeOrder<'a> {
    Scores(&'a [f32]),
    Pairs(&'a [[Cow<'a, [u8]>; 2]]),
}

/// All merges of a vocabulary; every id in it is a token of the vocabulary.
pub(super) struct MergeTable {
    merges: HashMap<u64, Merge>,
}

impl MergeTable {
    /// # Errors
    /// `Format` if a merge names what the vocabulary lacks, or scores are missing or not numbers; `OutOfMemory`.
    pub(super) async fn new(data: &VocabularyData<'_>, order: MergeOrder<'_>, vocabulary: &Vocabulary) -> Result<Self> {
        let mut table = Self { merges: HashMap::new() };
        match order {
            MergeOrder::Scores(scores) => table.add_scored(data, vocabulary, scores).await?,
            MergeOrder::Pairs(pairs) => table.add_pairs(data, vocabulary, pairs).await?,
        }
        Ok(table)
    }

    /// Keeps the first of two merges for one pair.
    fn add(&mut self, left: Token, right: Token, merge: Merge) -> Result<()> {
        self.merges.try_reserve(1).map_err(|_| out_of_memory())?;
        if let Entry::Vacant(entry) = self.merges.entry(pair(left, right)) {
            entry.insert(merge);
        }
        Ok(())
    }

    /// Every way to cut a token in two tokens is a merge, as urgent as the token's score is high.
    async fn add_scored(&mut self, data: &VocabularyData<'_>, vocabulary: &Vocabulary, scores: &[f32]) -> Result<()> {
        if scores.len() != vocabulary.len() {
            fail!(Format, "the vocabulary has {} tokens and {} scores", vocabulary.len(), scores.len());
        }
        // At most MAX_TOKENS times a small number.
        let most = MIN_MAX_CUTS.max(MAX_CUTS_PER_TOKEN * vocabulary.len());
        let mut n_cuts = 0;
        for (token, piece, score) in mergeable(vocabulary, scores) {
            data.pause(token).await?;
            check_scored(token, piece, score)?;
            n_cuts += cuts(vocabulary, piece).count();
            if n_cuts > most {
                fail!(Format, "the vocabulary has {} tokens with over {most} ways to cut them into two tokens", vocabulary.len());
            }
        }
        // Counted first: a table that grows holds half as much again for a moment.
        self.merges.try_reserve(n_cuts).map_err(|_| out_of_memory())?;
        for (token, piece, score) in mergeable(vocabulary, scores) {
            data.pause(token).await?;
            let merge = Merge { priority: priority(score), token };
            cuts(vocabulary, piece).try_for_each(|(left, right)| self.add(left, right, merge))?;
        }
        Ok(())
    }

    async fn add_pairs(&mut self, data: &VocabularyData<'_>, vocabulary: &Vocabulary, pairs: &[[Cow<'_, [u8]>; 2]]) -> Result<()> {
        self.merges.try_reserve(pairs.len()).map_err(|_| out_of_memory())?;
        let mut merged = Vec::new();
        for (priority, [left, right]) in (0..NO_MERGE.priority).zip(pairs) {
            data.pause(priority).await?;
            merged.clear();
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
            let find = |text: &[u8]| match vocabulary.token(text) {
                Some(token) => Ok(token),
                None => fail!(Format, "merge {priority} needs {}, which is not in the vocabulary", QuotedBytes(text)),
            };
            let (left, right, token) = (find(left)?, find(right)?, find(&merged)?);
            // A merge must not reach what text may not become; only a crafted file tries.
            let may_merge = |token| vocabulary.token_type(token).is_some_and(TokenType::may_merge);
            if may_merge(left) && may_merge(right) && may_merge(token) {
                self.add(left, right, Merge { priority, token })?;
            }
        }
        Ok(())
    }

    /// What merging can make.
    pub(super) fn results(&self) -> impl Iterator<Item = Token> + '_ {
        self.merges.values().map(|merge| merge.token)
    }

    fn get(&self, left: Token, right: Token) -> Merge {
        self.merges.get(&pair(left, right)).copied().unwrap_or(NO_MERGE)
    }

    /// Merges `scratch.symbols` until no two neighbours merge.
    ///
    /// # Errors
    /// `OutOfMemory`, with the symbols in an unspecified state.
    pub(super) fn merge(&self, scratch: &mut MergeScratch) -> Result<()> {
        if scratch.symbols.len() <= MAX_SCANNED {
            self.merge_short(&mut scratch.symbols, &mut scratch.neighbours);
            return Ok(());
        }
        self.merge_long(scratch)
    }

    /// Quadratic in the number of symbols, which are few. `neighbours[i]` is the merge of symbols i and i + 1.
    fn merge_short(&self, symbols: &mut Vec<Token>, neighbours: &mut Vec<Merge>) {
        neighbours.clear();
        neighbours.extend(symbols.windows(2).map(|w| self.get(w[0], w[1])));
        while let Some((at, best)) = neighbours.iter().copied().enumerate().min_by_key(|(_, merge)| merge.priority) {
            if best == NO_MERGE {
                return;
            }
            symbols[at] = best.token;
            symbols.remove(at + 1);
            neighbours.remove(at);
            if at > 0 {
                neighbours[at - 1] = self.get(symbols[at - 1], best.token);
            }
            if at < neighbours.len() {
                neighbours[at] = self.get(best.token, symbols[at + 1]);
            }
        }
    }

    /// n log n in the number of symbols: a linked list, and a heap of merges of which some are out of date.
    fn merge_long(&self, scratch: &mut MergeScratch) -> Result<()> {
        scratch.link()?;
        for at in 1..scratch.symbols.len() {
            self.offer(scratch, at as u32 - 1, at as u32)?; // fewer than 2^32: MAX_TEXT_BYTES
        }
        while let Some(Reverse(Candidate { left, token, pair: expected, .. })) = scratch.heap.pop() {
            let right = scratch.links[left as usize].next;
            if right == END || pair(scratch.symbols[left as usize], scratch.symbols[right as usize]) != expected {
                continue; // one of the two merged with another neighbour in the meantime
            }
            scratch.symbols[left as usize] = token;
            scratch.unlink(right);
            let Link { previous, next } = scratch.links[left as usize];
            self.offer(scratch, previous, left)?;
            self.offer(scratch, left, next)?;
        }
        scratch.collect();
        Ok(())
    }

    /// Notes that the symbols at `left` and `right`, which are neighbours, could merge.
    fn offer(&self, scratch: &mut MergeScratch, left: u32, right: u32) -> Result<()> {
        if left == END || right == END {
            return Ok(());
        }
        let (l, r) = (scratch.symbols[left as usize], scratch.symbols[right as usize]);
        let merge = self.get(l, r);
        if merge != NO_MERGE {
            scratch.heap.try_reserve(1).map_err(|_| out_of_memory())?;
            scratch.heap.push(Reverse(Candidate { priority: merge.priority, left, token: merge.token, pair: pair(l, r) }));
        }
        Ok(())
    }
}

/// The tokens that merging can make, with what they stand for and their scores.
fn mergeable<'a>(vocabulary: &'a Vocabulary, scores: &'a [f32]) -> impl Iterator<Item = (Token, &'a [u8], f32)> {
    vocabulary.iter().zip(scores).filter_map(|((token, kind), &score)| {
        let piece = vocabulary.piece(token).unwrap_or_default();
        (kind.is_text() && vocabulary.word(piece) == Some(token)).then_some((token, piece, score))
    })
}

fn check_scored(token: Token, piece: &[u8], score: f32) -> Result<()> {
    if score.is_nan() {
        fail!(Format, "the score of token {token} is not a number");
    }
    if piece.len() > MAX_SCORED_TOKEN_BYTES {
        fail!(Format, "token {token} has {} bytes, expected {MAX_SCORED_TOKEN_BYTES} at most", piece.len());
    }
    Ok(())
}

/// The ways to cut `piece` into two tokens; none if it is not UTF-8, because no text contains it.
fn cuts<'a>(vocabulary: &'a Vocabulary, piece: &'a [u8]) -> impl Iterator<Item = (Token, Token)> + 'a {
    let piece = std::str::from_utf8(piece).unwrap_or_default();
    piece.char_indices().skip(1).filter_map(|(at, _)| {
        let (left, right) = piece.split_at(at);
        Some((vocabulary.word(left.as_bytes())?, vocabulary.word(right.as_bytes())?))
    })
}

/// The order of scores, highest first, as the order of numbers.
fn priority(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 equals 0.0
    // The bits of positive floats are ordered as the floats are, those of negative ones the other way round.
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}

/// Where a list of symbols ends.
const END: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

/// A merge that was possible when it was noted. Ordered by urgency, then from left to right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u32,
    left: u32,
    token: Token,
    /// What stood there; if it still does, the merge is still possible.
    pair: u64,
}

/// The symbols to merge, and memory that is used again from word to word.
#[derive(Default)]
pub(super) struct MergeScratch {
    /// In: one per byte or character. Out: tokens.
    pub(super) symbols: Vec<Token>,
    neighbours: Vec<Merge>,
    links: Vec<Link>,
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl MergeScratch {
    /// Links every symbol to its neighbours.
    fn link(&mut self) -> Result<()> {
        let n = self.symbols.len();
        self.heap.clear();
        self.links.clear();
        self.links.try_reserve(n).map_err(|_| out_of_memory())?;
        let n = n as u32; // fewer than 2^32: MAX_TEXT_BYTES
        self.links.extend((0..n).map(|at| Link { previous: at.wrapping_sub(1), next: if at + 1 < n { at + 1 } else { END } }));
        Ok(())
    }

    /// Takes the symbol at `at`, which is not the first, out of the list.
    fn unlink(&mut self, at: u32) {
        let Link { previous, next } = self.links[at as usize];
        self.links[previous as usize].next = next;
        if next != END {
            self.links[next as usize].previous = previous;
        }
        // Whatever was noted for this place must not match again.
        self.links[at as usize].next = END;
    }

    /// Moves the symbols that are left to the front.
    fn collect(&mut self) {
        let (mut at, mut n) = (0, 0);
        while at != END {
            self.symbols[n] = self.symbols[at as usize];
            n += 1;
            at = self.links[at as usize].next;
        }
        self.symbols.truncate(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::sys::job;
    use crate::text::{Alphabet, Model};
    use proptest::prelude::*;

    fn data(tokens: &[String], model: Model<'static>) -> VocabularyData<'static> {
        VocabularyData {
            tokens: tokens.iter().map(|t| Cow::Owned(t.clone().into_bytes())).collect(),
            types: vec![TokenType::Normal; tokens.len()],
            model,
            ..VocabularyData::empty(Alphabet::Characters)
        }
    }

    fn table(data: &VocabularyData<'_>) -> Result<(Vocabulary, MergeTable)> {
        let vocabulary = job::run(Vocabulary::new(data))?;
        let order = match &data.model {
            Model::Scores(scores) => MergeOrder::Scores(scores),
            Model::Pairs(pairs) => MergeOrder::Pairs(pairs),
            other => panic!("{other:?} does not merge"),
        };
        let table = job::run(MergeTable::new(data, order, &vocabulary))?;
        Ok((vocabulary, table))
    }

    #[test]
    fn scores_become_priorities_in_order() {
        let scores = [f32::INFINITY, 1e30, 1.0, 1e-40, 0.0, -1e-40, -1.0, -1e30, f32::NEG_INFINITY];
        let priorities: Vec<_> = scores.iter().map(|&s| priority(s)).collect();
        assert!(priorities.is_sorted_by(|a, b| a < b), "{priorities:?}");
        assert_eq!(priority(-0.0), priority(0.0));
        assert!(priority(f32::NEG_INFINITY) < NO_MERGE.priority);
    }

    #[test]
    fn the_best_score_merges_first_and_the_left_one_of_equals() {
        let tokens = ["a", "b", "ab", "ba", "aba"].map(String::from);
        let merged = |scores: [f32; 5], symbols: &[Token]| {
            let (_, table) = table(&data(&tokens, Model::Scores(scores.to_vec()))).unwrap();
            let mut scratch = MergeScratch { symbols: symbols.to_vec(), ..Default::default() };
            table.merge(&mut scratch).unwrap();
            scratch.symbols
        };
        assert_eq!(merged([0., 0., 1., 2., -9.], &[0, 1, 0]), [4]); // a ba -> aba
        assert_eq!(merged([0., 0., 1., 2., -9.], &[0, 1, 1, 0]), [2, 3]);
        assert_eq!(merged([0., 0., 1., 1., -9.], &[1, 0, 1]), [3, 1]);
    }

    #[test]
    fn broken_merges_are_refused() {
        let tokens = ["a", "b", "ab"].map(String::from);
        let pair = |l: &'static str, r: &'static str| [Cow::Borrowed(l.as_bytes()), Cow::Borrowed(r.as_bytes())];
        for (merges, says) in [
            (Model::Pairs(vec![pair("a", "b"), pair("b", "a")]), "merge 1 needs \"ba\""),
            (Model::Pairs(vec![pair("a", "x")]), "merge 0 needs \"x\""),
            (Model::Pairs(vec![pair("", "b")]), "merge 0 needs \"\""),
            (Model::Pairs(vec![pair("日", "本")]), "merge 0 needs"),
            (Model::Scores(vec![0.0; 2]), "3 tokens and 2 scores"),
            (Model::Scores(vec![0.0, 0.0, f32::NAN]), "score of token 2"),
        ] {
            let error = table(&data(&tokens, merges)).err().unwrap();
            assert!(error.kind() == ErrorKind::Format && error.message().contains(says), "{error}");
        }
    }

    proptest! {
        /// The heap gives what the scan gives, on vocabularies full of overlaps and ties.
        #[test]
        fn long_words_merge_as_short_ones_do(
            words in prop::collection::btree_map("[abc]{2,5}", -3..3i8, 1..20),
            symbols in prop::collection::vec(0..3u32, 0..80),
        ) {
            let mut tokens = ["a", "b", "c"].map(String::from).to_vec();
            tokens.extend(words.keys().cloned());
            let scores = [0; 3].iter().chain(words.values()).map(|&s| f32::from(s)).collect();
            let (_, table) = table(&data(&tokens, Model::Scores(scores))).unwrap();
            let mut long = MergeScratch { symbols: symbols.clone(), ..Default::default() };
            if !symbols.is_empty() {
                table.merge_long(&mut long).unwrap();
            }
            let mut short = symbols;
            table.merge_short(&mut short, &mut Vec::new());
            prop_assert_eq!(long.symbols, short);
        }
    }
}
