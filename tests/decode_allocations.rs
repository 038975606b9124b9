//! A decode step of the CPU backend allocates nothing: counted by the allocator of this test's process, all threads included.

use inference::backend::cpu::{Cpu, Kv, Workspace};
use inference::backend::{
    Altup, AltupShape, Attention, Backend, Batch, FeedForwardFn, HostTensor, Join, Linear, Norm, NormKind, Rope, Shape, Slot, StreamStage,
    Streams,
};
use inference::dtype::DType;
use inference::kernels::{GateFn, KvType, RopeStyle, select};
use inference::sys::memory::AlignedBytes;
use inference::sys::pool::{Pool, PoolConfig};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts calls and passes them on.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; `realloc` and `alloc_zeroed` default to `alloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const STREAMS: AltupShape = AltupShape { n_streams: 4, active: 0, n_per_layer: 64, n_layers: 4, rank: 32 };
const SHAPE: Shape = Shape {
    n_layers: 2,
    n_embd: 256,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 64,
    n_ff: 512,
    moe: None,
    altup: Some(STREAMS),
    latent: None,
    n_vocab: 300,
};

fn tensor(dtype: DType, n_rows: usize, n_cols: usize) -> HostTensor {
    let mut data = AlignedBytes::zeroed(n_rows * dtype.row_bytes(n_cols).unwrap()).unwrap();
    data.as_mut_slice().iter_mut().zip((0..60).cycle()).for_each(|(byte, x)| *byte = x);
    HostTensor { name: "test".into(), dtype, n_rows, n_cols, data: data.into() }
}

/// A decoder whose layers share one set of weights, of types with different activation layouts.
struct Tiny {
    cpu: Cpu,
    table: <Cpu as Backend>::Matrix,
    norm: Norm<Cpu>,
    query: Linear<Cpu>,
    key_value: Linear<Cpu>,
    gate_up: Linear<Cpu>,
    output: Linear<Cpu>,
    down: Linear<Cpu>,
    rope: Rope,
    streams: Streams<Cpu>,
    altup: Altup<Cpu>,
}

impl Tiny {
    fn new() -> Self {
        let config = PoolConfig { n_threads: 3, ..PoolConfig::default() };
        let cpu = Cpu::new(Arc::new(Pool::new(&config).unwrap()), select(None).unwrap());
        let linear = |dtype, n_out, n_in| Linear { weight: cpu.matrix(tensor(dtype, n_out, n_in)).unwrap(), bias: None };
        let norm = |n| Norm { weight: cpu.vector(tensor(DType::F16, 1, n)).unwrap(), bias: None, eps: 1e-5, kind: NormKind::Rms };
        Self {
            table: cpu.matrix(tensor(DType::Q6_K, 300, 256)).unwrap(),
            norm: norm(256),
            query: linear(DType::Q4_K, 256, 256),
            key_value: linear(DType::Q8_0, 128, 256),
            gate_up: linear(DType::Q4_K, 512, 256),
            output: linear(DType::F16, 256, 256),
            down: linear(DType::Q4_K, 256, 512),
            streams: Streams {
                spread: linear(DType::Q8_0, 768, 256),
                merge: linear(DType::Q8_0, 768, 256),
                table: cpu.table(tensor(DType::Q4_K, 200, 256)).unwrap(),
                inputs: linear(DType::F16, 256, 256),
                inputs_norm: norm(64),
            },
            altup: Altup {
                router_norm: norm(256),
                router: vec![0.1; 4 * 256],
                predict: vec![0.1; 64],
                correct: vec![0.1; 16],
                output_scale: vec![0.1; 256],
                laurel_left: linear(DType::F16, 32, 256),
                laurel_right: linear(DType::F16, 256, 32),
                laurel_norm: norm(256),
                gate: linear(DType::Q8_0, 64, 256),
                output: linear(DType::Q8_0, 256, 64),
                output_norm: norm(256),
                f: GateFn::GeluTanh,
            },
            rope: Rope { inv_freq: (1..=32).map(|i| 1.0 / i as f32).collect(), style: RopeStyle::Halves, magnitude: 1.0 },
            cpu,
        }
    }

    fn forward(&self, ws: &mut Workspace, batch: &Batch, kv: &mut Kv, logits: &mut [f32]) {
        let cpu = &self.cpu;
        cpu.begin(ws, batch, std::slice::from_ref(&self.rope)).unwrap();
        cpu.embed(ws, batch, &self.table, 1.0).unwrap();
        cpu.streams(ws, batch, StreamStage::Spread(&self.streams)).unwrap();
        for layer in 0..STREAMS.n_layers {
            self.layer(layer, ws, batch, kv);
        }
        cpu.streams(ws, batch, StreamStage::Merge(&self.streams)).unwrap();
        cpu.head(ws, batch, &self.norm, &self.table, 0..SHAPE.n_vocab).unwrap();
        cpu.logits(ws, 0, logits).unwrap();
    }

    /// The last two of four layers read the keys and values of the first two, and cut their gates.
    fn layer(&self, layer: usize, ws: &mut Workspace, batch: &Batch, kv: &mut Kv) {
        let cpu = &self.cpu;
        let (attention, is_own) = (Attention::plain(0.125), layer < SHAPE.n_layers);
        cpu.streams(ws, batch, StreamStage::Predict(&self.altup)).unwrap();
        let qkv = [(Slot::Query, &self.query), (Slot::Key, &self.key_value), (Slot::Value, &self.key_value)];
        cpu.norm_project(ws, Some(&self.norm), &qkv[..if is_own { 3 } else { 1 }]).unwrap();
        if is_own {
            cpu.rope_append(ws, batch, layer, None, Some(0), kv).unwrap();
        } else {
            cpu.rope_query(ws, batch, None, Some(0)).unwrap();
        }
        cpu.attend(ws, batch, layer % SHAPE.n_layers, &attention, None, kv).unwrap();
        cpu.streams(ws, batch, StreamStage::Laurel(&self.altup, &self.norm)).unwrap();
        cpu.project_add(ws, &self.output, &Join::default()).unwrap();
        cpu.norm_project(ws, Some(&self.norm), &[(Slot::Gate, &self.gate_up), (Slot::Up, &self.gate_up)]).unwrap();
        let f = if is_own { FeedForwardFn::Gated(GateFn::Silu) } else { FeedForwardFn::Sparse(GateFn::GeluTanh, 0.5) };
        cpu.glu(ws, f, &self.down, &Join::default()).unwrap();
        cpu.streams(ws, batch, StreamStage::Correct(&self.altup, layer)).unwrap();
    }
}

#[test]
fn a_decode_step_allocates_nothing() {
    let tiny = Tiny::new();
    let mut kv = tiny.cpu.kv(&SHAPE, KvType::F16).unwrap();
    tiny.cpu.grow_kv(&mut kv, 64).unwrap();
    let mut ws = tiny.cpu.workspace(&SHAPE, 64, 4).unwrap();
    let (mut batch, mut logits) = (Batch::default(), vec![0.0; SHAPE.n_vocab]);
    let blocks: Vec<u32> = (0..64).collect();
    let mut step = |start: usize, n_tokens: usize| {
        batch.clear();
        batch.push(&[7; 64][..n_tokens], start, &blocks, true);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        tiny.forward(&mut ws, &batch, &mut kv, &mut logits);
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    // A prompt of more than one split, then the first decode step, make all buffers as large as they need to be.
    let prompt: usize = (0..9).map(|chunk| step(64 * chunk, 64)).sum();
    assert!(prompt > 0, "the counter must see the buffers grow");
    step(576, 1);
    for position in 577..700 {
        assert_eq!(step(position, 1), 0, "position {position}");
    }
}
