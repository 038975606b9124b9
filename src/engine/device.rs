//! What this machine can compute on.

use crate::kernels::Kernels;

/// The kind of a device, numbered as in the C header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The host's processor.
    Cpu = 0,
}

/// One device, usable or not.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// What it is.
    pub kind: DeviceKind,
    /// Its number among its kind.
    pub index: u32,
    /// Stable name for load options: `"cpu"`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// `None` if usable, else why not.
    pub unusable: Option<String>,
    /// Bytes of memory, 0 if unknown.
    pub memory_total: u64,
    /// Bytes not in use, 0 if unknown.
    pub memory_free: u64,
}

/// The processor, as the runtime uses it.
pub(super) fn cpu(kernels: &dyn Kernels, n_threads: usize) -> DeviceInfo {
    let memory = crate::sys::machine::physical_memory();
    DeviceInfo {
        kind: DeviceKind::Cpu,
        index: 0,
        id: "cpu".into(),
        name: format!("CPU ({} kernels, {n_threads} threads)", kernels.name()),
        unusable: None,
        memory_total: memory.total,
        memory_free: memory.available,
    }
}
