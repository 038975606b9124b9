//! Throughput on one thread: matrix products by kernel set, weight type and batch size, then attention and the pointwise operations.
//!
//! `cargo bench --bench kernels [-- SET [TYPE]]`. GMAC/s counts products of a weight and an activation, GB/s the weight bytes of one pass.
#![expect(clippy::print_stdout, reason = "a table for a person")]

use inference::dtype::DType;
use inference::kernels::{
    Activation, ActivationRows, AttendParams, GateFn, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, TILE_TOKENS, WeightRows, available,
    select,
};
use inference::sys::columns::ColumnsMut;
use inference::sys::memory::AlignedBytes;
use std::time::Instant;

/// Rows and columns of the weights: a projection of a model of 3 to 8 billion parameters, larger than the caches.
const SHAPE: (usize, usize) = (14_336, 4096);

/// Batch sizes: decoding one sequence and a few, a short prompt, a long one.
const BATCHES: [usize; 5] = [1, 4, 8, 64, 512];

/// Weight rows per measurement: short enough to pass between two interruptions by other work on the machine.
const PIECE: usize = 64;

/// The first quartile of the seconds that `piece(0..n)` take, times `n`: what all of them take on an otherwise quiet machine.
fn time(n: usize, mut piece: impl FnMut(usize)) -> f64 {
    let mut seconds: Vec<f64> = (0..n)
        .map(|i| {
            let start = Instant::now();
            piece(i);
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[n / 4] * n as f64
}

/// Seconds of one product of all weights with `m` activation rows.
fn product(set: &dyn Kernels, weights: WeightRows<'_>, m: usize) -> f64 {
    // Few pieces of a large batch say as much as many of a small one.
    let n_pieces = (SHAPE.0 / PIECE).min(SHAPE.0 / PIECE * 16 / m).max(16);
    let layout = Activation::of(weights.dtype);
    let row_bytes = set.activation_bytes(layout, weights.n_cols);
    let x: Vec<f32> = (0..weights.n_cols).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect();
    let mut bytes = vec![0; m * row_bytes];
    bytes.chunks_exact_mut(row_bytes).for_each(|row| set.quantize(layout, &x, row));
    let mut out = vec![0.0; m * PIECE];
    let pieces: Vec<&[u8]> = weights.bytes.chunks_exact(weights.bytes.len() / SHAPE.0 * PIECE).collect();
    let seconds = time(n_pieces, |i| {
        let weights = WeightRows { bytes: pieces[i], ..weights };
        set.matmul(weights, ActivationRows { bytes: &bytes, n_rows: m }, &mut ColumnsMut::new(&mut out, PIECE));
    });
    seconds * pieces.len() as f64 / n_pieces as f64
}

/// `n` bytes in memory as the engine has weights in: on huge pages where the system gives them.
fn filled(n: usize) -> AlignedBytes {
    let mut bytes = AlignedBytes::zeroed(n).expect("memory for the weights");
    bytes.as_mut_slice().fill(0x11);
    bytes
}

/// One line of the table.
fn line(set: &dyn Kernels, dtype: DType) -> String {
    // No kernel looks at values, as long as they are normal numbers; and so any bytes are tiles.
    let bytes = filled(dtype.row_bytes(SHAPE.1).unwrap_or(0) * SHAPE.0);
    let bytes = bytes.as_slice();
    let weights = WeightRows { dtype, n_cols: SHAPE.1, tile_rows: set.tile_rows(), skip: 0, bytes };
    let mut line = format!("{:<13}{:<6}", set.name(), dtype.name());
    for m in BATCHES {
        let seconds = product(set, weights, m);
        let (macs, gigabytes) = ((m * SHAPE.0 * SHAPE.1) as f64 / 1e9, bytes.len() as f64 / 1e9);
        line += &format!("{:>9.1} {:>6.1}", macs / seconds, gigabytes / seconds);
    }
    line
}

/// Attention of `n_queries` queries of one KV head over 4096 tokens, in GMAC/s (keys and values each count).
fn attention(set: &dyn Kernels, kind: KvType, n_queries: usize) -> f64 {
    const HEAD_DIM: usize = 64;
    let row_bytes = kind.row_bytes(HEAD_DIM).unwrap_or(0);
    let cache = vec![0x11; 4096 * row_bytes];
    let tiles: Vec<&[u8]> = cache.chunks(TILE_TOKENS * row_bytes).collect();
    let (q, visible) = (vec![0.1; n_queries * HEAD_DIM], vec![(0, TILE_TOKENS as u32); n_queries]);
    let (mut max, mut sum, mut acc) = (vec![0.0; n_queries], vec![0.0; n_queries], vec![0.0; n_queries * HEAD_DIM]);
    let params = AttendParams { head_dim: HEAD_DIM, scale: 0.1, softcap: None };
    let seconds = time(tiles.len(), |i| {
        let mut state = SoftmaxState { max: &mut max, sum: &mut sum, acc: &mut acc };
        set.attend(&params, &q, KvTile { keys: tiles[i], values: tiles[i], kind }, None, &visible, &mut state);
    });
    (2 * n_queries * 4096 * HEAD_DIM) as f64 / 1e9 / seconds
}

/// Nanoseconds per element of an operation on a row of 4096.
fn per_element(mut operation: impl FnMut(&mut [f32])) -> f64 {
    let mut row = vec![0.5; 4096];
    let seconds = time(100, |_| operation(&mut row));
    seconds / 100.0 / 4096.0 * 1e9
}

/// The lines below the table.
fn print_others(set: &dyn Kernels) {
    for kind in [KvType::F32, KvType::F16, KvType::Q8_0] {
        let speeds = [1, 4, 32].map(|n| format!("{n} queries {:.1}", attention(set, kind, n))).join(", ");
        println!("{:<13}attend {kind:?}, GMAC/s: {speeds}", set.name());
    }
    let other = vec![0.25; 4096];
    let mut bytes = vec![0; 4 * 4096];
    let quantize = |set: &dyn Kernels, layout, x: &[f32], bytes: &mut [u8]| {
        set.quantize(layout, x, &mut bytes[..set.activation_bytes(layout, x.len())]);
    };
    let nanoseconds = [
        ("Q8Block32", per_element(|x| quantize(set, Activation::Q8Block32, x, &mut bytes))),
        ("Q8Block256", per_element(|x| quantize(set, Activation::Q8Block256, x, &mut bytes))),
        ("rms_norm", per_element(|x| set.rms_norm(&other, &other, 1e-6, x))),
        ("silu", per_element(|x| set.glu(GateFn::Silu, x, &other))),
        ("rope", per_element(|x| set.rope(RopeStyle::Interleaved, x, &other[..2048], &other[..2048]))),
    ];
    let listed = nanoseconds.map(|(name, ns)| format!("{name} {ns:.3}")).join(", ");
    println!("{:<13}ns per element: {listed}", set.name());
}

/// Bytes per second of reading memory and nothing else: the limit of decoding.
fn read_bandwidth() -> f64 {
    let bytes = filled(64 << 20);
    let pieces: Vec<&[[u8; 8]]> = bytes.as_slice().as_chunks().0.chunks(1 << 15).collect();
    let seconds = time(pieces.len(), |i| {
        let sums = pieces[i]
            .as_chunks::<8>()
            .0
            .iter()
            .fold([0_u64; 8], |acc, x| std::array::from_fn(|i| acc[i].wrapping_add(u64::from_ne_bytes(x[i]))));
        std::hint::black_box(sums);
    });
    bytes.as_slice().len() as f64 / 1e9 / seconds
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |i: usize, name: &str| arguments.get(i).is_none_or(|a| a == name);
    println!("{} x {} weights, 1 thread, GMAC/s and GB/s; reading alone: {:.1} GB/s", SHAPE.0, SHAPE.1, read_bandwidth());
    println!("{:<19}{}", "", BATCHES.map(|m| format!("{:>16}", format!("M = {m}"))).concat());
    // The reference is only measured when it is asked for: it is slow by intention.
    let names = available().into_iter().filter(|name| wanted(0, name) && (*name != "scalar" || !arguments.is_empty()));
    for set in names.filter_map(|name| select(Some(name)).ok()) {
        for dtype in DType::ALL.into_iter().filter(|dtype| wanted(1, dtype.name())) {
            println!("{}", line(set, dtype));
        }
        print_others(set);
    }
}
