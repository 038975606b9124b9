//! The gate of the thread pool.

use super::gate::Gate;
use crate::check;
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use std::time::Duration;

/// Regions of a pool: nobody is inside of a closed gate, whoever is late goes home, and a stop reaches all.
#[test]
fn workers_enter_open_gates_only() {
    check(|| {
        let (gate, open) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (gate, open) = (gate.clone(), open.clone());
                thread::spawn(move || {
                    let mut seen = 0;
                    while let Some(visit) = gate.enter(seen, Duration::ZERO) {
                        assert_eq!(open.load(Ordering::SeqCst), 1, "inside of a closed gate");
                        seen = visit.epoch();
                    }
                })
            })
            .collect();
        for n_wanted in [2, 1] {
            open.store(1, Ordering::SeqCst);
            gate.open(n_wanted);
            gate.close();
            open.store(0, Ordering::SeqCst);
        }
        gate.stop();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}
