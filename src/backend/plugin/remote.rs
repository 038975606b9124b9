//! The library's side of the table: a backend whose work is done by a plugin.

use super::refs;
use super::table::{ABI, BUILD, DeviceRow, Failure, Handle, OpenPlugin, RopeRef, SequenceRef, Slice, SliceMut, Table};
use crate::backend::{
    Attention, Backend, Batch, BlockId, Experts, FeedForwardFn, HeadNorms, HostTensor, Join, Latent, Linear, Norm, Rope, Shape, Slot,
    StreamStage,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::KvType;
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// A plugin, which stays loaded.
#[derive(Clone)]
pub struct Plugin(Arc<Owned>);

/// Calls a function of the table, whose last argument is the failure.
macro_rules! call {
    ($table:expr, $function:ident $(, $argument:expr)*) => {{
        let mut failure = Failure::none();
        // SAFETY: the contract of [`Table`]: handles are live and of this plugin, slices and structs live during the call.
        let status = unsafe { ($table.$function)($($argument,)* &raw mut failure) };
        failure.check(status)
    }};
}

impl Plugin {
    /// The plugin that has this function.
    ///
    /// # Errors
    /// What the function says: `Abi` for another version, `NoDevice`.
    ///
    /// # Safety
    /// It is the symbol of a plugin of this very build.
    pub unsafe fn of(open: OpenPlugin) -> Result<Self> {
        let (mut table, mut provider, mut failure) = (null::<Table>(), null_mut(), Failure::none());
        // SAFETY: passed on from the caller; the pointers are to locals.
        let status = unsafe { open(ABI, Slice::new(BUILD.as_bytes()), &raw mut table, &raw mut provider, &raw mut failure) };
        failure.check(status)?;
        // SAFETY: a plugin's table is a constant of it, and it stays loaded.
        match unsafe { table.as_ref() } {
            // SAFETY: passed on from the caller.
            Some(table) => unsafe { Self::new(table, provider) },
            None => fail!(Abi, "it handed over no table"),
        }
    }

    /// The plugin behind `table`, with what its first functions take.
    ///
    /// # Errors
    /// `Abi` if the table is of another size.
    ///
    /// # Safety
    /// `table` has functions that keep the contract of [`Table`], for ever, and `provider` is of the same plugin, and of nobody else.
    unsafe fn new(table: &'static Table, provider: Handle) -> Result<Self> {
        if table.size != size_of::<Table>() {
            fail!(Abi, "the plugin's table has {} bytes, expected {}", table.size, size_of::<Table>());
        }
        Ok(Self(Arc::new(Owned { table, handle: provider, free: table.free_provider })))
    }

    /// How many devices it sees now.
    ///
    /// # Errors
    /// `NoDevice`: why there are none.
    pub fn n_devices(&self) -> Result<u32> {
        let mut n = 0;
        call!(self.0.table, n_devices, self.0.handle, &raw mut n)?;
        Ok(n)
    }

    /// Device `i`.
    ///
    /// # Errors
    /// `NoDevice`.
    pub fn device(&self, i: u32) -> Result<DeviceRow> {
        let mut row = DeviceRow { memory_total: 0, memory_free: 0, usable: 0, reserved: 0, uuid: [0; 64], name: [0; 96], reason: [0; 128] };
        call!(self.0.table, device, self.0.handle, i, &raw mut row)?;
        Ok(row)
    }

    /// The backend on device `i`.
    ///
    /// # Errors
    /// `NoDevice`, `OutOfMemory`, `DeviceLost`.
    pub fn open(&self, i: u32) -> Result<Remote> {
        let mut backend = null_mut();
        call!(self.0.table, open, self.0.handle, i, &raw mut backend)?;
        Ok(Remote(Arc::new(Owned { table: self.0.table, handle: backend, free: self.0.table.close })))
    }
}

/// A handle of a plugin, given back when it is dropped.
struct Owned {
    table: &'static Table,
    handle: Handle,
    free: unsafe extern "C" fn(Handle),
}

// SAFETY: what is behind a handle is `Send`, as the traits of `Backend` demand of both sides.
unsafe impl Send for Owned {}
// SAFETY: backends and weights are `Sync`; KV and workspaces are only used through `&mut` of their owners, or with a lock.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the handle's own function, once.
        unsafe { (self.free)(self.handle) };
    }
}

/// A device of a plugin as a backend.
#[derive(Clone)]
pub struct Remote(Arc<Owned>);

/// Weights `(n_out, n_in)` on it.
pub struct Matrix {
    held: Owned,
    n_bytes: usize,
}

/// Weights `(n,)` on it.
pub struct Vector(Owned);

/// Keys and values on it.
pub struct Kv {
    held: Owned,
    block_bytes: usize,
}

/// The activations of a pass on it.
pub struct Workspace {
    held: Owned,
    /// The sequences of the batch as they cross.
    sequences: Vec<SequenceRef>,
}

