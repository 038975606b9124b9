//! What `transformers` calls the weights of mixtures of experts, and how each lies in its tensors: tables, used by `tensors`.
//!
//! Published files hold a tensor for each expert, or one for all; some hold gate and up in one, some turn their matrices round.

use crate::model::names::{Part, Role};

/// Projections of a single expert, `{mixture}.experts.{i}.{name}.weight`.
const EACH: [(&str, Role); 6] = [
    ("gate_proj", Role::ExpertGate),
    ("up_proj", Role::ExpertUp),
    ("down_proj", Role::ExpertDown),
    ("w1", Role::ExpertGate),
    ("w3", Role::ExpertUp),
    ("w2", Role::ExpertDown),
];

/// The role of expert `i` of a layer, and `i`, if `module` (behind its layer) is one of its projections.
pub(super) fn of_one_expert(module: &str) -> Option<(Role, usize)> {
    let (mixture, rest) = module.split_once(".experts.")?;
    let (expert, projection) = rest.split_once('.')?;
    let (_, role) = EACH.iter().find(|(name, _)| *name == projection)?;
    ["mlp", "block_sparse_moe"].contains(&mixture).then_some((*role, expert.parse().ok()?))
}

/// How a role's rows lie in a tensor that holds those of all experts, and perhaps of other roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `(n_experts, n_rows, n_columns)`: as in GGUF.
    Whole,
    /// `(n_experts, 2 * n_rows, n_columns)`: this half of each expert's rows.
    Half(usize),
    /// `(n_experts, n_columns, n_rows)`: turned round.
    Turned,
    /// `(n_experts, n_columns, 2 * n_rows)`: turned round, this half of the rows.
    TurnedHalf(usize),
    /// The same, rows of both roles in turn.
    TurnedTurn(usize),
    /// `(n_experts, 2 * n_rows)`: every other element.
    Turn(usize),
    /// Blocks of MXFP4 and, in another tensor, their scales: `(n_experts, n_rows, n_blocks, 16)`.
    Blocks,
    /// The same with rows of both roles in turn: `(n_experts, 2 * n_rows, n_blocks, 16)`.
    BlocksTurn(usize),
}

impl Form {
    /// Roles that share the tensor.
    pub(super) fn n_roles(self) -> usize {
        match self {
            Self::Whole | Self::Turned | Self::Blocks => 1,
            Self::Half(_) | Self::TurnedHalf(_) | Self::TurnedTurn(_) | Self::Turn(_) | Self::BlocksTurn(_) => 2,
        }
    }
}

/// A role's part of a tensor.
pub(super) type Piece = (Role, Part, Form);

/// Tensors that hold several roles, or those of all experts, by their names behind the layer.
const SHARED: [(&str, &[Piece]); 11] = [
    ("block_sparse_moe.input_linear.weight", &[(GATE, WEIGHT, Form::Half(0)), (UP, WEIGHT, Form::Half(1))]),
    ("block_sparse_moe.output_linear.weight", &[(DOWN, WEIGHT, Form::Whole)]),
    ("shared_mlp.input_linear.weight", &[(Role::SharedGate, WEIGHT, Form::Half(0)), (Role::SharedUp, WEIGHT, Form::Half(1))]),
    ("mlp.experts.gate_up_proj", &[(GATE, WEIGHT, Form::TurnedTurn(0)), (UP, WEIGHT, Form::TurnedTurn(1))]),
    ("mlp.experts.gate_up_proj_bias", &[(GATE, Part::Bias, Form::Turn(0)), (UP, Part::Bias, Form::Turn(1))]),
    ("mlp.experts.gate_up_proj_blocks", &[(GATE, WEIGHT, Form::BlocksTurn(0)), (UP, WEIGHT, Form::BlocksTurn(1))]),
    ("mlp.experts.down_proj", &[(DOWN, WEIGHT, Form::Turned)]),
    ("mlp.experts.down_proj_bias", &[(DOWN, Part::Bias, Form::Whole)]),
    ("mlp.experts.down_proj_blocks", &[(DOWN, WEIGHT, Form::Blocks)]),
    ("feed_forward.experts.gate_up_proj", &[(GATE, WEIGHT, Form::TurnedHalf(0)), (UP, WEIGHT, Form::TurnedHalf(1))]),
    ("feed_forward.experts.down_proj", &[(DOWN, WEIGHT, Form::Turned)]),
];
const GATE: Role = Role::ExpertGate;
const UP: Role = Role::ExpertUp;
const DOWN: Role = Role::ExpertDown;
const WEIGHT: Part = Part::Weight;

/// What the tensor called `name` (behind its layer) holds, if it is one that several roles or experts share.
pub(super) fn of_all_experts(name: &str) -> Option<&'static [Piece]> {
    SHARED.iter().find(|(other, _)| *other == name).map(|(_, pieces)| *pieces)
}

/// The tensor that has the scales of the blocks in `blocks`.
pub(super) fn scales_of(blocks: &str) -> Option<String> {
    Some(format!("{}_scales", blocks.strip_suffix("_blocks")?))
}

/// True if the tensor called `name` is read together with its blocks.
pub(super) fn is_scales(name: &str) -> bool {
    name.strip_suffix("_scales").is_some_and(|stem| stem.ends_with(".mlp.experts.gate_up_proj") || stem.ends_with(".mlp.experts.down_proj"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_published_files() {
        assert_eq!(of_one_expert("mlp.experts.17.down_proj"), Some((Role::ExpertDown, 17)));
        assert_eq!(of_one_expert("block_sparse_moe.experts.0.w3"), Some((Role::ExpertUp, 0)));
        for other in ["mlp.experts.x.down_proj", "mlp.experts.1.w9", "mlp.down_proj", "mlp.experts.down_proj", "x.experts.0.w1"] {
            assert_eq!(of_one_expert(other), None, "{other}");
        }
        assert!(is_scales("model.layers.0.mlp.experts.down_proj_scales") && !is_scales("model.layers.0.mlp.down_proj_scales"));
        assert_eq!(scales_of("mlp.experts.down_proj_blocks").unwrap(), "mlp.experts.down_proj_scales");
    }
}
