//! The tokenizer of a model: what the engine and the C boundary hold. Immutable and shared by all threads.
//!
//! Here it is built and asked about its tokens; `encode` and `decode` hold the two directions.

use crate::error::Result;
use crate::fail;
use crate::sys::job;
use crate::text::byte_alphabet::ByteAlphabet;
use crate::text::model::WordModel;
use crate::text::normalizer::Normalizer;
use crate::text::pretokenizer::Step;
use crate::text::special::SpecialTokens;
use crate::text::unicode::Classes;
use crate::text::vocabulary::{Vocabulary, out_of_memory, parse_byte};
use crate::text::{Alphabet, PreTokenizer, SpacePrefix, Token, TokenType, VocabularyData};
use std::sync::atomic::AtomicBool;

/// Control tokens that end a turn or a text in published vocabularies, whatever the metadata says about them.
/// A file names one such token, often the wrong one of several: without these, a chat would never stop.
pub(super) const END_TEXTS: [&str; 19] = [
    "</s>",
    "_<EOT>",
    "<|flush|>",
    "<|calls|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|end_of_turn|>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "[EOS]",
    "[EOT]",
];

/// Text to tokens and back, for one vocabulary.
pub struct Tokenizer {
    pub(super) vocabulary: Vocabulary,
    pub(super) model: WordModel,
    pub(super) special: SpecialTokens,
    pub(super) classes: Classes,
    pub(super) pre_tokenizer: PreTokenizer,
    pub(super) alphabet: Alphabet,
    /// The token of each byte: its symbol in byte-level BPE, its fallback in SentencePiece.
    pub(super) byte_tokens: [Option<Token>; 256],
    /// Tokens whose text was seen to merge to just them; (n_vocab). Only a memory of what `merges` says.
    pub(super) whole: Vec<AtomicBool>,
    pub(super) ignore_merges: bool,
    pub(super) fuse_unknown: bool,
    pub(super) normalizers: Vec<Normalizer>,
    pub(super) space_prefix: SpacePrefix,
    pub(super) strip_first_space: bool,
    pub(super) unknown: Option<Token>,
    pub(super) prefix: Vec<Token>,
    pub(super) suffix: Vec<Token>,
    bos: Option<Token>,
    eos: Option<Token>,
    /// Tokens that end a generation, sorted.
    ends: Vec<Token>,
}

impl Tokenizer {
    /// Validates `data`.
    ///
    /// # Errors
    /// `Format` if `data` contradicts itself or exceeds a cap of [`limits`](crate::text::limits); `OutOfMemory`.
    pub fn new(data: &VocabularyData<'_>) -> Result<Self> {
        job::run(Self::build(data))
    }

    /// As [`Self::new`], in slices; ends early if the load in `data` is cancelled.
    ///
    /// # Errors
    /// As [`Self::new`]; `Cancelled`.
    pub(super) async fn build(data: &VocabularyData<'_>) -> Result<Self> {
        check_ids(data)?;
        let vocabulary = Vocabulary::new(data).await?;
        let model = WordModel::new(data, &vocabulary).await?;
        data.pause(0).await?;
        let special = SpecialTokens::new(&vocabulary, &data.match_rules)?;
        data.pause(0).await?;
        let classes = Classes::new()?;
        data.pause(0).await?;
        let pre_tokenizer = pre_tokenizer(data, &vocabulary, &model);
        data.pause(0).await?;
        Ok(Self {
            special,
            classes,
            pre_tokenizer,
            alphabet: data.alphabet,
            byte_tokens: byte_tokens(data.alphabet, &vocabulary),
            whole: nothing_seen(vocabulary.len())?,
            ignore_merges: data.ignore_merges,
            fuse_unknown: data.fuse_unknown,
            normalizers: data.normalizations.iter().map(Normalizer::new).collect::<Result<_>>()?,
            space_prefix: data.space_prefix,
            strip_first_space: data.strip_first_space,
            unknown: data.unknown,
            prefix: data.prefix.clone(),
            suffix: data.suffix.clone(),
            bos: data.bos,
            eos: data.eos,
            ends: ends(data, &vocabulary),
            vocabulary,
            model,
        })
    }

