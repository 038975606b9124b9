//! Models on every backend and kernel set that this machine has.

use inference::formats::gguf::Gguf;
use inference::kernels::{self, KvType};
use inference::model::{self, Forward, ModelSpec, Placement};
use inference::sys::pool::{Pool, PoolConfig};
use std::sync::Arc;

/// The `cpu` backend with the kernel set called `kernels`, on its own pool.
pub fn cpu(kernels: &str, n_threads: usize) -> Placement {
    let pool = Pool::new(&PoolConfig { n_threads, ..PoolConfig::default() }).unwrap();
    Placement::Cpu { pool: Arc::new(pool), kernels: kernels::select(Some(kernels)).unwrap() }
}

/// `gguf` on `placement`.
pub fn load(gguf: &Gguf, placement: Placement, kv: KvType) -> Arc<dyn Forward> {
    model::load(gguf, ModelSpec::from_gguf(gguf).unwrap(), placement, kv).unwrap()
}
