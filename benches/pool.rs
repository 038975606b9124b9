//! What a parallel region costs beside its work: microseconds per region, by threads and busy-wait.
//!
//! `cargo bench --bench pool`. "busy" has no pause between regions, as in a forward pass; "idle" pauses a millisecond, so that workers sleep.
#![expect(clippy::print_stdout, reason = "a table for a person")]

use inference::sys::pool::{Pool, PoolConfig};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Median microseconds of `n` calls of `region`, with `pause` before each.
fn median(n: usize, pause: Duration, mut region: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..n)
        .map(|_| {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            let start = Instant::now();
            region();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[n / 2]
}

fn main() {
    println!("{:>8} {:>8} {:>12} {:>12}", "threads", "spin_us", "busy us", "idle us");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for n_threads in [1, 2, 4, 8, 16].into_iter().filter(|n| *n <= cores) {
        for spin_us in [0, 50] {
            let config = PoolConfig { n_threads, spin_us, ..PoolConfig::default() };
            let Ok(pool) = Pool::new(&config) else { return };
            let task = |task| {
                black_box(task);
            };
            let region = || pool.run(4 * n_threads, &task).expect("no task panics");
            let busy = median(20_000, Duration::ZERO, region);
            let idle = median(500, Duration::from_millis(1), region);
            println!("{n_threads:>8} {spin_us:>8} {busy:>12.2} {idle:>12.2}");
        }
    }
}