impl Matrix {
    pub(super) fn handle(&self) -> Handle {
        self.held.handle
    }
}

impl Vector {
    pub(super) fn handle(&self) -> Handle {
        self.0.handle
    }
}

impl Remote {
    fn functions(&self) -> &'static Table {
        self.0.table
    }

    fn handle(&self) -> Handle {
        self.0.handle
    }

    fn owned(&self, handle: Handle, free: unsafe extern "C" fn(Handle)) -> Owned {
        Owned { table: self.0.table, handle, free }
    }
}

impl Backend for Remote {
    type Matrix = Matrix;
    type Vector = Vector;
    type Kv = Kv;
    type Workspace = Workspace;

    /// Nothing is promised for a device.
    const BIT_STABLE: bool = false;

    fn name(&self) -> &'static str {
        "cuda"
    }

    fn matrix(&self, tensor: HostTensor) -> Result<Matrix> {
        let (mut handle, mut n_bytes) = (null_mut(), 0);
        call!(self.functions(), matrix, self.handle(), &refs::tensor(&tensor), &raw mut handle, &raw mut n_bytes)?;
        Ok(Matrix { held: self.owned(handle, self.functions().free_matrix), n_bytes })
    }

    fn table(&self, tensor: HostTensor) -> Result<Matrix> {
        let (mut handle, mut n_bytes) = (null_mut(), 0);
        call!(self.functions(), table, self.handle(), &refs::tensor(&tensor), &raw mut handle, &raw mut n_bytes)?;
        Ok(Matrix { held: self.owned(handle, self.functions().free_matrix), n_bytes })
    }

    fn vector(&self, tensor: HostTensor) -> Result<Vector> {
        let mut handle = null_mut();
        call!(self.functions(), vector, self.handle(), &refs::tensor(&tensor), &raw mut handle)?;
        Ok(Vector(self.owned(handle, self.functions().free_vector)))
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> usize {
        matrix.n_bytes
    }

    fn planned_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64 {
        // SAFETY: a live backend.
        unsafe { (self.functions().planned_bytes)(self.handle(), refs::dtype(dtype), n_rows, n_cols) }
    }

    fn planned_table_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64 {
        // SAFETY: a live backend.
        unsafe { (self.functions().planned_table_bytes)(self.handle(), refs::dtype(dtype), n_rows, n_cols) }
    }

    fn workspace_bytes(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> u64 {
        // SAFETY: a live backend, and a struct that lives during the call.
        unsafe { (self.functions().workspace_bytes)(self.handle(), &refs::shape(shape), max_rows, max_outputs) }
    }

    fn kv(&self, shape: &Shape, kind: KvType) -> Result<Kv> {
        let (mut handle, mut block_bytes) = (null_mut(), 0);
        call!(self.functions(), kv, self.handle(), &refs::shape(shape), refs::kv_type(kind), &raw mut handle, &raw mut block_bytes)?;
        Ok(Kv { held: self.owned(handle, self.functions().free_kv), block_bytes })
    }

    fn grow_kv(&self, kv: &mut Kv, n_blocks: usize) -> Result<()> {
        call!(self.functions(), grow_kv, self.handle(), kv.held.handle, n_blocks)
    }

    fn kv_block_bytes(&self, kv: &Kv) -> usize {
        kv.block_bytes
    }

    fn copy_block(&self, kv: &mut Kv, from: BlockId, to: BlockId) -> Result<()> {
        call!(self.functions(), copy_block, self.handle(), kv.held.handle, from, to)
    }

    fn turn_back(&self, kv: &mut Kv, blocks: &[BlockId], n_positions: usize, rope: &Rope) -> Result<()> {
        call!(self.functions(), turn_back, self.handle(), kv.held.handle, Slice::new(blocks), n_positions, &refs::rope(rope))
    }

    fn read_block(&self, kv: &Kv, id: BlockId, out: &mut [u8]) -> Result<()> {
        call!(self.functions(), read_block, self.handle(), kv.held.handle, id, SliceMut::new(out))
    }

    fn write_block(&self, kv: &mut Kv, id: BlockId, bytes: &[u8]) -> Result<()> {
        call!(self.functions(), write_block, self.handle(), kv.held.handle, id, Slice::new(bytes))
    }

    fn workspace(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> Result<Workspace> {
        let mut handle = null_mut();
        call!(self.functions(), workspace, self.handle(), &refs::shape(shape), max_rows, max_outputs, &raw mut handle)?;
        Ok(Workspace { held: self.owned(handle, self.functions().free_workspace), sequences: Vec::new() })
    }

    fn begin(&self, ws: &mut Workspace, batch: &Batch, ropes: &[Rope]) -> Result<()> {
        ws.sequences.clear();
        ws.sequences.extend(batch.sequences.iter().map(refs::sequence));
        let ropes: Vec<RopeRef> = ropes.iter().map(refs::rope).collect();
        let batch = refs::batch(batch, &ws.sequences);
        call!(self.functions(), begin, self.handle(), ws.held.handle, &batch, Slice::new(&ropes))
    }

    fn embed(&self, ws: &mut Workspace, _: &Batch, table: &Matrix, scale: f32) -> Result<()> {
        call!(self.functions(), embed, self.handle(), ws.held.handle, table.held.handle, scale)
    }

    fn set_residual(&self, ws: &mut Workspace, _: &Batch, residual: &[f32]) -> Result<()> {
        call!(self.functions(), set_residual, self.handle(), ws.held.handle, Slice::new(residual))
    }

    fn residual(&self, ws: &Workspace, out: &mut [f32]) -> Result<()> {
        call!(self.functions(), residual, self.handle(), ws.held.handle, SliceMut::new(out))
    }

    fn norm_project(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, projections: &[(Slot, &Linear<Self>)]) -> Result<()> {
        let projections: Vec<_> = projections.iter().map(|(slot, linear)| refs::projection(*slot, linear)).collect();
        call!(self.functions(), norm_project, self.handle(), ws.held.handle, &refs::norm(norm), Slice::new(&projections))
    }

    fn latent_project(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, latent: &Latent<Self>) -> Result<()> {
        call!(self.functions(), latent_project, self.handle(), ws.held.handle, &refs::norm(norm), &refs::latent(latent))
    }

    fn latent_values(&self, ws: &mut Workspace, latent: &Latent<Self>) -> Result<()> {
        call!(self.functions(), latent_values, self.handle(), ws.held.handle, &refs::latent(latent))
    }

    fn rope_append(
        &self,
        ws: &mut Workspace,
        _: &Batch,
        layer: usize,
        head_norms: Option<HeadNorms<'_, Self>>,
        rope: Option<usize>,
        kv: &mut Kv,
    ) -> Result<()> {
        let norms = head_norms.map(|HeadNorms { query, key, value }| [Some(query), Some(key), value]);
        let norms: Vec<_> = norms.into_iter().flatten().flatten().map(|norm| refs::norm(Some(norm))).collect();
        let (norms, rope) = (Slice::new(&norms), refs::rope_number(rope));
        call!(self.functions(), rope_append, self.handle(), ws.held.handle, layer, norms, rope, kv.held.handle)
    }

    fn rope_query(&self, ws: &mut Workspace, _: &Batch, norm: Option<&Norm<Self>>, rope: Option<usize>) -> Result<()> {
        call!(self.functions(), rope_query, self.handle(), ws.held.handle, &refs::norm(norm), refs::rope_number(rope))
    }

    fn attend(&self, ws: &mut Workspace, _: &Batch, layer: usize, attention: &Attention, sinks: Option<&Vector>, kv: &Kv) -> Result<()> {
        let sinks = sinks.map_or(null_mut(), Vector::handle);
        call!(self.functions(), attend, self.handle(), ws.held.handle, layer, &refs::attention(attention), sinks, kv.held.handle)
    }

    fn project_add(&self, ws: &mut Workspace, linear: &Linear<Self>, join: &Join<Self>) -> Result<()> {
        call!(self.functions(), project_add, self.handle(), ws.held.handle, &refs::linear(linear), &refs::join(join))
    }

    fn glu(&self, ws: &mut Workspace, f: FeedForwardFn, down: &Linear<Self>, join: &Join<Self>) -> Result<()> {
        let f = refs::feed_forward(f);
        call!(self.functions(), glu, self.handle(), ws.held.handle, f, &refs::linear(down), &refs::join(join))
    }

    fn moe_up(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, experts: &Experts<Self>) -> Result<()> {
        call!(self.functions(), moe_up, self.handle(), ws.held.handle, &refs::norm(norm), &refs::experts(experts))
    }

    fn moe_down(&self, ws: &mut Workspace, f: FeedForwardFn, experts: &Experts<Self>, scale: f32) -> Result<()> {
        let f = refs::feed_forward(f);
        call!(self.functions(), moe_down, self.handle(), ws.held.handle, f, &refs::experts(experts), scale)
    }

    fn streams(&self, ws: &mut Workspace, _: &Batch, stage: StreamStage<'_, Self>) -> Result<()> {
        refs::with_stream_stage(&stage, |stage| call!(self.functions(), streams, self.handle(), ws.held.handle, stage))
    }

    fn head(&self, ws: &mut Workspace, _: &Batch, norm: &Norm<Self>, weight: &Matrix, vocab: Range<usize>) -> Result<()> {
        let norm = refs::norm(Some(norm));
        call!(self.functions(), head, self.handle(), ws.held.handle, &norm, weight.held.handle, vocab.start, vocab.end)
    }

    fn logits(&self, ws: &Workspace, i: usize, out: &mut [f32]) -> Result<()> {
        call!(self.functions(), logits, self.handle(), ws.held.handle, i, SliceMut::new(out))
    }
}
