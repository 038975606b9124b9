//! The words of a vocabulary as a tree of bytes in one array: what each step of a constraint walks through.

use crate::text::Token;
use llguidance::toktrie::{Recognizer, SimpleVob};

/// Bytes of a word: the levels of the tree are counted in 16 bits.
pub(super) const MAX_WORD_BYTES: usize = 512;

/// Marks a node at which no word ends.
const NO_TOKEN: Token = Token::MAX;

/// A byte of one or more words. What follows it in them stands behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// The token whose word ends here.
    token: Token,
    /// Nodes of its subtree, itself included.
    size: u32,
    /// Levels from it up to the parent of the node behind its subtree: 1 = that is its sibling.
    up: u16,
    byte: u8,
}

/// The tree. A node stands before those of its subtree, siblings in the order of their bytes.
#[derive(Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

impl Trie {
    /// Adds to `allowed` the tokens whose words `recognizer` takes.
    pub(super) fn walk(&self, recognizer: &mut impl Recognizer, allowed: &mut SimpleVob) {
        recognizer.trie_started("walk");
        let (mut at, mut up) = (0, 0);
        while let Some(node) = self.nodes.get(at) {
            recognizer.pop_bytes(up);
            if recognizer.try_push_byte(node.byte) {
                if node.token != NO_TOKEN {
                    allowed.allow_token(node.token);
                }
                up = if node.size == 1 { usize::from(node.up) } else { 0 };
                at += 1;
            } else {
                up = usize::from(node.up) - 1;
                at += node.size as usize;
            }
        }
        recognizer.pop_bytes(up);
        recognizer.trie_finished();
    }
}

/// Makes a [`Trie`], word by word.
#[derive(Default)]
pub(super) struct Builder<'a> {
    nodes: Vec<Node>,
    /// The nodes of the last word.
    path: Vec<usize>,
    last: &'a [u8],
}

impl<'a> Builder<'a> {
    /// Adds the word of `token`, which must not come before the one that was added last. Equal words have a last node each.
    pub(super) fn push(&mut self, word: &'a [u8], token: Token) {
        let same = word.iter().zip(self.last).take_while(|(a, b)| a == b).count().min(word.len().saturating_sub(1));
        self.leave(same);
        for &byte in &word[same..] {
            self.path.push(self.nodes.len());
            self.nodes.push(Node { token: NO_TOKEN, size: 1, up: 1, byte });
        }
        if let Some(end) = self.nodes.last_mut() {
            end.token = token;
        }
        self.last = word;
    }

    /// Closes the nodes of the last word but the first `n`.
    fn leave(&mut self, n: usize) {
        for (i, at) in self.path.drain(n..).enumerate() {
            let size = (self.nodes.len() - at) as u32;
            self.nodes[at].size = size;
            self.nodes[at].up = i as u16 + 1;
        }
    }

    pub(super) fn finish(mut self) -> Trie {
        self.leave(0);
        self.nodes.shrink_to_fit();
        Trie { nodes: self.nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes the beginnings of one text, and checks that it is asked like a stack.
    struct OneText<'a> {
        text: &'a [u8],
        depth: usize,
    }

    impl Recognizer for OneText<'_> {
        fn pop_bytes(&mut self, n: usize) {
            self.depth = self.depth.checked_sub(n).expect("more is taken back than was given");
        }
        fn collapse(&mut self) {}
        fn trie_finished(&mut self) {
            assert_eq!(self.depth, 0, "something was not taken back");
        }
        fn try_push_byte(&mut self, byte: u8) -> bool {
            let takes = self.text.get(self.depth) == Some(&byte);
            self.depth += usize::from(takes);
            takes
        }
    }

    proptest! {
        #[test]
        fn the_words_that_begin_a_text_are_found(
            mut words in prop::collection::vec(prop::collection::vec(0u8..3, 1..6), 0..40),
            text in prop::collection::vec(0u8..3, 0..8),
        ) {
            words.sort();
            let mut builder = Builder::default();
            words.iter().zip(0..).for_each(|(word, token)| builder.push(word, token));
            let mut found = SimpleVob::alloc(words.len());
            builder.finish().walk(&mut OneText { text: &text, depth: 0 }, &mut found);
            let expected: Vec<Token> = (0..).zip(&words).filter(|(_, word)| text.starts_with(word)).map(|(token, _)| token).collect();
            prop_assert_eq!(found.to_list(), expected);
        }
    }
}
