//! The part of a blueprint that says how a model with several residual streams, shared keys and sparse feed-forwards is built. Used by `spec`.

use super::config::{Key, bounds};
use super::spec::{KvPlace, Reader};
use crate::backend::{AltupShape, FeedForwardFn};
use crate::error::Result;
use crate::fail;

/// Several residual streams.
#[derive(Clone, Copy, Debug)]
pub struct AltupSpec {
    /// Sizes.
    pub shape: AltupShape,
    /// True if the corrected stream is scaled before a layer's input gates it.
    pub scales_output: bool,
}

impl Reader<'_> {
    /// The residual streams of a model of `n_layers` layers, if its family has several.
    pub(super) fn altup(&self, n_layers: usize) -> Result<Option<AltupSpec>> {
        let config = self.config;
        if !self.family.has_streams {
            return Ok(None);
        }
        let n_streams = config.size_or(Key::Streams, 4, 2..=AltupShape::MOST_STREAMS)?;
        let shape = AltupShape {
            n_streams,
            active: config.size_or(Key::ActiveStream, 0, 0..=n_streams - 1)?,
            n_per_layer: config.size_or(Key::PerLayerWidth, 256, bounds::WIDTH)?,
            n_layers,
            rank: config.size_or(Key::LaurelRank, 64, bounds::WIDTH)?,
        };
        Ok(Some(AltupSpec { shape, scales_output: config.flag(Key::ScalesOutput)?.unwrap_or(true) }))
    }

    /// Width of each layer's feed-forward.
    pub(super) fn feed_forwards(&self, n_layers: usize) -> Result<Vec<usize>> {
        let (config, key) = (self.config, Key::FeedForward);
        let Some(widths) = config.numbers(key)? else { return Ok(vec![config.size(key, bounds::FEED_FORWARD)?; n_layers]) };
        self.check_length(key, widths.len(), n_layers)?;
        let width = |&width: &f64| match width as usize {
            n if bounds::FEED_FORWARD.contains(&n) && n as f64 == width => Ok(n),
            _ => {
                let (name, bounds) = (config.name(key), bounds::FEED_FORWARD);
                fail!(Format, "{name}: expected {} to {}, got {width}", bounds.start(), bounds.end())
            }
        };
        widths.iter().map(width).collect()
    }

    /// What each layer's feed-forward does between its projections.
    pub(super) fn feed_forward_fns(&self, n_layers: usize) -> Result<Vec<FeedForwardFn>> {
        let dense = self.family.feed_forward;
        let (FeedForwardFn::Gated(f), Some((n_sparse, deviations))) = (dense, self.family.sparsity) else {
            return Ok(vec![dense; n_layers]);
        };
        let Some(cuts) = self.config.numbers(Key::Sparsity)? else {
            let n_sparse = if n_layers > n_sparse { n_sparse } else { 0 };
            return Ok((0..n_layers).map(|i| if i < n_sparse { FeedForwardFn::Sparse(f, deviations) } else { dense }).collect());
        };
        self.check_length(Key::Sparsity, cuts.len(), n_layers)?;
        let layer = |&cut: &f64| match cut {
            // Below all: nothing is cut.
            f64::NEG_INFINITY => Ok(dense),
            cut if cut.abs() <= 100.0 => Ok(FeedForwardFn::Sparse(f, cut as f32)),
            cut => fail!(Format, "{}: expected -100 to 100 standard deviations, got {cut}", self.config.name(Key::Sparsity)),
        };
        cuts.iter().map(layer).collect()
    }

    /// Where each layer's keys and values are: the last layers read those of the last one before them that sees as far as they do, as `slides` tells.
    pub(super) fn kv_places(&self, slides: &[bool]) -> Result<Vec<KvPlace>> {
        let (config, n_layers) = (self.config, slides.len());
        let n_own = match self.family.own_kv_layers {
            Some(n_own) => n_layers - config.size_or(Key::SharedKvLayers, n_layers.saturating_sub(n_own), 0..=n_layers - 1)?,
            None => n_layers,
        };
        let place = |(i, sees): (usize, &bool)| match slides[..n_own].iter().rposition(|other| other == sees) {
            _ if i < n_own => Ok(KvPlace { layer: i, index: i }),
            Some(layer) => Ok(KvPlace { layer, index: layer }),
            None => fail!(Format, "{}: of the first {n_own} layers none sees as far as layer {i}", config.name(Key::SharedKvLayers)),
        };
        slides.iter().enumerate().map(place).collect()
    }

    fn check_length(&self, key: Key, n: usize, n_layers: usize) -> Result<()> {
        match n == n_layers {
            true => Ok(()),
            false => fail!(Format, "{}: {n} values for {n_layers} layers", self.config.name(key)),
        }
    }
}
