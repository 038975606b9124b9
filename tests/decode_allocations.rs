//! A decode step of the CPU backend allocates nothing: counted by the allocator of this test's process, all threads included.

use inference::backend::cpu::{Cpu, Kv, Workspace};
use inference::backend::{Attention, Backend, Batch, FeedForwardFn, HostTensor, Join, Linear, Norm, NormKind, Rope, Shape, Slot};
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

const SHAPE: Shape = Shape { n_layers: 2, n_embd: 256, n_heads: 4, n_kv_heads: 2, head_dim: 64, n_ff: 512, moe: None, n_vocab: 300 };

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
}

impl Tiny {
    fn new() -> Self {
        let config = PoolConfig { n_threads: 3, ..PoolConfig::default() };
        let cpu = Cpu::new(Arc::new(Pool::new(&config).unwrap()), select(None).unwrap());
        let linear = |dtype, n_out, n_in| Linear { weight: cpu.matrix(tensor(dtype, n_out, n_in)).unwrap(), bias: None };
        Self {
            table: cpu.matrix(tensor(DType::Q6_K, 300, 256)).unwrap(),
            norm: Norm { weight: cpu.vector(tensor(DType::F16, 1, 256)).unwrap(), bias: None, eps: 1e-5, kind: NormKind::Rms },
            query: linear(DType::Q4_K, 256, 256),
            key_value: linear(DType::Q8_0, 128, 256),
            gate_up: linear(DType::Q4_K, 512, 256),
            output: linear(DType::F16, 256, 256),
            down: linear(DType::Q4_K, 256, 512),
            rope: Rope { inv_freq: (1..=32).map(|i| 1.0 / i as f32).collect(), style: RopeStyle::Halves, magnitude: 1.0 },
            cpu,
        }
    }

    fn forward(&self, ws: &mut Workspace, batch: &Batch, kv: &mut Kv, logits: &mut [f32]) {
        let cpu = &self.cpu;
        let attention = Attention::plain(0.125);
        cpu.begin(ws, batch, std::slice::from_ref(&self.rope)).unwrap();
        cpu.embed(ws, batch, &self.table, 1.0).unwrap();
        for layer in 0..SHAPE.n_layers {
            let qkv = [(Slot::Query, &self.query), (Slot::Key, &self.key_value), (Slot::Value, &self.key_value)];
            cpu.norm_project(ws, Some(&self.norm), &qkv).unwrap();
            cpu.rope_append(ws, batch, layer, None, Some(0), kv).unwrap();
            cpu.attend(ws, batch, layer, &attention, None, kv).unwrap();
            cpu.project_add(ws, &self.output, &Join::default()).unwrap();
            cpu.norm_project(ws, Some(&self.norm), &[(Slot::Gate, &self.gate_up), (Slot::Up, &self.gate_up)]).unwrap();
            cpu.glu(ws, FeedForwardFn::Gated(GateFn::Silu), &self.down, &Join::default()).unwrap();
        }
        cpu.head(ws, batch, &self.norm, &self.table, 0..SHAPE.n_vocab).unwrap();
        cpu.logits(ws, 0, logits).unwrap();
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
