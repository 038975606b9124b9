//! Vocabularies: every entry contradicting the others, and those that are valid and cost much.

use crate::bench::{Bench, is_torture, stride};
use crate::small::{GOLDEN, Parts, Sizes, Vocabulary, build, golden, seeds, weights};
use inference::dtype::DType;
use inference::formats::gguf::{Array, Strings, Value};

fn strings<S: AsRef<[u8]>>(items: impl IntoIterator<Item = S>) -> Value {
    Strings::collect(items).unwrap().into()
}

/// Every key of a vocabulary.
const KEYS: [&str; 16] = [
    "model",
    "pre",
    "tokens",
    "scores",
    "token_type",
    "merges",
    "bos_token_id",
    "eos_token_id",
    "eot_token_id",
    "eom_token_id",
    "unknown_token_id",
    "padding_token_id",
    "add_bos_token",
    "add_eos_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
];

/// What each is set to, for a vocabulary of `n` tokens.
fn values(n: usize) -> Vec<Option<Value>> {
    let last = n as u32 - 1;
    let mut values = vec![None, Some(true.into()), Some(false.into())];
    values.extend([0, 1, last, last + 1, 1 << 31, u32::MAX - 1, u32::MAX].map(|id: u32| Some(id.into())));
    values.extend([Some((-1i32).into()), Some((-2i32).into()), Some((1u64 << 32).into()), Some(1.5f32.into())]);
    values.extend(
        ["", "llama", "gpt2", "bert", "t5", "default", "llama-bpe", "qwen2", "\u{2581}", &"x".repeat(100_000)]
            .map(|text| Some(text.into())),
    );
    values.extend([1, 2, 3, 4, 5, 6, 0, 7, -1, i32::MIN].map(|kind| Some(vec![kind; n].into())));
    values.extend([0.0, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|score| Some(vec![score; n].into())));
    values.extend([0, 1, n - 1, n + 1].map(|other| Some(vec![1i32; other].into())));
    values.extend([0, 1, n - 1, n + 1].map(|other| Some(vec![0f32; other].into())));
    values.extend(["", "a", " ", "a b", "<0xZZ>", "<0x41>", "\u{2581}", "\0"].map(|text| Some(strings(vec![text; n]))));
    values.extend([0, 1, n - 1, n + 1].map(|other| Some(strings((0..other).map(|i| format!("{i}"))))));
    values.push(Some(strings((0..n).map(|i| [0xFF, 0xC0, i as u8, (i >> 8) as u8]))));
    values.push(Some(strings((0..n).map(|i| format!("<0x{:02X}>", i % 256)))));
    values.push(Some(strings((0..n).map(|i| format!("a b{i}")))));
    values.push(Some(strings((0..n).map(|i| format!("{i} {}", "y".repeat(20_000))))));
    values.push(Some(Array::Array(vec![Array::U8(vec![])]).into()));
    values
}

fn n_tokens(parts: &Parts) -> usize {
    let (_, value) = parts.keys.iter().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
    value.as_array().unwrap().len()
}

#[test]
fn every_entry_with_every_value() {
    let mut bench = Bench::new("vocabulary");
    let small = seeds().into_iter().map(|(name, parts)| (name, parts, 1));
    for (name, parts, share) in small.chain(GOLDEN.map(|name| (name, Parts::read(golden(name)), 7))) {
        for key in KEYS {
            for value in values(n_tokens(&parts)).into_iter().step_by(stride(share)) {
                let short: String = format!("{value:?}").chars().take(80).collect();
                bench.whole(format_args!("{name}: {key} = {short}"), &parts.with(&format!("tokenizer.ggml.{key}"), value).bytes());
            }
        }
    }
    bench.finish(2_500);
}

/// Tokens and types that change together, one token at a time: each token as every type, and as every odd text.
#[test]
fn every_token_of_every_type_and_odd_text() {
    let mut bench = Bench::new("tokens");
    let texts: [&[u8]; 14] = [
        b"",
        b" ",
        b"a",
        b"ab",
        b"\xFF",
        b"\xE2\x96",
        "\u{2581}".as_bytes(),
        b"<0x41>",
        b"<0xZZ>",
        b"<s>",
        b"</s>",
        b"\0",
        b"abc ab",
        b"<|end|>",
    ];
    for (name, parts) in seeds() {
        let list = |key: &str| parts.keys.iter().find(|(other, _)| other == key).unwrap().1.as_array().unwrap().clone();
        let (Array::String(tokens), Array::I32(types)) = (list("tokenizer.ggml.tokens"), list("tokenizer.ggml.token_type")) else {
            panic!()
        };
        for token in 0..tokens.len() {
            for kind in 1..=6 {
                for text in texts.iter().map(Some).chain([None]) {
                    let (mut types, mut tokens): (_, Vec<_>) = (types.clone(), tokens.iter().map(<[u8]>::to_vec).collect());
                    types[token] = kind;
                    if let Some(text) = text {
                        tokens[token] = text.to_vec();
                    }
                    let changed = parts.with("tokenizer.ggml.tokens", Some(strings(tokens)));
                    let changed = changed.with("tokenizer.ggml.token_type", Some(types.into()));
                    bench.whole(format_args!("{name}: token {token} of type {kind}, {text:?}"), &changed.bytes());
                }
            }
        }
    }
    bench.finish(2_200);
}

