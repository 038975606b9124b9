//! The plugin's side of the table: the stages of a pass.

use super::convert;
use super::serve::{Provider, guard, stage};
use super::table::{
    AttentionRef, BatchRef, ExpertsRef, Failure, FeedForwardRef, Handle, JoinRef, LatentRef, LinearRef, NormRef, ProjectionRef, RopeRef,
    Slice, SliceMut, StreamStageRef,
};
use crate::backend::{Backend, HeadNorms, StreamStage};
use crate::error::Result;
use crate::fail;

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn begin<P: Provider>(
    backend: Handle,
    ws: Handle,
    batch: *const BatchRef,
    ropes: Slice<RopeRef>,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            convert::batch(&*batch, &mut ws.batch);
            let ropes: Vec<_> = ropes.get().iter().map(|rope| convert::rope(rope)).collect();
            backend.begin(&mut ws.inner, &ws.batch, &ropes)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn embed<P: Provider>(backend: Handle, ws: Handle, table: Handle, scale: f32, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            backend.embed(&mut ws.inner, &ws.batch, &*table.cast(), scale)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn set_residual<P: Provider>(backend: Handle, ws: Handle, residual: Slice<f32>, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            backend.set_residual(&mut ws.inner, &ws.batch, residual.get())
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn residual<P: Provider>(backend: Handle, ws: Handle, out: SliceMut<f32>, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            backend.residual(&ws.inner, out.get())
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn norm_project<P: Provider>(
    backend: Handle,
    ws: Handle,
    norm: *const NormRef,
    projections: Slice<ProjectionRef>,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let norm = convert::norm::<P::Backend>(&*norm);
            let linears = projections.get().iter().map(|p| Ok((convert::slot(p.slot)?, convert::linear::<P::Backend>(&p.linear))));
            let linears = linears.collect::<Result<Vec<_>>>()?;
            let projections: Vec<_> = linears.iter().map(|(slot, linear)| (*slot, linear)).collect();
            backend.norm_project(&mut ws.inner, norm.as_ref(), &projections)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn latent_project<P: Provider>(
    backend: Handle,
    ws: Handle,
    norm: *const NormRef,
    latent: *const LatentRef,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let norm = convert::norm::<P::Backend>(&*norm);
            backend.latent_project(&mut ws.inner, norm.as_ref(), &convert::latent(&*latent)?)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn latent_values<P: Provider>(backend: Handle, ws: Handle, latent: *const LatentRef, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            backend.latent_values(&mut ws.inner, &convert::latent(&*latent)?)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn rope_append<P: Provider>(
    backend: Handle,
    ws: Handle,
    layer: usize,
    head_norms: Slice<NormRef>,
    rope: i64,
    kv: Handle,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let norms: Vec<_> = head_norms.get().iter().filter_map(|norm| convert::norm::<P::Backend>(norm)).collect();
            let norms = match &norms[..] {
                [query, key] => Some(HeadNorms { query, key, value: None }),
                [query, key, value] => Some(HeadNorms { query, key, value: Some(value) }),
                _ => None,
            };
            backend.rope_append(&mut ws.inner, &ws.batch, layer, norms, usize::try_from(rope).ok(), &mut *kv.cast())
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn rope_query<P: Provider>(
    backend: Handle,
    ws: Handle,
    norm: *const NormRef,
    rope: i64,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let norm = convert::norm::<P::Backend>(&*norm);
            backend.rope_query(&mut ws.inner, &ws.batch, norm.as_ref(), usize::try_from(rope).ok())
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn attend<P: Provider>(
    backend: Handle,
    ws: Handle,
    layer: usize,
    attention: *const AttentionRef,
    sinks: Handle,
    kv: Handle,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let sinks = sinks.cast::<<P::Backend as Backend>::Vector>();
            backend.attend(&mut ws.inner, &ws.batch, layer, &convert::attention(&*attention), sinks.as_ref(), &*kv.cast())
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn project_add<P: Provider>(
    backend: Handle,
    ws: Handle,
    linear: *const LinearRef,
    join: *const JoinRef,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            backend.project_add(&mut ws.inner, &convert::linear(&*linear), &convert::join(&*join))
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn glu<P: Provider>(
    backend: Handle,
    ws: Handle,
    function: FeedForwardRef,
    down: *const LinearRef,
    join: *const JoinRef,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let function = convert::feed_forward(function)?;
            backend.glu(&mut ws.inner, function, &convert::linear(&*down), &convert::join(&*join))
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn moe_up<P: Provider>(
    backend: Handle,
    ws: Handle,
    norm: *const NormRef,
    experts: *const ExpertsRef,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let norm = convert::norm::<P::Backend>(&*norm);
            backend.moe_up(&mut ws.inner, norm.as_ref(), &convert::experts(&*experts)?)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn moe_down<P: Provider>(
    backend: Handle,
    ws: Handle,
    function: FeedForwardRef,
    experts: *const ExpertsRef,
    scale: f32,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let function = convert::feed_forward(function)?;
            backend.moe_down(&mut ws.inner, function, &convert::experts(&*experts)?, scale)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn streams<P: Provider>(backend: Handle, ws: Handle, of: *const StreamStageRef, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let StreamStageRef { stage, streams, altup, norm, layer, .. } = &*of;
            let streams = streams.as_ref().map(|streams| convert::streams::<P::Backend>(streams)).transpose()?;
            let altup = altup.as_ref().map(|altup| convert::altup::<P::Backend>(altup)).transpose()?;
            let norm = convert::norm::<P::Backend>(norm);
            let stage = match (*stage, &streams, &altup, &norm) {
                (0, Some(streams), _, _) => StreamStage::Spread(streams),
                (1, _, Some(altup), _) => StreamStage::Predict(altup),
                (2, _, Some(altup), Some(norm)) => StreamStage::Laurel(altup, norm),
                (3, _, Some(altup), _) => StreamStage::Correct(altup, *layer),
                (4, Some(streams), _, _) => StreamStage::Merge(streams),
                _ => fail!(Abi, "plugin: stage {stage} of streams"),
            };
            backend.streams(&mut ws.inner, &ws.batch, stage)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn head<P: Provider>(
    backend: Handle,
    ws: Handle,
    norm: *const NormRef,
    weight: Handle,
    start: usize,
    end: usize,
    f: *mut Failure,
) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            let Some(norm) = convert::norm::<P::Backend>(&*norm) else { fail!(Internal, "plugin, head: no norm") };
            backend.head(&mut ws.inner, &ws.batch, &norm, &*weight.cast(), start..end)
        })
    }
}

/// As [`super::Table`] demands.
pub(super) unsafe extern "C" fn logits<P: Provider>(backend: Handle, ws: Handle, i: usize, out: SliceMut<f32>, f: *mut Failure) -> u32 {
    // SAFETY: the contract of [`super::Table`]: live handles of this provider, and pointers that may be read or written during the call.
    unsafe {
        guard(f, || {
            let (backend, ws) = stage::<P>(backend, ws);
            backend.logits(&ws.inner, i, out.get())
        })
    }
}
