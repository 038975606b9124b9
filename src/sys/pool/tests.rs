//! The pool under load: sums, panics, nesting, concurrent callers, forks.

use super::*;
use crate::error::ErrorKind;
use crate::sys::columns::ColumnsMut;
use crate::sys::process::holds_in_forked_child;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;

fn pool(n_threads: usize, spin_us: u32) -> Pool {
    Pool::new(&PoolConfig { n_threads, spin_us, ..PoolConfig::default() }).unwrap()
}

/// Every task of a region of `n` runs exactly once.
fn check_region(pool: &Pool, n: usize) {
    let (count, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let f = |task: Task| {
        assert!(task.worker < pool.n_threads());
        count.fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(task.index, Ordering::Relaxed);
    };
    pool.run(n, &f).unwrap();
    assert_eq!((count.into_inner(), sum.into_inner()), (n, (0..n).sum()));
}

#[test]
fn ten_thousand_regions_run_every_task_once() {
    for n_threads in 1..=8 {
        for spin_us in [0, 5] {
            let pool = pool(n_threads, spin_us);
            (0..10_000 / 16).for_each(|i| check_region(&pool, i % 40));
        }
    }
}

#[test]
fn late_and_sleeping_workers_are_woken_again() {
    let pool = pool(3, 0);
    for _ in 0..50 {
        thread::sleep(Duration::from_micros(200));
        check_region(&pool, 7);
    }
}

#[test]
fn workers_do_take_part() {
    let pool = pool(4, 0);
    let met = std::sync::Barrier::new(4);
    // Four tasks that wait for each other finish only on four threads.
    let meet = |_| {
        met.wait();
    };
    pool.run(4, &meet).unwrap();
}

#[test]
fn tasks_with_one_worker_never_overlap() {
    let pool = pool(4, 5);
    let busy: Vec<_> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let f = |task: Task| {
                    assert_eq!(busy[task.worker].fetch_add(1, Ordering::AcqRel), 0);
                    std::hint::spin_loop();
                    busy[task.worker].fetch_sub(1, Ordering::AcqRel);
                };
                (0..300).for_each(|i| pool.run(1 + i % 9, &f).unwrap());
            });
        }
    });
}

#[test]
fn a_panic_is_an_error_of_its_call_only() {
    for n_threads in [1, 4] {
        let pool = pool(n_threads, 0);
        for bad in 0..20 {
            let e = pool.run(20, &|task| assert!(task.index != bad, "task {bad} is bad")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Internal);
            assert!(e.message().ends_with(&format!("task {bad} is bad")), "{e}");
            check_region(&pool, 20);
        }
    }
}

#[test]
fn a_region_inside_a_task_runs_on_its_thread() {
    let pool = pool(4, 0);
    let total = AtomicUsize::new(0);
    let outer = |outer: Task| {
        let thread = thread::current().id();
        let inner = |inner: Task| {
            assert_eq!((inner.worker, thread::current().id()), (outer.worker, thread));
            total.fetch_add(1, Ordering::Relaxed);
        };
        pool.run(5, &inner).unwrap();
        assert!(pool.run(2, &|_| panic!("inner")).is_err());
    };
    pool.run(8, &outer).unwrap();
    assert_eq!(total.into_inner(), 40);
}

#[test]
fn a_region_of_another_pool_inside_a_task_is_refused() {
    let (a, b) = (pool(2, 0), pool(2, 0));
    a.run(3, &|_| assert_eq!(b.run(3, &|_| ()).unwrap_err().kind(), ErrorKind::Internal)).unwrap();
    check_region(&b, 3);
}

#[test]
fn concurrent_callers_take_turns() {
    let pool = pool(3, 5);
    thread::scope(|scope| {
        (0..6).for_each(|_| drop(scope.spawn(|| (0..200).for_each(|i| check_region(&pool, i % 12)))));
    });
}

#[test]
fn callers_see_what_tasks_wrote_and_tasks_what_callers_wrote() {
    let pool = pool(4, 5);
    let mut data = vec![0u64; 1000];
    for round in 1..200 {
        data[999] = round * 10;
        pool.for_chunks(&mut data, 7, &|_, chunk| chunk.iter_mut().for_each(|x| *x += 1)).unwrap();
        assert!(data[..999].iter().all(|x| *x == round) && data[999] == round * 10 + 1);
    }
}

#[test]
fn a_forked_child_is_told_and_may_drop_the_pool() {
    let pool = pool(4, 0);
    check_region(&pool, 10);
    let mut pool = Some(pool);
    let child = holds_in_forked_child(5, || {
        let refused = pool.as_ref().unwrap().run(10, &|_| ()).unwrap_err().kind() == ErrorKind::Forked;
        drop(pool.take());
        refused
    });
    assert!(child);
    check_region(pool.as_ref().unwrap(), 10);
}

