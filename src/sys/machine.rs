//! What the machine has: physical memory.

/// Bytes of physical memory; 0 where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhysicalMemory {
    /// Installed.
    pub total: u64,
    /// Usable without swapping.
    pub available: u64,
}

/// Physical memory as the system counts it now.
pub fn physical_memory() -> PhysicalMemory {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    PhysicalMemory { total: kib("MemTotal:") * 1024, available: kib("MemAvailable:") * 1024 }
}
