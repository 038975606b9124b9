//! The plugin's side of the table: any backend whose weights are cheap to share, behind C functions.

use super::convert;
use super::stages;
use super::table::{ABI, BUILD, DeviceRow, Failure, Handle, RopeRef, ShapeRef, Slice, SliceMut, Table, TensorRef};
use crate::backend::{Backend, Batch};
use crate::error::Result;
use crate::fail;
use crate::sys::panic;

/// What a plugin offers.
pub trait Provider: Send + Sync + 'static {
    /// What computes. A clone of a weight is the same weight.
    type Backend: Backend<Matrix: Clone, Vector: Clone>;

    /// How many devices there are now.
    ///
    /// # Errors
    /// `NoDevice`: why there are none.
    fn n_devices(&self) -> Result<u32>;

    /// Device `i`, usable or not.
    ///
    /// # Errors
    /// `NoDevice`.
    fn device(&self, i: u32) -> Result<DeviceRow>;

    /// The backend on device `i`.
    ///
    /// # Errors
    /// `NoDevice`, `OutOfMemory`, `DeviceLost`.
    fn open(&self, i: u32) -> Result<Self::Backend>;
}

/// A workspace, and the batch that its pass began with.
pub(super) struct Served<B: Backend> {
    pub(super) inner: B::Workspace,
    pub(super) batch: Batch,
}

/// Runs `body`; what becomes of it is in `failure`. Nothing unwinds from here.
///
/// # Safety
/// `failure` is the caller's.
pub(super) unsafe fn guard(failure: *mut Failure, body: impl FnOnce() -> Result<()>) -> u32 {
    match panic::catch(body) {
        Ok(()) => 0,
        // SAFETY: passed on from the caller.
        Err(error) => unsafe { (*failure).put(&error) },
    }
}

/// As [`guard`], for numbers; 0 after a panic.
fn number(body: impl FnOnce() -> u64) -> u64 {
    panic::catch(|| Ok(body())).unwrap_or(0)
}

/// A handle of `value`.
fn give<T>(value: T) -> Handle {
    Box::into_raw(Box::new(value)).cast()
}

/// Drops what a handle stands for.
///
/// # Safety
/// `handle` is NULL, or of [`give`] for this type, and is not used again.
unsafe extern "C" fn take<T>(handle: Handle) {
    if !handle.is_null() {
        // SAFETY: passed on from the caller.
        let value = unsafe { Box::from_raw(handle.cast::<T>()) };
        // What a drop may meet is nobody's to hear.
        let _ = panic::catch(move || {
            drop(value);
            Ok(())
        });
    }
}

/// Backend and workspace.
///
/// # Safety
/// Both are live handles of this provider, and nobody else uses the workspace.
pub(super) unsafe fn stage<'a, P: Provider>(backend: Handle, ws: Handle) -> (&'a P::Backend, &'a mut Served<P::Backend>) {
    // SAFETY: passed on from the caller.
    unsafe { (&*backend.cast(), &mut *ws.cast()) }
}

/// What a plugin's [`super::table::OpenPlugin`] does: compares, and hands over the table of what `provider` makes.
///
/// # Safety
/// As [`super::table::OpenPlugin`]: all pointers are the library's.
pub unsafe fn hand_over<P: Provider>(
    provider: impl FnOnce() -> Result<P>,
    (abi, build): (u32, Slice<u8>),
    table: *mut *const Table,
    handle: *mut Handle,
    failure: *mut Failure,
) -> u32 {
    // SAFETY: passed on from the caller.
    unsafe {
        guard(failure, || {
            if abi != ABI || build.get() != BUILD.as_bytes() {
                fail!(
                    Abi,
                    "the plugin is {BUILD} (interface {ABI}), the library {} (interface {abi})",
                    String::from_utf8_lossy(build.get())
                );
            }
            *handle = give(provider()?);
            *table = self::table::<P>();
            Ok(())
        })
    }
}

