//! The weights of a model with several residual streams. Used by `weights` and `saved`.

use super::family::Presence;
use super::loader::Loader;
use super::names::{Part, Role};
use crate::backend::{Altup, Backend, FeedForwardFn, Streams};
use crate::error::Result;
use crate::kernels::GateFn;

impl<B: Backend> Loader<'_, B> {
    /// What such a model has once; `None` for a model with one residual.
    pub(super) async fn streams(&mut self) -> Result<Option<Streams<B>>> {
        let Some(altup) = self.spec.altup else { return Ok(None) };
        let (n_embd, n_inputs, n_others) = (self.spec.shape.n_embd, altup.shape.n_inputs(), altup.shape.n_streams - 1);
        let squares = [n_others, n_embd, n_embd];
        Ok(Some(Streams {
            spread: self.expert_linear(Role::StreamSpread, 0, squares, Presence::Absent).await?,
            merge: self.expert_linear(Role::StreamMerge, 0, squares, Presence::Absent).await?,
            table: self.table(Role::PerLayerEmbedding, n_inputs).await?,
            inputs: self.linear(Role::PerLayerInputs, 0, n_inputs, n_embd, Presence::Absent).await?,
            inputs_norm: self.norm(Role::PerLayerInputsNorm, 0, altup.shape.n_per_layer).await?,
        }))
    }

    /// What layer `i` of such a model has.
    pub(super) async fn altup(&mut self, i: usize) -> Result<Option<Box<Altup<B>>>> {
        let Some(altup) = self.spec.altup else { return Ok(None) };
        let (n_embd, n, n_per_layer, rank) = (self.spec.shape.n_embd, altup.shape.n_streams, altup.shape.n_per_layer, altup.shape.rank);
        let scale = self.small(Role::StreamScale, i, &[n_embd]).await?;
        Ok(Some(Box::new(Altup {
            router_norm: self.norm(Role::StreamRouterNorm, i, n_embd).await?,
            router: self.small(Role::StreamRouter, i, &[n_embd, n]).await?,
            predict: self.small(Role::StreamPredict, i, &[n, n * n]).await?,
            correct: self.small(Role::StreamCorrect, i, &[n, n]).await?,
            output_scale: if altup.scales_output { scale } else { vec![1.0; n_embd] },
            laurel_left: self.linear(Role::LaurelLeft, i, rank, n_embd, Presence::Absent).await?,
            laurel_right: self.linear(Role::LaurelRight, i, n_embd, rank, Presence::Absent).await?,
            laurel_norm: self.norm(Role::LaurelNorm, i, n_embd).await?,
            gate: self.linear(Role::PerLayerGate, i, n_per_layer, n_embd, Presence::Absent).await?,
            output: self.linear(Role::PerLayerOutput, i, n_embd, n_per_layer, Presence::Absent).await?,
            output_norm: self.norm(Role::PerLayerOutputNorm, i, n_embd).await?,
            f: match self.spec.family.feed_forward {
                FeedForwardFn::Gated(f) | FeedForwardFn::Plain(f) | FeedForwardFn::Sparse(f, _) => f,
                FeedForwardFn::Clamped => GateFn::Silu,
            },
        })))
    }

    /// A tensor of few elements that is kept as it is; `shape` has columns first.
    async fn small(&mut self, role: Role, i: usize, shape: &[usize]) -> Result<Vec<f32>> {
        self.shaped_values(&role.gguf_name(i, Part::Weight), shape).await
    }
}
