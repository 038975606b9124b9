//! The processor cores that this process may use, and where and how eagerly a thread of ours runs on them.

use std::collections::HashSet;

/// Physical cores that this process may use (affinity mask and cgroup quota respected), less one for the host; at least 1.
pub fn default_threads() -> usize {
    // std reads the affinity mask and the CPU quota of cgroup v1 and v2; it counts hardware threads, though.
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usable.min(physical_cores().unwrap_or(usable)).saturating_sub(1).max(1)
}

/// Cores with at least one hardware thread in the affinity mask. Two hardware threads share one core's multipliers: a second
/// compute thread there gains nothing.
fn physical_cores() -> Option<usize> {
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string())
    };
    let cores: HashSet<String> = allowed_cpus()?.map(siblings).collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// The CPUs in the affinity mask of this thread.
#[cfg(target_os = "linux")]
fn allowed_cpus() -> Option<impl Iterator<Item = usize>> {
    // SAFETY: `cpu_set_t` is plain bits for which zero is valid, and the call writes at most the size it is given.
    let (set, rc) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let rc = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        (set, rc)
    };
    // SAFETY: reads one bit of `set`; `cpu` is below its size in bits.
    let is_set = move |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (rc == 0).then(|| (0..libc::CPU_SETSIZE as usize).filter(is_set))
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> Option<std::ops::Range<usize>> {
    None
}

/// Keeps this thread on the CPUs of `mask` (bit `i % 64` of word `i / 64` is CPU `i`). The system may refuse; then it stays where it is.
#[cfg(target_os = "linux")]
pub fn bind_thread(mask: &[u64; 4]) {
    // SAFETY: `cpu_set_t` is plain bits for which zero is valid; indices stay below 256, its size is 1024 bits; the call only reads.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in (0..256).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Sets the urgency of this thread: -2 idle, -1 low, 0 unchanged, 1 high. The system may refuse; then it stays as it is.
#[cfg(target_os = "linux")]
pub fn set_thread_priority(priority: i32) {
    let nice = match priority {
        ..=-2 => 19,
        -1 => 10,
        0 => return,
        1.. => -5,
    };
    // SAFETY: changes a scheduling attribute of the calling thread (on Linux "process 0" is the calling thread) and no memory.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// This system offers no portable way; threads run where it puts them.
#[cfg(not(target_os = "linux"))]
pub fn bind_thread(_: &[u64; 4]) {}

/// This system offers no portable way; threads run as it sees fit.
#[cfg(not(target_os = "linux"))]
pub fn set_thread_priority(_: i32) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_at_least_one_and_leaves_one_core() {
        let usable = std::thread::available_parallelism().unwrap().get();
        assert!((1..=usable.max(2) - 1).contains(&default_threads()));
    }

    #[test]
    fn a_bound_thread_stays_on_its_cpu() {
        let first = allowed_cpus().unwrap().find(|cpu| *cpu < 256).unwrap();
        let mut mask = [0; 4];
        mask[first / 64] = 1 << (first % 64);
        let bound = std::thread::spawn(move || {
            bind_thread(&mask);
            (allowed_cpus().unwrap().collect::<Vec<_>>(), default_threads())
        });
        assert_eq!(bound.join().unwrap(), (vec![first], 1));
    }

    #[test]
    fn low_priority_is_niceness_of_the_thread_alone() {
        // SAFETY: only reads the calling thread's niceness.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = niceness();
        let theirs = std::thread::spawn(move || {
            set_thread_priority(-2);
            niceness()
        });
        assert_eq!(theirs.join().unwrap(), 19);
        assert_eq!(niceness(), before);
    }
}