/// The embedding has another number of rows than there are tokens.
#[test]
fn as_many_tokens_as_rows() {
    let mut bench = Bench::new("rows");
    for (name, parts) in seeds() {
        let n = parts.tensors[0].shape[1];
        for n_rows in [0, 1, n - 1, n, n + 1, 2 * n] {
            let mut changed = parts.clone();
            let shape = vec![parts.tensors[0].shape[0], n_rows];
            changed.tensors[0].data = weights(parts.tensors[0].dtype, &shape, &mut crate::random::Random(2));
            changed.tensors[0].shape = shape;
            assert_eq!(bench.whole(format_args!("{name}: {n_rows} rows for {n} tokens"), &changed.bytes()), n_rows == n);
        }
    }
    bench.finish(12);
}

/// A model around `tokens`, all of one `kind`.
fn model(kind: i32, tokens: &[Vec<u8>], merges: Option<Vec<Vec<u8>>>) -> Vec<u8> {
    let n = tokens.len();
    let mut keys: Vec<(&'static str, Value)> = vec![("tokens", strings(tokens)), ("token_type", vec![kind; n].into())];
    match merges {
        Some(merges) => keys.extend([("model", "gpt2".into()), ("pre", "gpt-2".into()), ("merges", strings(merges))]),
        None => keys.extend([("model", "llama".into()), ("scores", vec![0f32; n].into())]),
    }
    let sizes = Sizes { n_layers: 1, n_embd: 1, n_heads: 1, n_kv_heads: 1, head_dim: 2, n_ff: 1 };
    build("llama", sizes, DType::F16, Vocabulary { keys, n_tokens: n }).bytes()
}

/// Vocabularies that a reader could spend much more on than they are large: tokens that can be cut in very many ways, automata of
/// long control tokens, tables of very many tokens.
#[test]
fn costly_vocabularies_take_memory_in_proportion() {
    let mut bench = Bench::new("costly");
    bench.whole("not a model", b"GGUF");
    // Runs of every printable character: 255 cuts for the longest, and both halves of each are tokens.
    let runs = |n: u8| (b'!'..b'!' + n).flat_map(|c| (1..=256).map(move |len| vec![c; len])).collect::<Vec<_>>();
    bench.whole("runs of 24 characters", &model(1, &runs(24), None));
    bench.whole("runs of 90 characters", &model(1, &runs(90), None));
    let long = |n: usize, len: usize| {
        (0..n)
            .map(|i| (0..len).map(|j| b'A' + ((i * 31 + j * j * 7 + i * j) % 57) as u8).chain(i.to_string().bytes()).collect())
            .collect::<Vec<Vec<u8>>>()
    };
    for (kind, name) in [(3, "control"), (4, "user-defined"), (1, "normal"), (6, "byte")] {
        bench.whole(format_args!("1,000 {name} tokens of 1,000 bytes"), &model(kind, &long(1_000, 1_000), Some(vec![])));
        bench.whole(format_args!("250 {name} tokens of 16,000 bytes"), &model(kind, &long(250, 16_000), Some(vec![])));
    }
    let n = if is_torture() { 1 << 19 } else { 1 << 17 };
    let short: Vec<Vec<u8>> = (0..n).map(|i| format!("{i:x}").into_bytes()).collect();
    bench.whole("very many tokens, scored", &model(1, &short, None));
    // Every text of up to four letters: as many cuts as a vocabulary may have.
    let texts = |n_letters: u8, longest: usize| {
        let longer =
            |texts: &Vec<Vec<u8>>| texts.iter().flat_map(|text| (0..n_letters).map(move |i| [&text[..], &[b'(' + i]].concat())).collect();
        std::iter::successors(Some(vec![vec![]]), |texts| Some(longer(texts))).skip(1).take(longest).flatten().collect::<Vec<_>>()
    };
    assert!(bench.whole("as many cuts as allowed", &model(1, &texts(if is_torture() { 26 } else { 17 }, 4), None)));
    assert!(bench.whole("as many tokens as allowed", &model(1, &texts(if is_torture() { 80 } else { 40 }, 3), None)));
    bench.whole("very many control tokens", &model(3, &short[..n.min(1 << 18)], Some(vec![])));
    let merges = |n: usize| {
        (0..n)
            .map(|i| {
                let s = format!("{:x}", 16 + i);
                let (a, b) = s.split_at(s.len() - 1);
                format!("{a} {b}").into_bytes()
            })
            .collect::<Vec<_>>()
    };
    bench.whole("very many tokens, merged", &model(1, &short, Some(merges(n - 16))));
    bench.whole("one merge very often", &model(1, &short[..300], Some(vec![b"1 2".to_vec(); n])));
    if is_torture() {
        let pairs =
            ('\u{100}'..'\u{500}').flat_map(|c| (1..=128).map(move |len| c.to_string().repeat(len).into_bytes())).collect::<Vec<_>>();
        bench.whole("runs of 1,024 characters", &model(1, &pairs, None));
    }
    bench.finish(16);
}
