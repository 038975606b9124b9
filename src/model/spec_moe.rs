//! The part of a blueprint that says which layers choose among experts, and how. Used by `spec`.

use super::config::{Key, bounds};
use super::family::ExpertTraits;
use super::spec::Reader;
use crate::backend::{Groups, MoeShape, Routing, Scores};
use crate::error::Result;
use crate::fail;

/// A mixture of experts, the same in all layers that have one.
#[derive(Clone, Copy, Debug)]
pub struct MoeSpec {
    /// Sizes.
    pub shape: MoeShape,
    /// How experts are chosen and weighed.
    pub routing: Routing,
    /// Width of the expert that every row takes, if there is one.
    pub n_shared_ff: Option<usize>,
    /// Layers before the first one with experts.
    pub n_leading_dense: usize,
    /// The last of each so many layers has experts.
    pub every: usize,
}

impl MoeSpec {
    /// True if layer `i` has experts.
    pub(super) fn is_in_layer(&self, i: usize) -> bool {
        i >= self.n_leading_dense && (i + 1).is_multiple_of(self.every)
    }
}

impl Reader<'_> {
    /// The mixture of experts, if the file has one; `n_ff` is the width where the file has none for experts.
    pub(super) fn moe(&self, n_ff: usize) -> Result<Option<MoeSpec>> {
        let config = self.config;
        let n_experts = config.size_or(Key::Experts, 0, bounds::EXPERTS)?;
        let Some(traits) = self.family.experts.filter(|_| n_experts > 0) else { return Ok(None) };
        let n_used = config.size(Key::ExpertsUsed, 1..=n_experts)?;
        let shape = MoeShape { n_experts, n_used, n_ff: config.size_or(Key::ExpertFeedForward, n_ff, bounds::FEED_FORWARD)? };
        Ok(Some(MoeSpec {
            shape,
            routing: self.routing(&traits, &shape)?,
            n_shared_ff: self.n_shared_ff(&traits, &shape)?,
            n_leading_dense: config.size_or(Key::LeadingDense, 0, 0..=*bounds::LAYERS.end())?,
            every: config.size_or(Key::ExpertsEvery, 1, bounds::LAYERS)?,
        }))
    }

    fn routing(&self, traits: &ExpertTraits, shape: &MoeShape) -> Result<Routing> {
        let config = self.config;
        let scores = match config.integer(Key::ExpertScores)? {
            None | Some(0) => traits.scores,
            Some(1) => Scores::Softmax,
            Some(2) => Scores::Sigmoid,
            Some(3) => Scores::SoftmaxOfChosen,
            Some(other) => fail!(Unsupported, "{}: {other} is not in this build, expected 1 to 3", config.name(Key::ExpertScores)),
        };
        if scores == Scores::SparseMixer && shape.n_used > 2 {
            fail!(Unsupported, "{}: {} of a family that takes 2 at most", config.name(Key::ExpertsUsed), shape.n_used);
        }
        Ok(Routing {
            n_used: shape.n_used,
            scores,
            normalises: config.flag(Key::ExpertsNormalised)?.unwrap_or(traits.normalises),
            scale: config.number(Key::ExpertScale, 0.0..=*bounds::SCALE.end())?.filter(|&scale| scale > 0.0).unwrap_or(1.0),
            weighs_input: traits.weighs_input,
            groups: self.groups(scores, shape)?,
        })
    }

    /// Groups that the experts come in; one group is none.
    fn groups(&self, scores: Scores, shape: &MoeShape) -> Result<Option<Groups>> {
        let config = self.config;
        let n_groups = config.size_or(Key::ExpertGroups, 1, 0..=Groups::MOST)?.max(1);
        let n_used = config.size_or(Key::ExpertGroupsUsed, n_groups, 0..=n_groups)?.max(1);
        if n_groups == n_used {
            return Ok(None);
        }
        let MoeShape { n_experts, n_used: n_picks, .. } = *shape;
        if !n_experts.is_multiple_of(n_groups) || n_experts / n_groups * n_used < n_picks {
            let [groups, used, experts, picks] =
                [Key::ExpertGroups, Key::ExpertGroupsUsed, Key::Experts, Key::ExpertsUsed].map(|key| config.name(key));
            fail!(
                Format,
                "{groups}: {n_experts} experts ({experts}) in {n_groups} groups, {n_used} of them ({used}) for {n_picks} ({picks})"
            );
        }
        Ok(Some(Groups { n_groups, n_used, sums_two: scores == Scores::Sigmoid }))
    }

    /// Width of the shared expert: as the file says, or that of so many experts side by side.
    fn n_shared_ff(&self, traits: &ExpertTraits, shape: &MoeShape) -> Result<Option<usize>> {
        let n_side_by_side = self.config.size_or(Key::SharedExperts, traits.n_shared, 0..=*bounds::EXPERTS.end())?;
        let n_ff = self.config.size_or(Key::SharedFeedForward, n_side_by_side * shape.n_ff, 0..=*bounds::FEED_FORWARD.end())?;
        Ok(Some(n_ff).filter(|&n_ff| n_ff > 0))
    }
}