    /// Number of tokens: valid ids are below it. A model's output may be wider (padding).
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token that begins a text, if the vocabulary has one.
    pub fn bos(&self) -> Option<Token> {
        self.bos
    }

    /// The token that ends a text, if the vocabulary has one.
    pub fn eos(&self) -> Option<Token> {
        self.eos
    }

    /// True if generation ends with `token`: end of text, of turn or of message.
    pub fn is_eog(&self, token: Token) -> bool {
        self.ends.binary_search(&token).is_ok()
    }

    /// Lets generation end with `token` too, as a model's `generation_config.json` may ask.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such token.
    pub fn add_end(&mut self, token: Token) -> Result<()> {
        self.token_bytes(token)?;
        if let Err(at) = self.ends.binary_search(&token) {
            self.ends.insert(at, token);
        }
        Ok(())
    }

    /// True if `token` steers the model instead of standing for text.
    pub fn is_control(&self, token: Token) -> bool {
        self.vocabulary.token_type(token) == Some(TokenType::Control)
    }

    /// What `token` is for; `None` if there is no such token.
    pub fn token_type(&self, token: Token) -> Option<TokenType> {
        self.vocabulary.token_type(token)
    }

    /// The token that the vocabulary writes `text`, as `<|im_end|>` or `Ġthe`.
    pub fn token_to_id(&self, text: &str) -> Option<Token> {
        self.vocabulary.token(text.as_bytes())
    }
}

/// Every id in `data` that is not a token's own must name a token.
fn check_ids(data: &VocabularyData<'_>) -> Result<()> {
    let named = [("bos", data.bos), ("eos", data.eos), ("unknown", data.unknown)];
    let named = named.into_iter().filter_map(|(name, token)| Some((name, token?)));
    let listed = [("end", &data.ends), ("prefix", &data.prefix), ("suffix", &data.suffix)];
    let listed = listed.into_iter().flat_map(|(name, tokens)| tokens.iter().map(move |&token| (name, token)));
    for (name, token) in named.chain(listed) {
        if token as usize >= data.tokens.len() {
            fail!(Format, "the {name} token is {token}, but the vocabulary has {} tokens", data.tokens.len());
        }
    }
    Ok(())
}

/// The pre-tokenizer of `data`; SentencePiece has none, but words can be merged one by one where no token reaches from one
/// into the next.
fn pre_tokenizer(data: &VocabularyData<'_>, vocabulary: &Vocabulary, model: &WordModel) -> PreTokenizer {
    let mut pre_tokenizer = data.pre_tokenizer.clone();
    let leaves_word = |token| {
        let piece = vocabulary.piece(token).unwrap_or_default();
        piece.iter().skip_while(|&&byte| byte == b' ').any(|&byte| byte == b' ')
    };
    // Unknown characters in a row are one token, which must not reach across either.
    let has_space = matches!(model, WordModel::Merges(_)) || vocabulary.word(b" ").is_some();
    if data.alphabet == Alphabet::Characters && has_space && model.no_token(vocabulary, leaves_word) {
        pre_tokenizer.steps.push(Step::BeforeSpaces);
    }
    pre_tokenizer
}

/// The token of each byte. For `Bytes`: what its character in the alphabet is written as. For `Characters`: `<0xHH>`.
fn byte_tokens(alphabet: Alphabet, vocabulary: &Vocabulary) -> [Option<Token>; 256] {
    let mut tokens = [None; 256];
    match alphabet {
        Alphabet::Bytes => {
            let alphabet = ByteAlphabet::new();
            for (byte, slot) in (0..=u8::MAX).zip(&mut tokens) {
                let token = vocabulary.token(alphabet.char(byte).encode_utf8(&mut [0; 4]).as_bytes());
                *slot = token.filter(|&token| vocabulary.token_type(token).is_some_and(TokenType::is_text));
            }
        }
        Alphabet::Characters => {
            for (token, _) in vocabulary.iter().filter(|&(_, kind)| kind == TokenType::Byte) {
                if let Some(byte) = vocabulary.text(token).and_then(parse_byte) {
                    tokens[usize::from(byte)] = Some(token);
                }
            }
        }
        Alphabet::Words => {}
    }
    tokens
}

