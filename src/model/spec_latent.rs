//! The part of a blueprint that says how keys and values are made of latents. Used by `spec`.

use super::config::{Key, bounds};
use super::rope::{RopeScaling, Yarn};
use super::spec::Reader;
use crate::backend::{LatentShape, Shape};
use crate::error::Result;
use crate::fail;

impl Reader<'_> {
    /// The sizes of attention over latents, if the family has it.
    pub(super) fn latent(&self) -> Result<Option<LatentShape>> {
        if !self.family.has_latents {
            return Ok(None);
        }
        let config = self.config;
        // Newer files have a head's own sizes under keys of their own: the usual ones are those of the cache.
        let size = |newer: Key, older: Key| match config.integer(newer)? {
            None => config.size(older, bounds::HEAD_DIM),
            Some(_) => config.size(newer, bounds::HEAD_DIM),
        };
        let (key_dim, n_value) = (size(Key::LatentKeyDim, Key::HeadDim)?, size(Key::LatentValueDim, Key::ValueDim)?);
        let n_rot = config.size(Key::RopeDims, 2..=*bounds::HEAD_DIM.end())?;
        if n_rot >= key_dim {
            fail!(Format, "{}: {n_rot} of {key_dim} elements rotate, expected fewer", config.name(Key::RopeDims));
        }
        let query_rank = config.size_or(Key::QueryRank, 0, 0..=*bounds::WIDTH.end())?;
        Ok(Some(LatentShape {
            rank: config.size(Key::LatentRank, 1..=bounds::LATENT)?,
            n_rot,
            n_still: key_dim - n_rot,
            n_value,
            query_rank: Some(query_rank).filter(|&rank| rank > 0),
        }))
    }

    /// What scores are divided by the root of: the elements of a query head.
    pub(super) fn elements_compared(&self, shape: &Shape) -> usize {
        shape.latent.map_or(shape.head_dim, |latent| latent.n_still + latent.n_rot)
    }

    /// What stretching multiplies the scores by. DeepSeek's models grow all of a head by it, where YaRN itself grows what rotates: then cosine and sine
    /// stay as they are.
    pub(super) fn stretched_scores(&self) -> Result<f32> {
        let (Some(multiplier), RopeScaling::Yarn(yarn)) = (self.yarn_multiplier()?, self.config.rope_scaling()?) else { return Ok(1.0) };
        let grown = if yarn.factor > 1.0 { 1.0 + multiplier * yarn.factor.ln() } else { 1.0 };
        Ok(grown * grown)
    }

    /// What cosine and sine are multiplied by beside what YaRN says, where the file does not say.
    pub(super) fn usual_magnitude(&self, scaling: &RopeScaling) -> Result<f32> {
        match (self.yarn_multiplier()?, scaling) {
            (Some(_), RopeScaling::Yarn(yarn)) => Ok(1.0 / Yarn::magnitude(*yarn)),
            _ => Ok(1.0),
        }
    }

    fn yarn_multiplier(&self) -> Result<Option<f32>> {
        if !self.family.has_latents {
            return Ok(None);
        }
        Ok(self.config.number(Key::YarnLogMultiplier, 0.0..=*bounds::SCALE.end())?.filter(|&multiplier| multiplier > 0.0))
    }
}