#[test]
fn dropping_joins_the_workers_and_calls_the_hook_in_pairs() {
    let (started, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&started), Arc::clone(&ended));
    let hook = move |starting: bool| {
        let count = if starting { &counts.0 } else { &counts.1 };
        count.fetch_add(1, Ordering::AcqRel);
    };
    let config = PoolConfig { n_threads: 5, hook: Some(Arc::new(hook)), ..PoolConfig::default() };
    drop(Pool::new(&config).unwrap());
    assert_eq!((started.load(Ordering::Acquire), ended.load(Ordering::Acquire)), (4, 4));
}

#[test]
fn after_a_shutdown_regions_run_on_their_caller() {
    let pool = pool(3, 0);
    check_region(&pool, 10);
    pool.run(2, &|_| pool.shutdown()).unwrap();
    pool.shutdown();
    pool.shutdown();
    let caller = thread::current().id();
    pool.run(10, &|_| assert_eq!(thread::current().id(), caller)).unwrap();
    check_region(&pool, 10);
}

#[test]
fn a_pool_may_be_dropped_on_its_own_worker() {
    let (send, receive) = mpsc::channel::<Pool>();
    let receive = Mutex::new(Some(receive));
    let (done, is_done) = mpsc::channel();
    let hook = move |starting: bool| {
        let receive = if starting { receive.lock().take() } else { None };
        if let Some(receive) = receive {
            drop(receive.recv());
            done.send(()).unwrap();
        }
    };
    let config = PoolConfig { n_threads: 3, hook: Some(Arc::new(hook)), ..PoolConfig::default() };
    send.send(Pool::new(&config).unwrap()).unwrap();
    is_done.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn workers_are_named_and_compute_in_the_default_fp_environment() {
    let pool = pool(2, 0);
    let met = std::sync::Barrier::new(2);
    let named = AtomicUsize::new(0);
    let f = |_| {
        met.wait();
        named.fetch_add(usize::from(thread::current().name() == Some("inference-0")), Ordering::Relaxed);
    };
    pool.run(2, &f).unwrap();
    assert_eq!(named.into_inner(), 1);
}

#[test]
fn too_many_threads_are_refused() {
    let config = PoolConfig { n_threads: MAX_THREADS + 1, ..PoolConfig::default() };
    assert_eq!(Pool::new(&config).err().unwrap().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn columns_of_several_matrices_are_each_visited_once() {
    let pool = pool(3, 0);
    let (mut a, mut b) = (vec![0.0f32; 2 * 10], vec![0.0f32; 3 * 4]);
    let mut matrices = [ColumnsMut::new(&mut a, 10).narrow(2..9), ColumnsMut::new(&mut b, 4)];
    let f = |which: usize, mut part: ColumnsMut<'_, f32>, _: Task| {
        assert!((1..=3).contains(&part.range().len()));
        (0..part.n_rows()).for_each(|m| part.row(m).iter_mut().for_each(|x| *x += 1.0 + which as f32));
    };
    pool.for_columns(&mut matrices, 3, &f).unwrap();
    let row = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0];
    assert_eq!(a, [row, row].concat());
    assert_eq!(b, [2.0; 12]);
}

#[test]
fn column_pairs_cover_the_same_columns() {
    let pool = pool(3, 0);
    let (mut a, mut b) = (vec![1.0f32; 2 * 10], (0..20).map(|i| i as f32).collect::<Vec<_>>());
    let sum = |mut a: ColumnsMut<'_, f32>, mut b: ColumnsMut<'_, f32>| {
        (0..2).for_each(|m| a.row(m).iter_mut().zip(b.row(m)).for_each(|(a, b)| *a += *b));
    };
    pool.for_column_pairs(ColumnsMut::new(&mut a, 10), ColumnsMut::new(&mut b, 10), 4, &sum).unwrap();
    assert!(a.iter().enumerate().all(|(i, a)| *a == 1.0 + i as f32));
}

#[test]
fn each_thread_has_its_own_scratch() {
    let pool = pool(4, 0);
    let (mut data, mut scratch) = (vec![0usize; 103], vec![0usize; 4]);
    let f = |i: usize, chunk: &mut [usize], own: &mut usize| {
        chunk.fill(i);
        *own += chunk.len();
    };
    pool.for_chunks_with(&mut data, 10, &mut scratch, &f).unwrap();
    assert!(data.iter().enumerate().all(|(i, x)| *x == i / 10));
    assert_eq!(scratch.iter().sum::<usize>(), 103);
    pool.for_chunks_with(&mut [0u8; 0], 10, &mut scratch, &|_, _, _| panic!("nothing to do")).unwrap();
}