fn nothing_seen(n_vocab: usize) -> Result<Vec<AtomicBool>> {
    let mut seen = Vec::new();
    seen.try_reserve_exact(n_vocab).map_err(|_| out_of_memory())?;
    seen.resize_with(n_vocab, AtomicBool::default);
    Ok(seen)
}

/// The tokens that end a generation: those that the file names, and those known by their text.
fn ends(data: &VocabularyData<'_>, vocabulary: &Vocabulary) -> Vec<Token> {
    let known = END_TEXTS.iter().filter_map(|text| vocabulary.token(text.as_bytes()));
    let known = known.filter(|&token| vocabulary.token_type(token) == Some(TokenType::Control));
    let mut ends: Vec<Token> = data.ends.iter().copied().chain(data.eos).chain(known).collect();
    // gpt-oss ends a message with <|end|> and goes on with the next; <|return|> and <|call|> end its turn.
    let has = |text: &str| vocabulary.token(text.as_bytes()).is_some_and(|token| ends.contains(&token));
    if has("<|return|>") && has("<|call|>") && data.eos != vocabulary.token(b"<|end|>") {
        ends.retain(|&token| vocabulary.token(b"<|end|>") != Some(token));
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{DecodeOptions, EncodeOptions, MatchRules, Model};
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use std::borrow::Cow;

    /// Texts that a crafted file would use: holes, marks, bytes, half characters, control tokens.
    const TEXTS: [&[u8]; 16] = [
        b"",
        b"a",
        b"b",
        b"ab",
        b"ba",
        b"aba",
        b" ",
        b" a",
        b"<s>",
        b"<0x61>",
        b"<0xZZ>",
        b"\xff",
        b"\xe4\xb8",
        "\u{2581}".as_bytes(),
        "\u{2581}a".as_bytes(),
        "Ġa".as_bytes(),
    ];

    fn text() -> impl Strategy<Value = Cow<'static, [u8]>> {
        prop::sample::select(TEXTS.to_vec()).prop_map(Cow::Borrowed)
    }

    fn id() -> impl Strategy<Value = Token> {
        prop_oneof![8 => 0..16u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
    }

    fn model() -> impl Strategy<Value = Model<'static>> {
        let pairs = prop::collection::vec([text(), text()], 0..6).prop_map(Model::Pairs);
        let scores = prop::collection::vec(-2i8..3, 0..16).prop_map(|s| Model::Scores(s.into_iter().map(f32::from).collect()));
        let likeliest = prop::collection::vec(-2i8..3, 0..16).prop_map(|s| Model::Likeliest(s.into_iter().map(f64::from).collect()));
        prop_oneof![pairs, scores, likeliest, (0..3usize).prop_map(Model::LongestFirst)]
    }

    /// Takes out of `data` most of what makes it invalid.
    fn fitted(mut data: VocabularyData<'static>) -> VocabularyData<'static> {
        let n = data.tokens.len();
        for (text, kind) in data.tokens.iter().zip(&mut data.types) {
            if *kind == TokenType::Byte && parse_byte(text).is_none() {
                *kind = TokenType::Normal;
            }
        }
        let exists = |token: &Token| (*token as usize) < n;
        let tokens = &data.tokens;
        match &mut data.model {
            Model::Scores(scores) => scores.resize(n, 1.0),
            Model::Likeliest(scores) => scores.resize(n, 1.0),
            Model::LongestFirst(_) => {}
            Model::Pairs(pairs) => pairs.retain(|[left, right]| {
                [left.to_vec(), right.to_vec(), [&left[..], right].concat()]
                    .iter()
                    .all(|t| !t.is_empty() && tokens.iter().any(|x| **x == **t))
            }),
        }
        data.match_rules.retain(|(token, _)| exists(token));
        data.prefix.retain(exists);
        data.unknown = data.unknown.filter(exists);
        data.bos = data.unknown;
        data
    }

    /// Vocabularies of which about half are valid.
    fn data() -> impl Strategy<Value = VocabularyData<'static>> {
        let texts = prop::sample::subsequence(TEXTS.to_vec(), 0..16);
        let kinds = prop::collection::vec(1..7i64, 16);
        let ids = prop::collection::vec(id(), 0..2);
        (texts, kinds, model(), any::<[bool; 4]>(), prop::option::weighted(0.7, id()), ids).prop_map(
            |(texts, kinds, model, [bytes, ignore_merges, strip, fit], unknown, ids)| {
                let rules = MatchRules { lstrip: strip, rstrip: !strip, single_word: strip };
                let data = VocabularyData {
                    types: texts.iter().zip(kinds).filter_map(|(_, kind)| TokenType::from_id(kind)).collect(),
                    tokens: texts.into_iter().map(Cow::Borrowed).collect(),
                    model,
                    ignore_merges,
                    match_rules: ids.iter().map(|&id| (id, rules)).collect(),
                    unknown,
                    bos: unknown,
                    space_prefix: if strip { SpacePrefix::EveryStretch } else { SpacePrefix::Never },
                    strip_first_space: strip,
                    prefix: ids,
                    ..VocabularyData::empty(if bytes { Alphabet::Bytes } else { Alphabet::Characters })
                };
                if fit { fitted(data) } else { data }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Whatever a file says, it is refused or it works: tokens are in range and decode, and nothing panics.
        #[test]
        fn any_vocabulary_is_refused_or_works(
            data in data(),
            texts in prop::collection::vec("[ab <>s▁é]{0,12}|<s>|<0x61>", 0..4),
            token in id(),
        ) {
            let Ok(tokenizer) = Tokenizer::new(&data) else { return Ok(()) };
            let text = texts.concat();
            for parse_special in [false, true] {
                let Ok(tokens) = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special }) else { continue };
                for &t in tokens.iter().skip(data.prefix.len()) {
                    let kind = tokenizer.token_type(t).unwrap();
                    let is_unknown = Some(t) == tokenizer.unknown && !tokenizer.is_eog(t) && tokenizer.bos() != Some(t);
                    prop_assert!(parse_special || kind != TokenType::Control || is_unknown, "{t}");
                }
                tokenizer.decode(&tokens, DecodeOptions { skip_special: false, at_text_start: true }).unwrap();
            }
            let exists = (token as usize) < tokenizer.n_vocab();
            prop_assert_eq!(tokenizer.token_bytes(token).is_ok(), exists);
            prop_assert_eq!(tokenizer.decode(&[token], DecodeOptions::default()).is_ok(), exists);
            prop_assert!(exists || !tokenizer.is_control(token) && !tokenizer.is_eog(token));
        }
    }

    #[test]
    fn the_crafted_vocabularies_are_not_all_refused() {
        let mut runner = prop::test_runner::TestRunner::deterministic();
        let valid = (0..200).filter(|_| Tokenizer::new(&data().new_tree(&mut runner).unwrap().current()).is_ok()).count();
        assert!((60..160).contains(&valid), "{valid} of 200 are valid");
    }

    #[test]
    fn tokenizers_are_shared_by_threads() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<Tokenizer>();
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_place() {
        let data = VocabularyData {
            tokens: vec![Cow::Borrowed(b"a")],
            types: vec![TokenType::Normal],
            ..VocabularyData::empty(Alphabet::Characters)
        };
        let error = Tokenizer::new(&data).unwrap_or_else(|e| panic!("{e}")).encode(b"aa\xffa", EncodeOptions::default()).unwrap_err();
        assert_eq!((error.kind(), error.detail()[0]), (crate::error::ErrorKind::InvalidArgument, 2));
    }

    #[test]
    fn a_generation_may_be_told_further_ends() {
        let data = VocabularyData {
            tokens: vec![Cow::Borrowed(b"a")],
            types: vec![TokenType::Normal],
            ..VocabularyData::empty(Alphabet::Characters)
        };
        let mut tokenizer = Tokenizer::new(&data).unwrap_or_else(|e| panic!("{e}"));
        assert!(!tokenizer.is_eog(0) && tokenizer.add_end(1).is_err());
        tokenizer.add_end(0).unwrap();
        assert!(tokenizer.is_eog(0) && !tokenizer.is_eog(1));
    }
}