/// The table of a provider.
pub const fn table<P: Provider>() -> &'static Table {
    const {
        &Table {
            size: size_of::<Table>(),
            n_devices: n_devices::<P>,
            device: device::<P>,
            open: open::<P>,
            free_provider: take::<P>,
            close: take::<P::Backend>,
            matrix: matrix::<P>,
            table: lookup_table::<P>,
            free_matrix: take::<<P::Backend as Backend>::Matrix>,
            vector: vector::<P>,
            free_vector: take::<<P::Backend as Backend>::Vector>,
            planned_bytes: planned_bytes::<P>,
            planned_table_bytes: planned_table_bytes::<P>,
            kv: kv::<P>,
            free_kv: take::<<P::Backend as Backend>::Kv>,
            grow_kv: grow_kv::<P>,
            copy_block: copy_block::<P>,
            turn_back: turn_back::<P>,
            read_block: read_block::<P>,
            write_block: write_block::<P>,
            workspace_bytes: workspace_bytes::<P>,
            workspace: workspace::<P>,
            free_workspace: take::<Served<P::Backend>>,
            begin: stages::begin::<P>,
            embed: stages::embed::<P>,
            set_residual: stages::set_residual::<P>,
            residual: stages::residual::<P>,
            norm_project: stages::norm_project::<P>,
            latent_project: stages::latent_project::<P>,
            latent_values: stages::latent_values::<P>,
            rope_append: stages::rope_append::<P>,
            rope_query: stages::rope_query::<P>,
            attend: stages::attend::<P>,
            project_add: stages::project_add::<P>,
            glu: stages::glu::<P>,
            moe_up: stages::moe_up::<P>,
            moe_down: stages::moe_down::<P>,
            streams: stages::streams::<P>,
            head: stages::head::<P>,
            logits: stages::logits::<P>,
        }
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn n_devices<P: Provider>(provider: Handle, n: *mut u32, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            *n = (*provider.cast::<P>()).n_devices()?;
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn device<P: Provider>(provider: Handle, i: u32, out: *mut DeviceRow, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            *out = (*provider.cast::<P>()).device(i)?;
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn open<P: Provider>(provider: Handle, device: u32, backend: *mut Handle, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            *backend = give((*provider.cast::<P>()).open(device)?);
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn matrix<P: Provider>(
    backend: Handle,
    tensor: *const TensorRef,
    out: *mut Handle,
    n_bytes: *mut usize,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let backend = &*backend.cast::<P::Backend>();
            let matrix = backend.matrix(convert::tensor(&*tensor)?)?;
            *n_bytes = backend.matrix_bytes(&matrix);
            *out = give(matrix);
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn lookup_table<P: Provider>(
    backend: Handle,
    tensor: *const TensorRef,
    out: *mut Handle,
    n_bytes: *mut usize,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let backend = &*backend.cast::<P::Backend>();
            let matrix = backend.table(convert::tensor(&*tensor)?)?;
            *n_bytes = backend.matrix_bytes(&matrix);
            *out = give(matrix);
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn vector<P: Provider>(backend: Handle, tensor: *const TensorRef, out: *mut Handle, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            *out = give((*backend.cast::<P::Backend>()).vector(convert::tensor(&*tensor)?)?);
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn kv<P: Provider>(
    backend: Handle,
    shape: *const ShapeRef,
    kind: u32,
    out: *mut Handle,
    block_bytes: *mut usize,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let backend = &*backend.cast::<P::Backend>();
            let kv = backend.kv(&convert::shape(&*shape), convert::kv_type(kind)?)?;
            *block_bytes = backend.kv_block_bytes(&kv);
            *out = give(kv);
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn grow_kv<P: Provider>(backend: Handle, kv: Handle, n_blocks: usize, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe { guard(f, || (*backend.cast::<P::Backend>()).grow_kv(&mut *kv.cast(), n_blocks)) }
}

/// As [`Table`] demands.
unsafe extern "C" fn copy_block<P: Provider>(backend: Handle, kv: Handle, from: u32, to: u32, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe { guard(f, || (*backend.cast::<P::Backend>()).copy_block(&mut *kv.cast(), from, to)) }
}

/// As [`Table`] demands.
unsafe extern "C" fn turn_back<P: Provider>(
    backend: Handle,
    kv: Handle,
    blocks: Slice<u32>,
    n_positions: usize,
    rope: *const RopeRef,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe { guard(f, || (*backend.cast::<P::Backend>()).turn_back(&mut *kv.cast(), blocks.get(), n_positions, &convert::rope(&*rope))) }
}

/// As [`Table`] demands.
unsafe extern "C" fn read_block<P: Provider>(backend: Handle, kv: Handle, id: u32, out: SliceMut<u8>, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe { guard(f, || (*backend.cast::<P::Backend>()).read_block(&*kv.cast(), id, out.get())) }
}

/// As [`Table`] demands.
unsafe extern "C" fn write_block<P: Provider>(backend: Handle, kv: Handle, id: u32, bytes: Slice<u8>, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe { guard(f, || (*backend.cast::<P::Backend>()).write_block(&mut *kv.cast(), id, bytes.get())) }
}

/// As [`Table`] demands.
unsafe extern "C" fn workspace<P: Provider>(
    backend: Handle,
    shape: *const ShapeRef,
    max_rows: usize,
    max_outputs: usize,
    out: *mut Handle,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let inner = (*backend.cast::<P::Backend>()).workspace(&convert::shape(&*shape), max_rows, max_outputs)?;
            *out = give(Served::<P::Backend> { inner, batch: Batch::default() });
            Ok(())
        })
    }
}

/// As [`Table`] demands.
unsafe extern "C" fn planned_bytes<P: Provider>(backend: Handle, dtype: u32, n_rows: usize, n_cols: usize) -> u64 {
    // SAFETY: a live handle, by the contract of [`Table`].
    let backend = unsafe { &*backend.cast::<P::Backend>() };
    number(|| convert::dtype(dtype).map_or(0, |dtype| backend.planned_bytes(dtype, n_rows, n_cols)))
}

/// As [`Table`] demands.
unsafe extern "C" fn planned_table_bytes<P: Provider>(backend: Handle, dtype: u32, n_rows: usize, n_cols: usize) -> u64 {
    // SAFETY: a live handle, by the contract of [`Table`].
    let backend = unsafe { &*backend.cast::<P::Backend>() };
    number(|| convert::dtype(dtype).map_or(0, |dtype| backend.planned_table_bytes(dtype, n_rows, n_cols)))
}

/// As [`Table`] demands.
unsafe extern "C" fn workspace_bytes<P: Provider>(backend: Handle, shape: *const ShapeRef, max_rows: usize, max_outputs: usize) -> u64 {
    // SAFETY: a live handle and a readable shape, by the contract of [`Table`].
    let (backend, shape) = unsafe { (&*backend.cast::<P::Backend>(), convert::shape(&*shape)) };
    number(|| backend.workspace_bytes(&shape, max_rows, max_outputs))
}
